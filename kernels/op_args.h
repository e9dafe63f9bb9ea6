// op_args.h - what each operation of the seam takes and means: one struct of arguments an operation.
// Included through ops.h, which says what the words and the rules below mean.
#ifndef OP_ARGS_H
#define OP_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "inverse.h"

enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_INT8, DTYPE_INT32 };

enum { PAGE_TOKENS = 64, CONV_WIDTH = 4, LOGPROBS_MAX = 20 };

// e^g is 0 in float32 from here down, and in any product with it: held here, the sums of g over a chunk stay
// finite and keep their digits, however large a is.
#define DELTA_G_LEAST (-110.0f)

// A matrix as nn.Linear stores it, row-major [rows, cols] = [out, in]. F16 where activations are F16 and, of
// the two halves, nothing else there.
struct weight {
    const void *data;
    const float *scale; // [rows], INT8 only: value = data * scale
    enum dtype type;    // F32, BF16, F16, INT8
    int rows, cols;
};

// One sequence's share of a step. Prefill spans stand before decode spans.
struct span {
    int t0, t;  // its tokens are rows t0 .. t0 + t - 1 of the step
    int pos0;   // position of its first token = tokens already in its caches
    int slot;   // its recurrent and convolution state; pos0 = 0 starts from zero state, whatever
                // the slot holds
    int decode; // 1: generated tokens, one a step (recurrent form); 0: prompt tokens (chunk form)
    // Prefill only: after save_t of its tokens (a multiple of the chunk and of nothing else; 0: never)
    // the recurrent and convolution states are also written to slot save_slot.
    int save_t, save_slot;
};

// The spans of a step, shared by the operations that look across tokens.
struct batch {
    const struct span *spans;      // [n_spans]
    const struct span *host_spans; // the same in host memory, for whoever plans a launch
    int n_spans;
    int t;            // T
    int t_prefill;    // rows 0 .. t_prefill - 1 belong to prefill spans
    const int *pages; // [n_spans, pages_max]: page i of a sequence holds positions
    int pages_max;    //   i * PAGE_TOKENS .. ; unused entries are never read
};

// The spans before the first decode span.
static inline int batch_prefill_spans(const struct batch *b)
{
    int n = 0;
    while (n < b->n_spans && !b->host_spans[n].decode)
        n++;
    return n;
}

// y[i] = table[ids[i]]
struct embed_args {
    void *y;             // act [t, n]
    const int *ids;      // [t], each in [0, table.rows)
    struct weight table; // [vocab, n]; F32, BF16, F16
    int t;
};

// v = x + add, of F16 activations held within +-65504; y = v * rsqrt(mean(v^2) + eps) * (1 + w), in float32
// up to y's rounding.
// Source: Qwen3_5RMSNorm (zero-centred weight).
struct rmsnorm_args {
    void *y;         // act [t, n]; may be x
    const void *x;   // act [t, n]
    const void *add; // act [t, n], or NULL: none
    void *sum;       // act [t, n], left holding v; may be x. Or NULL: v is not wanted
    const float *w;  // [n]
    int t, n;
    float eps;
};

enum { LINEAR_MAX = 4 };

// y[i] = x W[i]^T for up to LINEAR_MAX matrices over one x. F32 weights keep x as it is, BF16 and F16 weights
// round it to their type, INT8 weights round each row of it to int8 with one symmetric scale max|x| / 127;
// sums in float32 / int32.
// Rows below t_gemm go through the matrix path, the rest through the few-rows path, whatever their
// number: the two sum in different orders (float32 rounding), so a caller that wants equal bits gives
// equal kinds. INT8 has equal bits on both paths.
struct linear_args {
    void *y[LINEAR_MAX];         // act [t, w[i].rows]
    const void *x;               // act [t, cols]
    struct weight w[LINEAR_MAX]; // of equal cols; types may differ
    int n;                       // matrices, 1 .. LINEAR_MAX
    int t, t_gemm;
    bool wide; // y is float32 whatever act is (logits)
    // w not NULL: what is multiplied is rmsnorm's y of x, add, w and eps, and sum is left holding x + add.
    struct linear_norm {
        const float *w;  // [cols]
        const void *add; // act [t, cols], or NULL
        void *sum;       // act [t, cols], neither x nor add; or NULL: not wanted
        void *h;         // act [t, cols]: scratch, left holding anything; may be x
        float eps;
    } norm;
    // SwiGLU in two calls, each with the rows it is cheapest for; both give silu_mul's bits. glu, for two
    // matrices of equal rows: rows t_gemm .. of y[1] become SiLU(y[0]) * y[1], those of y[0] anything.
    // gate, act [t, cols] or NULL: rows 0 .. t_gemm - 1 of x are multiplied as SiLU(gate) * x and, x being
    // scratch, some or all are left holding that.
    bool glu;
    const void *gate;
};

// Splits q_proj's output, norms q and k per head ((1 + w), eps), rotates the first `rot` of head_dim
// (pairs i, i + rot/2), and writes K and V of each token to its sequence's pages.
// Source: Qwen3_5Attention; text positions only, so the multi-section rotation is the plain one.
struct attn_prep_args {
    void *q;                      // act [T, heads, head_dim] out
    const void *qg;               // act [T, heads, 2 * head_dim]: per head query, then gate
    const void *k, *v;            // act [T, kv_heads, head_dim]
    void *k_pages, *v_pages;      // kv_type, this layer's: n_pages * kv_heads * PAGE_TOKENS *
                                  // head_dim values each, in an order of the backend's own
    enum dtype kv_type;           // F32, BF16; with F16 activations F32, F16
    const float *q_norm, *k_norm; // [head_dim]
    struct batch batch;
    int heads, kv_heads, head_dim, rot;
    float eps, rope_theta;
};

// o = softmax(q k^T / sqrt(head_dim), causal) v * sigmoid(gate); softmax and sums in float32, keys in
// the order of their positions in tiles of PAGE_TOKENS for every row, prefill or decode. As with
// delta_decode's slots, the host has waited since the pages before a decode span's own were written.
struct attention_args {
    void *o;        // act [T, heads, head_dim]
    const void *q;  // act [T, heads, head_dim]
    const void *qg; // act [T, heads, 2 * head_dim]: gate is the second half of each head
    const void *k_pages, *v_pages;
    enum dtype kv_type;
    struct batch batch;
    int heads, kv_heads, head_dim;
};

// y[t] = SiLU(sum_j w[ch][j] x[t - 3 + j][ch]); the columns before the span come from the slot's
// state, which is left holding the span's last CONV_WIDTH - 1 columns of x.
struct conv_args {
    void *y;        // act [T, channels]; not x
    const void *x;  // act [T, channels]
    const float *w; // [channels, CONV_WIDTH]
    float *state;   // [slots, CONV_WIDTH - 1, channels], oldest column first
    struct batch batch;
    int channels;
};

// The gated delta rule. Per token and value head h (key head h / (v_heads / k_heads)):
//   beta = sigmoid(b), g = -exp(A_log) softplus(a + dt_bias), at least DELTA_G_LEAST
//   q, k l2-normalised (eps 1e-6 in the root), q times k_dim^-0.5
//   S *= exp(g);  S += k (beta (v - S^T k))^T;  o = S^T q
// Decode spans run it as written; prefill spans in chunks of `chunk` counted from the span's first
// token, with T = (I + A)^-1 by `inverse`. State and gates are float32 while they are computed with.
// A BF16 state is rounded (to nearest, ties to even) where it is stored and nowhere else: by a prefill
// span at its end and at save_t, by a decode span after every token. o is of the state before that. So
// equal bits whatever the other spans are, as with F32; but a prompt cut into spans is rounded at every
// cut, and with a BF16 state how it was cut shows within that rounding.
// Source: Qwen3_5GatedDeltaNet; chunk form: spec section 1.3 of the model, Yang et al. 2024.
struct delta_rule_args {
    void *o;               // act [T, v_heads, v_dim]
    const void *qkv;       // act [T, 2 * k_heads * k_dim + v_heads * v_dim], after conv: q | k | v
    const void *a, *b;     // act [T, v_heads]
    const float *A_log;    // [v_heads]
    const float *dt_bias;  // [v_heads]
    void *state;           // state_type [slots, v_heads, k_dim, v_dim]
    enum dtype state_type; // F32 or BF16
    struct batch batch;
    int k_heads, v_heads, k_dim, v_dim; // k_dim, v_dim multiples of 16, at most 256
    int chunk;                          // 16, 32, 64, 128
    struct inverse inverse;
    struct inverse_report *report; // NULL: no check. Else every report_every-th chunk is checked
    int report_every;
};

// The whole mixer for the decode spans of a batch, what conv, delta_rule and gated_norm do one after
// another, in one go: a generated token is bound by reading and writing the states once. The host has
// waited (sync, download) since the spans' slots were written: a device may read them before what was enqueued
// ahead in this step has ended.
struct delta_decode_args {
    void *y;                      // act [T, v_heads, v_dim]; rows of decode spans only
    const void *qkv;              // act [T, channels], before conv
    const void *z;                // act [T, v_heads, v_dim]
    const void *a, *b;            // act [T, v_heads]
    const float *conv_w;          // [channels, CONV_WIDTH]
    const float *A_log, *dt_bias; // [v_heads]
    const float *norm_w;          // [v_dim]
    float *conv_state;            // [slots, CONV_WIDTH - 1, channels]
    void *state;                  // state_type [slots, v_heads, k_dim, v_dim]
    enum dtype state_type;        // F32 or BF16, as in delta_rule
    struct batch batch;
    int k_heads, v_heads, k_dim, v_dim; // channels = 2 k_heads k_dim + v_heads v_dim
    float eps;
};

// T = (I + A)^-1 for n matrices: what delta_rule does inside, callable and timeable alone.
struct tri_inverse_args {
    float *t_out;   // [n, chunk, chunk], lower triangle with unit diagonal; zero above
    const float *a; // [n, chunk, chunk]; only entries below the diagonal are read
    int n, chunk;
    struct inverse inverse;
    struct inverse_report *report; // NULL, or every matrix is checked
};

// Rows to int8 with one scale a row: q = round(x / scale), scale = max|x| / 127 (1 for a zero row).
struct quantize_args {
    int8_t *q;       // [rows, cols]
    float *scale;    // [rows]
    const void *x;   // type [rows, cols]
    enum dtype type; // F32, BF16, F16
    int rows, cols;
};

// y[i] = x[i], to the nearest, ties to even. bf16's numbers keep all their bits in F16 from 2^-17 (7.6e-6) up,
// smaller ones become multiples of 2^-24.
struct convert_args {
    void *y;             // to [n]; not x
    const void *x;       // from [n]
    enum dtype to, from; // F32, BF16, F16
    size_t n;
};

// p[i] = mean + deviation * z_i with z_i of mean 0 and variance 1, a function of seed and i alone and of
// the same bits on every backend before it is rounded to type: the scaled sum of four uniform 16-bit
// numbers. Weights of a model that has only a shape.
struct fill_args {
    void *p;         // type [n]
    enum dtype type; // F32, BF16, F16
    size_t n;
    uint64_t seed;
    float mean, deviation;
};

// y = o * rsqrt(mean(o^2) + eps) * w * SiLU(z), per head; plain weight here, not 1 + w.
struct gated_norm_args {
    void *y;        // act [t, heads, dim]; may be o
    const void *o;  // act [t, heads, dim]
    const void *z;  // act [t, heads, dim]
    const float *w; // [dim]
    int t, heads, dim;
    float eps;
};

// y = SiLU(gate) * up, of F16 activations each held within +-65504 before
struct silu_mul_args {
    void *y;               // act [t, n]; may be gate
    const void *gate, *up; // act [t, n]
    int t, n;
};

// y[i] = x[rows[i]]
struct gather_args {
    void *y;         // act [n_rows, n]
    const void *x;   // act [T, n]
    const int *rows; // [n_rows]
    int n_rows, n;
};

// What one row of logits is sampled with. Order of application: logit_bias; repetition penalty over
// prompt and output (divide positive, multiply negative logits); frequency and presence penalties
// over output; then, unless temperature is 0 (argmax, lowest id on ties): temperature, top_k, top_p,
// min_p on what is left, then one draw.
struct sample_row {
    float temperature;                     // >= 0
    float top_p, min_p;                    // (0, 1], [0, 1)
    int top_k;                             // 0: off
    float presence, frequency, repetition; // 0, 0, 1: off
    uint64_t seed, counter;           // the draw is a function of these two alone (Philox 4x32-10)
    int bias0, n_bias;                // rows of bias_ids, bias
    int history0, n_prompt, n_output; // history[history0 ..]: prompt ids, then output ids
};

struct sample_args {
    int *ids;                      // [n] out
    float *logits;                 // [n, vocab]; changed in place
    const struct sample_row *rows; // [n]
    const int *bias_ids;
    const float *bias;
    const int *history;
    int n, vocab;
    int n_tokens; // ids >= n_tokens have no token and are never drawn
};

// Log-softmax over ids < n_tokens: of ids[i], and of the top_n largest (ties: lower id first).
// An id's figure is the same bits in both places.
struct logprobs_args {
    float *logprob;                // [n] out; of ids[i]
    int *top_ids;                  // [n, top_n] out, largest first
    float *top_logprob;            // [n, top_n] out
    const float *logits;           // [n, vocab]
    const int *ids;                // [n]
    int n, vocab, n_tokens, top_n; // top_n 0 .. LOGPROBS_MAX
};

#endif
