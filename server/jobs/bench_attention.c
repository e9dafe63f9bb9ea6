// bench_attention.c - attn_prep, and attention over a context that it has written, for a prompt and for one
// generated token of each sequence. Positions before the timed tokens repeat PIECE rows of K and V.
#include <math.h>
#include <string.h>

#include "bench.h"
#include "mem.h"

enum { PIECE = 256, DIM_MAX = 256 };
enum { QG, K, V, Q_NORM, K_NORM, SPANS, PAGES, Q, O, K_PAGES, V_PAGES, FILL_SPAN };

static const double EPS = 1e-6, THETA = 1e7;

static bool decodes(const struct bench_case *c)
{
    return (c->op->uses & BENCH_BATCH) != 0;
}

static int rows_of(const struct bench_case *c)
{
    return decodes(c) ? c->at.batch : c->at.tokens;
}

static int pages_max(const struct bench_case *c)
{
    const int longest = c->at.depth + (decodes(c) ? 1 : c->at.tokens);
    return (longest + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

// K and V of a served model have 16 bits unless its weights are float32.
static enum dtype kv_type(const struct bench_case *c)
{
    return c->at.weights == DTYPE_F32 ? DTYPE_F32 : dtype_half(c->act);
}

static void count_work(struct bench_case *c)
{
    const struct bench_shape *s = &c->at.shape;
    const double t = rows_of(c), act = (double)dtype_bytes(c->act);
    const double own = decodes(c) ? t : t * (t + 1) / 2; // keys among the timed tokens
    const double keys = t * c->at.depth + own, read = decodes(c) ? keys : c->at.depth + t;
    const double q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    if (!(c->op->uses & BENCH_DEPTH)) { // attn_prep
        c->bytes = t * (act * (3 * q + 2 * kv) + 2 * (double)dtype_bytes(kv_type(c)) * kv);
        c->flops = t * 8 * (q + kv);
        return;
    }
    c->flops = 4 * q * keys;
    c->bytes = act * t * 3 * q + 2 * (double)dtype_bytes(kv_type(c)) * read * kv;
}

static void prepare(struct bench_case *c)
{
    const struct bench_shape *s = &c->at.shape;
    const size_t t = (size_t)rows_of(c), rows = t > PIECE ? t : PIECE;
    const size_t q = (size_t)(s->heads * s->head_dim), kv = (size_t)(s->kv_heads * s->head_dim);
    const size_t sequences = decodes(c) ? t : 1, pages = sequences * (size_t)pages_max(c);
    bench_buf(c, BENCH_INPUT, c->act, rows * 2 * q);
    bench_buf(c, BENCH_INPUT, c->act, rows * kv);
    bench_buf(c, BENCH_INPUT, c->act, rows * kv);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, (size_t)s->head_dim);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, (size_t)s->head_dim);
    bench_spans(c, decodes(c));
    bench_buf(c, BENCH_INPUT, DTYPE_INT32, pages);
    bench_buf(c, BENCH_OUTPUT, c->act, rows * q);
    bench_buf(c, BENCH_OUTPUT, c->act, t * q);
    bench_filled(c, kv_type(c), pages * PAGE_TOKENS * kv, 0);
    bench_filled(c, kv_type(c), pages * PAGE_TOKENS * kv, 0);
    bench_buf(c, BENCH_INPUT, DTYPE_INT32, sizeof(struct span) / sizeof(int32_t));
    bench_normal(c, QG, 1);
    bench_normal(c, K, 1);
    bench_normal(c, V, 1);
    bench_normal(c, Q_NORM, 0.2);
    bench_normal(c, K_NORM, 0.2);
    for (size_t i = 0; i < pages; i++) // scattered: an odd step visits every page once
        bench_set(c, PAGES, i, (double)((i * 7919 + 3) % pages));
    for (size_t i = 0; pages % 7919 == 0 && i < pages; i++)
        bench_set(c, PAGES, i, (double)i);
    count_work(c);
}

// Positions 0 .. depth - 1 of every sequence.
static void write_context(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    const int sequences = decodes(c) ? c->at.batch : 1;
    struct attn_prep_args a = c->prep;
    struct span span = {.slot = 0};
    a.batch.spans = bench_dev(c, FILL_SPAN);
    a.batch.host_spans = &span;
    a.batch.n_spans = 1;
    for (int i = 0; i < sequences; i++) {
        a.batch.pages = c->prep.batch.pages + (size_t)i * (size_t)a.batch.pages_max;
        for (int at = 0; at < c->at.depth; at += PIECE) {
            span.pos0 = at;
            span.t = c->at.depth - at < PIECE ? c->at.depth - at : PIECE;
            a.batch.t = a.batch.t_prefill = span.t;
            ops->upload(dev, bench_dev(c, FILL_SPAN), &span, sizeof span);
            ops->attn_prep(dev, &a);
        }
    }
}

static void bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    const struct bench_shape *s = &c->at.shape;
    struct batch batch = bench_batch(c, SPANS);
    batch.pages = bench_dev(c, PAGES);
    batch.pages_max = pages_max(c);
    c->prep = (struct attn_prep_args){.q = bench_dev(c, Q),
                                      .qg = bench_dev(c, QG),
                                      .k = bench_dev(c, K),
                                      .v = bench_dev(c, V),
                                      .k_pages = bench_dev(c, K_PAGES),
                                      .v_pages = bench_dev(c, V_PAGES),
                                      .kv_type = kv_type(c),
                                      .q_norm = bench_dev(c, Q_NORM),
                                      .k_norm = bench_dev(c, K_NORM),
                                      .batch = batch,
                                      .heads = s->heads,
                                      .kv_heads = s->kv_heads,
                                      .head_dim = s->head_dim,
                                      .rot = s->rot,
                                      .eps = (float)EPS,
                                      .rope_theta = (float)THETA};
    write_context(c, ops, dev);
    ops->attn_prep(dev, &c->prep);
    c->args.attention = (struct attention_args){.o = bench_dev(c, O),
                                                .q = bench_dev(c, Q),
                                                .qg = bench_dev(c, QG),
                                                .k_pages = bench_dev(c, K_PAGES),
                                                .v_pages = bench_dev(c, V_PAGES),
                                                .kv_type = kv_type(c),
                                                .batch = batch,
                                                .heads = s->heads,
                                                .kv_heads = s->kv_heads,
                                                .head_dim = s->head_dim};
}

static void run_attention(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    ops->attention(dev, &c->args.attention);
}

static void run_prep(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    ops->attn_prep(dev, &c->prep);
}

// Norm and rotation of one head's query or key at a position.
static void norm_rotate(const struct bench_case *c, int buf, size_t at, int norm, int position,
                        double *y)
{
    const int n = c->at.shape.head_dim, half = c->at.shape.rot / 2;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        y[i] = bench_get(c, buf, at + (size_t)i);
        sum += y[i] * y[i];
    }
    for (int i = 0; i < n; i++)
        y[i] *= (1 + bench_get(c, norm, (size_t)i)) / sqrt(sum / n + EPS);
    for (int i = 0; i < half; i++) {
        const double angle = position * pow(THETA, -(double)i / half);
        const double u = y[i], v = y[i + half];
        y[i] = u * cos(angle) - v * sin(angle);
        y[i + half] = v * cos(angle) + u * sin(angle);
    }
}

static void load_query(const struct bench_case *c, int row, int head, int position, double *q)
{
    const int n = c->at.shape.head_dim;
    norm_rotate(c, QG, (size_t)(row * c->at.shape.heads + head) * 2 * (size_t)n, Q_NORM, position,
                q);
}

// Which row of K and V stands at position p of the sequence of `row`.
static int source_row(const struct bench_case *c, int row, int p)
{
    if (p < c->at.depth)
        return p % PIECE;
    return decodes(c) ? row : p - c->at.depth;
}

static void judge_row(struct bench_case *c, int row, int head)
{
    const struct bench_shape *s = &c->at.shape;
    const int n = s->head_dim, kv = head / (s->heads / s->kv_heads);
    const int position = c->at.depth + (decodes(c) ? 0 : row);
    double q[DIM_MAX], k[DIM_MAX], o[DIM_MAX] = {0}, most = -INFINITY, total = 0;
    load_query(c, row, head, position, q);
    for (int p = 0; p <= position; p++) { // softmax in one pass: what is summed follows the maximum
        const size_t at = (size_t)(source_row(c, row, p) * s->kv_heads + kv) * (size_t)n;
        double score = 0;
        norm_rotate(c, K, at, K_NORM, p, k);
        for (int i = 0; i < n; i++)
            score += q[i] * k[i];
        score /= sqrt(n);
        const double before = score > most ? exp(most - score) : 1;
        most = fmax(most, score);
        const double w = exp(score - most);
        total = total * before + w;
        for (int i = 0; i < n; i++)
            o[i] = o[i] * before + w * bench_get(c, V, at + (size_t)i);
    }
    const size_t gate = (size_t)(row * s->heads + head) * 2 * (size_t)n + (size_t)n;
    for (int i = 0; i < n; i++) {
        const double want = o[i] / total / (1 + exp(-bench_get(c, QG, gate + (size_t)i)));
        bench_raise(
            c,
            fabs(bench_get(c, O, (size_t)(row * s->heads + head) * (size_t)n + (size_t)i) - want));
    }
}

static double limit_of(const struct bench_case *c)
{
    const enum dtype kv = kv_type(c);
    return (kv != DTYPE_F32 ? 8 * bench_type_error(kv) : 5e-5) +
           (c->act != DTYPE_F32 ? 16 * bench_act_error(c) : 0);
}

static void judge_attention(struct bench_case *c)
{
    const int last = rows_of(c) - 1;
    judge_row(c, 0, 0);
    if (last > 0)
        judge_row(c, last, c->at.shape.heads - 1);
    if (last > 1)
        judge_row(c, last / 2, c->at.shape.heads / 2);
    c->limit = limit_of(c);
    c->measure = "max |error| of o, values of size 1";
    c->why = "types of K, V and the activations; float32 angles at high positions";
}

static void judge_prep(struct bench_case *c)
{
    const int n = c->at.shape.head_dim, step = c->at.tokens > 64 ? c->at.tokens / 64 : 1;
    double q[DIM_MAX];
    for (int row = 0; row < c->at.tokens; row += step) {
        const int head = row % c->at.shape.heads;
        load_query(c, row, head, row, q);
        for (int i = 0; i < n; i++)
            bench_raise(c, fabs(bench_get(c, Q,
                                          (size_t)(row * c->at.shape.heads + head) * (size_t)n +
                                              (size_t)i) -
                                q[i]));
    }
    c->limit = 1e-3 + (c->act != DTYPE_F32 ? 16 * bench_act_error(c) : 0);
    c->measure = "max |error| of q, values of size 1 (K and V: see attention)";
    c->why = "float32 angles at high positions; the activations' type";
}

const struct bench_op bench_attention_prefill = {
    .name = "attention_prefill",
    .title = "softmax attention of a prompt's tokens over themselves and what stands before them",
    .uses = BENCH_TOKENS | BENCH_DEPTH | BENCH_WEIGHTS,
    .prepare = prepare,
    .bind = bind,
    .run = run_attention,
    .judge = judge_attention,
};

const struct bench_op bench_attention_decode = {
    .name = "attention_decode",
    .title = "softmax attention of one generated token of each sequence over its context",
    .uses = BENCH_BATCH | BENCH_DEPTH | BENCH_WEIGHTS,
    .prepare = prepare,
    .bind = bind,
    .run = run_attention,
    .judge = judge_attention,
};

const struct bench_op bench_attn_prep = {
    .name = "attn_prep",
    .title = "norm and rotation of queries and keys, K and V into their pages",
    .uses = BENCH_TOKENS | BENCH_WEIGHTS,
    .prepare = prepare,
    .bind = bind,
    .run = run_prep,
    .judge = judge_prep,
};
