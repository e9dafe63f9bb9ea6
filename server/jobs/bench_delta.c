// bench_delta.c - gdn_prefill and gdn_decode: the gated delta rule over a prompt in chunks, and the whole
// mixer of generated tokens, against the recurrence in float64.
#include <math.h>
#include <string.h>

#include "bench.h"
#include "bench_inputs.h"
#include "mem.h"

enum { LONG = 1024 }; // prompts beyond are compared in one head instead of two

// --- inputs that both have ------------------------------------------------------------------

static int channels(const struct bench_shape *s)
{
    return 2 * s->k_heads * s->k_dim + s->v_heads * s->v_dim;
}

// Queries and values of size 1; keys of any length, which the rule normalises, alike as asked.
static void draw_qkv(struct bench_case *c, int buf, int rows)
{
    const struct bench_shape *s = &c->at.shape;
    const int width = channels(s);
    bench_normal(c, buf, 1);
    double *keys = mem_alloc((size_t)rows * (size_t)s->k_dim * sizeof *keys);
    for (int h = 0; h < s->k_heads; h++) {
        keys_draw(keys, rows, s->k_dim, c->at.rho, &c->random);
        for (int t = 0; t < rows; t++)
            for (int i = 0; i < s->k_dim; i++)
                bench_set(c, buf,
                          (size_t)t * (size_t)width + (size_t)((s->k_heads + h) * s->k_dim + i),
                          3 * keys[t * s->k_dim + i]);
    }
    mem_free(keys);
}

// a and b [rows, v_heads] and the two vectors that they belong to (zero).
static void draw_gates(struct bench_case *c, int a, int b, int rows)
{
    struct gates recorded = gates_open(c->at.data_dir);
    const int heads = c->at.shape.v_heads;
    for (int t = 0; t < rows; t++) {
        for (int h = 0; h < heads; h++) {
            const struct delta_gate gate = gates_at(&recorded, t, h);
            bench_set(c, a, (size_t)(t * heads + h), delta_gate_a(gate.g));
            bench_set(c, b, (size_t)(t * heads + h), delta_gate_b(gate.beta));
        }
    }
    gates_close(&recorded);
}

static void load(const struct bench_case *c, int buf, size_t at, double *x, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = bench_get(c, buf, at + (size_t)i);
}

// What the types lose: the inverse's type in T, and the activations' in everything that is handed on.
static double limit_of(const struct bench_case *c, enum inverse_type type)
{
    static const double LOSS[] = {[INVERSE_FP32] = 0,
                                  [INVERSE_TF32] = 4e-3,
                                  [INVERSE_FP16] = 4e-3,
                                  [INVERSE_BF16] = 4e-2,
                                  [INVERSE_INT8] = 4e-3};
    return LOSS[type] + (c->act != DTYPE_F32 ? 16 * bench_act_error(c) : 2e-5);
}

// --- prefill --------------------------------------------------------------------------------

enum { P_QKV, P_A, P_B, P_A_LOG, P_DT_BIAS, P_SPANS, P_STATE, P_O };

static void prepare_prefill(struct bench_case *c)
{
    const struct bench_shape *s = &c->at.shape;
    const size_t t = (size_t)c->at.tokens, heads = (size_t)s->v_heads;
    const size_t state = heads * (size_t)(s->k_dim * s->v_dim);
    bench_buf(c, BENCH_INPUT, c->act, t * (size_t)channels(s));
    bench_buf(c, BENCH_INPUT, c->act, t * heads);
    bench_buf(c, BENCH_INPUT, c->act, t * heads);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, heads);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, heads);
    bench_spans(c, false);
    bench_buf(c, BENCH_STATE, DTYPE_F32, state);
    bench_buf(c, BENCH_OUTPUT, c->act, t * heads * (size_t)s->v_dim);
    draw_qkv(c, P_QKV, c->at.tokens);
    draw_gates(c, P_A, P_B, c->at.tokens);
    // Per chunk and head: K K^T, Q K^T, and products with the state, V and T (spec of the chunk form).
    const double chunk = fmin(c->at.chunk, (double)t), k = s->k_dim, v = s->v_dim;
    c->flops = (double)t * (double)heads * 2 * (2 * chunk * (k + v) + 3 * k * v);
    c->bytes = (double)dtype_bytes(c->act) * (double)t * (channels(s) + (2 + v) * (double)heads) +
               2.0 * sizeof(float) * (double)state;
}

static void bind_prefill(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    const struct bench_shape *s = &c->at.shape;
    (void)ops;
    (void)dev;
    c->args.delta_rule = (struct delta_rule_args){.o = bench_dev(c, P_O),
                                                  .qkv = bench_dev(c, P_QKV),
                                                  .a = bench_dev(c, P_A),
                                                  .b = bench_dev(c, P_B),
                                                  .A_log = bench_dev(c, P_A_LOG),
                                                  .dt_bias = bench_dev(c, P_DT_BIAS),
                                                  .state = bench_dev(c, P_STATE),
                                                  .batch = bench_batch(c, P_SPANS),
                                                  .k_heads = s->k_heads,
                                                  .v_heads = s->v_heads,
                                                  .k_dim = s->k_dim,
                                                  .v_dim = s->v_dim,
                                                  .chunk = c->at.chunk,
                                                  .inverse = c->at.inverse};
}

static void run_prefill(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    ops->delta_rule(dev, &c->args.delta_rule);
}

static void judge_head(struct bench_case *c, int h)
{
    const struct bench_shape *s = &c->at.shape;
    const int width = channels(s), k_head = h / (s->v_heads / s->k_heads);
    const size_t size = (size_t)(s->k_dim * s->v_dim);
    double q[DELTA_DIM_MAX], k[DELTA_DIM_MAX], v[DELTA_DIM_MAX], o[DELTA_DIM_MAX];
    double *state = mem_zero(size, sizeof *state);
    for (int t = 0; t < c->at.tokens; t++) {
        const size_t row = (size_t)t * (size_t)width, at = (size_t)(t * s->v_heads + h);
        load(c, P_QKV, row + (size_t)(k_head * s->k_dim), q, s->k_dim);
        load(c, P_QKV, row + (size_t)((s->k_heads + k_head) * s->k_dim), k, s->k_dim);
        load(c, P_QKV, row + (size_t)(2 * s->k_heads * s->k_dim + h * s->v_dim), v, s->v_dim);
        delta_normalise(q, s->k_dim, 1 / sqrt(s->k_dim));
        delta_normalise(k, s->k_dim, 1);
        delta_token(state, o,
                    &(struct delta_input){
                        q, k, v, delta_gate_of(bench_get(c, P_A, at), bench_get(c, P_B, at), 0, 0)},
                    s->k_dim, s->v_dim);
        for (int j = 0; j < s->v_dim; j++)
            bench_raise(c, fabs(bench_get(c, P_O, at * (size_t)s->v_dim + (size_t)j) - o[j]));
    }
    for (size_t i = 0; i < size; i++)
        bench_raise(c, fabs(bench_get(c, P_STATE, (size_t)h * size + i) - state[i]));
    mem_free(state);
}

// The head that forgets least: its A is the largest, so an inverse fails there first.
static int slowest_head(const struct bench_case *c)
{
    const int heads = c->at.shape.v_heads;
    double most = -INFINITY;
    int slowest = 0;
    for (int h = 0; h < heads; h++) {
        double sum = 0;
        for (int t = 0; t < c->at.tokens && t < LONG; t++)
            sum += delta_gate_of(bench_get(c, P_A, (size_t)(t * heads + h)), 0, 0, 0).g;
        slowest = sum > most ? h : slowest;
        most = fmax(most, sum);
    }
    return slowest;
}

static void judge_prefill(struct bench_case *c)
{
    const int slowest = slowest_head(c);
    judge_head(c, slowest);
    if (c->at.tokens <= LONG && c->at.shape.v_heads > 1)
        judge_head(c, (slowest + 1) % c->at.shape.v_heads);
    c->limit = limit_of(c, c->at.inverse.type);
    c->measure = "max |error| of o and of the last state, values of size 1";
    c->why = "the inverse's type, the activations' type, float32 sums";
}

const struct bench_op bench_gdn_prefill = {
    .name = "gdn_prefill",
    .title = "the gated delta rule over a prompt, in chunks",
    .uses = BENCH_TOKENS | BENCH_CHUNK | BENCH_KEYS,
    .prepare = prepare_prefill,
    .bind = bind_prefill,
    .run = run_prefill,
    .judge = judge_prefill,
};

// --- decode ---------------------------------------------------------------------------------

enum {
    D_QKV,
    D_Z,
    D_A,
    D_B,
    D_CONV_W,
    D_A_LOG,
    D_DT_BIAS,
    D_NORM,
    D_SPANS,
    D_CONV,
    D_STATE,
    D_Y,
    D_CONV_FIRST,
    D_STATE_FIRST // what the states were before the first run; host only in use
};

static const double EPS = 1e-6;

static void copy_host(struct bench_case *c, int to, int from)
{
    memcpy(c->bufs[to].host, c->bufs[from].host, c->bufs[to].n * dtype_bytes(c->bufs[to].type));
}

static void prepare_decode(struct bench_case *c)
{
    const struct bench_shape *s = &c->at.shape;
    const size_t b = (size_t)c->at.batch, heads = (size_t)s->v_heads, width = (size_t)channels(s);
    const size_t state = b * heads * (size_t)(s->k_dim * s->v_dim), conv = b * 3 * width;
    c->at.depth = c->at.depth > 0 ? c->at.depth : 1; // from a state
    bench_buf(c, BENCH_INPUT, c->act, b * width);
    bench_buf(c, BENCH_INPUT, c->act, b * heads * (size_t)s->v_dim);
    bench_buf(c, BENCH_INPUT, c->act, b * heads);
    bench_buf(c, BENCH_INPUT, c->act, b * heads);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, width * CONV_WIDTH);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, heads);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, heads);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, (size_t)s->v_dim);
    bench_spans(c, true);
    bench_buf(c, BENCH_STATE, DTYPE_F32, conv);
    bench_buf(c, BENCH_STATE, c->at.state, state);
    bench_buf(c, BENCH_OUTPUT, c->act, b * heads * (size_t)s->v_dim);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, conv);
    bench_buf(c, BENCH_INPUT, c->at.state, state);
    draw_qkv(c, D_QKV, c->at.batch);
    draw_gates(c, D_A, D_B, c->at.batch);
    bench_normal(c, D_Z, 1);
    bench_normal(c, D_CONV_W, 0.5);
    bench_normal(c, D_NORM, 1);
    bench_normal(c, D_CONV, 1);
    bench_normal(c, D_STATE, 0.3);
    copy_host(c, D_CONV_FIRST, D_CONV);
    copy_host(c, D_STATE_FIRST, D_STATE);
    c->flops = (double)b * (double)heads * 8 * s->k_dim * s->v_dim;
    c->bytes =
        2 * ((double)dtype_bytes(c->at.state) * (double)state + sizeof(float) * (double)conv) +
        (double)dtype_bytes(c->act) * (double)b * ((double)width + 2.0 * s->v_heads * s->v_dim);
}

static void bind_decode(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    const struct bench_shape *s = &c->at.shape;
    (void)ops;
    (void)dev;
    c->args.delta_decode = (struct delta_decode_args){.y = bench_dev(c, D_Y),
                                                      .qkv = bench_dev(c, D_QKV),
                                                      .z = bench_dev(c, D_Z),
                                                      .a = bench_dev(c, D_A),
                                                      .b = bench_dev(c, D_B),
                                                      .conv_w = bench_dev(c, D_CONV_W),
                                                      .A_log = bench_dev(c, D_A_LOG),
                                                      .dt_bias = bench_dev(c, D_DT_BIAS),
                                                      .norm_w = bench_dev(c, D_NORM),
                                                      .conv_state = bench_dev(c, D_CONV),
                                                      .state = bench_dev(c, D_STATE),
                                                      .state_type = c->at.state,
                                                      .batch = bench_batch(c, D_SPANS),
                                                      .k_heads = s->k_heads,
                                                      .v_heads = s->v_heads,
                                                      .k_dim = s->k_dim,
                                                      .v_dim = s->v_dim,
                                                      .eps = (float)EPS};
}

static void run_decode(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    ops->delta_decode(dev, &c->args.delta_decode);
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

// Channels first .. first + n - 1 of sequence b after the convolution.
static void convolve(const struct bench_case *c, int b, int first, int n, double *y)
{
    const size_t width = (size_t)channels(&c->at.shape);
    for (int i = 0; i < n; i++) {
        const size_t ch = (size_t)(first + i), w = ch * CONV_WIDTH;
        double sum = bench_get(c, D_CONV_W, w + 3) * bench_get(c, D_QKV, (size_t)b * width + ch);
        for (size_t j = 0; j < 3; j++)
            sum += bench_get(c, D_CONV_W, w + j) *
                   bench_get(c, D_CONV_FIRST, ((size_t)b * 3 + j) * width + ch);
        y[i] = silu(sum);
    }
}

// A stored state is off by what its type cannot hold; what it is off beyond that.
static void judge_state(struct bench_case *c, size_t i, double want)
{
    const double rounding = c->at.state == DTYPE_BF16 ? 0x1.01p-8 * fabs(want) : 0;
    const double beyond = fabs(bench_get(c, D_STATE, i) - want) - rounding;
    bench_raise(c, beyond < 0 ? 0 : beyond); // NaN stays
}

static void judge_token(struct bench_case *c, int b, int h)
{
    const struct bench_shape *s = &c->at.shape;
    const int k_head = h / (s->v_heads / s->k_heads);
    const size_t size = (size_t)(s->k_dim * s->v_dim), at = (size_t)(b * s->v_heads + h);
    double q[DELTA_DIM_MAX], k[DELTA_DIM_MAX], v[DELTA_DIM_MAX], o[DELTA_DIM_MAX], sum = 0;
    double *state = mem_alloc(size * sizeof *state);
    convolve(c, b, k_head * s->k_dim, s->k_dim, q);
    convolve(c, b, (s->k_heads + k_head) * s->k_dim, s->k_dim, k);
    convolve(c, b, 2 * s->k_heads * s->k_dim + h * s->v_dim, s->v_dim, v);
    delta_normalise(q, s->k_dim, 1 / sqrt(s->k_dim));
    delta_normalise(k, s->k_dim, 1);
    for (size_t i = 0; i < size; i++)
        state[i] = bench_get(c, D_STATE_FIRST, at * size + i);
    delta_token(state, o,
                &(struct delta_input){
                    q, k, v, delta_gate_of(bench_get(c, D_A, at), bench_get(c, D_B, at), 0, 0)},
                s->k_dim, s->v_dim);
    for (size_t i = 0; i < size; i++)
        judge_state(c, at * size + i, state[i]);
    for (int j = 0; j < s->v_dim; j++)
        sum += o[j] * o[j];
    for (int j = 0; j < s->v_dim; j++) {
        const size_t i = at * (size_t)s->v_dim + (size_t)j;
        const double y = o[j] / sqrt(sum / s->v_dim + EPS) * bench_get(c, D_NORM, (size_t)j) *
                         silu(bench_get(c, D_Z, i));
        bench_raise(c, fabs(bench_get(c, D_Y, i) - y) / (1 + fabs(y)));
    }
    mem_free(state);
}

static void judge_decode(struct bench_case *c)
{
    for (int b = 0; b<c->at.batch; b += c->at.batch> 8 ? c->at.batch / 8 : 1)
        for (int h = 0; h<c->at.shape.v_heads; h += c->at.shape.v_heads> 4 ? 3 : 1)
            judge_token(c, b, h);
    c->limit = c->act != DTYPE_F32 ? 16 * bench_act_error(c) : 5e-5;
    c->measure =
        "max |error| of y (by 1 + |y|) and of the state (beyond its type's), values of size 1";
    c->why = "the activations' type; float32 sums, divided by the norm of o";
}

const struct bench_op bench_gdn_decode = {
    .name = "gdn_decode",
    .title = "the delta net's whole mixer for one generated token of each sequence",
    .uses = BENCH_BATCH | BENCH_STATES,
    .prepare = prepare_decode,
    .bind = bind_decode,
    .run = run_decode,
    .judge = judge_decode,
};
