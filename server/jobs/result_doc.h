// result_doc.h - the pieces of a result document ("deltaserve.result/1"): tables, plots, checks.
// Builders over jansson; every json_t returned is borrowed from the document unless it says new.
#ifndef RESULT_DOC_H
#define RESULT_DOC_H

#include <jansson.h>
#include <stdbool.h>

#include "err.h"

json_t *doc_number(double v); // new reference; null for what JSON cannot say (inf, NaN)

// A new result document with empty summary, checks, tables, plots and notes; verdict null.
json_t *doc_create(const char *type, const char *title, json_t *environment_take);
void doc_summary(json_t *doc, const char *format, ...) PRINTF_LIKE(2, 3);
void doc_note(json_t *doc, const char *text);
void doc_partial(json_t *doc); // it was stopped half way

// A figure and its limit. The verdict becomes "pass", or "fail" once one fails. low: the limit is the
// least value allowed.
void doc_check(json_t *doc, const char *name, double value, double limit, bool low);

json_t *doc_table(json_t *doc, const char *name, const char *title);
void table_text(json_t *table, const char *name, const char *title);
void table_number(json_t *table, const char *name, const char *title, const char *unit, int digits);
void table_hide(json_t *table); // the last column: for scripts, not for people
void table_note(json_t *table, const char *text);
// What compare.h compares: the rows that have the same in the columns `key` (ended by NULL).
struct table_compare {
    const char *const *key;
    const char *value, *low, *high;
    bool lower_is_better;
};
void table_comparable(json_t *table, const struct table_compare *c);
// row: values in the order of the columns, which may be fewer (the rest null). state "ok", "failed" or
// "skipped".
void table_row(json_t *table, const char *state, json_t *row_take);

enum plot_scale { PLOT_LINEAR = 0, PLOT_LOG_X = 1, PLOT_LOG_Y = 2, PLOT_LOG = 3 };

struct plot_axes {
    const char *x_title, *x_unit, *y_title, *y_unit;
    enum plot_scale scale;
};

json_t *doc_plot(json_t *doc, const char *name, const char *kind, const char *title,
                 const struct plot_axes *axes);
json_t *plot_series(json_t *plot, const char *name); // its points, made on first use
json_t *plot_line(json_t *plot, const char *title);  // points of a reference line
void plot_point(json_t *points, double x, double y); // nothing when one is not finite
void plot_bar(json_t *points, const char *x, double y);
void plot_range(json_t *points, double x, double y, double low, double high);

#endif
