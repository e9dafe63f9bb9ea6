// plot_canvas.h - what the files that draw plots share. Lengths are units of the viewBox, 480 wide, in
// which text is 12.5 high (15 on a phone, see report.css).
#ifndef PLOT_CANVAS_H
#define PLOT_CANVAS_H

#include "plot.h"
#include "plot_scale.h"

enum {
    CANVAS_WIDTH = 480,
    CANVAS_LETTER = 9, // a letter's width, amply
    CANVAS_MARKS = 8,  // shapes of points, patterns of bars, colours
};

struct canvas {
    struct buf *out;
    const struct plot *p;
    int id;
    double height;
    double left, right, top, bottom; // of the frame inside which data lie
};

// <svg>, its title and description; close with canvas_end.
void canvas_begin(struct canvas *c);
void canvas_end(struct canvas *c);

// Text for an element or a quoted attribute.
void canvas_escape(struct buf *out, const char *s);
// s, cut to n characters with an ellipsis.
void canvas_escape_cut(struct buf *out, const char *s, int n);
int canvas_letters(const char *s); // code points
// "<title>series: x, y (low to high)</title>", what a pointer shows.
void canvas_point_title(struct canvas *c, const struct plot_series *s, const char *x, double y,
                        const struct plot_point *interval);

void plot_bars(struct canvas *c); // plot_bar.c: all of a bar plot
// The fill of series i; defined once by plot_bars.
void plot_bar_fill(struct buf *out, int id, int i);
void plot_heat(struct canvas *c); // plot_heat.c: all of a heat map

#endif
