// delta_rule.h - the parts of the gated delta rule on the CPU: one token of one head, and one chunk
// of the value heads that share a key head. delta_rule.c puts them together. One thread each.
#ifndef DELTA_RULE_H
#define DELTA_RULE_H

#include "cpu.h"

enum { DELTA_DIM_MAX = 256 };

// One head's log-decay g = -exp(A_log) softplus(a + dt_bias), DELTA_G_LEAST to 0, and its beta = sigmoid(b).
struct delta_gate {
    float g, beta;
};
struct delta_gate delta_gate(const struct delta_rule_args *a, int row, int v_head);

// y = x * scale / sqrt(sum x^2 + 1e-6)
void delta_normalize(float *y, const float *x, int n, float scale);

// Where things lie in the arguments.
const float *delta_q(const struct delta_rule_args *a, int row, int k_head); // [k_dim]
const float *delta_k(const struct delta_rule_args *a, int row, int k_head); // [k_dim]
const float *delta_v(const struct delta_rule_args *a, int row, int v_head); // [v_dim]
float *delta_o(const struct delta_rule_args *a, int row, int v_head);       // [v_dim]

// One token of one head, the recurrence as ops.h writes it:
//   s = decay s;  u = beta (v - s^T k);  s = s + k u^T;  o = s^T q
struct delta_step {
    float *o, *s;           // [v_dim], [k_dim, v_dim]
    const float *q, *k, *v; // normalised q (scaled) and k [k_dim], v [v_dim]
    float decay, beta;      // e^g
    int k_dim, v_dim;
};
void delta_step(enum cpu_isa isa, const struct delta_step *s);
void delta_step_base(const struct delta_step *s);
void delta_step_avx2(const struct delta_step *s);
void delta_step_avx512(const struct delta_step *s);

// The chunk form, for one key head and the value heads v_head .. v_head + n_heads - 1 that use it.
struct delta_chunk {
    const struct delta_rule_args *args;
    enum cpu_isa isa;
    int k_head, v_head, n_heads;
    float *state;                  // [n_heads, k_dim, v_dim], read and written
    float *scratch;                // [delta_chunk_scratch(args)], 64-aligned
    struct inverse_report *report; // NULL, or raised by the chunks that are checked
};
size_t delta_chunk_scratch(const struct delta_rule_args *a); // floats, a multiple of 16

// Rows row .. row + n - 1, n <= args->chunk; `next` rows after them will be asked for next; `index` is
// the chunk's number in its sequence.
void delta_chunk(const struct delta_chunk *c, int row, int n, int next, int index);

#endif
