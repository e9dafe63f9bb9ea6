// attn_prep.c - norm and rotation of queries and keys in float64, and where K and V land: pages that
// belong to nobody and rows that are not written keep their NaN.
#include <math.h>
#include <stdio.h>

#include "rows.h"
#include "steps.h"

static const struct {
    int heads, kv_heads, head_dim, rot, cut;
    enum dtype kv_type;
    struct step_shape spans[STEP_SPANS_MAX];
} SHAPES[] = {
    {1, 1, 256, 64, 1, DTYPE_F32, {{1, 0, 0}}},
    {2, 1, 256, 64, 7, DTYPE_F32, {{65, 0, 0}, {1, 63, 1}, {1, 64, 1}}},
    {6, 2, 256, 64, 64, DTYPE_BF16, {{63, 1, 0}, {64, 64, 0}, {1, 500, 1}}},
    {3, 1, 32, 32, 2, DTYPE_BF16, {{5, 60, 0}, {1, 3000, 1}}},
    {2, 1, 256, 64, 64, DTYPE_BF16, {{9, 60, 0}, {1, 3, 1}}},
    {2, 1, 32, 32, 2, DTYPE_BF16, {{5, 60, 0}, {1, 30, 1}}},
    {8, 2, 256, 64, 1, DTYPE_BF16, {{1, 1000, 1}}},
    {8, 2, 256, 64, 512, DTYPE_BF16, {{512, 0, 0}}},
};
enum { FAR = 4, N = 6, TIMED = 2, HEAD_DIM_MAX = 256 };
static const float EPS = 1e-6f, THETA = 1e7f;

struct bufs {
    struct check_buf *qg, *k, *v, *q_norm, *k_norm, *q, *k_pages, *v_pages;
};

// The angle is float32 in the reference implementation, so it is here: at position 3000 one rounding
// of it is 1e-4.
static double angle(int position, int i, int rot)
{
    const float frequency = 1.0f / powf(THETA, (float)(2 * i) / (float)rot);
    return (float)position * frequency;
}

static void norm_rotate(double *y, const struct check_buf *x, size_t at, const struct check_buf *w,
                        const struct attn_prep_args *a, int position)
{
    const int n = a->head_dim, half = a->rot / 2;
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += rows_held(x, at + (size_t)i) * rows_held(x, at + (size_t)i);
    for (int i = 0; i < n; i++)
        y[i] = rows_held(x, at + (size_t)i) / sqrt(sum / n + EPS) * (1 + check_get(w, (size_t)i));
    for (int i = 0; i < half; i++) {
        const double f = angle(position, i, a->rot), u = y[i], v = y[i + half];
        y[i] = u * cos(f) - v * sin(f);
        y[i + half] = v * cos(f) + u * sin(f);
    }
}

static void expect_kv(const struct check_case *c, struct bufs *b, int t, const int place[2],
                      int position)
{
    const struct attn_prep_args *a = &c->args.attn_prep;
    const int n = a->head_dim, page = place[0], row = place[1];
    for (int h = 0; h < a->kv_heads; h++) {
        double k[HEAD_DIM_MAX];
        const size_t from = (size_t)((t * a->kv_heads + h) * n);
        norm_rotate(k, b->k, from, b->k_norm, a, position);
        for (int i = 0; i < n; i++) {
            const size_t to =
                step_v_at(c, a->kv_type, a->kv_heads, n, (const int[4]){page, h, row, i});
            b->k_pages
                ->want[step_k_at(c, a->kv_type, a->kv_heads, n, (const int[4]){page, h, row, i})] =
                k[i];
            double v = rows_held(b->v, from + (size_t)i);
            if (a->kv_type != DTYPE_F32) { // exactly the nearest
                check_set(b->v_pages, to, v);
                v = check_get(b->v_pages, to);
                check_poison(b->v_pages, to, 1);
            }
            b->v_pages->want[to] = v;
        }
    }
}

static void expect(const struct check_case *c, struct bufs *b, const struct step *st)
{
    const struct attn_prep_args *a = &c->args.attn_prep;
    for (int s = 0; s < st->n_spans; s++)
        for (int i = 0; i < st->spans[s].t; i++) {
            const int t = st->spans[s].t0 + i, position = st->spans[s].pos0 + i;
            for (int h = 0; h < a->heads; h++) {
                const size_t row = (size_t)(t * a->heads + h) * (size_t)a->head_dim;
                norm_rotate(b->q->want + row, b->qg, 2 * row, b->q_norm, a, position);
            }
            expect_kv(c, b, t,
                      (const int[2]){st->pages[s][position / PAGE_TOKENS], position % PAGE_TOKENS},
                      position);
        }
}

static void declare(struct check_case *c, struct bufs *b, const struct attn_prep_args *a,
                    const struct step *st, bool far)
{
    const size_t n = (size_t)a->head_dim, rows = (size_t)(st->t * a->heads);
    const size_t kv = (size_t)(st->t * a->kv_heads) * n;
    const size_t all = (size_t)(st->n_pages * a->kv_heads * PAGE_TOKENS) * n;
    const struct check_limit limit = rows_limit(4e-6, "norm, then a rotation");
    b->qg = rows_act(c, "qg", rows * 2 * n, 2);
    b->k = rows_act(c, "k", kv, 1);
    b->v = rows_act(c, "v", kv, 1);
    if (far) {
        rows_put_far(c, b->qg);
        rows_put_far(c, b->k);
        rows_put_far(c, b->v);
    }
    b->q_norm = rows_normal(c, "q_norm", n, 0.3);
    b->k_norm = rows_normal(c, "k_norm", n, 0.3);
    for (size_t r = 0; r < rows; r++)
        check_poison(b->qg, (2 * r + 1) * n, n); // the gates
    b->q = check_output(c, "q", check_act(c), rows * n, check_act_limit(c, limit));
    b->k_pages = check_in_out(c, "k_pages", a->kv_type, all, check_stored_limit(a->kv_type, limit));
    b->v_pages =
        check_in_out(c, "v_pages", a->kv_type, all, (struct check_limit){0, 0, 0, "copies"});
}

static void make(struct check_case *c, int i)
{
    struct attn_prep_args *a = &c->args.attn_prep;
    struct bufs b;
    *a = (struct attn_prep_args){.kv_type = check_type(c, SHAPES[i].kv_type),
                                 .heads = SHAPES[i].heads,
                                 .kv_heads = SHAPES[i].kv_heads,
                                 .head_dim = SHAPES[i].head_dim,
                                 .rot = SHAPES[i].rot,
                                 .eps = EPS,
                                 .rope_theta = THETA};
    const struct step *st = step_make(c, &a->batch, SHAPES[i].spans, SHAPES[i].cut);
    const bool far = i >= FAR && i < N; // queries, keys and values
    declare(c, &b, a, st, far);
    expect(c, &b, st);
    snprintf(c->name, sizeof c->name, "t=%d spans=%d heads=%d/%d dim=%d rot=%d %s%s", st->t,
             st->n_spans, a->heads, a->kv_heads, a->head_dim, a->rot, dtype_name(a->kv_type),
             far ? " far" : "");
    a->q = b.q->dev;
    a->qg = b.qg->dev;
    a->k = b.k->dev;
    a->v = b.v->dev;
    a->k_pages = b.k_pages->dev;
    a->v_pages = b.v_pages->dev;
    a->q_norm = b.q_norm->dev;
    a->k_norm = b.k_norm->dev;
    const double act = (double)dtype_bytes(check_act(c));
    c->bytes = i >= N ? 1.0 * st->t * a->head_dim *
                            (2.0 * act * a->heads +
                             (2 * act + 2.0 * (double)dtype_bytes(a->kv_type)) * a->kv_heads)
                      : 0;
}

static bool part(struct check_case *c, int i)
{
    return step_part(c, &c->args.attn_prep.batch, i);
}

const struct op_check check_attn_prep = {.n_cases = N, .n_perf = TIMED, .make = make, .part = part};
