// rmsnorm.c - the zero-centred norm in float64, with and without the residual, in place too.
#include <math.h>
#include <stdio.h>

#include "rows.h"

// Sums beyond f16, and what is added infinite there, as a product of the library may leave it.
#define FAR 1e4

static const struct {
    int t, n;
    bool add, in_place;
    double size; // of x
} SHAPES[] = {{1, 1, false, false, 1},     {1, 64, true, false, 1},     {63, 65, true, false, 1},
              {64, 384, false, true, 30},  {65, 1024, true, true, 1},   {3, 256, true, false, 0},
              {2, 96, false, false, 1e-6}, {9, 4096, true, false, 100}, {5, 1024, true, false, FAR},
              {7, 100, true, false, FAR}};
enum { N = sizeof SHAPES / sizeof *SHAPES };

static const struct {
    int t, n;
} TIMED[] = {{1, 1024}, {8, 1024}, {512, 1024}};

static void expect_row(const float *x, const float *w, double *y, int n, double eps)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    for (int i = 0; i < n; i++)
        y[i] = x[i] / sqrt(sum / n + eps) * (1 + (double)w[i]);
}

static void make(struct check_case *c, int i)
{
    const bool timed = i >= N, in_place = !timed && SHAPES[i].in_place;
    const int t = timed ? TIMED[i - N].t : SHAPES[i].t, n = timed ? TIMED[i - N].n : SHAPES[i].n;
    const size_t all = (size_t)t * (size_t)n;
    const struct check_limit limit =
        check_act_limit(c, rows_limit(2e-6, "four roundings, a sum of n in lanes"));
    struct check_buf *x = check_in_out(c, "x", check_act(c), all, limit), *y = x, *add = NULL;
    struct check_buf *w = rows_normal(c, "w", (size_t)n, 0.5);
    check_fill_normal(c, x, timed ? 1 : SHAPES[i].size);
    check_keep(x);
    if (timed || SHAPES[i].add) {
        add = rows_act(c, "add", all, 1);
        for (size_t k = 0; k < all && !timed && SHAPES[i].size == FAR; k++)
            check_set(add, k, 5 * FAR * check_normal(c));
        for (size_t k = 0; k < all; k++)
            x->want[k] = check_held(check_act(c), (float)(x->want[k] + check_get(add, k)));
    }
    if (!in_place)
        y = check_output(c, "y", check_act(c), all, limit);
    if (add) // a rounding of the sum, then one of its norm
        y->limit = check_act_limit(c, y->limit);
    float sum[4096];
    for (int r = 0; r < t; r++) {
        for (int k = 0; k < n; k++)
            sum[k] = (float)x->want[(size_t)(r * n + k)];
        expect_row(sum, w->host, y->want + (size_t)(r * n), n, 1e-6);
    }
    snprintf(c->name, sizeof c->name, "t=%d n=%d%s%s", t, n, add ? " add" : "",
             in_place ? " in place" : "");
    c->args.rmsnorm = (struct rmsnorm_args){
        y->dev, x->dev, add ? add->dev : NULL, add && y != x ? x->dev : NULL, w->dev, t, n, 1e-6f};
    c->bytes = timed ? 4.0 * (double)(dtype_bytes(check_act(c)) * all) : 0;
}

static bool part(struct check_case *c, int i)
{
    struct rmsnorm_args *a = &c->args.rmsnorm;
    const size_t at = (size_t)i * (size_t)a->n;
    const bool more = i < a->t;
    a->x = check_act_at(c, a->x, at);
    a->y = check_act_at(c, a->y, at);
    a->add = a->add ? check_act_at(c, a->add, at) : NULL;
    a->sum = a->sum ? check_act_at(c, a->sum, at) : NULL;
    a->t = 1;
    return more;
}

const struct op_check check_rmsnorm = {
    .n_cases = N, .n_perf = sizeof TIMED / sizeof *TIMED, .make = make, .part = part};
