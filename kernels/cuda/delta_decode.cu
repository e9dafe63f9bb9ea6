// delta_decode.cu - the gated delta rule a token at a time: the whole mixer of a decode step (conv, norms,
// gates, rule, gated norm) in one kernel, and the rule alone for delta_rule's decode spans.
//
// A block takes one value head of one sequence. With s the old state, the work shares out by columns as
//   o = e^g s^T q + (q . k) d,   d = beta (v - e^g s^T k),   s = e^g s + k d^T
// so one pass over s gives both products. Blocks of the value heads of one key head are a cluster: each
// computes that head's q and k channels from the old convolution state, and the first writes the new
// one after all have read. Without clusters one block takes the heads in turn.
//
// A state of 128 x 128 is brought to shared memory by the copy engine and goes back from the registers as the
// second pass makes it; three blocks a multiprocessor keep the memory busy, or four where a state is of
// bf16 and half as large (five would spill). Other shapes, and devices without a copy engine, work on the
// state in device memory. A bf16 state is widened and rounded as the passes read and write it; o is of the
// state before that rounding.
//
// Bound by: memory, the states read and written once. Blocks of half a head were slower. With few sequences it
// is latency. So what earlier steps left (state, columns) and the weights are asked for before the
// projections have ended; y is written between the passes; and nothing waits for the state's way back. The next
// product's blocks fill their rings meanwhile, and one on the same multiprocessor would hold up every
// access here behind its copies: a block orders the shared memory that it would need (ALONE).
//
// Measured, NVIDIA H200. In a played 9B step at batch 1, 2026-12-01, after in_proj's end: y is there at 2.9 us,
// the slowest block's at 4.0, and the last block ends at 8.0, where it was 5.2, 6.3 and 10.6 with all loads
// behind the projections, y after the second pass and the state's way back by the copy engine; ALONE was not
// marked. Steps on one card (`model_check perf --quick yes`, depth 2,048 and 8,192): bf16 4.868, 4.845
// ms before, 4.839, 4.813 with that, 4.802, 4.768 with ALONE and the next kernel let in at once; int8
// 3.208, 3.225, then 3.172, 3.180, then 3.128, 3.154. ALONE with the next kernel let in after y: 4.813, 4.787.
// 2026-11-24, the kernel by itself as it was then, 16/32 heads, bf16, one launch with 3.1 us of the graph's own:
// 8.8 us for one sequence, 13.8 for 8, 87 for 64 (3.1 TB/s), 299 for 256 (3.6 TB/s); bf16 states took 0.09
// ms off a 9B step at one sequence and 0.7 ms at 64.
#include "delta.cuh"
#include "ptx.cuh"

static constexpr int THREADS = 256, WARPS = THREADS / 32, PAST = CONV_WIDTH - 1;
static constexpr int CLUSTER_MAX = 8;
// Bytes of shared memory beside which a multiprocessor of SM_SHARED has no room for a block of linear_few.
static constexpr int ALONE = 120 << 10;

struct step_args {
    void *y;
    const void *qkv, *z, *a, *b;
    const float *conv_w, *A_log, *dt_bias, *norm_w;
    float *conv_state;
    void *state;
    const struct span *spans;
    int k_heads, v_heads, k_dim, v_dim, channels;
    float eps;
};

// DIM: the most that k_dim and v_dim can be.
template <int DIM> struct step_shared {
    float q[DIM], k[DIM], v[DIM], d[DIM]; // q, k, v after conv, not normalised
    float sums[2][THREADS * 4];           // of s^T k and s^T q, by group of rows
    float q_scale, k_scale, qk, decay, beta;
    float squares[WARPS];
    alignas(8) uint64_t full;
};

// Where a block is at.
struct step_place {
    struct span span;
    int k_head, v_head;
};

// A thread's channels: the convolution's weights, and the columns of its input that the token needs, oldest
// first.
template <int DIM> struct channels {
    static constexpr int ROUNDS = 3 * DIM / THREADS + (3 * DIM % THREADS > 0);
    float4 w[ROUNDS];
    float x[ROUNDS][CONV_WIDTH];
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

// What is there before the projections are: the weights, and the columns before the span from the slot.
template <int DIM>
static __device__ void begin_channels(struct channels<DIM> &c, const struct step_args &p,
                                      const struct step_place &at)
{
    const float *state = p.conv_state + (size_t)at.span.slot * PAST * p.channels;
#pragma unroll
    for (int r = 0; r < channels<DIM>::ROUNDS; r++) {
        const int i = threadIdx.x + r * THREADS, ch = channel_of(p, at, i);
        if (i >= 2 * p.k_dim + p.v_dim)
            break;
        c.w[r] = *(const float4 *)&p.conv_w[(size_t)ch * CONV_WIDTH];
#pragma unroll
        for (int j = 0; j < PAST; j++)
            c.x[r][j + 1] = at.span.pos0 ? state[(size_t)j * p.channels + ch] : 0.0f;
    }
}

// q, k, v of token t to s; with MIXER they pass the convolution, and c's columns move on by one.
template <typename act_t, bool MIXER, int DIM>
static __device__ void load_token(struct step_shared<DIM> &s, struct channels<DIM> &c,
                                  const struct step_args &p, const struct step_place &at, int t)
{
    const int n = 2 * p.k_dim + p.v_dim;
    const act_t *row = (const act_t *)p.qkv + (size_t)(at.span.t0 + t) * p.channels;
#pragma unroll
    for (int r = 0; r < channels<DIM>::ROUNDS; r++) {
        const int i = threadIdx.x + r * THREADS;
        if (i >= n)
            break;
#pragma unroll
        for (int j = 0; MIXER && j < PAST; j++)
            c.x[r][j] = c.x[r][j + 1];
        c.x[r][PAST] = held_float(row[channel_of(p, at, i)]);
    }
    if (threadIdx.x == THREADS - 1) { // a thread with few channels
        const struct delta_gate gate =
            delta_gate_of((const act_t *)p.a, (const act_t *)p.b,
                          (size_t)(at.span.t0 + t) * p.v_heads + at.v_head, p.A_log[at.v_head],
                          p.dt_bias[at.v_head]);
        s.decay = expf(gate.g);
        s.beta = gate.beta;
    }
#pragma unroll
    for (int r = 0; r < channels<DIM>::ROUNDS; r++) {
        const int i = threadIdx.x + r * THREADS;
        if (i >= n)
            break;
        float x = c.x[r][PAST];
        if constexpr (MIXER) {
            const float4 w = c.w[r];
            x = w.x * c.x[r][0] + w.y * c.x[r][1] + w.z * c.x[r][2] + w.w * x;
            x /= 1.0f + expf(-x);
        }
        float *to = i < p.k_dim ? s.q : i < 2 * p.k_dim ? s.k - p.k_dim : s.v - 2 * p.k_dim;
        to[i] = x;
    }
}

// The slot's columns after the span, from those of its last token: channels first .. last - 1.
template <int DIM>
static __device__ void keep_columns(const struct channels<DIM> &c, const struct step_args &p,
                                    const struct step_place &at, int first, int last)
{
    float *state = p.conv_state + (size_t)at.span.slot * PAST * p.channels;
#pragma unroll
    for (int r = 0; r < channels<DIM>::ROUNDS; r++) {
        const int i = threadIdx.x + r * THREADS;
        if (i < first || i >= last)
            continue;
#pragma unroll
        for (int j = 0; j < PAST; j++)
            state[(size_t)j * p.channels + channel_of(p, at, i)] = c.x[r][j + 1];
    }
}

// Norms of q and k and their product: a warp each.
template <int DIM> static __device__ void find_norms(struct step_shared<DIM> &s, int k_dim)
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

// d of column threadIdx.x from `groups` partial sums, and its o. The squares of o are left by warp.
template <int DIM>
static __device__ float finish_column(struct step_shared<DIM> &s, int v_dim, int groups)
{
    const int j = threadIdx.x;
    float o = 0;
    if (j < v_dim) {
        float sk = 0, sq = 0;
        for (int g = 0; g < groups; g++) {
            sk += s.sums[0][g * v_dim + j];
            sq += s.sums[1][g * v_dim + j];
        }
        const float d = s.beta * (s.v[j] - s.decay * s.k_scale * sk);
        s.d[j] = d;
        o = s.q_scale * (s.decay * sq + s.qk * s.k_scale * d);
    }
    const float squares = warp_sum(o * o);
    if (j % 32 == 0)
        s.squares[j / 32] = squares;
    return o;
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

// Four neighbours of a row of the state, as they lie.
template <typename state_t> struct state_quad;
template <> struct state_quad<float> {
    using type = float4;
};
template <> struct state_quad<bf16> {
    using type = uint2;
};
static __device__ __forceinline__ float4 widened(const float4 &x)
{
    return x;
}
static __device__ __forceinline__ float4 widened(const uint2 &x)
{
    return {__uint_as_float(x.x << 16), __uint_as_float(x.x & 0xffff0000u),
            __uint_as_float(x.y << 16), __uint_as_float(x.y & 0xffff0000u)};
}
static __device__ __forceinline__ void put_rounded(float4 &to, const float4 &x)
{
    to = x;
}
static __device__ __forceinline__ void put_rounded(uint2 &to, const float4 &x)
{
    to = {cvt_bf16x2(x.x, x.y), cvt_bf16x2(x.z, x.w)};
}

// How a block shares out a state's rows, in shared or device memory: quads of columns by groups of rows.
template <typename state_t> struct rows_share {
    using quad_t = typename state_quad<state_t>::type;
    quad_t *at; // the thread's quad of row 0
    int quads, groups, quad, group;

    __device__ rows_share(state_t *state, int v_dim)
        : quads(v_dim / 4), groups(THREADS / quads), quad(threadIdx.x % quads),
          group(threadIdx.x / quads)
    {
        at = (quad_t *)state + quad;
    }
};

// A token's first pass, reading the state: d, and o of column threadIdx.x.
template <int DIM, typename state_t>
static __device__ float read_state(struct step_shared<DIM> &s, const struct rows_share<state_t> &r,
                                   int k_dim, int v_dim)
{
    float4 sk = {0, 0, 0, 0}, sq = sk;
    if (r.group < r.groups) {
#pragma unroll 8
        for (int i = r.group; i < k_dim; i += r.groups) {
            const float4 x = widened(r.at[i * r.quads]);
            add_scaled(sk, x, s.k[i]);
            add_scaled(sq, x, s.q[i]);
        }
        ((float4 *)s.sums[0])[r.group * r.quads + r.quad] = sk;
        ((float4 *)s.sums[1])[r.group * r.quads + r.quad] = sq;
    }
    __syncthreads(); // partial sums and norms are there
    const float o = finish_column(s, v_dim, r.groups);
    __syncthreads(); // d and the squares are there
    return o;
}

// Its second: decay s + k d^T to `to`, the state's own place or another.
template <int DIM, typename state_t>
static __device__ void advance_state(const struct step_shared<DIM> &s,
                                     const struct rows_share<state_t> &r, state_t *to, int k_dim)
{
    typename rows_share<state_t>::quad_t *quad =
        (typename rows_share<state_t>::quad_t *)to + r.quad;
    if (r.group >= r.groups)
        return;
    const float4 d = ((const float4 *)s.d)[r.quad];
    const float decay = s.decay, k_scale = s.k_scale;
#pragma unroll 8
    for (int i = r.group; i < k_dim; i += r.groups)
        put_rounded(quad[i * r.quads],
                    advanced(widened(r.at[i * r.quads]), decay, d, k_scale * s.k[i]));
}

// y = o, or its gated norm.
template <typename act_t, bool MIXER, int DIM>
static __device__ void write_token(const struct step_shared<DIM> &s, const struct step_args &p,
                                   size_t row, float o, float z, float w)
{
    if (threadIdx.x >= p.v_dim)
        return;
    if constexpr (MIXER) {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < WARPS; i++)
            sum += s.squares[i];
        o *= rsqrtf(sum / p.v_dim + p.eps) * (w * (z / (1.0f + expf(-z))));
    }
    ((act_t *)p.y)[row + threadIdx.x] = from_float<act_t>(o);
}

// All tokens of one value head of one span, on a state that is in place; the last leaves it in `to`.
template <typename act_t, bool MIXER, int DIM, typename state_t>
static __device__ void do_head(struct step_shared<DIM> &s, struct channels<DIM> &c, state_t *state,
                               state_t *to, const struct step_args &p, const struct step_place &at,
                               bool by_copy)
{
    const struct rows_share<state_t> share(state, p.v_dim);
    for (int t = 0; t < at.span.t; t++) {
        const size_t row = ((size_t)(at.span.t0 + t) * p.v_heads + at.v_head) * p.v_dim;
        float z = 0, w = 0;
        if (MIXER && threadIdx.x < p.v_dim) {
            z = held_float(((const act_t *)p.z)[row + threadIdx.x]);
            w = p.norm_w[threadIdx.x];
        }
        load_token<act_t, MIXER>(s, c, p, at, t);
        __syncthreads(); // q, k, v and gates are there
        if (MIXER && t == at.span.t - 1)
            barrier_cluster_arrive_relaxed(); // this block has read its old columns
        find_norms(s, p.k_dim);
        if (t == 0 && by_copy)
            mbarrier_wait(shared_address(&s.full), 0);
        const float o = read_state(s, share, p.k_dim, p.v_dim);
        write_token<act_t, MIXER>(s, p, row, o, z, w);
        advance_state(s, share, t == at.span.t - 1 ? to : state, p.k_dim);
        __syncthreads(); // all of s is free, the state is complete
    }
}

// One value head a block; the state of 128 x 128 in shared memory.
template <typename act_t, bool MIXER, typename state_t>
static __global__ void __launch_bounds__(THREADS, sizeof(state_t) == sizeof(float) ? 3 : 4)
    step_kernel(struct step_args p)
{
    p.k_dim = p.v_dim = DELTA_DIM; // known here, as the caller has made sure
    extern __shared__ __align__(128) unsigned char raw[];
    constexpr int SIZE = DELTA_DIM * DELTA_DIM;
    state_t *tile = (state_t *)raw;
    struct step_shared<DELTA_DIM> &s = *(struct step_shared<DELTA_DIM> *)(tile + SIZE);
    const int ratio = p.v_heads / p.k_heads;
    const struct step_place at = {p.spans[blockIdx.y], (int)blockIdx.x / ratio, (int)blockIdx.x};
    state_t *state = (state_t *)p.state + ((size_t)at.span.slot * p.v_heads + at.v_head) * SIZE;
    const bool fresh = at.span.pos0 == 0;
    const uint32_t full = shared_address(&s.full);
    griddepcontrol_launch_dependents();
    if (threadIdx.x == 0) {
        mbarrier_init(full, 1);
        fence_mbarrier_init();
    }
    __syncthreads(); // the barrier is there
    if (!MIXER)
        griddepcontrol_wait(); // the states may be of the kernel ahead
    if (threadIdx.x == 0 && !fresh) {
        mbarrier_arrive_expect_tx(full, SIZE * sizeof(state_t));
        cp_async_bulk(shared_address(tile), state, SIZE * sizeof(state_t), full);
    }
    for (int i = threadIdx.x; i < SIZE && fresh; i += THREADS)
        tile[i] = from_float<state_t>(0);
    struct channels<DELTA_DIM> c;
    if (MIXER) {
        begin_channels(c, p, at);
        griddepcontrol_wait(); // the projections have ended
    }
    do_head<act_t, MIXER>(s, c, tile, state, p, at, !fresh);
    if constexpr (MIXER) {
        keep_columns(c, p, at, 2 * p.k_dim, 2 * p.k_dim + p.v_dim);
        barrier_cluster_wait(); // every block of the key head has read its old columns
        if (at.v_head % ratio == 0)
            keep_columns(c, p, at, 0, 2 * p.k_dim);
    }
}

// All value heads of a key head one after another, any shape, the states in device memory.
template <typename act_t, bool MIXER, typename state_t>
static __global__ void __launch_bounds__(THREADS, 1) general_kernel(const struct step_args p)
{
    __shared__ struct step_shared<DELTA_DIM_MAX> s;
    const int ratio = p.v_heads / p.k_heads, k_head = blockIdx.x;
    struct step_place at = {p.spans[blockIdx.y], k_head, 0};
    struct channels<DELTA_DIM_MAX> c;
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    for (int r = 0; r < ratio; r++) {
        at.v_head = k_head * ratio + r;
        const size_t size = (size_t)p.k_dim * p.v_dim;
        state_t *state = (state_t *)p.state + ((size_t)at.span.slot * p.v_heads + at.v_head) * size;
        for (int i = threadIdx.x; i < (int)size && at.span.pos0 == 0; i += THREADS)
            state[i] = from_float<state_t>(0);
        if (MIXER)
            begin_channels(c, p, at);
        do_head<act_t, MIXER>(s, c, state, state, p, at, false);
        if (MIXER) {
            barrier_cluster_wait(); // pairs with do_head's; the block is alone in its cluster
            keep_columns(c, p, at, r + 1 == ratio ? 0 : 2 * p.k_dim, 2 * p.k_dim + p.v_dim);
        }
    }
}

// One block a value head and one cluster a key head where the device has them, else one a key head.
template <typename act_t, bool MIXER, typename state_t>
static void launch(struct dev *dev, const struct step_args &p, int n_spans)
{
    const int ratio = p.v_heads / p.k_heads, arch = cuda_of(dev)->arch;
    const int needed =
        DELTA_DIM * DELTA_DIM * sizeof(state_t) + sizeof(struct step_shared<DELTA_DIM>);
    const bool alone =
        p.v_heads * n_spans <= cuda_of(dev)->n_sm && cuda_of(dev)->sm_shared >= SM_SHARED;
    const int bytes = MIXER && alone ? ALONE : needed;
    if (p.k_dim != DELTA_DIM || p.v_dim != DELTA_DIM || arch < 90 || ratio > CLUSTER_MAX) {
        cuda_launch(dev, "delta_decode", {dim3(p.k_heads, n_spans), THREADS},
                    general_kernel<act_t, MIXER, state_t>, p);
        return;
    }
    const struct cuda_shape shape = {dim3(p.v_heads, n_spans), THREADS, (size_t)bytes,
                                     MIXER ? (unsigned)ratio : 1};
    cuda_launch(dev, "delta_decode", shape, step_kernel<act_t, MIXER, state_t>, p);
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
    ACT_SWITCH(dev,
               STATE_SWITCH(a->state_type,
                            (launch<act_t, false, state_t>(dev, p, a->batch.n_spans - first))));
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
    ACT_SWITCH(dev, STATE_SWITCH(a->state_type,
                                 (launch<act_t, true, state_t>(dev, p, a->batch.n_spans - first))));
}
