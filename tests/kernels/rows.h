// rows.h - what the cases of the operations that treat each row alone have in common.
// Not for the runner; single-threaded.
#ifndef ROWS_H
#define ROWS_H

#include "ops_check.h"

// An input [n] of normal numbers, float32 or of the activations' type.
struct check_buf *rows_normal(struct check_case *c, const char *name, size_t n, double scale);
struct check_buf *rows_act(struct check_case *c, const char *name, size_t n, double scale);

// Every fifth value is of the order of ROWS_FAR: many in f16 infinities, as a product of the library may leave them.
#define ROWS_FAR 4e4
void rows_put_far(struct check_case *c, struct check_buf *b);

// A value as operations read what a product left: no infinity of f16.
double rows_held(const struct check_buf *b, size_t i);

// `rounding` as abs and rel, its square as nmse; why says which roundings make it up.
struct check_limit rows_limit(double rounding, const char *why);

double rows_silu(double x);

#endif
