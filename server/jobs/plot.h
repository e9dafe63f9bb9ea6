// plot.h - one plot of a report and its SVG. Texts are C strings without control characters, not yet
// escaped. Pure functions of the caller's memory: any thread.
#ifndef PLOT_H
#define PLOT_H

#include <stdbool.h>

#include "buf.h"

enum {
    PLOT_SERIES_MAX = 16,   // that one can still tell apart, by colour, mark and dash
    PLOT_POINTS_MAX = 5000, // of all series of a plot
    PLOT_BARS_MAX = 120,    // categories * series
    PLOT_CELLS_MAX = 4096,  // of a heat map
    PLOTS_MAX = 64,
};

enum plot_kind { PLOT_LINE, PLOT_BAR, PLOT_SCATTER, PLOT_ROOFLINE, PLOT_HEAT };

struct plot_axis {
    const char *title, *unit;
    bool log; // base 10; every value is then positive
};

struct plot_point {
    double x, y;      // a bar's x is its category's index
    double low, high; // around y; equal to y when there is no interval
};

struct plot_series {
    const char *name;
    struct plot_point *points; // [n_points]
    int n_points;
};

struct plot {
    enum plot_kind kind;
    const char *name, *title;
    struct plot_axis x, y;      // of a heat map: x is the columns', y the rows' axis
    struct plot_axis z;         // of a heat map's values
    struct plot_series *series; // [n_series]
    int n_series;
    struct plot_series *lines; // [n_lines] reference lines
    int n_lines;
    const char **x_names, **y_names; // bar: categories in x_names; heat: both
    int n_x, n_y;
    double *values; // heat: [n_y, n_x]; NaN: not available
};

// Append the plot as an <svg> element whose ids begin with "p<id>-". The classes are those of
// report.css.
void plot_svg(struct buf *out, const struct plot *p, int id);
// A small <svg> of how a series is drawn (reference line i is PLOT_SERIES_MAX + i), for a legend
// beside the plot of the same id.
void plot_key_svg(struct buf *out, const struct plot *p, int id, int index);
// One or two sentences for those who do not see the plot.
void plot_describe(struct buf *out, const struct plot *p);
// "title (unit)".
void plot_axis_label(struct buf *out, const struct plot_axis *a);

#endif
