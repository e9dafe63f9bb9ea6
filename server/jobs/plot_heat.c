// plot_heat.c - a matrix as a heat map: one colour, from faint to full, so that it reads the same in
// grey; the numbers themselves where cells are large enough. See plot.h.
#include <math.h>

#include "plot_canvas.h"

enum {
    CELL_HEIGHT_MIN = 16,
    CELL_HEIGHT_MAX = 30,
    NAME_LETTERS_MAX = 18,
    VALUE_WIDTH_MIN = 46, // a cell this wide shows its number
    KEY_STEPS = 24,
};

// From a value to how full its colour is.
struct shade {
    double min, max;
    bool log, any;
};

// Values that span decades are told apart by their size, not by their difference.
static struct shade fit_shade(const struct plot *p)
{
    const double decades = 1e3;
    struct shade s = {0};
    for (int i = 0; i < p->n_x * p->n_y; i++) {
        double v = p->values[i];
        if (isnan(v))
            continue;
        s.min = s.any ? fmin(s.min, v) : v;
        s.max = s.any ? fmax(s.max, v) : v;
        s.any = true;
    }
    s.log = s.any && s.min > 0 && (p->z.log || s.max / s.min > decades);
    return s;
}

static double shade_of(const struct shade *s, double v)
{
    if (s->max <= s->min)
        return 0.5;
    return s->log ? log(v / s->min) / log(s->max / s->min) : (v - s->min) / (s->max - s->min);
}

static double opacity_of(double shade)
{
    const double faintest = 0.06;
    return faintest + (1 - faintest) * shade;
}

static void draw_cell_title(struct canvas *c, int row, int column, double v)
{
    buf_str(c->out, "<title>");
    canvas_escape(c->out, c->p->y_names[row]);
    buf_str(c->out, ", ");
    canvas_escape(c->out, c->p->x_names[column]);
    if (isnan(v))
        buf_str(c->out, ": not available</title>");
    else
        buf_format(c->out, ": %.5g</title>", v);
}

static void draw_cell(struct canvas *c, const struct shade *s, int row, int column)
{
    const double ink_turns = 0.6; // above it dark text on the colour cannot be read
    double w = (c->right - c->left) / c->p->n_x, h = (c->bottom - c->top) / c->p->n_y;
    double x = c->left + column * w, y = c->top + row * h;
    double v = c->p->values[row * c->p->n_x + column];
    buf_format(c->out, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" ", x, y, w, h);
    if (isnan(v))
        buf_format(c->out, "class=\"cell\" fill=\"url(#p%d-na)\">", c->id);
    else
        buf_format(c->out, "class=\"cell heat\" fill-opacity=\"%.3f\">",
                   opacity_of(shade_of(s, v)));
    draw_cell_title(c, row, column, v);
    buf_str(c->out, "</rect>");
    if (w >= VALUE_WIDTH_MIN && !isnan(v))
        buf_format(c->out, "<text class=\"mid value inside%s\" x=\"%.1f\" y=\"%.1f\">%.2g</text>",
                   shade_of(s, v) > ink_turns ? " turned" : "", x + w / 2, y + h / 2 + 4.5, v);
    buf_str(c->out, "\n");
}

// Every n-th name, so that they do not run into each other.
static void draw_names(struct canvas *c)
{
    const struct plot *p = c->p;
    double w = (c->right - c->left) / p->n_x, h = (c->bottom - c->top) / p->n_y;
    int letters = 1;
    for (int i = 0; i < p->n_x; i++)
        letters = (int)fmax(letters, canvas_letters(p->x_names[i]));
    // The first name is centred on the first cell and may not leave the page.
    int shown = (int)fmin(letters, NAME_LETTERS_MAX);
    int every = (int)fmax(1, ceil((shown + 1) * CANVAS_LETTER / w));
    for (int i = 0; i < p->n_x; i += every) {
        buf_format(c->out, "<text class=\"mid\" x=\"%.1f\" y=\"%.1f\">", c->left + (i + 0.5) * w,
                   c->bottom + 16);
        canvas_escape_cut(c->out, p->x_names[i], shown);
        buf_str(c->out, "</text>\n");
    }
    for (int i = 0; i < p->n_y; i += (int)fmax(1, ceil(14 / h))) {
        buf_format(c->out, "<text class=\"end\" x=\"%.1f\" y=\"%.1f\">", c->left - 6,
                   c->top + (i + 0.5) * h + 4.5);
        canvas_escape_cut(c->out, p->y_names[i], NAME_LETTERS_MAX);
        buf_str(c->out, "</text>\n");
    }
}

static void draw_titles(struct canvas *c)
{
    struct buf label = {0};
    plot_axis_label(&label, &c->p->y);
    buf_str(c->out, "<text class=\"axis\" x=\"2\" y=\"14\">");
    canvas_escape(c->out, label.data ? label.data : "");
    buf_clear(&label);
    plot_axis_label(&label, &c->p->x);
    buf_format(c->out, "</text><text class=\"axis mid\" x=\"%.1f\" y=\"%.1f\">",
               (c->left + c->right) / 2, c->bottom + 33);
    canvas_escape(c->out, label.data ? label.data : "");
    buf_str(c->out, "</text>\n");
    buf_fini(&label);
}

static void draw_key(struct canvas *c, const struct shade *s)
{
    struct buf label = {0};
    double y = c->height - 30, left = CANVAS_WIDTH / 4.0, step = CANVAS_WIDTH / 2.0 / KEY_STEPS;
    for (int i = 0; i < KEY_STEPS; i++)
        buf_format(c->out,
                   "<rect class=\"heat crisp\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"9\" "
                   "fill-opacity=\"%.3f\"/>",
                   left + i * step, y, step, opacity_of((i + 0.5) / KEY_STEPS));
    buf_format(c->out,
               "<text class=\"end\" x=\"%.1f\" y=\"%.1f\">%.3g</text>"
               "<text x=\"%.1f\" y=\"%.1f\">%.3g</text>",
               left - 6, y + 9, s->min, CANVAS_WIDTH * 0.75 + 6, y + 9, s->max);
    plot_axis_label(&label, &c->p->z);
    buf_format(c->out, "<text class=\"axis mid\" x=\"%d\" y=\"%.1f\">", CANVAS_WIDTH / 2,
               c->height - 6);
    canvas_escape(c->out, label.data ? label.data : "");
    buf_str(c->out, !s->log   ? "</text>\n"
                    : label.n ? ", logarithmic</text>\n"
                              : "logarithmic</text>\n");
    buf_fini(&label);
}

void plot_heat(struct canvas *c)
{
    const struct plot *p = c->p;
    struct shade s = fit_shade(p);
    int letters = 1;
    for (int i = 0; i < p->n_y; i++)
        letters = (int)fmax(letters, canvas_letters(p->y_names[i]));
    c->left = 12 + CANVAS_LETTER * fmin(letters, NAME_LETTERS_MAX);
    c->right = CANVAS_WIDTH - 8;
    c->top = 24;
    double cell = fmin(fmax(240.0 / p->n_y, CELL_HEIGHT_MIN), CELL_HEIGHT_MAX);
    c->bottom = c->top + fmin(p->n_y * cell, 16.0 * CELL_HEIGHT_MAX);
    c->height = c->bottom + 82;
    canvas_begin(c);
    buf_format(c->out,
               "<defs><pattern id=\"p%d-na\" width=\"6\" height=\"6\" "
               "patternUnits=\"userSpaceOnUse\"><path class=\"grid\" d=\"M-1 7L7-1\"/></pattern>"
               "</defs>\n",
               c->id);
    for (int row = 0; row < p->n_y; row++)
        for (int column = 0; column < p->n_x; column++)
            draw_cell(c, &s, row, column);
    draw_names(c);
    draw_titles(c);
    if (s.any)
        draw_key(c, &s);
    canvas_end(c);
}
