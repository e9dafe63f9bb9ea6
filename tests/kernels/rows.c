// rows.c - shorthands of the cases of row-wise operations.
#include "rows.h"

#include <math.h>

struct check_buf *rows_normal(struct check_case *c, const char *name, size_t n, double scale)
{
    struct check_buf *b = check_input(c, name, DTYPE_F32, n);
    check_fill_normal(c, b, scale);
    return b;
}

struct check_buf *rows_act(struct check_case *c, const char *name, size_t n, double scale)
{
    struct check_buf *b = check_input(c, name, check_act(c), n);
    check_fill_normal(c, b, scale);
    return b;
}

struct check_limit rows_limit(double rounding, const char *why)
{
    return (struct check_limit){rounding, rounding, rounding * rounding, why};
}

double rows_silu(double x)
{
    return x / (1 + exp(-x));
}
