// fill.c - made-up numbers: mean, variance, and that an element depends on its own place alone.
#include <math.h>
#include <stdio.h>

#include "fill_value.h"
#include "ops_check.h"

static const struct {
    enum dtype type;
    size_t n;
    uint64_t seed;
    float mean, deviation;
} SHAPES[] = {{DTYPE_F32, 1, 1, 0, 1},
              {DTYPE_F32, 1000, 2, -0.5f, 0.02f},
              {DTYPE_BF16, 4097, 3, 0, 0.02f},
              {DTYPE_BF16, 63, 3, 1, 0}};
enum { N = 4 };

static void make(struct check_case *c, int i)
{
    const enum dtype type = check_type(c, SHAPES[i].type);
    const struct check_limit limits[] = {
        [DTYPE_F32] = {0, 1e-7, 1e-13, "rounded once to the type"},
        [DTYPE_BF16] = {0, 0.00391, 1e-5, "rounded once to the type"},
        [DTYPE_F16] = {0x1.01p-25, 0.00049, 2e-7, "rounded once to the type, or to a subnormal"}};
    struct check_buf *p = check_output(c, "p", type, SHAPES[i].n, limits[type]);
    for (size_t k = 0; k < p->n; k++)
        p->want[k] = fill_value(SHAPES[i].seed, k, SHAPES[i].mean, SHAPES[i].deviation);
    snprintf(c->name, sizeof c->name, "%s n=%zu", dtype_name(type), SHAPES[i].n);
    c->args.fill = (struct fill_args){.p = p->dev,
                                      .type = type,
                                      .n = SHAPES[i].n,
                                      .seed = SHAPES[i].seed,
                                      .mean = SHAPES[i].mean,
                                      .deviation = SHAPES[i].deviation};
}

// The numbers themselves: a million have mean 0, variance 1, none beyond 3.5, neighbours unrelated.
static void extra(const struct ops *ops, struct dev *dev)
{
    enum { MANY = 1000000 };
    double sum = 0, squares = 0, pairs = 0, most = 0, last = 0;
    (void)ops;
    (void)dev;
    for (int i = 0; i < MANY; i++) {
        const double v = fill_value(7, (uint64_t)i, 0, 1);
        sum += v;
        squares += v * v;
        pairs += v * last;
        most = fmax(most, fabs(v));
        last = v;
    }
    check_true(fabs(sum / MANY) < 5e-3, "fill: mean %g", sum / MANY);
    check_true(fabs(squares / MANY - 1) < 5e-3, "fill: variance %g", squares / MANY);
    check_true(fabs(pairs / MANY) < 5e-3, "fill: neighbours %g", pairs / MANY);
    check_true(most < 3.5 && most > 3, "fill: largest %g", most);
}

const struct op_check check_fill = {
    .n_cases = N,
    .make = make,
    .part_why = "an element is a function of its index, which a part would begin anew",
    .extra = extra};
