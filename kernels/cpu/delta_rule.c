// delta_rule.c - the gated delta rule: which head of which span goes where. The arithmetic is in
// delta_rule_step.c (decode, one token at a time) and delta_rule_chunk.c (prefill, in chunks).
//
// Threads take whole heads, so no two touch the same state and a result depends neither on the
// number of threads nor on the other spans of the step.
//
// A float32 state is worked on where it lies. A bf16 state is widened into the worker's scratch, worked on
// there, and rounded back: it takes half the memory, and on a CPU more time, since a state that is used
// stays in a cache. Decode of 4 sequences of 16 heads of 128 x 128: 437 us, 187 with float32 states, one
// thread with AVX2, AMD EPYC (Zen 3), 2026-11-24, `ops_check perf delta_rule 1` beside other builds.
#include "delta_rule.h"

#include <math.h>
#include <string.h>

#include "half.h"
#include "tri_inverse.h"

static const float NORM_EPS = 1e-6f;

// log(1 + e^x); above 20 it equals x in float32, and e^x would overflow from 89.
static float softplus(float x)
{
    return x > 20.0f ? x : log1pf(expf(x));
}

struct delta_gate delta_gate(const struct delta_rule_args *a, int row, int v_head)
{
    const size_t at = (size_t)row * (size_t)a->v_heads + (size_t)v_head;
    const float decay = ((const float *)a->a)[at] + a->dt_bias[v_head];
    const float g = -expf(a->A_log[v_head]) * softplus(decay);
    return (struct delta_gate){
        .g = g < DELTA_G_LEAST ? DELTA_G_LEAST : g,
        .beta = 1.0f / (1.0f + expf(-((const float *)a->b)[at])),
    };
}

void delta_normalize(float *y, const float *x, int n, float scale)
{
    // 16 sums side by side: one after another they would wait for each other.
    float sums[16] = {0}, sum = NORM_EPS;
    for (int i = 0; i < n; i += 16)
        for (int j = 0; j < 16; j++)
            sums[j] += x[i + j] * x[i + j];
    for (int j = 0; j < 16; j++)
        sum += sums[j];
    const float factor = scale / sqrtf(sum);
    for (int i = 0; i < n; i++)
        y[i] = x[i] * factor;
}

static const float *qkv_row(const struct delta_rule_args *a, int row)
{
    const size_t width =
        2 * (size_t)a->k_heads * (size_t)a->k_dim + (size_t)a->v_heads * (size_t)a->v_dim;
    return (const float *)a->qkv + (size_t)row * width;
}

const float *delta_q(const struct delta_rule_args *a, int row, int k_head)
{
    return qkv_row(a, row) + (long)k_head * a->k_dim;
}

const float *delta_k(const struct delta_rule_args *a, int row, int k_head)
{
    return qkv_row(a, row) + (long)(a->k_heads + k_head) * a->k_dim;
}

const float *delta_v(const struct delta_rule_args *a, int row, int v_head)
{
    return qkv_row(a, row) + 2L * a->k_heads * a->k_dim + (long)v_head * a->v_dim;
}

float *delta_o(const struct delta_rule_args *a, int row, int v_head)
{
    return (float *)a->o + ((size_t)row * (size_t)a->v_heads + (size_t)v_head) * (size_t)a->v_dim;
}

// The states of n_heads heads in a slot, and room for them in float32 where their type is another.
struct head_states {
    const struct delta_rule_args *a;
    enum cpu_isa isa;
    int v_head, n_heads;
    float *room; // [n_heads, k_dim, v_dim]
};

static size_t states_floats(const struct head_states *s)
{
    return (size_t)s->n_heads * (size_t)s->a->k_dim * (size_t)s->a->v_dim;
}

static void *states_in(const struct head_states *s, int slot)
{
    const struct delta_rule_args *a = s->a;
    const size_t head = (size_t)slot * (size_t)a->v_heads + (size_t)s->v_head;
    return (char *)a->state +
           head * (size_t)a->k_dim * (size_t)a->v_dim * dtype_bytes(a->state_type);
}

// The states to work on; zero when they are fresh, whatever the slot holds.
static float *load_states(const struct head_states *s, int slot, bool fresh)
{
    const size_t n = states_floats(s);
    void *from = states_in(s, slot);
    float *states = s->a->state_type == DTYPE_F32 ? from : s->room;
    if (fresh)
        memset(states, 0, n * sizeof *states);
    else if (states != from)
        half_widen(s->isa, states, from, n);
    return states;
}

static void store_states(const struct head_states *s, int slot, const float *states)
{
    const size_t n = states_floats(s);
    void *to = states_in(s, slot);
    if (s->a->state_type == DTYPE_BF16)
        half_narrow(s->isa, to, states, n);
    else if (to != states)
        memcpy(to, states, n * sizeof *states);
}

// One value head of one decode span.
static void decode(const struct head_states *s, const struct span *span)
{
    const struct delta_rule_args *a = s->a;
    const int v_head = s->v_head, k_head = v_head / (a->v_heads / a->k_heads);
    for (int i = 0; i < span->t; i++) {
        float *state = load_states(s, span->slot, span->pos0 + i == 0);
        const int row = span->t0 + i;
        const struct delta_gate gate = delta_gate(a, row, v_head);
        float q[DELTA_DIM_MAX], k[DELTA_DIM_MAX];
        delta_normalize(q, delta_q(a, row, k_head), a->k_dim, 1.0f / sqrtf((float)a->k_dim));
        delta_normalize(k, delta_k(a, row, k_head), a->k_dim, 1.0f);
        delta_step(s->isa, &(struct delta_step){.o = delta_o(a, row, v_head),
                                                .s = state,
                                                .q = q,
                                                .k = k,
                                                .v = delta_v(a, row, v_head),
                                                .decay = expf(gate.g),
                                                .beta = gate.beta,
                                                .k_dim = a->k_dim,
                                                .v_dim = a->v_dim});
        store_states(s, span->slot, state);
    }
}

// The heads of c in one prefill span.
static void prefill(struct delta_chunk *c, const struct head_states *s, const struct span *span)
{
    const int chunk = c->args->chunk;
    c->state = load_states(s, span->slot, span->pos0 == 0);
    for (int i = 0; i < span->t; i += chunk) {
        const int left = span->t - i, n = left < chunk ? left : chunk;
        const int next = left - n < chunk ? left - n : chunk;
        delta_chunk(c, span->t0 + i, n, next, (span->pos0 + i) / chunk);
        if (i + n == span->save_t)
            store_states(s, span->save_slot, c->state);
    }
    store_states(s, span->slot, c->state);
}

static bool check_args(struct dev *dev, const struct delta_rule_args *a)
{
    char why[160];
    if (a->k_dim <= 0 || a->k_dim > DELTA_DIM_MAX || a->k_dim % 16 || a->v_dim <= 0 ||
        a->v_dim > DELTA_DIM_MAX || a->v_dim % 16) {
        cpu_fail(dev, "delta_rule: k_dim %d, v_dim %d: each must be a multiple of 16 up to %d",
                 a->k_dim, a->v_dim, DELTA_DIM_MAX);
        return false;
    }
    if (a->k_heads <= 0 || a->v_heads <= 0 || a->v_heads % a->k_heads) {
        cpu_fail(dev, "delta_rule: v_heads %d is not a multiple of k_heads %d", a->v_heads,
                 a->k_heads);
        return false;
    }
    if (a->state_type != DTYPE_F32 && a->state_type != DTYPE_BF16) {
        cpu_fail(dev, "delta_rule: state_type %s: must be f32 or bf16", dtype_name(a->state_type));
        return false;
    }
    if (inverse_check(&a->inverse, a->chunk, why, sizeof why)) {
        cpu_fail(dev, "delta_rule: %s", why);
        return false;
    }
    return true;
}

// The units of a step: the prefill spans' head groups, then the decode spans' heads.
struct units {
    const struct delta_rule_args *a;
    enum cpu_isa isa;
    int n_prefill; // spans
    int n_heads;   // value heads of a prefill unit
    float *scratch;
    size_t floats;                               // of a worker's scratch
    size_t room;                                 // where in it the states' room begins
    struct inverse_report seen[CPU_THREADS_MAX]; // by worker
};

static void do_prefill(void *ud, int i, int worker)
{
    struct units *u = ud;
    const struct delta_rule_args *a = u->a;
    const int units = a->v_heads / u->n_heads, v_head = i % units * u->n_heads;
    float *scratch = u->scratch + (size_t)worker * u->floats;
    prefill(&(struct delta_chunk){.args = a,
                                  .isa = u->isa,
                                  .k_head = v_head / (a->v_heads / a->k_heads),
                                  .v_head = v_head,
                                  .n_heads = u->n_heads,
                                  .scratch = scratch,
                                  .report = a->report ? &u->seen[worker] : NULL},
            &(struct head_states){a, u->isa, v_head, u->n_heads, scratch + u->room},
            &a->batch.spans[i / units]);
}

static void do_decode(void *ud, int i, int worker)
{
    const struct units *u = ud;
    const struct delta_rule_args *a = u->a;
    float *room = u->scratch + (size_t)worker * u->floats + u->room;
    decode(&(struct head_states){a, u->isa, i % a->v_heads, 1, room},
           &a->batch.spans[u->n_prefill + i / a->v_heads]);
}

void cpu_delta_rule(struct dev *dev, const struct delta_rule_args *a)
{
    struct cpu *cpu = cpu_of(dev);
    if (!check_args(dev, a))
        return;
    struct units u = {.a = a, .isa = cpu->isa, .room = delta_chunk_scratch(a)};
    while (u.n_prefill < a->batch.n_spans && !a->batch.spans[u.n_prefill].decode)
        u.n_prefill++;
    // Value heads of one key head share its products, unless that would leave threads idle.
    u.n_heads = u.n_prefill * a->k_heads >= cpu->threads ? a->v_heads / a->k_heads : 1;
    u.floats = u.room;
    if (a->state_type != DTYPE_F32)
        u.floats += (size_t)u.n_heads * (size_t)a->k_dim * (size_t)a->v_dim;
    u.scratch = cpu_scratch(dev, 0, (size_t)cpu->threads * u.floats * sizeof(float));
    if (!u.scratch)
        return;
    cpu_share(cpu, u.n_prefill * (a->v_heads / u.n_heads), do_prefill, &u);
    cpu_share(cpu, (a->batch.n_spans - u.n_prefill) * a->v_heads, do_decode, &u);
    for (int i = 0; a->report && i < cpu->threads; i++)
        inverse_report_merge(a->report, &u.seen[i]);
}
