// plot_bar.c - bars, lying: a category's name has room beside them, however many there are. Series of
// a category lie below each other, told by colour and pattern. See plot.h.
#include <math.h>
#include <string.h>

#include "plot_canvas.h"
#include "report_value.h"

enum {
    BAR = 15,      // height of a bar
    GROUP_GAP = 9, // between categories
    NAME_LETTERS_MAX = 20,
    VALUE_ROOM = 58, // right of the longest bar, for its value
    VALUE_DIGITS = 3,
};

void plot_bar_fill(struct buf *out, int id, int i)
{
    buf_format(out, "class=\"bar s%d\" fill=\"url(#p%d-b%d)\"", i % CANVAS_MARKS, id, i);
}

// One <pattern> a series: its colour, thin, and a drawing in full colour.
static void define_patterns(struct canvas *c)
{
    static const struct {
        const char *path;
        bool filled;
    } DRAWINGS[CANVAS_MARKS] = {
        {"M0 0H8V8H0z", true},   {"M-1 9L9-1M-1 1L1-1M7 9L9 7", false},
        {"M0 2H8M0 6H8", false}, {"M-1-1L9 9M-1 7L1 9M7-1L9 1", false},
        {"M2 0V8M6 0V8", false}, {"M-1 9L9-1M-1-1L9 9", false},
        {"M0 4H8M4 0V8", false}, {"M2 2h2v2h-2zM6 6h2v2h-2z", true},
    };
    buf_str(c->out, "<defs>");
    for (int i = 0; i < c->p->n_series; i++)
        buf_format(c->out,
                   "<pattern id=\"p%d-b%d\" width=\"8\" height=\"8\" "
                   "patternUnits=\"userSpaceOnUse\"><rect class=\"thin s%d\" width=\"8\" "
                   "height=\"8\"/><path class=\"%s s%d\" d=\"%s\"/></pattern>",
                   c->id, i, i % CANVAS_MARKS, DRAWINGS[i % CANVAS_MARKS].filled ? "full" : "hatch",
                   i % CANVAS_MARKS, DRAWINGS[i % CANVAS_MARKS].path);
    buf_str(c->out, "</defs>\n");
}

static void draw_value_axis(struct canvas *c, const struct scale *v)
{
    struct buf label = {0};
    for (int i = 0; i < v->n_ticks; i++) {
        double at = scale_at(v, v->ticks[i]);
        buf_format(c->out,
                   "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>"
                   "<text class=\"mid\" x=\"%.1f\" y=\"%.1f\">",
                   at, c->top, c->bottom, at, c->bottom + 17);
        scale_label(c->out, v, v->ticks[i]);
        buf_str(c->out, "</text>\n");
    }
    plot_axis_label(&label, &c->p->y);
    buf_format(c->out, "<text class=\"axis mid\" x=\"%.1f\" y=\"%.1f\">", (c->left + c->right) / 2,
               c->height - 6);
    canvas_escape(c->out, label.data ? label.data : "");
    buf_str(c->out, "</text>\n");
    buf_fini(&label);
}

static double category_top(const struct canvas *c, double category)
{
    return c->top + category * (c->p->n_series * BAR + GROUP_GAP) + GROUP_GAP / 2.0;
}

static void draw_bar(struct canvas *c, const struct scale *v, const struct plot_point *p,
                     int series)
{
    double base = v->log || v->lo > 0 ? v->lo : v->hi < 0 ? v->hi : 0;
    double from = scale_at(v, base), to = scale_at(v, p->y);
    double high = scale_at(v, p->high), low = scale_at(v, p->low);
    double y = category_top(c, p->x) + series * BAR;
    buf_format(c->out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" ", fmin(from, to),
               y + 1, fmax(fabs(to - from), 1), BAR - 2);
    plot_bar_fill(c->out, c->id, series);
    buf_str(c->out, ">");
    canvas_point_title(c, &c->p->series[series], c->p->x_names[(int)p->x], p->y, p);
    buf_str(c->out, "</rect>");
    if (p->low < p->high)
        buf_format(c->out,
                   "<path class=\"whisker\" d=\"M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6\"/>", low,
                   y + BAR / 2.0, high, low, y + BAR / 2.0 - 3, high, y + BAR / 2.0 - 3);
    buf_format(c->out, "<text class=\"value\" x=\"%.1f\" y=\"%.1f\">",
               fmax(fmax(from, to), high) + 5, y + BAR / 2.0 + 4.5);
    value_rounded(c->out, p->y, VALUE_DIGITS);
    buf_str(c->out, "</text>\n");
}

static void draw_names(struct canvas *c)
{
    for (int i = 0; i < c->p->n_x; i++) {
        double middle = category_top(c, i) + c->p->n_series * BAR / 2.0;
        buf_format(c->out, "<text class=\"end\" x=\"%.1f\" y=\"%.1f\"><title>", c->left - 7,
                   middle + 4.5);
        canvas_escape(c->out, c->p->x_names[i]);
        buf_str(c->out, "</title>");
        canvas_escape_cut(c->out, c->p->x_names[i], NAME_LETTERS_MAX);
        buf_str(c->out, "</text>\n");
    }
}

void plot_bars(struct canvas *c)
{
    enum { TICKS = 4 };
    const struct plot *p = c->p;
    struct extent e = {0};
    struct scale v;
    int letters = 0;
    for (int i = 0; i < p->n_x; i++)
        letters = (int)fmax(letters, canvas_letters(p->x_names[i]));
    for (int i = 0; i < p->n_series; i++) {
        for (int j = 0; j < p->series[i].n_points; j++) {
            extent_add(&e, p->series[i].points[j].low);
            extent_add(&e, p->series[i].points[j].high);
        }
    }
    e.powers_of_2 = false;
    scale_fit(&v, &e, p->y.log, !p->y.log, TICKS);
    c->left = 14 + CANVAS_LETTER * fmin(letters, NAME_LETTERS_MAX);
    c->right = CANVAS_WIDTH - VALUE_ROOM;
    c->top = 8;
    c->bottom = c->top + p->n_x * (p->n_series * BAR + GROUP_GAP);
    c->height = c->bottom + 46;
    v.from = c->left;
    v.to = c->right;
    canvas_begin(c);
    define_patterns(c);
    draw_value_axis(c, &v);
    draw_names(c);
    for (int i = 0; i < p->n_series; i++)
        for (int j = 0; j < p->series[i].n_points; j++)
            draw_bar(c, &v, &p->series[i].points[j], i);
    buf_format(c->out, "<path class=\"frame\" d=\"M%.1f %.1fV%.1f\"/>\n", c->left, c->top,
               c->bottom);
    canvas_end(c);
}
