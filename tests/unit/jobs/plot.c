// Tests of server/jobs/plot*.c: axes hold their data with ticks that people count in, every kind draws
// each point once, inside its frame, and says what it shows.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plot.h"
#include "plot_scale.h"

// --- scales ---------------------------------------------------------------------------------

static void fit(struct scale *s, double min, double max, bool log)
{
    struct extent e = {0};
    extent_add(&e, min);
    extent_add(&e, max);
    scale_fit(s, &e, log, false, 5);
    s->from = 0;
    s->to = 100;
}

static void check_ticks(double min, double max, bool log, const char *wanted)
{
    struct scale s;
    struct buf b = {0};
    fit(&s, min, max, log);
    for (int i = 0; i < s.n_ticks; i++) {
        buf_str(&b, i ? " " : "");
        scale_label(&b, &s, s.ticks[i]);
    }
    cr_assert(eq(str, b.data, (char *)wanted), "of %g to %g", min, max);
    buf_fini(&b);
}

Test(plot, ticks)
{
    check_ticks(0, 97, false, "0 20 40 60 80 100");
    check_ticks(3, 9.7, false, "0 2 4 6 8 10");
    check_ticks(4.195, 4.199, false, "4.195 4.196 4.197 4.198 4.199");
    check_ticks(-3, 5, false, "-4 -2 0 2 4 6");
    check_ticks(0, 81920, false, "0 20k 40k 60k 80k 100k");
    check_ticks(0, 2.5e9, false, "0 0.5G 1.0G 1.5G 2.0G 2.5G");
    check_ticks(5, 5, false, "2 3 4 5 6 7 8");
    check_ticks(0, 0, false, "-1.0 -0.5 0 0.5 1.0");
    check_ticks(16, 128, true, "16 32 64 128");
    check_ticks(1, 131072, true, "1 16 256 4096 65536");
    check_ticks(65536, 1048576, true, "65536 128Ki 256Ki 512Ki 1Mi");
    check_ticks(3, 40, true, "2 5 10 20 50");
    check_ticks(3e-7, 0.9, true, "10⁻⁷ 10⁻⁵ 0.001 0.1");
    check_ticks(7, 7, true, "5 10");
    check_ticks(2e-5, 4e-5, true, "2·10⁻⁵ 5·10⁻⁵");
    check_ticks(1e-150, 1e150, true, "10⁻¹⁵⁰ 10⁻⁹⁰ 10⁻³⁰ 10³⁰ 10⁹⁰ 10¹⁵⁰");
}

// Whatever the data: they lie within the range, ticks too and in order, and not one is NaN.
Test(plot, scales_hold_their_data)
{
    srand(7);
    for (int i = 0; i < 200000; i++) {
        bool log = i & 1;
        double a = exp((rand() / (double)RAND_MAX - 0.5) * (i % 7 ? 40 : 690));
        double b = i % 5 == 0 ? a * (1 + 1e-14) : exp((rand() / (double)RAND_MAX - 0.5) * 30);
        if (!log && i & 2)
            a = -a;
        struct scale s;
        fit(&s, fmin(a, b), fmax(a, b), log);
        double slack = fabs(s.hi - s.lo) * 1e-6;
        cr_assert(s.lo < s.hi && s.lo <= fmin(a, b) + slack && s.hi >= fmax(a, b) - slack,
                  "%g %g in %g %g", a, b, s.lo, s.hi);
        cr_assert(s.n_ticks >= 1 && s.n_ticks <= 12, "%d ticks of %g to %g", s.n_ticks, a, b);
        for (int t = 0; t < s.n_ticks; t++) {
            double at = scale_at(&s, s.ticks[t]);
            cr_assert(at >= -0.01 && at <= 100.01, "tick %g of %g to %g", s.ticks[t], a, b);
            cr_assert(t == 0 || s.ticks[t] > s.ticks[t - 1]);
        }
    }
}

// --- drawings -------------------------------------------------------------------------------

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at++)
        n++;
    return n;
}

static struct plot_point POINTS[] = {{1, 10, 8, 13}, {10, 20, 20, 20}, {100, 40, 40, 40}};
static struct plot_series SERIES[] = {{"a & b", POINTS, 3}, {"none", POINTS, 0}};

static struct plot example(enum plot_kind kind)
{
    return (struct plot){
        .kind = kind,
        .name = "p",
        .title = "T <1>",
        .x = {"chunk", "tokens", true},
        .y = {"time", "us", false},
        .z = {"", "", false},
        .series = SERIES,
        .n_series = 2,
    };
}

Test(plot, lines_and_points)
{
    struct plot p = example(PLOT_LINE);
    struct buf b = {0};
    p.lines = SERIES;
    p.n_lines = 1;
    plot_svg(&b, &p, 4);
    cr_assert(eq(int, count(b.data, "class=\"mark s0\""), 3));
    cr_assert(eq(int, count(b.data, "class=\"interval s0\""), 1));
    cr_assert(eq(int, count(b.data, "class=\"curve s0"), 1));
    cr_assert(eq(int, count(b.data, "class=\"reference r0\""), 1));
    cr_assert(ne(ptr, strstr(b.data, "<title id=\"p4-t\">T &#60;1&#62;</title>"), NULL));
    cr_assert(ne(ptr, strstr(b.data, "a &#38; b: 1, 10 (8 to 13)"), NULL));
    cr_assert(ne(ptr, strstr(b.data, "aria-labelledby=\"p4-t p4-d\""), NULL));
    buf_clear(&b);
    p.kind = PLOT_SCATTER;
    plot_svg(&b, &p, 0);
    cr_assert(eq(int, count(b.data, "class=\"mark s0\""), 3));
    cr_assert(eq(int, count(b.data, "class=\"curve"), 0));
    buf_fini(&b);
}

Test(plot, sixteen_series_differ_without_colour)
{
    struct plot_series series[PLOT_SERIES_MAX];
    struct plot p = example(PLOT_LINE);
    struct buf keys[PLOT_SERIES_MAX] = {{0}};
    for (int i = 0; i < PLOT_SERIES_MAX; i++)
        series[i] = SERIES[0];
    p.series = series;
    p.n_series = PLOT_SERIES_MAX;
    for (int i = 0; i < PLOT_SERIES_MAX; i++) {
        plot_key_svg(&keys[i], &p, 0, i);
        // The colour's class is the same for two: what is left of the key must differ.
        for (char *at = keys[i].data; (at = strstr(at, " s")); at++)
            at[2] = '_';
        for (int j = 0; j < i; j++)
            cr_assert(ne(str, keys[i].data, keys[j].data), "%d and %d", i, j);
    }
    for (int i = 0; i < PLOT_SERIES_MAX; i++)
        buf_fini(&keys[i]);
}

Test(plot, bars)
{
    static struct plot_point points[] = {{0, 5, 4, 6}, {1, -2, -2, -2}};
    static const char *names[] = {"first", "a category with a name beyond its place"};
    struct plot_series series = {"s", points, 2};
    struct plot p = example(PLOT_BAR);
    struct buf b = {0};
    p.series = &series;
    p.n_series = 1;
    p.x_names = names;
    p.n_x = 2;
    plot_svg(&b, &p, 2);
    cr_assert(eq(int, count(b.data, "url(#p2-b0)"), 2));
    cr_assert(eq(int, count(b.data, "<pattern id=\"p2-b0\""), 1));
    cr_assert(eq(int, count(b.data, "class=\"whisker\""), 1));
    cr_assert(ne(ptr, strstr(b.data, "a category with a n…"), NULL));
    cr_assert(ne(ptr, strstr(b.data, "<title>a category with a name beyond its place"), NULL));
    buf_fini(&b);
}

Test(plot, heat)
{
    static const char *columns[] = {"0", "1", "2"}, *rows[] = {"x", "y"};
    static double values[6] = {1, 2, NAN, 1e5, 3, 4};
    struct plot p = example(PLOT_HEAT);
    struct buf b = {0};
    p.x_names = columns;
    p.y_names = rows;
    p.n_x = 3;
    p.n_y = 2;
    p.values = values;
    plot_svg(&b, &p, 3);
    cr_assert(eq(int, count(b.data, "class=\"cell heat\""), 5));
    cr_assert(eq(int, count(b.data, "url(#p3-na)"), 1));
    cr_assert(ne(ptr, strstr(b.data, "logarithmic"), NULL));
    cr_assert(ne(ptr, strstr(b.data, "x, 2: not available"), NULL));
    values[3] = 5;
    buf_clear(&b);
    plot_svg(&b, &p, 3);
    cr_assert(eq(ptr, strstr(b.data, "logarithmic"), NULL));
    buf_fini(&b);
}

Test(plot, describes_itself)
{
    struct plot p = example(PLOT_LINE);
    struct buf b = {0};
    plot_describe(&b, &p);
    cr_assert(
        eq(str, b.data,
           "Lines of time (us) by chunk (tokens). a & b: 10 at 1 to 40 at 100. none: no points."));
    buf_fini(&b);
}
