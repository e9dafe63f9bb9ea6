// plot_scale.h - an axis: the range that holds the data, ticks at numbers people count in, and where a
// value lies on it. Pure functions.
#ifndef PLOT_SCALE_H
#define PLOT_SCALE_H

#include <stdbool.h>

#include "buf.h"

enum { SCALE_TICKS_MAX = 24 };

struct scale {
    bool log;
    double lo, hi;   // range of values, lo < hi; positive when log
    double from, to; // where lo and hi lie on the page; the caller sets them
    double step;     // between linear ticks
    double ticks[SCALE_TICKS_MAX];
    int n_ticks;
};

// What the data of an axis span.
struct extent {
    double min, max;
    int n;            // values seen
    bool powers_of_2; // all of them are
};
void extent_add(struct extent *e, double v); // e starts as all zero

// Fit a scale to at least one value, with about `wanted` ticks (2 to 10). A linear scale of positive
// values begins at 0 unless they all lie in the upper half; zero forces 0 into the range.
void scale_fit(struct scale *s, const struct extent *e, bool log, bool zero, int wanted);
double scale_at(const struct scale *s, double v);
void scale_label(struct buf *out, const struct scale *s, double tick);

#endif
