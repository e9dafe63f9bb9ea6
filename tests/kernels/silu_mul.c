// silu_mul.c - SiLU(gate) * up in float64, far into both tails of the sigmoid, in place too.
#include <math.h>
#include <stdio.h>

#include "expf.h"
#include "rows.h"

static const struct {
    int t, n;
    double size; // of gate
    bool in_place;
} SHAPES[] = {{1, 1, 1, false},         {1, 3584, 3, false},      {63, 17, 10, false},
              {64, 96, 1, true},        {65, 65, 60, false},      {3, 128, 1000, false},
              {5, 256, ROWS_FAR, true}, {3, 33, ROWS_FAR, false}, // packed, and one by one
              {1, 3584, 3, false},      {512, 3584, 3, false}};
enum { N = 8, TIMED = 2 };

static void make(struct check_case *c, int i)
{
    const int t = SHAPES[i].t, n = SHAPES[i].n;
    const size_t all = (size_t)t * (size_t)n;
    struct check_limit limit =
        check_act_limit(c, rows_limit(1e-6, "one exp of 2 ulp, three roundings"));
    struct check_buf *up = rows_act(c, "up", all, 1);
    struct check_buf *gate = SHAPES[i].in_place ? check_in_out(c, "gate", check_act(c), all, limit)
                                                : check_input(c, "gate", check_act(c), all);
    struct check_buf *y =
        SHAPES[i].in_place ? gate : check_output(c, "y", check_act(c), all, limit);
    check_fill_normal(c, gate, SHAPES[i].size);
    if (SHAPES[i].size == ROWS_FAR)
        rows_put_far(c, up);
    for (size_t k = 0; k < all; k++)
        y->want[k] = rows_silu(rows_held(gate, k)) * rows_held(up, k);
    snprintf(c->name, sizeof c->name, "t=%d n=%d size=%g%s", t, n, SHAPES[i].size,
             SHAPES[i].in_place ? " in place" : "");
    c->args.silu_mul = (struct silu_mul_args){y->dev, gate->dev, up->dev, t, n};
    c->bytes = i >= N ? 3.0 * (double)(dtype_bytes(check_act(c)) * all) : 0;
}

static bool part(struct check_case *c, int i)
{
    struct silu_mul_args *a = &c->args.silu_mul;
    const size_t at = (size_t)i * (size_t)a->n;
    const bool more = i < a->t;
    a->y = check_act_at(c, a->y, at);
    a->gate = check_act_at(c, a->gate, at);
    a->up = check_act_at(c, a->up, at);
    a->t = 1;
    return more;
}

// The exp of this and other operations: its stated error over its range, and its ends.
static void extra(const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    double worst = 0;
    float at = 0;
    for (float x = -87; x < 88; x += 0.000977f) {
        const double want = exp(x), ulp = ldexp(1, ilogb(want) - 23);
        const double error = fabs(expf_fast(x) - want) / ulp;
        if (error > worst) {
            worst = error;
            at = x;
        }
    }
    check_true(worst <= 2, "expf_fast(%.9g) is off by %.2f units in the last place", at, worst);
    check_true(expf_fast(0) == 1, "expf_fast(0) is %.9g", expf_fast(0));
    check_true(expf_fast(-INFINITY) == 0 && expf_fast(-1000) == 0, "expf_fast far below is not 0");
    check_true(isfinite(expf_fast(1e30f)), "expf_fast far above is not finite");
}

const struct op_check check_silu_mul = {
    .n_cases = N, .n_perf = TIMED, .make = make, .part = part, .extra = extra};
