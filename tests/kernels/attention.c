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

// Where a page's K and V begin, and one value of each (the CPU's order: K transposed).
static size_t page_at(const struct attention_args *a, int page, int kv_head)
{
    return (size_t)(page * a->kv_heads + kv_head) * PAGE_TOKENS * DIM;
}

static double key(const struct bufs *b, size_t at, int row, int i)
{
    return check_get(b->k, at + (size_t)(i * PAGE_TOKENS + row));
}

static void expect_row(struct bufs *b, const struct attention_args *a, const int *pages, size_t row,
                       int kv_head, int position)
{
    double *score = malloc((size_t)(position + 1) * sizeof *score), most = -INFINITY, total = 0;
    double *o = b->o->want + row * DIM;
    if (!score)
        abort();
    for (int p = 0; p <= position; p++) {
        const size_t at = page_at(a, pages[p / PAGE_TOKENS], kv_head);
        score[p] = 0;
        for (int i = 0; i < DIM; i++)
            score[p] += check_get(b->q, row * DIM + (size_t)i) * key(b, at, p % PAGE_TOKENS, i);
        score[p] /= sqrt(DIM);
        most = fmax(most, score[p]);
    }
    for (int i = 0; i < DIM; i++)
        o[i] = 0;
    for (int p = 0; p <= position; p++) {
        const double w = exp(score[p] - most);
        const size_t at = page_at(a, pages[p / PAGE_TOKENS], kv_head);
        total += w;
        for (int i = 0; i < DIM; i++)
            o[i] += w * check_get(b->v, at + (size_t)(p % PAGE_TOKENS * DIM + i));
    }
    for (int i = 0; i < DIM; i++)
        o[i] /= total * (1 + exp(-check_get(b->qg, (2 * row + 1) * DIM + (size_t)i)));
    free(score);
}

static void fill_pages(struct check_case *c, struct bufs *b, const struct attention_args *a,
                       const struct step *st)
{
    for (int s = 0; s < st->n_spans; s++)
        for (int p = 0; p < st->spans[s].pos0 + st->spans[s].t; p++)
            for (int h = 0; h < a->kv_heads; h++) {
                const size_t at = page_at(a, st->pages[s][p / PAGE_TOKENS], h);
                const int row = p % PAGE_TOKENS;
                for (int i = 0; i < DIM; i++) {
                    check_set(b->k, at + (size_t)(i * PAGE_TOKENS + row), check_normal(c));
                    check_set(b->v, at + (size_t)(row * DIM + i), check_normal(c));
                }
            }
}

static void declare(struct check_case *c, struct bufs *b, const struct attention_args *a,
                    const struct step *st, double size)
{
    const size_t rows = (size_t)(st->t * a->heads);
    const size_t all = (size_t)(st->n_pages * a->kv_heads) * PAGE_TOKENS * DIM;
    b->q = rows_normal(c, "q", rows * DIM, size);
    b->qg = rows_normal(c, "qg", rows * 2 * DIM, 2);
    for (size_t r = 0; r < rows; r++)
        check_poison(b->qg, 2 * r * DIM, DIM); // the queries, already in q
    b->k = check_input(c, "k_pages", a->kv_type, all);
    b->v = check_input(c, "v_pages", a->kv_type, all);
    fill_pages(c, b, a, st);
    // A score of size s is off by about s times a few float32 roundings, and so is its weight.
    b->o = check_output(c, "o", DTYPE_F32, rows * DIM,
                        rows_limit(5e-6 * (1 + size), "scores' roundings, through exp"));
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
    *a = (struct attention_args){.kv_type = SHAPES[i].kv_type,
                                 .heads = SHAPES[i].heads,
                                 .kv_heads = SHAPES[i].kv_heads,
                                 .head_dim = DIM};
    const struct step *st = step_make(c, &a->batch, SHAPES[i].spans, SHAPES[i].cut);
    declare(c, &b, a, st, SHAPES[i].size);
    for (int s = 0; s < st->n_spans && i < N; s++)
        for (int r = 0; r < st->spans[s].t * a->heads; r++) {
            const int t = r / a->heads, h = r % a->heads;
            expect_row(&b, a, st->pages[s], (size_t)((st->spans[s].t0 + t) * a->heads + h),
                       h / (a->heads / a->kv_heads), st->spans[s].pos0 + t);
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
