// gated_norm.c - the delta-net output norm in float64, in place too.
#include <math.h>
#include <stdio.h>

#include "rows.h"

static const struct {
    int t, heads, dim;
    bool in_place;
    double size;
} SHAPES[] = {{1, 1, 16, false, 1},   {1, 4, 128, false, 1},   {63, 3, 128, true, 20},
              {65, 2, 48, false, 1},  {2, 16, 128, false, 0},  {64, 1, 240, false, 1e-4},
              {9, 4, 128, true, 1},   {5, 3, 20, false, 1}, // packed, and one by one
              {1, 16, 128, false, 1}, {512, 16, 128, false, 1}};
enum { FAR = 6, N = 8, TIMED = 2 }; // from FAR to N with far gates

static void expect_head(const struct check_buf *o, const struct check_buf *z,
                        const struct check_buf *w, double *y, size_t at, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += check_get(o, at + (size_t)i) * check_get(o, at + (size_t)i);
    for (int i = 0; i < n; i++)
        y[at + (size_t)i] = check_get(o, at + (size_t)i) / sqrt(sum / n + 1e-6) *
                            check_get(w, (size_t)i) * rows_silu(rows_held(z, at + (size_t)i));
}

static void make(struct check_case *c, int i)
{
    const int t = SHAPES[i].t, heads = SHAPES[i].heads, dim = SHAPES[i].dim;
    const size_t all = (size_t)t * (size_t)heads * (size_t)dim;
    const struct check_limit limit =
        check_act_limit(c, rows_limit(3e-6, "six roundings, one exp, a sum of dim"));
    struct check_buf *w = check_input(c, "w", DTYPE_F32, (size_t)dim);
    struct check_buf *z = rows_act(c, "z", all, 3);
    const bool far = i >= FAR && i < N;
    if (far)
        rows_put_far(c, z);
    struct check_buf *o = SHAPES[i].in_place ? check_in_out(c, "o", check_act(c), all, limit)
                                             : check_input(c, "o", check_act(c), all);
    struct check_buf *y = SHAPES[i].in_place ? o : check_output(c, "y", check_act(c), all, limit);
    check_fill_uniform(c, w, 0.5, 1.5);
    check_fill_normal(c, o, SHAPES[i].size);
    for (int r = 0; r < t * heads; r++)
        expect_head(o, z, w, y->want, (size_t)(r * dim), dim);
    snprintf(c->name, sizeof c->name, "t=%d heads=%d dim=%d size=%g%s%s", t, heads, dim,
             SHAPES[i].size, SHAPES[i].in_place ? " in place" : "", far ? " far" : "");
    c->args.gated_norm =
        (struct gated_norm_args){y->dev, o->dev, z->dev, w->dev, t, heads, dim, 1e-6f};
    c->bytes = i >= N ? 3.0 * (double)(dtype_bytes(check_act(c)) * all) : 0;
}

static bool part(struct check_case *c, int i)
{
    struct gated_norm_args *a = &c->args.gated_norm;
    const size_t at = (size_t)i * (size_t)(a->heads * a->dim);
    const bool more = i < a->t;
    a->y = check_act_at(c, a->y, at);
    a->o = check_act_at(c, a->o, at);
    a->z = check_act_at(c, a->z, at);
    a->t = 1;
    return more;
}

const struct op_check check_gated_norm = {
    .n_cases = N, .n_perf = TIMED, .make = make, .part = part};
