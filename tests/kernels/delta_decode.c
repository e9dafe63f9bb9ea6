// delta_decode.c - the mixer of a generated token in float64: convolution, rule and gated norm, with the
// states handed on. Prefill spans of the same step must be left alone.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "rows.h"
#include "steps.h"

static const struct shape {
    int k_heads, v_heads, dim;
    struct step_shape spans[STEP_SPANS_MAX];
    enum dtype state;
} SHAPES[] = {
    {1, 1, 16, {{1, 0, 1}}, DTYPE_F32},
    {2, 6, 32, {{1, 3, 1}, {1, 0, 1}, {1, 64, 1}}, DTYPE_F32},
    {2, 4, 128, {{5, 0, 0}, {1, 1, 1}, {1, 900, 1}}, DTYPE_F32},
    {16, 32, 128, {{1, 7, 1}, {1, 2, 1}}, DTYPE_F32},
    {2, 6, 32, {{1, 3, 1}, {1, 0, 1}, {1, 64, 1}}, DTYPE_BF16},
    {2, 4, 128, {{5, 0, 0}, {1, 1, 1}, {1, 900, 1}}, DTYPE_BF16},
    {2, 6, 128, {{1, 0, 1}, {1, 2, 1}}, DTYPE_BF16},
    {2, 6, 32, {{1, 3, 1}, {1, 0, 1}, {1, 64, 1}}, DTYPE_F32},
    {2, 4, 128, {{5, 0, 0}, {1, 1, 1}, {1, 900, 1}}, DTYPE_F32},
    // perf
    {16, 32, 128, {{1, 7, 1}}, DTYPE_F32},
    {16, 16, 128, {{1, 7, 1}}, DTYPE_F32},
    {16, 32, 128, {{1, 7, 1}}, DTYPE_BF16},
    {16, 16, 128, {{1, 7, 1}}, DTYPE_BF16},
};
enum { FAR = 7, N = 9, TIMED = 4, PAST = CONV_WIDTH - 1 };

struct bufs {
    struct check_buf *qkv, *z, *a, *b, *conv_w, *A_log, *dt_bias, *norm_w, *y, *conv_state, *state;
};

struct place {
    const struct shape *s;
    const struct span *span;
    int channels, row, head;
};

// SiLU(conv) of one channel.
static double convolved(const struct bufs *b, const struct place *p, int ch)
{
    double sum = rows_held(b->qkv, (size_t)(p->row * p->channels + ch)) *
                 check_get(b->conv_w, (size_t)(ch * CONV_WIDTH + PAST));
    for (int j = 0; j < PAST && p->span->pos0; j++)
        sum += check_get(b->conv_state, (size_t)((p->span->slot * PAST + j) * p->channels + ch)) *
               check_get(b->conv_w, (size_t)(ch * CONV_WIDTH + j));
    return rows_silu(sum);
}

static void normalise(double *x, int n, double scale)
{
    double sum = 1e-6;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (int i = 0; i < n; i++)
        x[i] *= scale / sqrt(sum);
}

// The rule for one head: state->want is the new state, o [dim] the output.
static void step_head(const struct bufs *b, const struct place *p, double *o)
{
    const int n = p->s->dim, heads = p->s->v_heads, k_head = p->head / (heads / p->s->k_heads);
    const size_t at = (size_t)(p->row * heads + p->head);
    const size_t s0 = (size_t)(p->span->slot * heads + p->head) * (size_t)(n * n);
    const double decay = check_get(b->a, at) + check_get(b->dt_bias, (size_t)p->head);
    const double g = -exp(check_get(b->A_log, (size_t)p->head)) * log1p(exp(decay));
    const double beta = 1 / (1 + exp(-check_get(b->b, at)));
    double q[128], k[128];
    for (int i = 0; i < n; i++) {
        q[i] = convolved(b, p, k_head * n + i);
        k[i] = convolved(b, p, (p->s->k_heads + k_head) * n + i);
    }
    normalise(q, n, 1 / sqrt(n));
    normalise(k, n, 1);
    for (int j = 0; j < n; j++) {
        double past = 0;
        for (int i = 0; i < n && p->span->pos0; i++)
            past += exp(g) * check_get(b->state, s0 + (size_t)(i * n + j)) * k[i];
        const double v = convolved(b, p, (2 * p->s->k_heads + p->head) * n + j);
        const double u = beta * (v - past);
        o[j] = 0;
        for (int i = 0; i < n; i++) {
            const size_t e = s0 + (size_t)(i * n + j);
            const double old = p->span->pos0 ? exp(g) * check_get(b->state, e) : 0;
            b->state->want[e] = old + k[i] * u;
            o[j] += q[i] * b->state->want[e];
        }
    }
}

static void expect_span(const struct bufs *b, struct place p)
{
    const int n = p.s->dim;
    double o[128];
    for (p.head = 0; p.head < p.s->v_heads; p.head++) {
        double sum = 0;
        step_head(b, &p, o);
        for (int j = 0; j < n; j++)
            sum += o[j] * o[j];
        for (int j = 0; j < n; j++) {
            const size_t at = (size_t)((p.row * p.s->v_heads + p.head) * n + j);
            b->y->want[at] = o[j] / sqrt(sum / n + 1e-6) * check_get(b->norm_w, (size_t)j) *
                             rows_silu(rows_held(b->z, at));
        }
    }
    for (int ch = 0; ch < p.channels; ch++)
        for (int j = 0; j < PAST; j++) {
            const size_t at = (size_t)((p.span->slot * PAST + j) * p.channels + ch);
            const double old = p.span->pos0 && j + 1 < PAST
                                   ? check_get(b->conv_state, at + (size_t)p.channels)
                                   : 0;
            b->conv_state->want[at] =
                j + 1 < PAST ? old : rows_held(b->qkv, (size_t)(p.row * p.channels + ch));
        }
}

static struct bufs declare(struct check_case *c, const struct shape *s, const struct step *st)
{
    const size_t t = (size_t)st->t, heads = (size_t)s->v_heads, dim = (size_t)s->dim;
    const size_t channels = 2 * (size_t)s->k_heads * dim + heads * dim;
    const size_t slots = (size_t)st->n_slots;
    const struct check_limit sums = rows_limit(2e-5, "dim-long sums, exp and a norm in float32");
    struct bufs b = {.qkv = rows_act(c, "qkv", t * channels, 1),
                     .z = rows_act(c, "z", t * heads * dim, 1),
                     .a = rows_act(c, "a", t * heads, 1),
                     .b = rows_act(c, "b", t * heads, 1),
                     .conv_w = rows_normal(c, "conv_w", channels * CONV_WIDTH, 0.5),
                     .A_log = rows_normal(c, "A_log", heads, 1),
                     .dt_bias = rows_normal(c, "dt_bias", heads, 1),
                     .norm_w = rows_normal(c, "norm_w", dim, 1)};
    b.y = check_output(c, "y", check_act(c), t * heads * dim, check_act_limit(c, sums));
    b.conv_state = check_in_out(c, "conv_state", DTYPE_F32, slots * PAST * channels,
                                (struct check_limit){0, 0, 0, "copies of qkv"});
    b.state = check_in_out(c, "state", s->state, slots * heads * dim * dim,
                           check_stored_limit(s->state, sums));
    return b;
}

// Gates, queries and keys; far values would leave nothing but themselves in a state.
static void put_far(struct check_case *c, const struct bufs *b, const struct shape *s)
{
    const size_t keys = 2 * (size_t)(s->k_heads * s->dim),
                 channels = keys + (size_t)(s->v_heads * s->dim);
    for (size_t i = 0; i < b->qkv->n; i += 5)
        if (i % channels < keys)
            check_set(b->qkv, i, ROWS_FAR * check_normal(c));
    rows_put_far(c, b->z);
    rows_put_far(c, b->a);
    rows_put_far(c, b->b);
}

static void fill_states(struct check_case *c, const struct bufs *b, const struct step *st)
{
    const size_t conv = b->conv_state->n / (size_t)st->n_slots;
    const size_t state = b->state->n / (size_t)st->n_slots;
    for (int k = 0; k < st->n_spans; k++)
        for (size_t j = 0; st->spans[k].pos0 && j < conv + state; j++)
            if (j < conv)
                check_set(b->conv_state, (size_t)st->spans[k].slot * conv + j, check_normal(c));
            else
                check_set(b->state, (size_t)st->spans[k].slot * state + j - conv,
                          0.3 * check_normal(c));
    check_keep(b->conv_state);
    check_keep(b->state);
}

static void make(struct check_case *c, int i)
{
    const struct shape *s = &SHAPES[i];
    struct delta_decode_args *a = &c->args.delta_decode;
    *a = (struct delta_decode_args){.k_heads = s->k_heads,
                                    .v_heads = s->v_heads,
                                    .k_dim = s->dim,
                                    .v_dim = s->dim,
                                    .state_type = s->state,
                                    .eps = 1e-6f};
    const struct step *st = step_make(c, &a->batch, s->spans, 1);
    const struct bufs b = declare(c, s, st);
    fill_states(c, &b, st);
    const bool far = i >= FAR && i < N;
    if (far)
        put_far(c, &b, s);
    const int channels = (2 * s->k_heads + s->v_heads) * s->dim;
    for (int k = 0; k < st->n_spans; k++)
        if (st->spans[k].decode)
            expect_span(&b, (struct place){s, &st->spans[k], channels, st->spans[k].t0, 0});
    snprintf(c->name, sizeof c->name, "heads=%d/%d dim=%d t=%d state %s%s", s->k_heads, s->v_heads,
             s->dim, st->t, dtype_name(s->state), far ? " far" : "");
    a->y = b.y->dev;
    a->qkv = b.qkv->dev;
    a->z = b.z->dev;
    a->a = b.a->dev;
    a->b = b.b->dev;
    a->conv_w = b.conv_w->dev;
    a->A_log = b.A_log->dev;
    a->dt_bias = b.dt_bias->dev;
    a->norm_w = b.norm_w->dev;
    a->conv_state = b.conv_state->dev;
    a->state = b.state->dev;
    if (i >= N)
        c->bytes = 2.0 * (double)dtype_bytes(s->state) * s->v_heads * s->dim * s->dim * st->n_spans;
}

// One span at a time; cuts are of one token, so prefill spans are cut too and none of their parts may
// change anything.
static bool part(struct check_case *c, int i)
{
    return step_part(c, &c->args.delta_decode.batch, i);
}

const struct op_check check_delta_decode = {
    .n_cases = N, .n_perf = TIMED, .make = make, .part = part};
