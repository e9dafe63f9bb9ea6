// plot_svg.c - lines, points and rooflines as SVG, and what all kinds of plots share. See plot.h.
//
// A series is told by three things, so that one can be lost: its colour (8), the shape of its marks (8,
// hollow from the ninth series on) and the dashes of its line (4).
#include <math.h>
#include <string.h>

#include "plot_canvas.h"

enum {
    MARKED_POINTS_MAX = 64, // more marks than that are a smear; the line is enough
    DASHES = 4,
};

// --- text -----------------------------------------------------------------------------------

void canvas_escape(struct buf *out, const char *s)
{
    for (; *s; s++) {
        size_t plain = strcspn(s, "&<>\"'");
        buf_add(out, s, plain);
        s += plain;
        if (!*s)
            return;
        buf_format(out, "&#%d;", *s);
    }
}

int canvas_letters(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

void canvas_escape_cut(struct buf *out, const char *s, int n)
{
    char text[256];
    if (canvas_letters(s) <= n) {
        canvas_escape(out, s);
        return;
    }
    size_t bytes = 0;
    for (int letters = 0; s[bytes] && bytes < sizeof text - 4; bytes++) {
        letters += ((unsigned char)s[bytes] & 0xC0) != 0x80;
        if (letters == n)
            break;
    }
    while (bytes > 0 && ((unsigned char)s[bytes] & 0xC0) == 0x80)
        bytes--;
    memcpy(text, s, bytes);
    text[bytes] = '\0';
    canvas_escape(out, text);
    buf_str(out, "…");
}

void plot_axis_label(struct buf *out, const struct plot_axis *a)
{
    buf_str(out, a->title);
    if (*a->unit)
        buf_format(out, *a->title ? " (%s)" : "%s", a->unit);
}

static void escape_axis(struct buf *out, const struct plot_axis *a)
{
    struct buf label = {0};
    plot_axis_label(&label, a);
    canvas_escape(out, label.data ? label.data : "");
    buf_fini(&label);
}

void canvas_point_title(struct canvas *c, const struct plot_series *s, const char *x, double y,
                        const struct plot_point *interval)
{
    buf_str(c->out, "<title>");
    canvas_escape(c->out, s->name);
    buf_str(c->out, *s->name ? ": " : "");
    canvas_escape(c->out, x);
    buf_format(c->out, ", %.5g", y);
    if (interval->low < interval->high)
        buf_format(c->out, " (%.5g to %.5g)", interval->low, interval->high);
    buf_str(c->out, "</title>");
}

// --- description ----------------------------------------------------------------------------

static const char *const KIND_NAMES[] = {
    [PLOT_LINE] = "Lines",          [PLOT_BAR] = "Bars",      [PLOT_SCATTER] = "Points",
    [PLOT_ROOFLINE] = "A roofline", [PLOT_HEAT] = "Heat map",
};

static void describe_series(struct buf *out, const struct plot *p, const struct plot_series *s)
{
    double min = s->n_points ? s->points[0].y : 0, max = min;
    for (int i = 1; i < s->n_points; i++) {
        min = fmin(min, s->points[i].y);
        max = fmax(max, s->points[i].y);
    }
    buf_format(out, " %s:", *s->name ? s->name : "unnamed");
    if (!s->n_points)
        buf_str(out, " no points.");
    else if (p->kind == PLOT_LINE)
        buf_format(out, " %.4g at %.6g to %.4g at %.6g.", s->points[0].y, s->points[0].x,
                   s->points[s->n_points - 1].y, s->points[s->n_points - 1].x);
    else
        buf_format(out, " from %.4g to %.4g.", min, max);
}

void plot_describe(struct buf *out, const struct plot *p)
{
    buf_format(out, "%s of ", KIND_NAMES[p->kind]);
    if (p->kind == PLOT_HEAT) {
        plot_axis_label(out, &p->z);
        buf_format(out, "%sover %d columns and %d rows.", *p->z.title ? " " : "values ", p->n_x,
                   p->n_y);
        return;
    }
    plot_axis_label(out, &p->y);
    buf_str(out, *p->x.title ? " by " : "");
    plot_axis_label(out, &p->x);
    buf_str(out, ".");
    for (int i = 0; i < p->n_series; i++)
        describe_series(out, p, &p->series[i]);
}

// --- canvas ---------------------------------------------------------------------------------

void canvas_begin(struct canvas *c)
{
    struct buf text = {0};
    buf_format(c->out,
               "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-labelledby=\"p%d-t p%d-d\">"
               "<title id=\"p%d-t\">",
               CANVAS_WIDTH, c->height, c->id, c->id, c->id);
    canvas_escape(c->out, c->p->title);
    buf_format(c->out, "</title><desc id=\"p%d-d\">", c->id);
    plot_describe(&text, c->p);
    canvas_escape(c->out, text.data);
    buf_fini(&text);
    buf_str(c->out, "</desc>\n");
}

void canvas_end(struct canvas *c)
{
    buf_str(c->out, "</svg>\n");
}

// --- marks ----------------------------------------------------------------------------------

static void draw_mark(struct buf *out, int series, double x, double y)
{
    // Around 0 0; sizes that look alike.
    static const char *const SHAPES[CANVAS_MARKS] = {
        "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", // circle
        "M-3.5-3.5h7v7h-7z",                  // square
        "M0-4.6L4.4 3.4h-8.8z",               // triangle
        "M0-5L5 0L0 5L-5 0z",                 // diamond
        "M0 4.6L4.4-3.4h-8.8z",               // triangle, point down
        "M-1.4-4.5h2.8v3.1h3.1v2.8h-3.1v3.1h-2.8v-3.1h-3.1v-2.8h3.1z",
        "M-4-4.5h8L-4 4.5h8z",  // hourglass
        "M-1.6-5h3.2v10h-3.2z", // upright bar
    };
    buf_format(out, "<path class=\"mark s%d%s\" transform=\"translate(%.1f %.1f)\" d=\"%s\"",
               series % CANVAS_MARKS, series >= CANVAS_MARKS ? " hollow" : "", x, y,
               SHAPES[series % CANVAS_MARKS]);
}

static void line_class(struct buf *out, int index)
{
    if (index >= PLOT_SERIES_MAX)
        buf_format(out, "reference r%d", (index - PLOT_SERIES_MAX) % DASHES);
    else
        buf_format(out, "curve s%d d%d", index % CANVAS_MARKS,
                   (index + index / CANVAS_MARKS) % DASHES);
}

void plot_key_svg(struct buf *out, const struct plot *p, int id, int index)
{
    buf_str(out, "<svg class=\"key\" viewBox=\"0 0 32 14\" aria-hidden=\"true\">");
    if (p->kind == PLOT_BAR) {
        buf_str(out, "<rect x=\"2\" y=\"1\" width=\"28\" height=\"12\" ");
        plot_bar_fill(out, id, index);
        buf_str(out, "/>");
    } else if (index >= PLOT_SERIES_MAX || p->kind == PLOT_LINE) {
        buf_str(out, "<path class=\"");
        line_class(out, index);
        buf_str(out, "\" d=\"M1 7H31\"/>");
    }
    if (index < PLOT_SERIES_MAX && p->kind != PLOT_BAR) {
        draw_mark(out, index, 16, 7);
        buf_str(out, "/>");
    }
    buf_str(out, "</svg>");
}

// --- axes -----------------------------------------------------------------------------------

static void add_extents(const struct plot_series *s, int n, struct extent *x, struct extent *y)
{
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < s[i].n_points; j++) {
            extent_add(x, s[i].points[j].x);
            extent_add(y, s[i].points[j].low);
            extent_add(y, s[i].points[j].high);
        }
    }
}

static void draw_y_axis(struct canvas *c, const struct scale *y)
{
    for (int i = 0; i < y->n_ticks; i++) {
        double at = scale_at(y, y->ticks[i]);
        buf_format(c->out,
                   "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>"
                   "<text class=\"end\" x=\"%.1f\" y=\"%.1f\">",
                   c->left, at, c->right, c->left - 6, at + 4.5);
        scale_label(c->out, y, y->ticks[i]);
        buf_str(c->out, "</text>\n");
    }
    buf_str(c->out, "<text class=\"axis\" x=\"2\" y=\"14\">");
    escape_axis(c->out, &c->p->y);
    buf_str(c->out, "</text>\n");
}

static void draw_x_axis(struct canvas *c, const struct scale *x)
{
    for (int i = 0; i < x->n_ticks; i++) {
        double at = scale_at(x, x->ticks[i]);
        buf_format(c->out,
                   "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>"
                   "<text class=\"mid\" x=\"%.1f\" y=\"%.1f\">",
                   at, c->top, c->bottom, at, c->bottom + 17);
        scale_label(c->out, x, x->ticks[i]);
        buf_str(c->out, "</text>\n");
    }
    buf_format(c->out, "<text class=\"axis mid\" x=\"%.1f\" y=\"%.1f\">", (c->left + c->right) / 2,
               c->height - 6);
    escape_axis(c->out, &c->p->x);
    buf_format(c->out, "</text>\n<path class=\"frame\" d=\"M%.1f %.1fV%.1fH%.1f\"/>\n", c->left,
               c->top, c->bottom, c->right);
}

static int widest_label(const struct scale *s)
{
    int widest = 0;
    for (int i = 0; i < s->n_ticks; i++) {
        struct buf label = {0};
        scale_label(&label, s, s->ticks[i]);
        int n = canvas_letters(label.data);
        widest = n > widest ? n : widest;
        buf_fini(&label);
    }
    return widest;
}

// --- data -----------------------------------------------------------------------------------

struct axes {
    struct scale x, y;
};

static void draw_curve(struct canvas *c, const struct axes *a, const struct plot_series *s,
                       int index)
{
    if (s->n_points < 2)
        return;
    buf_str(c->out, "<path class=\"");
    line_class(c->out, index);
    buf_str(c->out, "\" d=\"");
    for (int i = 0; i < s->n_points; i++)
        buf_format(c->out, "%c%.1f %.1f", i ? 'L' : 'M', scale_at(&a->x, s->points[i].x),
                   scale_at(&a->y, s->points[i].y));
    buf_str(c->out, "\"/>\n");
}

static void draw_interval(struct canvas *c, const struct axes *a, const struct plot_point *p,
                          int series)
{
    const double cap = 3.5;
    if (!(p->low < p->high))
        return;
    double x = scale_at(&a->x, p->x);
    double low = scale_at(&a->y, p->low), high = scale_at(&a->y, p->high);
    buf_format(c->out,
               "<path class=\"interval s%d\" d=\"M%.1f %.1fV%.1fM%.1f %.1fh%.1fM%.1f %.1fh%.1f\"/>",
               series % CANVAS_MARKS, x, low, high, x - cap, low, 2 * cap, x - cap, high, 2 * cap);
}

static void draw_points(struct canvas *c, const struct axes *a, const struct plot_series *s,
                        int index)
{
    bool marked = c->p->kind != PLOT_LINE || s->n_points <= MARKED_POINTS_MAX;
    for (int i = 0; i < s->n_points && marked; i++) {
        const struct plot_point *p = &s->points[i];
        struct buf x = {0};
        draw_interval(c, a, p, index);
        draw_mark(c->out, index, scale_at(&a->x, p->x), scale_at(&a->y, p->y));
        buf_str(c->out, ">");
        buf_format(&x, "%.6g", p->x);
        canvas_point_title(c, s, x.data, p->y, p);
        buf_str(c->out, "</path>\n");
        buf_fini(&x);
    }
}

static void draw_axes_plot(struct canvas *c)
{
    enum { X_TICKS = 6, Y_TICKS = 5 };
    const struct plot *p = c->p;
    struct extent x = {0}, y = {0};
    struct axes a;
    add_extents(p->series, p->n_series, &x, &y);
    add_extents(p->lines, p->n_lines, &x, &y);
    scale_fit(&a.x, &x, p->x.log, false, X_TICKS);
    scale_fit(&a.y, &y, p->y.log, false, Y_TICKS);
    c->left = 12 + CANVAS_LETTER * widest_label(&a.y);
    c->right = CANVAS_WIDTH - 26;
    c->top = 28;
    c->bottom = c->height - 46;
    a.x.from = c->left;
    a.x.to = c->right;
    a.y.from = c->bottom;
    a.y.to = c->top;
    canvas_begin(c);
    draw_y_axis(c, &a.y);
    draw_x_axis(c, &a.x);
    for (int i = 0; i < p->n_lines; i++)
        draw_curve(c, &a, &p->lines[i], PLOT_SERIES_MAX + i);
    for (int i = 0; i < p->n_series && p->kind == PLOT_LINE; i++)
        draw_curve(c, &a, &p->series[i], i);
    for (int i = 0; i < p->n_series; i++)
        draw_points(c, &a, &p->series[i], i);
    canvas_end(c);
}

void plot_svg(struct buf *out, const struct plot *p, int id)
{
    struct canvas c = {.out = out, .p = p, .id = id, .height = 310};
    switch (p->kind) {
    case PLOT_LINE:
    case PLOT_SCATTER:
    case PLOT_ROOFLINE:
        draw_axes_plot(&c);
        break;
    case PLOT_BAR:
        plot_bars(&c);
        break;
    case PLOT_HEAT:
        plot_heat(&c);
        break;
    }
}
