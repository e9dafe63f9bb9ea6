// report_plot.c - checks the plots of a result document: kinds, axes, points, names, heat values.
// See report_doc.h.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report_doc.h"

// Beyond these a difference or a quotient of two values could leave the number range.
static const double VALUE_MAX = 1e150, POSITIVE_MIN = 1e-150;

static const char *const KINDS[] = {
    [PLOT_LINE] = "line",         [PLOT_BAR] = "bar",   [PLOT_SCATTER] = "scatter",
    [PLOT_ROOFLINE] = "roofline", [PLOT_HEAT] = "heat",
};
enum { KINDS_N = sizeof KINDS / sizeof *KINDS };

// What the readers below share: the document, the plot being filled, and its place in the document.
struct plot_reader {
    struct report_doc *d;
    struct plot *p;
    char at[48];
    int n_points; // taken so far
    size_t n_points_omitted;
};

static bool fits(const struct plot_axis *axis, double v)
{
    return fabs(v) <= VALUE_MAX && (!axis->log || v >= POSITIVE_MIN);
}

// A value that is no number, or has no place on the axis, is NaN.
static double read_value(const struct plot_axis *axis, const json_t *v)
{
    double value = json_is_number(v) ? json_number_value(v) : NAN;
    return fits(axis, value) ? value : NAN;
}

static struct plot_axis read_axis(struct report_doc *d, const json_t *v)
{
    return (struct plot_axis){
        .title = report_doc_text(d, json_object_get(v, "title")),
        .unit = report_doc_text(d, json_object_get(v, "unit")),
        .log = json_is_true(json_object_get(v, "log")),
    };
}

// Index of the category v of a bar plot, added when it is new; -1: not a text, or no room.
static int category_index(struct plot_reader *r, const json_t *v)
{
    char number[32];
    const char *name = report_doc_text(r->d, v);
    if (json_is_number(v)) {
        snprintf(number, sizeof number, "%.10g", json_number_value(v));
        name = number;
    }
    for (int i = 0; i < r->p->n_x; i++)
        if (!strcmp(r->p->x_names[i], name))
            return i;
    if (!*name || r->p->n_x == PLOT_BARS_MAX)
        return -1;
    r->p->x_names[r->p->n_x] = arena_string(&r->d->arena, name, strlen(name));
    return r->p->n_x++;
}

static bool read_point(struct plot_reader *r, const json_t *v, struct plot_point *out)
{
    const struct plot *p = r->p;
    size_t n = json_array_size(v);
    if (n != 2 && n != 4)
        return false;
    double x = p->kind == PLOT_BAR ? category_index(r, json_array_get(v, 0))
                                   : read_value(&p->x, json_array_get(v, 0));
    double y = read_value(&p->y, json_array_get(v, 1));
    if (isnan(x) || isnan(y) || (p->kind == PLOT_BAR && x < 0))
        return false;
    double low = n == 4 ? read_value(&p->y, json_array_get(v, 2)) : NAN;
    double high = n == 4 ? read_value(&p->y, json_array_get(v, 3)) : NAN;
    bool interval = low <= y && high >= y; // not when one is NaN
    *out = (struct plot_point){x, y, interval ? low : y, interval ? high : y};
    return true;
}

static int compare_x(const void *a, const void *b)
{
    const struct plot_point *p = a, *q = b;
    return (p->x > q->x) - (p->x < q->x);
}

static void read_points(struct plot_reader *r, const json_t *points, struct plot_series *s)
{
    size_t n = json_array_size(points);
    size_t room = (size_t)(PLOT_POINTS_MAX - r->n_points);
    s->points = arena_alloc(&r->d->arena, (n < room ? n : room) + 1, sizeof *s->points);
    for (size_t i = 0; i < n; i++) {
        if ((size_t)s->n_points < room &&
            read_point(r, json_array_get(points, i), &s->points[s->n_points]))
            s->n_points++;
        else
            r->n_points_omitted++;
    }
    r->n_points += s->n_points;
    if (r->p->kind == PLOT_LINE)
        qsort(s->points, (size_t)s->n_points, sizeof *s->points, compare_x);
}

// The array `field` of the plot: series (named by "name") or lines (by "title"). Empty ones are kept:
// a method without a single valid point is news.
static struct plot_series *read_series(struct plot_reader *r, const json_t *list, const char *field,
                                       int *n_out)
{
    size_t n = json_array_size(list);
    if (list && !json_is_null(list) && !json_is_array(list))
        report_doc_omit(r->d, "%s.%s is not a list", r->at, field);
    if (n > PLOT_SERIES_MAX) {
        report_doc_omit(r->d, "%s.%s has %zu entries; %d are drawn", r->at, field, n,
                        PLOT_SERIES_MAX);
        n = PLOT_SERIES_MAX;
    }
    struct plot_series *series = arena_alloc(&r->d->arena, n + 1, sizeof *series);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        const json_t *name = json_object_get(v, "name");
        struct plot_series *s = &series[*n_out];
        if (!json_is_array(json_object_get(v, "points"))) {
            report_doc_omit(r->d, "%s.%s[%zu].points is not a list", r->at, field, i);
            continue;
        }
        s->name = report_doc_text(r->d, name ? name : json_object_get(v, "title"));
        read_points(r, json_object_get(v, "points"), s);
        (*n_out)++;
    }
    return series;
}

static int read_names(struct report_doc *d, const json_t *list, const char ***names)
{
    size_t n = json_array_size(list);
    if (n < 1 || n > PLOT_CELLS_MAX)
        return 0;
    *names = arena_alloc(&d->arena, n, sizeof **names);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        char number[32];
        snprintf(number, sizeof number, "%.10g", json_number_value(v));
        (*names)[i] = json_is_number(v) ? arena_string(&d->arena, number, strlen(number))
                                        : report_doc_text(d, v);
    }
    return (int)n;
}

static bool read_heat(struct plot_reader *r, const json_t *v)
{
    struct plot *p = r->p;
    const json_t *values = json_object_get(v, "values");
    p->n_x = read_names(r->d, json_object_get(v, "x_names"), &p->x_names);
    p->n_y = read_names(r->d, json_object_get(v, "y_names"), &p->y_names);
    if (!p->n_x || !p->n_y || p->n_x > PLOT_CELLS_MAX / p->n_y ||
        json_array_size(values) != (size_t)p->n_y) {
        report_doc_omit(r->d, "%s is not a heat map of x_names, y_names and at most %d values",
                        r->at, PLOT_CELLS_MAX);
        return false;
    }
    p->values = arena_alloc(&r->d->arena, (size_t)p->n_x * (size_t)p->n_y, sizeof *p->values);
    for (int i = 0; i < p->n_y; i++) {
        const json_t *row = json_array_get(values, (size_t)i);
        for (int j = 0; j < p->n_x; j++)
            p->values[i * p->n_x + j] = read_value(&p->z, json_array_get(row, (size_t)j));
        if (json_array_size(row) != (size_t)p->n_x)
            report_doc_omit(r->d, "%s.values[%d] does not have one value for each of x_names",
                            r->at, i);
    }
    return true;
}

static bool read_drawn(struct plot_reader *r, const json_t *v)
{
    struct plot *p = r->p;
    if (p->kind == PLOT_ROOFLINE)
        p->x.log = p->y.log = true;
    if (p->kind == PLOT_BAR)
        p->x_names = arena_alloc(&r->d->arena, PLOT_BARS_MAX, sizeof *p->x_names);
    p->series = read_series(r, json_object_get(v, "series"), "series", &p->n_series);
    if (p->kind != PLOT_BAR)
        p->lines = read_series(r, json_object_get(v, "lines"), "lines", &p->n_lines);
    if (r->n_points_omitted)
        report_doc_omit(r->d,
                        "%s: %zu points are not drawn (no number, not positive on a logarithmic "
                        "axis, or more than %d)",
                        r->at, r->n_points_omitted, PLOT_POINTS_MAX);
    bool drawn = r->n_points > 0 && p->n_x * p->n_series <= PLOT_BARS_MAX;
    if (!drawn)
        report_doc_omit(r->d, "%s has no point that can be drawn, or more than %d bars", r->at,
                        PLOT_BARS_MAX);
    return drawn;
}

static bool read_plot(struct plot_reader *r, const json_t *v)
{
    struct plot *p = r->p;
    const char *kind = report_doc_text(r->d, json_object_get(v, "kind"));
    int k = 0;
    while (k < KINDS_N && strcmp(KINDS[k], kind))
        k++;
    if (k == KINDS_N) {
        report_doc_omit(r->d, "%s.kind is not one of line, bar, scatter, roofline, heat", r->at);
        return false;
    }
    p->kind = (enum plot_kind)k;
    p->name = report_doc_text(r->d, json_object_get(v, "name"));
    p->title = report_doc_text(r->d, json_object_get(v, "title"));
    if (!*p->title)
        p->title = *p->name ? p->name : "Plot";
    p->x = read_axis(r->d, json_object_get(v, "x"));
    p->y = read_axis(r->d, json_object_get(v, "y"));
    p->z = read_axis(r->d, json_object_get(v, "z"));
    return p->kind == PLOT_HEAT ? read_heat(r, v) : read_drawn(r, v);
}

void report_doc_read_plots(struct report_doc *d, const json_t *plots)
{
    size_t n = json_array_size(plots);
    if (plots && !json_is_null(plots) && !json_is_array(plots))
        report_doc_omit(d, "plots is not a list");
    if (n > PLOTS_MAX) {
        report_doc_omit(d, "there are %zu plots; %d are drawn", n, PLOTS_MAX);
        n = PLOTS_MAX;
    }
    d->plots = arena_alloc(&d->arena, n + 1, sizeof *d->plots);
    for (size_t i = 0; i < n; i++) {
        struct plot_reader r = {.d = d, .p = &d->plots[d->n_plots]};
        snprintf(r.at, sizeof r.at, "plots[%zu]", i);
        *r.p = (struct plot){0};
        if (read_plot(&r, json_array_get(plots, i)))
            d->n_plots++;
    }
}
