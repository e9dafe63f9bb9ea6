// rows.h - what the cases of the operations that treat each row alone have in common.
// Not for the runner; single-threaded.
#ifndef ROWS_H
#define ROWS_H

#include "ops_check.h"

// An input [n] of normal numbers, float32 or of the activations' type.
struct check_buf *rows_normal(struct check_case *c, const char *name, size_t n, double scale);
struct check_buf *rows_act(struct check_case *c, const char *name, size_t n, double scale);

// `rounding` as abs and rel, its square as nmse; why says which roundings make it up.
struct check_limit rows_limit(double rounding, const char *why);

double rows_silu(double x);

#endif
