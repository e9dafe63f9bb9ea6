// delta_decode.cu - the gated delta rule a token at a time: the whole mixer of a decode step (conv, norms,
// gates, rule, gated norm) in one kernel, and the rule alone for delta_rule's decode spans.
//
// A block takes one value head of one sequence. With s the old state, its columns share out as
//   o = e^g s^T q + (q . k) d,   d = beta (v - e^g s^T k),   s = e^g s + k d^T
// so the state is read once, kept in registers, and written once. Blocks of the value heads of one key
// head are a cluster: each computes that head's q and k channels from the old convolution state, and
// the first writes the new one after all have read. Without clusters one block takes them in turn.
//
// Bound by: memory, the states read and written once.
#include "delta.cuh"
#include "ptx.cuh"

static constexpr int THREADS = 256, WARPS = THREADS / 32, PAST = CONV_WIDTH - 1;
static constexpr int CLUSTER_MAX = 8;

struct step_args {
    void *y;
    const void *qkv, *z, *a, *b;
    const float *conv_w, *A_log, *dt_bias, *norm_w;
    float *conv_state, *state;
    const struct span *spans;
    int k_heads, v_heads, k_dim, v_dim, channels;
    float eps;
};

struct step_shared {
    float q[DELTA_DIM_MAX], k[DELTA_DIM_MAX], v[DELTA_DIM_MAX]; // after conv; not normalised
    float d[DELTA_DIM_MAX], o[DELTA_DIM_MAX];
    float sums[2][THREADS * 4]; // of s^T k and s^T q, by group of rows
    float q_scale, k_scale, qk, decay, beta;
    float squares[WARPS];
};

// Where a block is at.
struct step_place {
    struct span span;
    int k_head, v_head;
};

static __device__ __forceinline__ float warp_sum(float x)
{
    for (int d = 16; d > 0; d /= 2)
        x += __shfl_xor_sync(~0u, x, d);
    return x;
}

// Channel number in qkv of the i-th that a block needs: k_dim of q, k_dim of k, v_dim of v.
static __device__ __forceinline__ int channel_of(const struct step_args &p,
                                                 const struct step_place &at, int i)
{
    if (i < p.k_dim)
        return at.k_head * p.k_dim + i;
    if (i < 2 * p.k_dim)
        return (p.k_heads - 1 + at.k_head) * p.k_dim + i;
    return 2 * p.k_heads * p.k_dim + at.v_head * p.v_dim + i - 2 * p.k_dim;
}

// The convolution's input at token t of the span; before it, the slot's.
template <typename act_t>
static __device__ __forceinline__ float column(const struct step_args &p, const struct span &span,
                                               int t, int ch)
{
    if (t >= 0)
        return to_float(((const act_t *)p.qkv)[(size_t)(span.t0 + t) * p.channels + ch]);
    return span.pos0 ? p.conv_state[((size_t)span.slot * PAST + PAST + t) * p.channels + ch] : 0.0f;
}

template <typename act_t, bool MIXER>
static __device__ void load_token(struct step_shared &s, const struct step_args &p,
                                  const struct step_place &at, int t)
{
    for (int i = threadIdx.x; i < 2 * p.k_dim + p.v_dim; i += THREADS) {
        const int ch = channel_of(p, at, i);
        float x = column<act_t>(p, at.span, t, ch);
        if constexpr (MIXER) {
            const float4 w = *(const float4 *)&p.conv_w[(size_t)ch * CONV_WIDTH];
            x = w.x * column<act_t>(p, at.span, t - 3, ch) +
                w.y * column<act_t>(p, at.span, t - 2, ch) +
                w.z * column<act_t>(p, at.span, t - 1, ch) + w.w * x;
            x /= 1.0f + expf(-x);
        }
        float *to = i < p.k_dim ? s.q : i < 2 * p.k_dim ? s.k - p.k_dim : s.v - 2 * p.k_dim;
        to[i] = x;
    }
    if (threadIdx.x == 0) {
        const struct delta_gate gate =
            delta_gate_of((const act_t *)p.a, (const act_t *)p.b,
                          (size_t)(at.span.t0 + t) * p.v_heads + at.v_head, p.A_log[at.v_head],
                          p.dt_bias[at.v_head]);
        s.decay = expf(gate.g);
        s.beta = gate.beta;
    }
}

// Norms of q and k and their product: a warp each.
static __device__ void find_norms(struct step_shared &s, int k_dim)
{
    const int warp = threadIdx.x / 32;
    if (warp > 2)
        return;
    const float *x = warp == 1 ? s.k : s.q, *y = warp == 0 ? s.q : s.k;
    float sum = 0;
    for (int i = threadIdx.x % 32; i < k_dim; i += 32)
        sum += x[i] * y[i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32)
        return;
    if (warp == 0)
        s.q_scale = 1.0f / sqrtf((float)k_dim) / sqrtf(sum + DELTA_NORM_EPS);
    else if (warp == 1)
        s.k_scale = 1.0f / sqrtf(sum + DELTA_NORM_EPS);
    else
        s.qk = sum;
}

// d and o of every column from `groups` partial sums.
static __device__ void finish_columns(struct step_shared &s, int v_dim, int groups)
{
    for (int j = threadIdx.x; j < v_dim; j += THREADS) {
        float sk = 0, sq = 0;
        for (int g = 0; g < groups; g++) {
            sk += s.sums[0][g * v_dim + j];
            sq += s.sums[1][g * v_dim + j];
        }
        const float d = s.beta * (s.v[j] - s.decay * s.k_scale * sk);
        s.d[j] = d;
        s.o[j] = s.q_scale * (s.decay * sq + s.qk * s.k_scale * d);
    }
}

static __device__ __forceinline__ void add_scaled(float4 &sum, const float4 &x, float f)
{
    sum.x += x.x * f, sum.y += x.y * f, sum.z += x.z * f, sum.w += x.w * f;
}

static __device__ __forceinline__ float4 advanced(const float4 &s, float decay, const float4 &d,
                                                  float k)
{
    return {decay * s.x + k * d.x, decay * s.y + k * d.y, decay * s.z + k * d.z,
            decay * s.w + k * d.w};
}

// The state of 128 x 128 in registers: a thread has four columns of 16 rows.
struct state_tile {
    static constexpr int ROWS = DELTA_DIM / WARPS;
    float4 x[ROWS];

    __device__ void load(const float *state, bool fresh)
    {
        const float4 *from =
            (const float4 *)state + threadIdx.x / 32 * ROWS * 32 + threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            x[i] = fresh ? make_float4(0, 0, 0, 0) : __ldcs(from + i * 32);
    }
    __device__ void store(float *state) const
    {
        float4 *to = (float4 *)state + threadIdx.x / 32 * ROWS * 32 + threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            __stcs(to + i * 32, x[i]);
    }
    __device__ void step(struct step_shared &s)
    {
        const int row = threadIdx.x / 32 * ROWS, quad = threadIdx.x % 32;
        float4 sk = {0, 0, 0, 0}, sq = sk;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            add_scaled(sk, x[i], s.k[row + i]);
            add_scaled(sq, x[i], s.q[row + i]);
        }
        ((float4 *)s.sums[0])[threadIdx.x / 32 * 32 + quad] = sk;
        ((float4 *)s.sums[1])[threadIdx.x / 32 * 32 + quad] = sq;
        __syncthreads(); // partial sums and norms are there
        finish_columns(s, DELTA_DIM, WARPS);
        __syncthreads(); // d and o are there
        const float4 d = ((const float4 *)s.d)[quad];
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            x[i] = advanced(x[i], s.decay, d, s.k_scale * s.k[row + i]);
    }
};

// The same for any shape, the state read twice from memory.
static __device__ void general_step(struct step_shared &s, float *state, const struct step_args &p,
                                    bool fresh)
{
    const int quads = p.v_dim / 4, groups = THREADS / quads;
    const int quad = threadIdx.x % quads, group = threadIdx.x / quads;
    float4 *at = (float4 *)state + quad;
    if (group < groups) {
        float4 sk = {0, 0, 0, 0}, sq = sk;
        for (int i = group; i < p.k_dim; i += groups) {
            if (fresh)
                at[i * quads] = make_float4(0, 0, 0, 0);
            add_scaled(sk, at[i * quads], s.k[i]);
            add_scaled(sq, at[i * quads], s.q[i]);
        }
        ((float4 *)s.sums[0])[group * quads + quad] = sk;
        ((float4 *)s.sums[1])[group * quads + quad] = sq;
    }
    __syncthreads(); // partial sums and norms are there
    finish_columns(s, p.v_dim, groups);
    __syncthreads(); // d and o are there
    if (group < groups)
        for (int i = group; i < p.k_dim; i += groups)
            at[i * quads] =
                advanced(at[i * quads], s.decay, ((const float4 *)s.d)[quad], s.k_scale * s.k[i]);
}

// y = o, or its gated norm.
template <typename act_t, bool MIXER>
static __device__ void write_token(struct step_shared &s, const struct step_args &p,
                                   const struct step_place &at, int t)
{
    const int j = threadIdx.x;
    const size_t row = ((size_t)(at.span.t0 + t) * p.v_heads + at.v_head) * p.v_dim;
    const float o = j < p.v_dim ? s.o[j] : 0.0f;
    float factor = 1.0f;
    if constexpr (MIXER) {
        const float squares = warp_sum(o * o);
        if (j % 32 == 0)
            s.squares[j / 32] = squares;
        __syncthreads(); // squares are there
        float sum = 0;
#pragma unroll
        for (int i = 0; i < WARPS; i++)
            sum += s.squares[i];
        factor = rsqrtf(sum / p.v_dim + p.eps);
        if (j < p.v_dim) {
            const float z = to_float(((const act_t *)p.z)[row + j]);
            factor *= p.norm_w[j] * (z / (1.0f + expf(-z)));
        }
    }
    if (j < p.v_dim)
        ((act_t *)p.y)[row + j] = from_float<act_t>(o * factor);
}

// The slot's columns after the span, for the channels of v, and of q and k where this block owns them.
template <typename act_t>
static __device__ void keep_columns(const struct step_args &p, const struct step_place &at,
                                    bool owner)
{
    for (int i = threadIdx.x + (owner ? 0 : 2 * p.k_dim); i < 2 * p.k_dim + p.v_dim; i += THREADS) {
        const int ch = channel_of(p, at, i);
        float c[PAST];
#pragma unroll
        for (int j = 0; j < PAST; j++)
            c[j] = column<act_t>(p, at.span, at.span.t - PAST + j, ch);
#pragma unroll
        for (int j = 0; j < PAST; j++)
            p.conv_state[((size_t)at.span.slot * PAST + j) * p.channels + ch] = c[j];
    }
}

template <typename act_t, bool FAST, bool MIXER>
static __global__ void __launch_bounds__(THREADS, 2) step_kernel(const struct step_args p)
{
    __shared__ struct step_shared s;
    const int ratio = p.v_heads / p.k_heads, blocks = gridDim.x / p.k_heads;
    struct step_place at = {p.spans[blockIdx.y], (int)blockIdx.x / blocks, 0};
    const int rank = blockIdx.x % blocks;
    for (int r = rank; r < ratio; r += blocks) {
        at.v_head = at.k_head * ratio + r;
        float *state = p.state + ((size_t)at.span.slot * p.v_heads + at.v_head) * p.k_dim * p.v_dim;
        struct state_tile tile;
        if constexpr (FAST)
            tile.load(state, at.span.pos0 == 0);
        for (int t = 0; t < at.span.t; t++) {
            load_token<act_t, MIXER>(s, p, at, t);
            __syncthreads(); // q, k, v and gates are there
            find_norms(s, p.k_dim);
            if constexpr (FAST)
                tile.step(s);
            else
                general_step(s, state, p, at.span.pos0 == 0 && t == 0);
            write_token<act_t, MIXER>(s, p, at, t);
            __syncthreads(); // all of s is free
        }
        if constexpr (FAST)
            tile.store(state);
        if (MIXER && r + blocks < ratio)
            keep_columns<act_t>(p, at, false);
    }
    if constexpr (MIXER) {
        if (blocks > 1) { // every block of the key head has read its old columns
            barrier_cluster_arrive();
            barrier_cluster_wait();
        }
        keep_columns<act_t>(p, at, rank == 0);
    }
}

// One block a value head where the device has clusters and they are large enough, else one a key head.
template <typename act_t, bool MIXER>
static void launch(struct dev *dev, const struct step_args &p, int n_spans)
{
    const int ratio = p.v_heads / p.k_heads;
    const bool split = !MIXER || ratio == 1 || (cuda_of(dev)->arch >= 90 && ratio <= CLUSTER_MAX);
    const bool fast = p.k_dim == DELTA_DIM && p.v_dim == DELTA_DIM;
    const unsigned blocks = split ? ratio : 1;
    cudaLaunchAttribute cluster;
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {MIXER ? blocks : 1, 1, 1};
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(p.k_heads * blocks, n_spans);
    config.blockDim = dim3(THREADS);
    config.stream = cuda_of(dev)->stream;
    config.attrs = &cluster;
    config.numAttrs = MIXER && blocks > 1;
    cuda_ok(
        dev,
        cudaLaunchKernelEx(
            &config, fast ? step_kernel<act_t, true, MIXER> : step_kernel<act_t, false, MIXER>, p),
        "delta_decode");
}

void delta_steps(struct dev *dev, const struct delta_rule_args *a, int first)
{
    struct step_args p = {};
    p.y = a->o;
    p.qkv = a->qkv;
    p.a = a->a;
    p.b = a->b;
    p.A_log = a->A_log;
    p.dt_bias = a->dt_bias;
    p.state = a->state;
    p.spans = a->batch.spans + first;
    p.k_heads = a->k_heads;
    p.v_heads = a->v_heads;
    p.k_dim = a->k_dim;
    p.v_dim = a->v_dim;
    p.channels = 2 * a->k_heads * a->k_dim + a->v_heads * a->v_dim;
    ACT_SWITCH(dev, (launch<act_t, false>(dev, p, a->batch.n_spans - first)));
}

void cuda_delta_decode(struct dev *dev, const struct delta_decode_args *a)
{
    const int first = batch_prefill_spans(&a->batch);
    if (first == a->batch.n_spans)
        return;
    struct step_args p = {};
    p.y = a->y;
    p.qkv = a->qkv;
    p.z = a->z;
    p.a = a->a;
    p.b = a->b;
    p.conv_w = a->conv_w;
    p.A_log = a->A_log;
    p.dt_bias = a->dt_bias;
    p.norm_w = a->norm_w;
    p.conv_state = a->conv_state;
    p.state = a->state;
    p.spans = a->batch.spans + first;
    p.k_heads = a->k_heads;
    p.v_heads = a->v_heads;
    p.k_dim = a->k_dim;
    p.v_dim = a->v_dim;
    p.channels = 2 * a->k_heads * a->k_dim + a->v_heads * a->v_dim;
    p.eps = a->eps;
    ACT_SWITCH(dev, (launch<act_t, true>(dev, p, a->batch.n_spans - first)));
}
