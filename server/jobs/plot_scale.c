// plot_scale.c - see plot_scale.h.
#include "plot_scale.h"

#include <math.h>
#include <stdlib.h>

void extent_add(struct extent *e, double v)
{
    int exponent;
    bool power = v >= 1 && frexp(v, &exponent) == 0.5;
    if (e->n == 0)
        *e = (struct extent){.min = v, .max = v, .powers_of_2 = true};
    e->n++;
    e->powers_of_2 = e->powers_of_2 && power;
    e->min = v < e->min ? v : e->min;
    e->max = v > e->max ? v : e->max;
}

static void add_tick(struct scale *s, double v)
{
    if (s->n_ticks < SCALE_TICKS_MAX)
        s->ticks[s->n_ticks++] = v;
}

// --- linear ---------------------------------------------------------------------------------

// The smallest of 1, 2, 5 times a power of ten that is at least v.
static double nice_step(double v)
{
    double power = pow(10, floor(log10(v)));
    double step = power;
    if (step < v * (1 - 1e-9))
        step = 2 * power;
    if (step < v * (1 - 1e-9))
        step = 5 * power;
    return step < v * (1 - 1e-9) ? 10 * power : step;
}

static void fit_linear(struct scale *s, const struct extent *e, bool zero, int wanted)
{
    enum { MARGIN = 2 }; // the range may end a tick after the wanted ones on each side
    double min = e->min, max = e->max, size = fmax(fabs(min), fabs(max));
    if (zero || (min > 0 && min <= max / 2))
        min = fmin(min, 0);
    if (zero || (max < 0 && max >= min / 2))
        max = fmax(max, 0);
    // A range at the limit of the number's digits has no ticks of its own.
    if (max - min <= size * 1e-9) {
        min -= size ? size / 2 : 1;
        max += size ? size / 2 : 1;
    }
    s->step = nice_step((max - min) / wanted);
    s->lo = floor(min / s->step + 1e-9) * s->step;
    s->hi = ceil(max / s->step - 1e-9) * s->step;
    int n = (int)round((s->hi - s->lo) / s->step);
    for (int i = 0; i <= n && i <= wanted + MARGIN; i++)
        add_tick(s, s->lo + i * s->step);
}

// --- logarithmic ----------------------------------------------------------------------------

static void fit_powers_of_2(struct scale *s, const struct extent *e, int wanted)
{
    const double margin = 1.2; // so that marks do not sit on the frame
    int span = (int)round(log2(e->max / e->min));
    int step = span / wanted + 1;
    s->lo = e->min / margin;
    s->hi = e->max * margin;
    for (int i = 0; i <= span; i += step)
        add_tick(s, ldexp(e->min, i));
}

// Ticks at 1, 2, 5 of each decade; the range ends at the ticks that hold the data.
static void fit_within_decades(struct scale *s, const struct extent *e, int first, int last)
{
    static const double PARTS[] = {1, 2, 5};
    double ticks[SCALE_TICKS_MAX];
    int n = 0, from = 0;
    for (int decade = first; decade <= last; decade++)
        for (int i = 0; i < 3 && n < SCALE_TICKS_MAX; i++)
            ticks[n++] = PARTS[i] * pow(10, decade);
    while (from + 2 < n && ticks[from + 1] <= e->min * (1 + 1e-9))
        from++;
    while (n > from + 2 && ticks[n - 2] >= e->max * (1 - 1e-9))
        n--;
    for (int i = from; i < n; i++)
        add_tick(s, ticks[i]);
    s->lo = ticks[from];
    s->hi = ticks[n - 1];
}

static void fit_log(struct scale *s, const struct extent *e, int wanted)
{
    enum { FINE_DECADES = 2 };
    int first = (int)floor(log10(e->min) + 1e-9), last = (int)ceil(log10(e->max) - 1e-9);
    if (last <= first)
        last = first + 1;
    if (last - first <= FINE_DECADES) {
        fit_within_decades(s, e, first, last);
        return;
    }
    int step = (last - first - 1) / wanted + 1;
    s->lo = pow(10, first);
    s->hi = pow(10, last);
    for (int decade = first; decade <= last; decade += step)
        add_tick(s, pow(10, decade));
}

void scale_fit(struct scale *s, const struct extent *e, bool log, bool zero, int wanted)
{
    *s = (struct scale){.log = log};
    if (!log)
        fit_linear(s, e, zero, wanted);
    else if (e->powers_of_2 && e->max > e->min)
        fit_powers_of_2(s, e, wanted);
    else
        fit_log(s, e, wanted);
}

double scale_at(const struct scale *s, double v)
{
    double part = s->log ? log(v / s->lo) / log(s->hi / s->lo) : (v - s->lo) / (s->hi - s->lo);
    return s->from + part * (s->to - s->from);
}

// --- labels ---------------------------------------------------------------------------------

static void write_power(struct buf *out, double v)
{
    static const char *const DIGITS[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    int exponent = (int)floor(log10(v) + 1e-9);
    long mantissa = lround(v / pow(10, exponent));
    if (mantissa != 1)
        buf_format(out, "%ld·", mantissa);
    buf_str(out, exponent < 0 ? "10⁻" : "10");
    int e = abs(exponent);
    if (e >= 100)
        buf_str(out, DIGITS[e / 100 % 10]);
    if (e >= 10)
        buf_str(out, DIGITS[e / 10 % 10]);
    buf_str(out, DIGITS[e % 10]);
}

static void write_log_label(struct buf *out, double v)
{
    const double plain_min = 0.99e-3, plain_max = 9.9e4;
    int exponent;
    if (v >= 1 && frexp(v, &exponent) == 0.5 && v >= 0x1p17 && v < 0x1p60)
        buf_format(out,
                   v < 0x1p20   ? "%.0fKi"
                   : v < 0x1p30 ? "%.0fMi"
                                : "%.0fGi",
                   v / (v < 0x1p20   ? 0x1p10
                        : v < 0x1p30 ? 0x1p20
                                     : 0x1p30));
    else if (v >= plain_min && v <= plain_max)
        buf_format(out, "%.6g", v);
    else
        write_power(out, v);
}

void scale_label(struct buf *out, const struct scale *s, double tick)
{
    static const struct {
        double unit;
        const char *suffix;
    } UNITS[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
    double size = fmax(fabs(s->lo), fabs(s->hi)), unit = 1;
    const char *suffix = "";
    if (s->log) {
        write_log_label(out, tick);
        return;
    }
    if (size < 1e-3 || size >= 1e15) {
        buf_format(out, "%.3g", fabs(tick) < s->step / 2 ? 0 : tick);
        return;
    }
    for (int i = 0; i < 4 && size >= 2e4 && unit == 1; i++) {
        if (size >= UNITS[i].unit) {
            unit = UNITS[i].unit;
            suffix = UNITS[i].suffix;
        }
    }
    double step = s->step / unit;
    int decimals = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
    if (fabs(tick) < s->step / 2)
        buf_str(out, "0");
    else
        buf_format(out, "%.*f%s", decimals < 9 ? decimals : 9, tick / unit, suffix);
}
