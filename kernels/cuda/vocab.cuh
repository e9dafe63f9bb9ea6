// vocab.cuh - a row of logits spread over the blocks of a cluster: loading, folding, cutting.
// Private to sample.cu and logprobs.cu.
//
// A block holds a slice of the row in shared memory (in the row itself where that is too small), a thread
// an odd number of neighbours of it, so that ids ascend with block, thread and index, and no two threads
// of a warp meet in a bank. Weights are whole numbers of 2^-44: their sums have the same bits in any order.
// All functions are called by all threads of the cluster.
#ifndef VOCAB_CUH
#define VOCAB_CUH

#include <cfloat>
#include <climits>

#include "ops_cuda.cuh"
#include "ptx.cuh"

constexpr int VOCAB_THREADS = 1024, VOCAB_BLOCKS = 8, VOCAB_BUCKETS = VOCAB_THREADS;
constexpr int VOCAB_LIST = 2048; // entries of one bucket that a block can list
constexpr float VOCAB_UNIT = 0x1p44f, VOCAB_LOG2E = 1.44269504f;

struct vocab_shared {
    uint64_t warp[32];
    uint64_t published[2]; // by turns, so that one cluster barrier a round is enough
    uint32_t low[2][VOCAB_BUCKETS], high[2][VOCAB_BUCKETS]; // 64-bit sums; by turns as well
    uint64_t found_before, found_mass;
    int found, listed;
    float list[VOCAB_LIST];
};

struct vocab_row {
    struct vocab_shared *sh;
    float *x;          // the slice
    int base, n, each; // first id, entries, entries a thread
    int begin, end;    // this thread's, in x
    uint32_t rank, ranks, turn;
};

// NaN counts as -inf, -0 as 0.
static __device__ __forceinline__ float vocab_clean(float x)
{
    return x != x ? -INFINITY : x + 0.0f;
}

// Integers in the order of the (clean) values.
static __device__ __forceinline__ int vocab_order(float x)
{
    const int bits = __float_as_int(x);
    return bits < 0 ? bits ^ 0x7FFFFFFF : bits;
}

static __device__ __forceinline__ float vocab_value(int order)
{
    return __int_as_float(order < 0 ? order ^ 0x7FFFFFFF : order);
}

static __device__ inline void cluster_sync()
{
    if (PTX_SM90) {
        barrier_cluster_arrive();
        barrier_cluster_wait();
    } else {
        __syncthreads();
    }
}

static __device__ inline struct vocab_row vocab_open(struct vocab_shared *sh, float *memory,
                                                     float *logits, int n_tokens)
{
    struct vocab_row r = {};
    r.sh = sh;
    r.rank = cluster_ctarank();
    r.ranks = cluster_nctarank();
    const int slice = (n_tokens + (int)r.ranks - 1) / (int)r.ranks;
    r.base = min((int)r.rank * slice, n_tokens);
    r.n = min(slice, n_tokens - r.base);
    r.each = (slice + VOCAB_THREADS - 1) / VOCAB_THREADS | 1;
    r.begin = min((int)threadIdx.x * r.each, r.n);
    r.end = min(r.begin + r.each, r.n);
    r.x = memory ? memory : logits + r.base;
    return r;
}

static __device__ __forceinline__ float vocab_at(const struct vocab_row &r, int i)
{
    return vocab_clean(r.x[i]); // a slice left in device memory may be as it came
}

// f(i, x) for the entries i of the slice in x, a thread every VOCAB_THREADS-th, sixteen loads at a time.
template <typename F>
static __device__ __forceinline__ void vocab_each(const struct vocab_row &r, const float *x, F f)
{
    constexpr int BATCH = 16;
    for (int base = threadIdx.x; base < r.n; base += BATCH * VOCAB_THREADS) {
        float some[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; i++)
            if (base + i * VOCAB_THREADS < r.n)
                some[i] = x[base + i * VOCAB_THREADS];
#pragma unroll
        for (int i = 0; i < BATCH; i++)
            if (base + i * VOCAB_THREADS < r.n)
                f(base + i * VOCAB_THREADS, some[i]);
    }
}

// The slice, cleaned, into its place.
static __device__ inline void vocab_load(const struct vocab_row &r, const float *logits)
{
    vocab_each(r, logits + r.base, [&](int i, float x) { r.x[i] = vocab_clean(x); });
    __syncthreads(); // the slice is there
}

struct vocab_add {
    static __device__ uint64_t fold(uint64_t a, uint64_t b)
    {
        return a + b;
    }
};
struct vocab_most {
    static __device__ uint64_t fold(uint64_t a, uint64_t b)
    {
        return a > b ? a : b;
    }
};

// The fold of everyone's value in the block, for everyone.
template <typename Op>
static __device__ uint64_t block_fold(struct vocab_shared *sh, uint64_t value)
{
    for (int d = 16; d > 0; d /= 2)
        value = Op::fold(value, __shfl_xor_sync(~0u, value, d));
    __syncthreads(); // the last round's numbers have been read
    if (threadIdx.x % 32 == 0)
        sh->warp[threadIdx.x / 32] = value;
    __syncthreads(); // the warps' values are there
    value = sh->warp[threadIdx.x % 32];
    for (int d = 16; d > 0; d /= 2)
        value = Op::fold(value, __shfl_xor_sync(~0u, value, d));
    return value;
}

// The sum of the values of the threads before this one in the block; *total: of all.
static __device__ inline uint64_t block_scan(struct vocab_shared *sh, uint64_t value,
                                             uint64_t *total)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint64_t upto = value;
    for (int d = 1; d < 32; d *= 2) {
        const uint64_t other = __shfl_up_sync(~0u, upto, d);
        upto += lane >= d ? other : 0;
    }
    __syncthreads(); // the last round's numbers have been read
    if (lane == 31)
        sh->warp[warp] = upto;
    __syncthreads(); // the warps' values are there
    uint64_t warps = sh->warp[lane];
    for (int d = 1; d < 32; d *= 2) {
        const uint64_t other = __shfl_up_sync(~0u, warps, d);
        warps += lane >= d ? other : 0;
    }
    *total = __shfl_sync(~0u, warps, 31);
    const uint64_t before = __shfl_sync(~0u, warps, (warp + 31) % 32);
    return upto - value + (warp ? before : 0);
}

// The fold of the blocks' values (each one's thread 0 gives it); *before, unless NULL: of lower ranks.
template <typename Op>
static __device__ uint64_t cluster_fold(struct vocab_row &r, uint64_t value, uint64_t *before)
{
    uint64_t all = 0, lower = 0;
    uint64_t *published = &r.sh->published[r.turn++ % 2];
    if (threadIdx.x == 0)
        *published = value;
    cluster_sync(); // all blocks' values are there
    uint64_t other[VOCAB_BLOCKS];
#pragma unroll
    for (uint32_t i = 0; i < VOCAB_BLOCKS; i++) // all on their way before the first is used
        other[i] = i < r.ranks ? *mapa(published, i) : 0;
#pragma unroll
    for (uint32_t i = 0; i < VOCAB_BLOCKS; i++) {
        lower = i < r.rank ? Op::fold(lower, other[i]) : lower;
        all = i < r.ranks ? Op::fold(all, other[i]) : all;
    }
    if (before)
        *before = lower;
    return all;
}

// The largest value's order and the lowest id that has it: order in the high half, ~id in the low one.
static __device__ inline uint64_t vocab_key(float x, int id)
{
    return (uint64_t)((uint32_t)vocab_order(x) ^ 0x80000000u) << 32 | (uint32_t)~id;
}

static __device__ inline uint64_t vocab_largest(struct vocab_row &r, const float *x)
{
    uint64_t most = 0;
    vocab_each(r, x, [&](int i, float value) {
        const uint64_t key = vocab_key(vocab_clean(value), r.base + i);
        most = key > most ? key : most;
    });
    return cluster_fold<vocab_most>(r, block_fold<vocab_most>(r.sh, most), NULL);
}

static __device__ inline float vocab_key_value(uint64_t key)
{
    return vocab_value((int)((uint32_t)(key >> 32) ^ 0x80000000u));
}

// What an entry weighs. Everyone one, or exp((x - most) / temperature).
struct vocab_count {
    static constexpr bool ONE = true;
    __device__ uint64_t operator()(float) const
    {
        return 1;
    }
};
struct vocab_exp {
    static constexpr bool ONE = false;
    float most, rate; // rate: log2(e) / temperature
    __device__ float weight(float x) const
    {
        return x == -INFINITY ? 0.0f : ex2_approx((x - most) * rate);
    }
    __device__ uint64_t operator()(float x) const
    {
        return (uint64_t)(weight(x) * VOCAB_UNIT);
    }
};

// Entries of a larger order than `at` stay, and of those at it the ones with ids below `bound`.
struct vocab_cut {
    int at, bound;
};

static __device__ __forceinline__ bool vocab_stays(const struct vocab_cut &c, float x, int id)
{
    const int order = vocab_order(x);
    return order > c.at || (order == c.at && id < c.bound);
}

// Whole numbers of 64 bits in two halves: there is no fast 64-bit addition in shared memory.
static __device__ __forceinline__ void bucket_add(struct vocab_shared *sh, int turn, int i,
                                                  uint64_t w)
{
    const uint32_t low = (uint32_t)w, old = atomicAdd(&sh->low[turn][i], low);
    const uint32_t high = (uint32_t)(w >> 32) + (old + low < old);
    if (high)
        atomicAdd(&sh->high[turn][i], high);
}

template <typename Weight>
static __device__ __forceinline__ void bucket_weigh(struct vocab_shared *sh, int turn, int i,
                                                    float x, const Weight &weight)
{
    if (Weight::ONE)
        atomicAdd(&sh->low[turn][i], 1u); // fewer than 2^32 entries
    else
        bucket_add(sh, turn, i, weight(x));
}

static __device__ __forceinline__ void buckets_clear(struct vocab_shared *sh, int turn)
{
    sh->low[turn][threadIdx.x] = sh->high[turn][threadIdx.x] = 0;
}

// Adds up the blocks' buckets and finds the one in which the sum reaches want(total) - before: in sh,
// with the sum before it and its own. The last one when none does.
template <typename Want>
static __device__ void buckets_find(struct vocab_row &r, int turn, uint64_t before, Want want)
{
    struct vocab_shared *sh = r.sh;
    uint64_t mass = 0, total;
    cluster_sync(); // all blocks' buckets are complete; nobody reads the other turn's any more
    uint32_t low[VOCAB_BLOCKS], high[VOCAB_BLOCKS];
#pragma unroll
    for (uint32_t i = 0; i < VOCAB_BLOCKS; i++) { // all on their way before the first is used
        low[i] = i < r.ranks ? *mapa(&sh->low[turn][threadIdx.x], i) : 0;
        high[i] = i < r.ranks ? *mapa(&sh->high[turn][threadIdx.x], i) : 0;
    }
#pragma unroll
    for (uint32_t i = 0; i < VOCAB_BLOCKS; i++)
        mass += (uint64_t)high[i] << 32 | low[i];
    buckets_clear(sh, turn ^ 1);
    const uint64_t lower = block_scan(sh, mass, &total) + before, wanted = want(total);
    if ((lower < wanted && wanted <= lower + mass) ||
        (threadIdx.x == VOCAB_BUCKETS - 1 && wanted > lower + mass)) {
        sh->found = threadIdx.x;
        sh->found_before = lower;
        sh->found_mass = mass;
    }
    __syncthreads(); // what was found is there
}

// Buckets equally wide in value, `rate` a unit, the last one without an end.
static __device__ __forceinline__ int bucket_of(float x, float most, float rate)
{
    const float b = (most - x) * rate;
    return b < (float)(VOCAB_BUCKETS - 1) ? (int)b : VOCAB_BUCKETS - 1;
}

// The id below which `keep` entries of order `at` stand.
static __device__ inline int vocab_bound(struct vocab_row &r, int at, uint64_t keep)
{
    uint64_t own = 0, total, lower;
    for (int i = r.begin; i < r.end; i++)
        own += vocab_order(vocab_at(r, i)) == at;
    uint64_t before = block_scan(r.sh, own, &total);
    cluster_fold<vocab_add>(r, total, &lower);
    before += lower;
    uint64_t bound = 0;
    for (int i = r.begin; i < r.end; i++)
        if (vocab_order(vocab_at(r, i)) == at && ++before == keep)
            bound = (uint64_t)(r.base + i + 1);
    return (int)cluster_fold<vocab_most>(r, block_fold<vocab_most>(r.sh, bound), NULL);
}

// First halving of vocab_find_cut: buckets of the values; the one found is in sh, its entries listed.
template <typename Weight, typename Want>
static __device__ void vocab_find_bucket(struct vocab_row &r, float most, float rate,
                                         const Weight &weight, Want want)
{
    struct vocab_shared *sh = r.sh;
    uint64_t beyond = 0;
    __syncthreads(); // nobody reads the buckets of an earlier cut
    buckets_clear(sh, 0);
    if (threadIdx.x == 0)
        sh->listed = 0;
    __syncthreads(); // the buckets are empty
#pragma unroll 4
    for (int i = r.begin; i < r.end; i++) {
        const float x = vocab_at(r, i);
        const int b = bucket_of(x, most, rate);
        if (b == VOCAB_BUCKETS - 1) // as a rule most entries; they would wait for each other
            beyond += weight(x);
        else
            bucket_weigh(sh, 0, b, x, weight);
    }
    beyond = block_fold<vocab_add>(sh, beyond);
    if (threadIdx.x == 0)
        bucket_add(sh, 0, VOCAB_BUCKETS - 1, beyond);
    buckets_find(r, 0, 0, want);
    const int bucket = sh->found;
#pragma unroll 4
    for (int i = r.begin; i < r.end; i++) {
        const float x = vocab_at(r, i);
        if (bucket_of(x, most, rate) != bucket)
            continue;
        const int at = atomicAdd(&sh->listed, 1);
        if (at < VOCAB_LIST)
            sh->list[at] = x;
    }
    __syncthreads(); // the list is there
}

// The cut at which the weight of what stays reaches want(total weight): buckets of the values first,
// then, by 1024 each time, of the orders inside the one found.
template <typename Weight, typename Want>
static __device__ struct vocab_cut vocab_find_cut(struct vocab_row &r, float most, float rate,
                                                  const Weight &weight, Want want)
{
    struct vocab_shared *sh = r.sh;
    uint64_t wanted = 0;
    int turn = 0;
    vocab_find_bucket(r, most, rate, weight, [&](uint64_t total) { return wanted = want(total); });
    const int bucket = sh->found;
    uint64_t before = sh->found_before;
    // Orders that the bucket may hold, and some more for the rounding of bucket_of.
    const float upper = most - (float)bucket / rate, slack = (fabsf(most) + fabsf(upper)) * 1e-6f;
    const float lower = most - (float)(bucket + 1) / rate - slack;
    int high = vocab_order(bucket ? fminf(upper + slack, most) : most);
    int low = vocab_order(bucket < VOCAB_BUCKETS - 1 ? lower + 0.0f : -INFINITY);
    do {
        const uint32_t range = (uint32_t)high - (uint32_t)low;
        const int shift = max(0, 22 - __clz((int)range)); // range >> shift < 1024
        auto visit = [&](float x) {
            const int order = vocab_order(x);
            if (order <= high && order >= low)
                bucket_weigh(sh, turn, ((uint32_t)high - (uint32_t)order) >> shift, x, weight);
        };
        turn ^= 1;
        __syncthreads(); // sh->found has been read, the buckets of this turn are empty
        if (sh->listed <= VOCAB_LIST) {
            for (int i = threadIdx.x; i < sh->listed; i += VOCAB_THREADS)
                visit(sh->list[i]);
        } else {
            for (int i = r.begin; i < r.end; i++)
                if (bucket_of(vocab_at(r, i), most, rate) == bucket)
                    visit(vocab_at(r, i));
        }
        buckets_find(r, turn, before, [&](uint64_t) { return wanted; });
        before = sh->found_before;
        const uint32_t from = min((uint32_t)sh->found << shift, range);
        const uint32_t upto = min(from + (1u << shift) - 1, range);
        low = (int)((uint32_t)high - upto);
        high = (int)((uint32_t)high - from);
    } while (low < high);
    const uint64_t each = weight(vocab_value(low)), ties = each ? sh->found_mass / each : 0;
    const uint64_t keep = each ? (wanted - before + each - 1) / each : 0;
    return {low, keep < ties ? vocab_bound(r, low, keep) : INT_MAX};
}

// The launch for n rows: a cluster a row, shared memory for a block's slice or, 0, it stays in device memory.
static inline struct cuda_shape vocab_shape(struct dev *dev, int n, int n_tokens)
{
    const unsigned blocks = cuda_of(dev)->arch >= 90 ? VOCAB_BLOCKS : 1;
    const size_t slice = (n_tokens + blocks - 1) / blocks * sizeof(float);
    int most = 0;
    cuda_ok(
        dev,
        cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, cuda_of(dev)->index),
        "shared memory");
    const bool fits = slice + sizeof(struct vocab_shared) + 1024 <= (size_t)most;
    return {n * blocks, VOCAB_THREADS, fits ? slice : 0, blocks};
}

#endif
