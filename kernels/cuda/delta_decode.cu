// delta_decode.cu - the gated delta rule a token at a time: the whole mixer of a decode step (conv, norms,
// gates, rule, gated norm) in one kernel, and the rule alone for delta_rule's decode spans.
//
// With s the old state, the work shares out by columns as
//   o = e^g s^T q + (q . k) d,   d = beta (v - e^g s^T k),   s = e^g s + k d^T
// so one pass over s gives both products. A block takes 64 columns of one value head's state of 128 x 128:
// the copy engine brings them to shared memory while the convolution is computed, and takes them back.
// The blocks of one key head are a cluster: each computes that head's q and k channels from the old
// convolution state, the first writes the new one after all have read, and the two of a value head
// exchange the squares for its norm.
// Other shapes, and devices without clusters, work on the state in device memory, one block a key head.
//
// Bound by: memory, the states read and written once.
#include "delta.cuh"
#include "ptx.cuh"

static constexpr int PAST = CONV_WIDTH - 1, CLUSTER_MAX = 8;

// Threads of a block, and the most rows and columns of a state that it takes.
struct half_head {
    static constexpr int THREADS = 128, ROWS = DELTA_DIM, COLUMNS = DELTA_DIM / 2, SUMS = 4;
};
struct any_head {
    static constexpr int THREADS = 256, ROWS = DELTA_DIM_MAX, COLUMNS = DELTA_DIM_MAX, SUMS = 4;
};

struct step_args {
    void *y;
    const void *qkv, *z, *a, *b;
    const float *conv_w, *A_log, *dt_bias, *norm_w;
    float *conv_state, *state;
    const struct span *spans;
    int k_heads, v_heads, k_dim, v_dim, channels;
    float eps;
};

template <typename shape> struct step_shared {
    float q[shape::ROWS], k[shape::ROWS];        // after conv, not normalised
    float v[shape::COLUMNS], d[shape::COLUMNS];  // v after conv
    float sums[2][shape::THREADS * shape::SUMS]; // of s^T k and s^T q, by group of rows
    float q_scale, k_scale, qk, decay, beta;
    float squares[shape::THREADS / 32], others; // of o by warp; of the other block's columns
    alignas(8) uint64_t full;
};

// Where a block is at: columns column .. column + columns - 1 of a value head.
struct step_place {
    struct span span;
    int k_head, v_head, column, columns;
};

// A thread's channels: the columns of the convolution's input that its token needs, oldest first.
template <typename shape> struct channels {
    static constexpr int N = 2 * shape::ROWS + shape::COLUMNS;
    static constexpr int ROUNDS = (N + shape::THREADS - 1) / shape::THREADS;
    float x[ROUNDS][CONV_WIDTH];
};

static __device__ __forceinline__ float warp_sum(float x)
{
    for (int d = 16; d > 0; d /= 2)
        x += __shfl_xor_sync(~0u, x, d);
    return x;
}

// Channel number in qkv of the i-th that a block needs: k_dim of q, k_dim of k, its columns of v.
static __device__ __forceinline__ int channel_of(const struct step_args &p,
                                                 const struct step_place &at, int i)
{
    if (i < p.k_dim)
        return at.k_head * p.k_dim + i;
    if (i < 2 * p.k_dim)
        return (p.k_heads - 1 + at.k_head) * p.k_dim + i;
    return 2 * p.k_heads * p.k_dim + at.v_head * p.v_dim + at.column + i - 2 * p.k_dim;
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

// q, k, v of token t to s; with MIXER they pass the convolution, and c keeps its columns.
template <typename act_t, bool MIXER, typename shape>
static __device__ void load_token(struct step_shared<shape> &s, struct channels<shape> &c,
                                  const struct step_args &p, const struct step_place &at, int t)
{
    const int n = 2 * p.k_dim + at.columns;
    float4 w[channels<shape>::ROUNDS];
#pragma unroll
    for (int r = 0; r < channels<shape>::ROUNDS; r++) {
        const int i = threadIdx.x + r * shape::THREADS, ch = channel_of(p, at, i);
        if (i >= n)
            break;
#pragma unroll
        for (int j = MIXER ? 0 : PAST; j < CONV_WIDTH; j++)
            c.x[r][j] = column<act_t>(p, at.span, t - PAST + j, ch);
        if constexpr (MIXER)
            w[r] = *(const float4 *)&p.conv_w[(size_t)ch * CONV_WIDTH];
    }
    if (threadIdx.x == shape::THREADS - 1) { // a thread with few channels
        const struct delta_gate gate =
            delta_gate_of((const act_t *)p.a, (const act_t *)p.b,
                          (size_t)(at.span.t0 + t) * p.v_heads + at.v_head, p.A_log[at.v_head],
                          p.dt_bias[at.v_head]);
        s.decay = expf(gate.g);
        s.beta = gate.beta;
    }
#pragma unroll
    for (int r = 0; r < channels<shape>::ROUNDS; r++) {
        const int i = threadIdx.x + r * shape::THREADS;
        if (i >= n)
            break;
        float x = c.x[r][PAST];
        if constexpr (MIXER) {
            x = w[r].x * c.x[r][0] + w[r].y * c.x[r][1] + w[r].z * c.x[r][2] + w[r].w * x;
            x /= 1.0f + expf(-x);
        }
        float *to = i < p.k_dim ? s.q : i < 2 * p.k_dim ? s.k - p.k_dim : s.v - 2 * p.k_dim;
        to[i] = x;
    }
}

// The slot's columns after the span, from those of its last token: channels first .. last - 1.
template <typename shape>
static __device__ void keep_columns(const struct channels<shape> &c, const struct step_args &p,
                                    const struct step_place &at, int first, int last)
{
    float *state = p.conv_state + (size_t)at.span.slot * PAST * p.channels;
#pragma unroll
    for (int r = 0; r < channels<shape>::ROUNDS; r++) {
        const int i = threadIdx.x + r * shape::THREADS;
        if (i < first || i >= last)
            continue;
#pragma unroll
        for (int j = 0; j < PAST; j++)
            state[(size_t)j * p.channels + channel_of(p, at, i)] = c.x[r][j + 1];
    }
}

// Norms of q and k and their product: a warp each.
template <typename shape> static __device__ void find_norms(struct step_shared<shape> &s, int k_dim)
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
template <typename shape>
static __device__ float finish_column(struct step_shared<shape> &s, int columns, int groups)
{
    const int j = threadIdx.x;
    float o = 0;
    if (j < columns) {
        float sk = 0, sq = 0;
        for (int g = 0; g < groups; g++) {
            sk += s.sums[0][g * columns + j];
            sq += s.sums[1][g * columns + j];
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

// One token's pass over k_dim rows of `columns`, in shared or device memory; o of column threadIdx.x.
template <typename shape>
static __device__ float step(struct step_shared<shape> &s, float *state, int k_dim, int columns)
{
    const int quads = columns / 4, groups = shape::THREADS / quads;
    const int quad = threadIdx.x % quads, group = threadIdx.x / quads;
    float4 *at = (float4 *)state + quad, sk = {0, 0, 0, 0}, sq = sk;
    if (group < groups) {
#pragma unroll 8
        for (int i = group; i < k_dim; i += groups) {
            const float4 x = at[i * quads];
            add_scaled(sk, x, s.k[i]);
            add_scaled(sq, x, s.q[i]);
        }
        ((float4 *)s.sums[0])[group * quads + quad] = sk;
        ((float4 *)s.sums[1])[group * quads + quad] = sq;
    }
    __syncthreads(); // partial sums and norms are there
    const float o = finish_column(s, columns, groups);
    __syncthreads(); // d and the squares are there
    if (group < groups) {
        const float4 d = ((const float4 *)s.d)[quad];
        const float decay = s.decay, k_scale = s.k_scale;
#pragma unroll 8
        for (int i = group; i < k_dim; i += groups)
            at[i * quads] = advanced(at[i * quads], decay, d, k_scale * s.k[i]);
    }
    return o;
}

template <typename shape> static __device__ float sum_squares(const struct step_shared<shape> &s)
{
    float sum = 0;
#pragma unroll
    for (int i = 0; i < shape::THREADS / 32; i++)
        sum += s.squares[i];
    return sum;
}

static __device__ __forceinline__ float gated(const struct step_args &p, float o, float squares,
                                              float z, float w)
{
    return o * rsqrtf(squares / p.v_dim + p.eps) * (w * (z / (1.0f + expf(-z))));
}

// Brings the block's columns of a slot, a row a thread.
static __device__ void fetch_state(float *tile, const float *state, uint64_t *full)
{
    constexpr int BYTES = half_head::COLUMNS * sizeof(float);
    if (threadIdx.x == 0) {
        mbarrier_init(shared_address(full), 1);
        fence_mbarrier_init();
        mbarrier_arrive_expect_tx(shared_address(full), half_head::ROWS * BYTES);
    }
    __syncthreads(); // the barrier is there
    cp_async_bulk(shared_address(tile + threadIdx.x * half_head::COLUMNS),
                  state + (size_t)threadIdx.x * DELTA_DIM, BYTES, shared_address(full));
}

static __device__ void return_state(float *state, const float *tile)
{
    fence_proxy_async_shared();
    __syncthreads(); // the state is complete and ordered before the copy
    cp_async_bulk_store(state + (size_t)threadIdx.x * DELTA_DIM,
                        shared_address(tile + threadIdx.x * half_head::COLUMNS),
                        half_head::COLUMNS * sizeof(float));
    cp_async_bulk_commit_group();
}

// 64 columns a block, a key head a cluster.
template <typename act_t, bool MIXER>
static __global__ void __launch_bounds__(half_head::THREADS, 5) step_kernel(struct step_args p)
{
    p.k_dim = p.v_dim = DELTA_DIM; // known here, as the caller has made sure
    extern __shared__ __align__(128) unsigned char raw[];
    float *tile = (float *)raw;
    struct step_shared<half_head> &s =
        *(struct step_shared<half_head> *)(tile + half_head::ROWS * half_head::COLUMNS);
    const int ratio = p.v_heads / p.k_heads, v_head = blockIdx.x / 2, j = threadIdx.x;
    const struct step_place at = {p.spans[blockIdx.y], v_head / ratio, v_head,
                                  (int)blockIdx.x % 2 * half_head::COLUMNS, half_head::COLUMNS};
    float *state =
        p.state + ((size_t)at.span.slot * p.v_heads + v_head) * DELTA_DIM * DELTA_DIM + at.column;
    const bool fresh = at.span.pos0 == 0;
    if (!fresh)
        fetch_state(tile, state, &s.full);
    for (int i = j; i < half_head::ROWS * half_head::COLUMNS && fresh; i += half_head::THREADS)
        tile[i] = 0;
    float *others = mapa(&s.others, cluster_ctarank() ^ 1);
    if (MIXER)
        barrier_cluster_arrive(); // this block has begun
    struct channels<half_head> c;
    for (int t = 0; t < at.span.t; t++) {
        const size_t row = ((size_t)(at.span.t0 + t) * p.v_heads + v_head) * DELTA_DIM + at.column;
        float z = 0, w = 0;
        if (MIXER && j < half_head::COLUMNS) {
            z = to_float(((const act_t *)p.z)[row + j]);
            w = p.norm_w[at.column + j];
        }
        load_token<act_t, MIXER>(s, c, p, at, t);
        __syncthreads(); // q, k, v and gates are there
        find_norms(s, DELTA_DIM);
        if (t == 0 && !fresh)
            mbarrier_wait(shared_address(&s.full), 0); // the state
        float o = step(s, tile, DELTA_DIM, half_head::COLUMNS);
        if constexpr (MIXER) {
            const float squares = sum_squares(s);
            if (t == 0)
                barrier_cluster_wait(); // so has the other
            if (j == 0)
                *others = squares;
            barrier_cluster_arrive(); // this block's squares are there, its old columns are read
            if (t == at.span.t - 1)
                return_state(state, tile);
            barrier_cluster_wait(); // the others' too
            // Added in the same order by both.
            const float low = at.column ? s.others : squares, high = at.column ? squares : s.others;
            o = gated(p, o, low + high, z, w);
            if (t < at.span.t - 1) { // or this round's would be overwritten by the next
                barrier_cluster_arrive();
                barrier_cluster_wait();
            }
        } else if (t == at.span.t - 1) {
            return_state(state, tile);
        } else {
            __syncthreads(); // all of s is free
        }
        if (j < half_head::COLUMNS)
            ((act_t *)p.y)[row + j] = from_float<act_t>(o);
    }
    if constexpr (MIXER)
        keep_columns(c, p, at, blockIdx.x % (2 * ratio) == 0 ? 0 : 2 * DELTA_DIM,
                     2 * DELTA_DIM + half_head::COLUMNS);
    cp_async_bulk_wait_group_read<0>(); // before the block's memory goes
}

// All value heads of a key head one after another, any shape, the states in device memory.
template <typename act_t, bool MIXER>
static __global__ void __launch_bounds__(any_head::THREADS, 1)
    general_kernel(const struct step_args p)
{
    __shared__ struct step_shared<any_head> s;
    const int ratio = p.v_heads / p.k_heads, k_head = blockIdx.x, j = threadIdx.x;
    struct step_place at = {p.spans[blockIdx.y], k_head, 0, 0, p.v_dim};
    struct channels<any_head> c;
    for (int r = 0; r < ratio; r++) {
        at.v_head = k_head * ratio + r;
        const size_t size = (size_t)p.k_dim * p.v_dim;
        float *state = p.state + ((size_t)at.span.slot * p.v_heads + at.v_head) * size;
        for (int i = j; i < (int)size && at.span.pos0 == 0; i += any_head::THREADS)
            state[i] = 0;
        for (int t = 0; t < at.span.t; t++) {
            const size_t row = ((size_t)(at.span.t0 + t) * p.v_heads + at.v_head) * p.v_dim;
            load_token<act_t, MIXER>(s, c, p, at, t);
            __syncthreads(); // q, k, v and gates are there
            find_norms(s, p.k_dim);
            float o = step(s, state, p.k_dim, p.v_dim);
            if (MIXER && j < p.v_dim)
                o = gated(p, o, sum_squares(s), to_float(((const act_t *)p.z)[row + j]),
                          p.norm_w[j]);
            if (j < p.v_dim)
                ((act_t *)p.y)[row + j] = from_float<act_t>(o);
            __syncthreads(); // all of s is free, the state is complete
        }
        if (MIXER) // q and k are read again for the next head
            keep_columns(c, p, at, r + 1 == ratio ? 0 : 2 * p.k_dim, 2 * p.k_dim + p.v_dim);
    }
}

// Two blocks a value head and a cluster a key head where the device has them, else a block a key head.
template <typename act_t, bool MIXER>
static void launch(struct dev *dev, const struct step_args &p, int n_spans)
{
    const int ratio = p.v_heads / p.k_heads, arch = cuda_of(dev)->arch;
    const int bytes = half_head::ROWS * half_head::COLUMNS * sizeof(float) +
                      sizeof(struct step_shared<half_head>);
    if (p.k_dim != DELTA_DIM || p.v_dim != DELTA_DIM || arch < 90 || 2 * ratio > CLUSTER_MAX) {
        general_kernel<act_t, MIXER>
            <<<dim3(p.k_heads, n_spans), any_head::THREADS, 0, cuda_of(dev)->stream>>>(p);
        LAUNCHED(dev, "delta_decode");
        return;
    }
    cudaLaunchAttribute cluster;
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {2 * (unsigned)ratio, 1, 1};
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(2 * p.v_heads, n_spans);
    config.blockDim = dim3(half_head::THREADS);
    config.dynamicSmemBytes = bytes;
    config.stream = cuda_of(dev)->stream;
    config.attrs = &cluster;
    config.numAttrs = 1;
    cuda_ok(dev,
            cudaFuncSetAttribute(step_kernel<act_t, MIXER>,
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
            "delta_decode: shared memory");
    cuda_ok(dev, cudaLaunchKernelEx(&config, step_kernel<act_t, MIXER>, p), "delta_decode");
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
