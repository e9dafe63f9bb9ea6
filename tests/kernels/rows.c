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

void rows_put_far(struct check_case *c, struct check_buf *b)
{
    for (size_t i = 0; i < b->n; i += 5)
        check_set(b, i, ROWS_FAR * check_normal(c));
}

double rows_held(const struct check_buf *b, size_t i)
{
    return check_held(b->type, check_get(b, i));
}

struct check_limit rows_limit(double rounding, const char *why)
{
    return (struct check_limit){rounding, rounding, rounding * rounding, why};
}

double rows_silu(double x)
{
    return x / (1 + exp(-x));
}
