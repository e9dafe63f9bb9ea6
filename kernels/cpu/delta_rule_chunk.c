// delta_rule_chunk.c - the gated delta rule over a chunk of up to 128 tokens, as matrix products.
//
// With G the running sum of g inside the chunk, D[t][s] = exp(G_t - G_s) for s <= t and 0 above, S the
// state that enters, per value head:
//   A = strictly lower part of diag(beta) (K K^T) o D          T = (I + A)^-1
//   N = T diag(beta) (V - diag(e^G) K S)                       the true changes, one row a token
//   O = diag(e^G) Q S + ((Q K^T) o D) N
//   S = e^G_last S + K^T diag(e^(G_last - G)) N
// This is the form without W and U (they would need T twice), and K S, Q S are one product of stacked
// rows. Source: Yang et al. 2024, "Gated Delta Networks"; the model's torch_chunk_gated_delta_rule.
//
// Only differences of G are exponentiated, after the mask: e^-G alone overflows at strong gates. G is
// kept as the float of a double sum and its remainder, or a strong gate early in the chunk would eat
// the digits of the weak ones after it.
//
// A chunk of n < chunk tokens is computed for n rows; A is inverted at the next power of two with
// zeros below, which leaves the other rows as they are.
//
// Bound by: multiply-adds, 10.5 MFLOP a chunk of 64 and head of 128 x 128.
// Measured: 512 tokens, 16 heads of 128 x 128, chunk 64: 14.9 ms on one thread with AVX-512, 1.30 of the
// floor; that is 116 us a chunk and head, of which the inverse takes 4.5. With two value heads to a key
// head 13.6 ms. `ops_check perf delta_rule 1`, one core of an AMD EPYC, 2026-11-23.
#include "delta_rule.h"

#include <math.h>
#include <string.h>

#include "expf.h"
#include "smallgemm.h"
#include "tri_inverse.h"

struct work {
    const struct delta_chunk *c;
    const struct delta_rule_args *a;
    int row, n, size; // first row, tokens, width of the square matrices: a power of two >= n, >= 16
    float *kq;        // [2 n, k_dim]: keys, then queries; normalised, queries scaled
    float *kt;        // [k_dim, size]: keys again, by columns; zero from n on
    float *kk, *qk;   // [n, size]: K K^T and Q K^T, lower parts
    float *A, *T, *P; // [size, size]; P = (Q K^T) o D
    float *ks;        // [2 n, v_dim]: K S, then Q S; the K part becomes diag(beta) (V - ..)
    float *N;         // [n, v_dim]
    float *inverse;   // tri_invert's
    float beta[INVERSE_CHUNK_MAX], G[INVERSE_CHUNK_MAX], G_rest[INVERSE_CHUNK_MAX];
    float eG[INVERSE_CHUNK_MAX]; // e^G
};

static size_t align16(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

size_t delta_chunk_scratch(const struct delta_rule_args *a)
{
    const size_t c = (size_t)a->chunk, k = (size_t)a->k_dim, v = (size_t)a->v_dim;
    return align16(3 * c * k + 5 * c * c + 3 * c * v + tri_invert_scratch(a->chunk));
}

static void begin(struct work *w, const struct delta_chunk *c, int row, int n)
{
    const size_t chunk = (size_t)c->args->chunk, square = chunk * chunk;
    const size_t k = chunk * (size_t)c->args->k_dim, v = chunk * (size_t)c->args->v_dim;
    w->c = c;
    w->a = c->args;
    w->row = row;
    w->n = n;
    w->size = INVERSE_CHUNK_MIN;
    while (w->size < n)
        w->size *= 2;
    w->kq = c->scratch;
    w->kt = w->kq + 2 * k;
    w->kk = w->kt + k;
    w->qk = w->kk + square;
    w->A = w->qk + square;
    w->T = w->A + square;
    w->P = w->T + square;
    w->ks = w->P + square;
    w->N = w->ks + 2 * v;
    w->inverse = w->N + v;
}

static void prefetch_row(const float *row, int n)
{
    for (int i = 0; i < n; i += 16)
        __builtin_prefetch(row + i, 0, 2); // into the second cache: rows share sets of the first
}

// Rows of one head lie a row of all heads apart, too far for the processor to guess the next: the next
// chunk's keys, queries and values and this chunk's outputs arrive while it computes.
static void prefetch_rows(const struct work *w, int next)
{
    const struct delta_rule_args *a = w->a;
    const int v_dims = a->v_dim * w->c->n_heads, k_head = w->c->k_head, v_head = w->c->v_head;
    for (int t = w->row; t < w->row + w->n; t++)
        prefetch_row(delta_o(a, t, v_head), v_dims);
    for (int t = w->row + w->n; t < w->row + w->n + next; t++) {
        prefetch_row(delta_k(a, t, k_head), a->k_dim);
        prefetch_row(delta_q(a, t, k_head), a->k_dim);
        prefetch_row(delta_v(a, t, v_head), v_dims);
    }
}

static void load_keys(struct work *w)
{
    const struct delta_rule_args *a = w->a;
    const int dim = a->k_dim, k_head = w->c->k_head;
    const float scale = 1.0f / sqrtf((float)dim);
    for (int t = 0; t < w->n; t++) {
        delta_normalize(w->kq + (long)t * dim, delta_k(a, w->row + t, k_head), dim, 1.0f);
        delta_normalize(w->kq + (long)(w->n + t) * dim, delta_q(a, w->row + t, k_head), dim, scale);
    }
    for (int i = 0; i < dim; i++) {
        float *column = w->kt + (long)i * w->size;
        for (int t = 0; t < w->n; t++)
            column[t] = w->kq[(long)t * dim + i];
        for (int t = w->n; t < w->size; t++)
            column[t] = 0.0f;
    }
}

// K K^T and Q K^T, which the value heads of one key head share.
static void multiply_keys(struct work *w)
{
    struct smallgemm g = {.c = w->kk,
                          .a = w->kq,
                          .b = w->kt,
                          .ldc = w->size,
                          .lda = w->a->k_dim,
                          .ldb = w->size,
                          .m = w->n,
                          .n = w->size,
                          .k = w->a->k_dim,
                          .c_lower = true};
    smallgemm(w->c->isa, &g);
    g.c = w->qk;
    g.a = w->kq + (long)w->n * w->a->k_dim;
    smallgemm(w->c->isa, &g);
}

static void load_gates(struct work *w, int v_head)
{
    double sum = 0;
    for (int t = 0; t < w->n; t++) {
        const struct delta_gate gate = delta_gate(w->a, w->row + t, v_head);
        sum += gate.g;
        w->beta[t] = gate.beta;
        w->G[t] = (float)sum;
        w->G_rest[t] = (float)(sum - w->G[t]);
        w->eG[t] = expf_fast(w->G[t]);
    }
    for (int t = w->n; t < w->size; t++)
        w->G[t] = w->G_rest[t] = 0;
}

// A and P from K K^T and Q K^T. Rows are done in whole vectors; beyond the diagonal D is e^-inf.
static void decay_keys(struct work *w)
{
    const int size = w->size;
    for (int t = 0; t < w->n; t++) {
        float *A = w->A + (long)t * size, *P = w->P + (long)t * size;
        const float *kk = w->kk + (long)t * size, *qk = w->qk + (long)t * size;
        const int end = (t + 16) & ~15;
        float D[INVERSE_CHUNK_MAX];
        for (int s = 0; s < end; s++) {
            const float x = (w->G[t] - w->G[s]) + (w->G_rest[t] - w->G_rest[s]);
            D[s] = s > t ? -INFINITY : x;
        }
        for (int s = 0; s < end; s++)
            D[s] = expf_fast(D[s]);
        for (int s = 0; s < end; s++) {
            A[s] = s < t ? w->beta[t] * kk[s] * D[s] : 0.0f;
            P[s] = s > t ? 0.0f : qk[s] * D[s];
        }
        memset(A + end, 0, (size_t)(size - end) * sizeof *A);
        memset(P + end, 0, (size_t)(size - end) * sizeof *P);
    }
    const size_t rest = (size_t)(size - w->n) * (size_t)size;
    memset(w->A + (size_t)w->n * (size_t)size, 0, rest * sizeof *w->A);
}

// Every report_every-th chunk of a head is checked, another one for each head.
static bool is_checked(const struct work *w, int index, int v_head)
{
    return w->c->report && w->a->report_every > 0 && (index + v_head) % w->a->report_every == 0;
}

static void invert(struct work *w, int index, int v_head)
{
    tri_invert(&(struct tri_invert){.t = w->T,
                                    .a = w->A,
                                    .n = w->size,
                                    .isa = w->c->isa,
                                    .inverse = w->a->inverse,
                                    .scratch = w->inverse,
                                    .report = is_checked(w, index, v_head) ? w->c->report : NULL});
}

static float *state_of(const struct work *w, int v_head)
{
    return w->c->state + (long)(v_head - w->c->v_head) * w->a->k_dim * w->a->v_dim;
}

// N = T diag(beta) (V - diag(e^G) K S), and Q S beside K S.
static void find_changes(struct work *w, int v_head)
{
    const int dim = w->a->v_dim;
    smallgemm(w->c->isa, &(struct smallgemm){.c = w->ks,
                                             .a = w->kq,
                                             .b = state_of(w, v_head),
                                             .ldc = dim,
                                             .lda = w->a->k_dim,
                                             .ldb = dim,
                                             .m = 2 * w->n,
                                             .n = dim,
                                             .k = w->a->k_dim});
    for (int t = 0; t < w->n; t++) {
        const float *v = delta_v(w->a, w->row + t, v_head);
        float *ks = w->ks + (long)t * dim;
        for (int i = 0; i < dim; i++)
            ks[i] = w->beta[t] * (v[i] - w->eG[t] * ks[i]);
    }
    smallgemm(w->c->isa, &(struct smallgemm){.c = w->N,
                                             .a = w->T,
                                             .b = w->ks,
                                             .ldc = dim,
                                             .lda = w->size,
                                             .ldb = dim,
                                             .m = w->n,
                                             .n = dim,
                                             .k = w->n,
                                             .a_lower = true});
}

// O = diag(e^G) Q S + P N
static void write_outputs(struct work *w, int v_head)
{
    const int dim = w->a->v_dim;
    for (int t = 0; t < w->n; t++) {
        const float *qs = w->ks + (long)(w->n + t) * dim;
        float *o = delta_o(w->a, w->row + t, v_head);
        for (int i = 0; i < dim; i++)
            o[i] = w->eG[t] * qs[i];
    }
    smallgemm(w->c->isa, &(struct smallgemm){.c = delta_o(w->a, w->row, v_head),
                                             .a = w->P,
                                             .b = w->N,
                                             .ldc = w->a->v_heads * dim,
                                             .lda = w->size,
                                             .ldb = dim,
                                             .m = w->n,
                                             .n = dim,
                                             .k = w->n,
                                             .keep = 1.0f,
                                             .a_lower = true});
}

// S = e^G_last S + K^T diag(e^(G_last - G)) N; N is scaled in place, it is not needed again.
static void advance_state(struct work *w, int v_head)
{
    const int dim = w->a->v_dim, last = w->n - 1;
    for (int t = 0; t < w->n; t++) {
        const float factor = expf_fast((w->G[last] - w->G[t]) + (w->G_rest[last] - w->G_rest[t]));
        float *N = w->N + (long)t * dim;
        for (int i = 0; i < dim; i++)
            N[i] *= factor;
    }
    smallgemm(w->c->isa, &(struct smallgemm){.c = state_of(w, v_head),
                                             .a = w->kt,
                                             .b = w->N,
                                             .ldc = dim,
                                             .lda = w->size,
                                             .ldb = dim,
                                             .m = w->a->k_dim,
                                             .n = dim,
                                             .k = w->n,
                                             .keep = w->eG[last]});
}

void delta_chunk(const struct delta_chunk *c, int row, int n, int next, int index)
{
    struct work w;
    begin(&w, c, row, n);
    load_keys(&w);
    prefetch_rows(&w, next);
    multiply_keys(&w);
    for (int h = c->v_head; h < c->v_head + c->n_heads; h++) {
        load_gates(&w, h);
        decay_keys(&w);
        invert(&w, index, h);
        find_changes(&w, h);
        write_outputs(&w, h);
        advance_state(&w, h);
    }
}
