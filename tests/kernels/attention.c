// attention.c - softmax attention in float64 over scattered pages. What no row may look at (later
// positions, other sequences' and nobody's pages, the queries beside the gates) is NaN.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "rows.h"
#include "steps.h"

static const struct {
    int heads, kv_heads, cut;
    enum dtype kv_type;
    double size; // of the queries: 1 spreads the weights, 30 gives them to one key
    struct step_shape spans[STEP_SPANS_MAX];
} SHAPES[] = {
    {1, 1, 1, DTYPE_F32, 1, {{1, 0, 0}}},
    {2, 1, 1, DTYPE_F32, 1, {{63, 0, 0}, {1, 63, 1}, {1, 64, 1}}},
    {6, 2, 5, DTYPE_BF16, 3, {{64, 0, 0}, {65, 64, 0}, {1, 128, 1}, {1, 200, 1}}},
    {6, 1, 64, DTYPE_BF16, 1, {{130, 3, 0}, {1, 0, 1}, {1, 127, 1}}},
    {4, 4, 17, DTYPE_F32, 30, {{40, 90, 0}, {1, 700, 1}}},
    {8, 1, 3, DTYPE_F32, 30, {{20, 50, 0}, {1, 191, 1}}},
    {8, 2, 1, DTYPE_BF16, 1, {{1, 1023, 1}}},
    {8, 2, 1, DTYPE_F32, 1, {{1, 1023, 1}}},
    {8, 2, 1, DTYPE_BF16, 1, {{1, 4000, 1}}},
    {8, 2, 1, DTYPE_BF16, 1, {{1, 900, 1}, {1, 950, 1}, {1, 700, 1}, {1, 1000, 1}}},
    {8, 2, 512, DTYPE_BF16, 1, {{512, 0, 0}}},
    {8, 2, 512, DTYPE_BF16, 1, {{512, 3400, 0}}},
};
enum { N = 6, TIMED = 6, DIM = 256 };

struct bufs {
    struct check_buf *q, *qg, *k, *v, *o;
};

struct place {
    const struct check_case *c;
    const int *pages;
    int kv_head, position;
};

static size_t k_at(const struct place *p, int i)
{
    return step_k_at(p->c, p->c->args.attention.kv_type, p->c->args.attention.kv_heads, DIM,
                     (const int[4]){p->pages[p->position / PAGE_TOKENS], p->kv_head,
                                    p->position % PAGE_TOKENS, i});
}

static size_t v_at(const struct place *p, int i)
{
    return step_v_at(p->c, p->c->args.attention.kv_type, p->c->args.attention.kv_heads, DIM,
                     (const int[4]){p->pages[p->position / PAGE_TOKENS], p->kv_head,
                                    p->position % PAGE_TOKENS, i});
}

// The row whose position is p.position.
static void expect_row(struct bufs *b, struct place p, size_t row)
{
    const int last = p.position;
    double *score = malloc((size_t)(last + 1) * sizeof *score), most = -INFINITY, total = 0;
    double *o = b->o->want + row * DIM;
    if (!score)
        abort();
    for (p.position = 0; p.position <= last; p.position++) {
        double sum = 0;
        for (int i = 0; i < DIM; i++)
            sum += check_get(b->q, row * DIM + (size_t)i) * check_get(b->k, k_at(&p, i));
        score[p.position] = sum / sqrt(DIM);
        most = fmax(most, score[p.position]);
    }
    for (int i = 0; i < DIM; i++)
        o[i] = 0;
    for (p.position = 0; p.position <= last; p.position++) {
        const double w = exp(score[p.position] - most);
        total += w;
        for (int i = 0; i < DIM; i++)
            o[i] += w * check_get(b->v, v_at(&p, i));
    }
    for (int i = 0; i < DIM; i++)
        o[i] /= total * (1 + exp(-check_get(b->qg, (2 * row + 1) * DIM + (size_t)i)));
    free(score);
}

static void fill_pages(struct check_case *c, struct bufs *b, const struct step *st)
{
    for (int s = 0; s < st->n_spans; s++)
        for (int p = 0; p < st->spans[s].pos0 + st->spans[s].t; p++)
            for (int h = 0; h < c->args.attention.kv_heads; h++)
                for (int i = 0; i < DIM; i++) {
                    const struct place place = {c, st->pages[s], h, p};
                    check_set(b->k, k_at(&place, i), check_normal(c));
                    check_set(b->v, v_at(&place, i), check_normal(c));
                }
}

static void declare(struct check_case *c, struct bufs *b, const struct attention_args *a,
                    const struct step *st, double size)
{
    const size_t rows = (size_t)(st->t * a->heads);
    const size_t all = (size_t)(st->n_pages * a->kv_heads) * PAGE_TOKENS * DIM;
    b->q = rows_act(c, "q", rows * DIM, size);
    b->qg = rows_act(c, "qg", rows * 2 * DIM, 2);
    rows_put_far(c, b->qg); // what a sigmoid makes of an infinity
    for (size_t r = 0; r < rows; r++)
        check_poison(b->qg, 2 * r * DIM, DIM); // the queries, already in q
    b->k = check_input(c, "k_pages", a->kv_type, all);
    b->v = check_input(c, "v_pages", a->kv_type, all);
    fill_pages(c, b, st);
    // A score of size s is off by about s times a few float32 roundings, and so is its weight.
    const struct check_limit limit =
        rows_limit(5e-6 * (1 + size), "scores' roundings, through exp");
    b->o = check_output(c, "o", check_act(c), rows * DIM, limit);
    if (check_act(c) == DTYPE_BF16) // weights are rounded to 8 bits before the second product
        b->o->limit = (struct check_limit){1e-2, 1e-2, 1e-4, "weights and outputs of 8 bits"};
    if (check_act(c) == DTYPE_F16)
        b->o->limit = (struct check_limit){2.5e-3, 2.5e-3, 6e-6, "weights and outputs of 11 bits"};
}

// Bytes: K and V of what each span sees, once. Flops: two products a query row and key it may see.
static void count_work(struct check_case *c, const struct attention_args *a, const struct step *st)
{
    for (int s = 0; s < st->n_spans; s++) {
        const double t = st->spans[s].t, seen = st->spans[s].pos0 + (t + 1) / 2;
        c->bytes +=
            2.0 * (st->spans[s].pos0 + t) * a->kv_heads * DIM * (double)dtype_bytes(a->kv_type);
        c->flops += 4 * t * seen * a->heads * DIM;
    }
}

static void make(struct check_case *c, int i)
{
    struct attention_args *a = &c->args.attention;
    struct bufs b;
    *a = (struct attention_args){.kv_type = check_type(c, SHAPES[i].kv_type),
                                 .heads = SHAPES[i].heads,
                                 .kv_heads = SHAPES[i].kv_heads,
                                 .head_dim = DIM};
    const struct step *st = step_make(c, &a->batch, SHAPES[i].spans, SHAPES[i].cut);
    declare(c, &b, a, st, SHAPES[i].size);
    for (int s = 0; s < st->n_spans && i < N; s++)
        for (int r = 0; r < st->spans[s].t * a->heads; r++) {
            const int t = r / a->heads, h = r % a->heads;
            const struct place place = {c, st->pages[s], h / (a->heads / a->kv_heads),
                                        st->spans[s].pos0 + t};
            expect_row(&b, place, (size_t)((st->spans[s].t0 + t) * a->heads + h));
        }
    snprintf(c->name, sizeof c->name, "t=%d spans=%d from %d heads=%d/%d %s size=%g", st->t,
             st->n_spans, st->spans[0].pos0, a->heads, a->kv_heads, dtype_name(a->kv_type),
             SHAPES[i].size);
    a->o = b.o->dev;
    a->q = b.q->dev;
    a->qg = b.qg->dev;
    a->k_pages = b.k->dev;
    a->v_pages = b.v->dev;
    if (i >= N)
        count_work(c, a, st);
}

static bool part(struct check_case *c, int i)
{
    return step_part(c, &c->args.attention.batch, i);
}

const struct op_check check_attention = {.n_cases = N, .n_perf = TIMED, .make = make, .part = part};
