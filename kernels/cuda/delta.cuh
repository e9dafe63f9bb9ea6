// delta.cuh - what the kernels of the gated delta rule share: gates, where a chunk lies, and what the
// preparation of a chunk (delta_prepare.cu) hands to the chain over the chunks (delta_chain.cu).
#ifndef DELTA_CUH
#define DELTA_CUH

#include "ops_cuda.cuh"

static constexpr int DELTA_CHUNK = 64, DELTA_DIM = 128; // of the matrix-unit kernels
static constexpr int DELTA_DIM_MAX = 256;
static constexpr float DELTA_NORM_EPS = 1e-6f;

// Chunks first .. first + count - 1 of every prefill span. A long step is done in such slabs, so that
// what is handed on between kernels stays small. States of float32 pass from slab to slab in their slots.
// A bf16 state passes in float32, in `carry` [n_spans, v_heads, k_dim, v_dim]: how long a slab is depends
// on the other spans, so a state rounded there would too.
struct delta_slab {
    int first, count, n_spans, chunk;
};

// One chunk of a span: tokens row .. row + n - 1 of the step.
struct delta_place {
    struct span span;
    int index, row, n; // index: the chunk's number in the span
};

static __host__ __device__ __forceinline__ int delta_slab_chunks(const struct delta_slab &s, int t)
{
    const int left = (t + s.chunk - 1) / s.chunk - s.first;
    return left < 0 ? 0 : left < s.count ? left : s.count;
}

// The u-th chunk of a slab; false when there are fewer. Called by whole warps.
static __device__ inline bool delta_find(struct delta_place *place, const struct span *spans,
                                         const struct delta_slab &slab, int u)
{
    const int lane = threadIdx.x % 32;
    for (int base = 0; base < slab.n_spans; base += 32) {
        int upto = base + lane < slab.n_spans ? delta_slab_chunks(slab, spans[base + lane].t) : 0;
        for (int d = 1; d < 32; d *= 2) {
            const int other = __shfl_up_sync(~0u, upto, d);
            upto += lane >= d ? other : 0;
        }
        const unsigned beyond = __ballot_sync(~0u, upto > u);
        if (beyond) {
            const int at = __ffs(beyond) - 1;
            const int before = __shfl_sync(~0u, upto, at > 0 ? at - 1 : 0);
            place->span = spans[base + at];
            place->index = slab.first + u - (at > 0 ? before : 0);
            place->row = place->span.t0 + place->index * slab.chunk;
            place->n = min(slab.chunk, place->span.t - place->index * slab.chunk);
            return true;
        }
        u -= __shfl_sync(~0u, upto, 31);
    }
    return false;
}

// The first unit of a span in a slab: chunks of the spans before it. Called by whole warps.
static __device__ inline int delta_first_unit(const struct span *spans,
                                              const struct delta_slab &slab, int span)
{
    int n = 0;
    for (int i = threadIdx.x % 32; i < span; i += 32)
        n += delta_slab_chunks(slab, spans[i].t);
    for (int d = 16; d > 0; d /= 2)
        n += __shfl_xor_sync(~0u, n, d);
    return n;
}

// log(1 + e^x); above 20 it equals x in float32, and e^x would overflow from 89.
static __device__ __forceinline__ float delta_softplus(float x)
{
    return x > 20.0f ? x : log1pf(expf(x));
}

// One token's log-decay and beta of one head.
struct delta_gate {
    float g, beta;
};
template <typename act_t>
static __device__ __forceinline__ struct delta_gate
delta_gate_of(const act_t *a, const act_t *b, size_t at, float A_log, float dt_bias)
{
    const float g = -expf(A_log) * delta_softplus(to_float(a[at]) + dt_bias);
    return {g < DELTA_G_LEAST ? DELTA_G_LEAST : g, 1.0f / (1.0f + expf(-to_float(b[at])))};
}

// What a chunk and value head need besides q, k and v, matrices of half_t in the 128-byte swizzle of the
// copy engine (element i, j in 16-byte group (j / 8) ^ (i % 8) of row i):
//   T = (I + A)^-1 diag(beta)     P = (q k^T) o D, normalised and scaled
//   v_from_s = e^G / |k|          so that N = T (V - diag(v_from_s) K S)
//   o_from_s = e^G scale / |q|            O = diag(o_from_s) Q S + P N
//   s_from_n = e^(G_last - G) / |k|       S = decay S + K^T diag(s_from_n) N
// With the norms in here, q and k are used as they lie in the input.
struct alignas(1024) delta_unit {
    uint16_t T[DELTA_CHUNK * DELTA_CHUNK];
    uint16_t P[DELTA_CHUNK * DELTA_CHUNK];
    float v_from_s[DELTA_CHUNK], o_from_s[DELTA_CHUNK], s_from_n[DELTA_CHUNK];
    float decay, unused[63];
};
static constexpr unsigned DELTA_UNIT_BYTES = offsetof(struct delta_unit, unused) + 12;

// Whether a chain of state_t that begins a slab takes the state from carry, and one that ends it after
// `chunks` of its own leaves it there. Never with float32.
template <typename state_t>
static __device__ __forceinline__ bool delta_carried_in(const struct delta_slab &slab)
{
    return sizeof(state_t) != sizeof(float) && slab.first > 0;
}
template <typename state_t>
static __device__ __forceinline__ bool delta_carried_out(const struct delta_slab &slab, int chunks,
                                                         const struct span &span)
{
    return sizeof(state_t) != sizeof(float) && (slab.first + chunks) * slab.chunk < span.t;
}

// Byte of the swizzle above for row i, column j.
static __device__ __forceinline__ int delta_swizzle(int i, int j)
{
    return i * 128 + (((j / 8) ^ (i % 8)) * 16) + (j % 8) * 2;
}

// Whether the matrix-unit kernels take these arguments on this device.
bool delta_fast(struct dev *dev, const struct delta_rule_args *a);

// Whether delta_prepare inverts in its own kernel, or by tri_inverse and device memory. Then a slab has
// at most DELTA_OUTSIDE_MAX units.
bool delta_inverts_inside(const struct delta_rule_args *a);
static constexpr int DELTA_OUTSIDE_MAX = 2048;

// The report of a slab whose units tri_inverse has inverted: checked chunks are inverted once more, each
// by itself, to the same bits.
void delta_report(struct dev *dev, const struct delta_rule_args *a, const struct delta_slab &slab,
                  const struct tri_inverse_args *all);

// Chunks of a slab over all its spans.
int delta_slab_units(const struct delta_slab &slab, const struct batch *b);

// Of the units of one slab, n of them: a launch each.
void delta_prepare(struct dev *dev, const struct delta_rule_args *a, const struct delta_slab &slab,
                   struct delta_unit *units, int n);
void delta_chain(struct dev *dev, const struct delta_rule_args *a, const struct delta_slab &slab,
                 const struct delta_unit *units, float *carry, cudaStream_t stream);
// Whether the chain leaves much of the device idle.
bool delta_chain_is_narrow(struct dev *dev, const struct delta_rule_args *a, int n_spans);

// The prefill spans by kernels that take any shape, in float32; and the decode spans.
void delta_portable(struct dev *dev, const struct delta_rule_args *a, int n_spans, float *carry);
int delta_portable_spans(const struct delta_rule_args *a); // the most that it takes at once
void delta_steps(struct dev *dev, const struct delta_rule_args *a, int first);

#endif
