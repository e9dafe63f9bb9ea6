// attention_prefill.cu - causal attention of prompt tokens over paged K and V, on warpgroup matrices.
// Computes: o = softmax(q k^T / sqrt(256)) v * sigmoid(gate); 16-bit operands, float32 scores, softmax and
// sums.
// Bound by: the matrix units (4 * 256 flops a query row and key).
//
// Measured, NVIDIA H200, 2026-11-24, CUDA 13.0: a graph of launches over scattered pages, timed by events;
// flops of keys that are seen; floor at 790 TFLOP/s (cuBLAS); beside it torch 2.11's
// scaled_dot_product_attention in the same call, its cuDNN and its flash backend, contiguous K and V.
//   heads  prompt         us  TFLOP/s  ratio   cuDNN us  flash us
//   16/4     2048         97      356   2.22        151       218
//   16/4     8192        888      619   1.28        962      1973
//   16/4    32768      12016      732   1.08      11974     27220
//   16/4   131072     207443      678   1.16     244906    534822
//    8/2     2048         68      255   3.10         99       200
//    8/2     8192        455      605   1.31        545      1154
//    8/2    32768       5857      751   1.05       6121     13928
// 2048 more tokens after 30720: 1424 us, 748 TFLOP/s. A block costs about 15 us besides its pages.
// Three calls within the hour differed by up to 10 % (the chip's power limit; the short ones, launches).
//
// A block takes 128 (token, query head) rows of one KV head, so that K and V are read once for the heads
// that share them, and walks over the pages from position 0. One warp copies pages into a ring in shared
// memory; two warpgroups of 64 rows each compute. While the matrix units do O += P V of one page and
// S = Q K^T of the next, the warpgroup (and the other one, by turns) does the softmax.
// A row's bits depend on its own keys alone: the order of pages is that of positions, a page without
// keys for a row multiplies by one and adds zeros, and a row of a product does not depend on the others.
#include "attention.cuh"
#include "ptx.cuh"

namespace
{

constexpr int DIM = 256, KEYS = PAGE_TOKENS, ROWS = PREFILL_ROWS, STAGES = 2;
constexpr int THREADS = 384; // a producer warpgroup, then two of consumers
constexpr uint32_t BLOCK_BYTES = KEYS * DIM * 2, K_CHUNK = KEYS * 128, Q_CHUNK = ROWS * 128;

struct shared {
    alignas(1024) unsigned char q[ROWS * DIM * 2];
    unsigned char k[STAGES][BLOCK_BYTES], v[STAGES][BLOCK_BYTES];
    uint64_t k_full[STAGES], k_empty[STAGES], v_full[STAGES], v_empty[STAGES];
};

// What the block works on.
struct work {
    struct span_tile tile;
    int kv_head, group; // group: query heads of a KV head
    int pages;          // to look at
};

__device__ bool find_work(struct work *w, const struct attention_job &job)
{
    const int u = job.by_head ? blockIdx.x % job.tiles : blockIdx.x / job.a.kv_heads;
    w->kv_head = job.by_head ? blockIdx.x / job.tiles : blockIdx.x % job.a.kv_heads;
    w->group = job.a.heads / job.a.kv_heads;
    if (!span_tile_find(&w->tile, job.a.batch, job.first, u, w->group, ROWS))
        return false;
    const int rows = w->tile.span.t * w->group - w->tile.row0;
    const int last = (w->tile.row0 + (rows < ROWS ? rows : ROWS) - 1) / w->group;
    w->pages = (w->tile.span.pos0 + last) / KEYS + 1;
    return true;
}

// One block of a page into a stage, by a warp. Rows that nothing was written to become zeros: they are
// multiplied by the zero weights of keys that may not be seen.
__device__ void load_block(unsigned char *stage, const unsigned char *src, uint32_t full, int rows)
{
    const int lane = threadIdx.x % 32;
    if (rows >= KEYS) {
        if (lane == 0) {
            mbarrier_arrive_expect_tx(full, BLOCK_BYTES);
            cp_async_bulk(shared_address(stage), src, BLOCK_BYTES, full);
        }
        return;
    }
#pragma unroll 1
    for (int c = 0; c < DIM / KV_CHUNK; c++)
#pragma unroll 1
        for (int i = rows * 8 + lane; i < KEYS * 8; i += 32)
            ((uint4 *)(stage + c * K_CHUNK))[i] = make_uint4(0, 0, 0, 0);
    fence_proxy_async_shared();
    __syncwarp(); // every lane's zeros are written and fenced before lane 0 hands the stage over
    if (lane == 0) {
        mbarrier_arrive_expect_tx(full, rows * 128 * (DIM / KV_CHUNK));
#pragma unroll 1
        for (int c = 0; c < DIM / KV_CHUNK; c++)
            cp_async_bulk(shared_address(stage) + c * K_CHUNK, src + c * K_CHUNK, rows * 128, full);
    }
}

// The warp that copies: K of page j goes before V of page j - 1, as they are used.
__device__ void produce(struct shared &sh, const struct attention_args &a, const struct work &w)
{
    const int lane = threadIdx.x % 32, written = w.tile.span.pos0 + w.tile.span.t;
    const int *pages = a.batch.pages + (size_t)w.tile.index * a.batch.pages_max;
    int ids = 0;       // 32 page numbers, one a lane
    size_t before = 0; // where the last page's block lies
#pragma unroll 1
    for (int j = 0; j <= w.pages; j++) {
        if (j % 32 == 0)
            ids = j + lane < w.pages ? pages[j + lane] : 0;
        const int page = __shfl_sync(~0u, ids, j % 32), s = j % STAGES, t = (j - 1) % STAGES;
        const size_t at = ((size_t)page * a.kv_heads + w.kv_head) * BLOCK_BYTES;
        if (j < w.pages) {
            mbarrier_wait(shared_address(&sh.k_empty[s]), (j / STAGES & 1) ^ 1);
            load_block(sh.k[s], (const unsigned char *)a.k_pages + at,
                       shared_address(&sh.k_full[s]), written - j * KEYS);
        }
        if (j > 0) {
            mbarrier_wait(shared_address(&sh.v_empty[t]), ((j - 1) / STAGES & 1) ^ 1);
            load_block(sh.v[t], (const unsigned char *)a.v_pages + before,
                       shared_address(&sh.v_full[t]), written - (j - 1) * KEYS);
        }
        before = at;
    }
}

// The warpgroup's 64 rows of Q into shared memory; zeros past the span.
__device__ void load_q(struct shared &sh, const struct attention_args &a, const struct work &w,
                       int wg)
{
    const int end = w.tile.span.t * w.group;
#pragma unroll 8
    for (int i = threadIdx.x % 128; i < 64 * DIM / 8; i += 128) {
        const int r = wg * 64 + i / (DIM / 8), piece = i % (DIM / 8), row = w.tile.row0 + r;
        uint4 x = make_uint4(0, 0, 0, 0);
        if (row < end) {
            const size_t token = w.tile.span.t0 + row / w.group;
            const size_t head = (size_t)w.kv_head * w.group + row % w.group;
            x = ((const uint4 *)((const uint16_t *)a.q + (token * a.heads + head) * DIM))[piece];
        }
        *(uint4 *)(sh.q + piece / 8 * Q_CHUNK + r * 128 + ((piece % 8 ^ (r & 7)) << 4)) = x;
    }
    fence_proxy_async_shared();
    bar_sync(1 + wg, 128); // Q is written before the warpgroup's products read it
}

// S = Q K^T of a stage; enqueued.
template <typename half_t>
__device__ __forceinline__ void scores(float (&s)[32], uint64_t q, uint64_t k)
{
#pragma unroll
    for (int i = 0; i < DIM / 16; i++)
        wgmma_m64n64k16<half_t>(s, q + (i / 4 * Q_CHUNK + i % 4 * 32) / 16,
                                k + (i / 4 * K_CHUNK + i % 4 * 32) / 16, i > 0);
    wgmma_commit_group();
}

// O += P V of a stage; enqueued.
template <typename half_t>
__device__ __forceinline__ void values(float (&o)[128], const uint32_t (&p)[4][4], uint64_t v,
                                       int keep)
{
#pragma unroll
    for (int i = 0; i < KEYS / 16; i++)
        wgmma_m64n256k16_rs_trans<half_t>(o, p[i], v + i * 2048 / 16, keep | i);
    wgmma_commit_group();
}

// A thread's two rows of the tile: lane / 4 and that + 8 of its warp's 16.
struct rows2 {
    float most[2], total[2]; // total: of this thread's columns alone
    int position[2];
};

// Scores to weights in place; returns what the sums so far have to be multiplied by.
__device__ __forceinline__ float2 soften(float (&s)[32], struct rows2 &r, int first_key, bool mask)
{
    constexpr float SCALE = 0.0625f * 1.44269504088896f; // 256^-1/2, to base 2
    float scale[2];
    if (mask) {
#pragma unroll
        for (int i = 0; i < 32; i++)
            if (first_key + i / 4 * 8 + (int)(threadIdx.x % 4) * 2 + i % 2 > r.position[i / 2 % 2])
                s[i] = -INFINITY;
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = r.most[h];
#pragma unroll
        for (int i = 0; i < 8; i++)
            most = fmaxf(most, fmaxf(s[i * 4 + 2 * h], s[i * 4 + 2 * h + 1]));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        scale[h] = ex2_approx((r.most[h] - most) * SCALE);
        r.most[h] = most;
        const float offset = most * SCALE;
        float sum = 0;
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int c = 2 * h; c < 2 * h + 2; c++) {
                s[i * 4 + c] = ex2_approx(fmaf(s[i * 4 + c], SCALE, -offset));
                sum += s[i * 4 + c];
            }
        r.total[h] = r.total[h] * scale[h] + sum;
    }
    return make_float2(scale[0], scale[1]);
}

template <typename half_t>
__device__ __forceinline__ void pack(uint32_t (&p)[4][4], const float (&s)[32])
{
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            p[i][j] = cvt_x2<half_t>(s[i * 8 + j * 2], s[i * 8 + j * 2 + 1]);
}

__device__ __forceinline__ void rescale(float (&o)[128], float2 scale)
{
    if (__all_sync(~0u, scale.x == 1.0f && scale.y == 1.0f))
        return; // the same bits
#pragma unroll
    for (int i = 0; i < 128; i++)
        o[i] *= i / 2 % 2 ? scale.y : scale.x;
}

// Sums through shared memory, where Q and the ring were, and out in whole rows. The part that is unrolled
// over registers is kept short: it runs once a block, and out of a cold instruction cache.
template <typename half_t>
__device__ __forceinline__ void store(struct shared &sh, const float (&o)[128],
                                      const struct rows2 &r, const struct attention_args &a,
                                      const struct work &w, int wg)
{
    constexpr int STRIDE = DIM + 8; // floats between rows: no bank conflicts
    const int lane = threadIdx.x % 32, thread = threadIdx.x % 128;
    float *rows = (float *)&sh + wg * 64 * STRIDE;
    float *own = rows + (thread / 32 * 16 + lane / 4) * STRIDE + lane % 4 * 2;
    float inverse[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float total = r.total[h];
        total += __shfl_xor_sync(~0u, total, 1);
        total += __shfl_xor_sync(~0u, total, 2);
        inverse[h] = 1.0f / total;
    }
    bar_sync(5, 256); // both warpgroups are done with Q and the ring
#pragma unroll
    for (int i = 0; i < 64; i++)
        *(float2 *)(own + i % 2 * 8 * STRIDE + i / 2 * 8) =
            make_float2(o[i * 2] * inverse[i % 2], o[i * 2 + 1] * inverse[i % 2]);
    bar_sync(1 + wg, 128); // the warpgroup's rows are there
    const int end = w.tile.span.t * w.group, piece = thread % 32 * 8;
#pragma unroll 4
    for (int i = thread / 32; i < 64; i += 4) {
        const int row = w.tile.row0 + wg * 64 + i;
        if (row >= end)
            continue;
        const size_t token = w.tile.span.t0 + row / w.group;
        const size_t at = token * a.heads + (size_t)w.kv_head * w.group + row % w.group;
        const uint4 gates = *(const uint4 *)((const half_t *)a.qg + (2 * at + 1) * DIM + piece);
        const uint32_t gate[4] = {gates.x, gates.y, gates.z, gates.w};
        uint32_t y[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float2 x = *(const float2 *)(rows + i * STRIDE + piece + j * 2);
            const float2 g = widen_x2<half_t>(gate[j]);
            y[j] = cvt_x2<half_t>(x.x * sigmoid(g.x), x.y * sigmoid(g.y));
        }
        *(uint4 *)((half_t *)a.o + at * DIM + piece) = make_uint4(y[0], y[1], y[2], y[3]);
    }
}

template <typename half_t>
__device__ __forceinline__ void consume(struct shared &sh, const struct attention_args &a,
                                        const struct work &w, int wg)
{
    const int lane = threadIdx.x % 32,
              row_in_tile = wg * 64 + threadIdx.x % 128 / 32 * 16 + lane / 4;
    const int first_position = w.tile.span.pos0 + w.tile.row0 / w.group;
    // Descriptors, of which the low bits are addresses in units of 16 bytes.
    const uint64_t q = wgmma_descriptor(shared_address(sh.q) + wg * 64 * 128, 16);
    const uint64_t k0 = wgmma_descriptor(shared_address(sh.k[0]), 16);
    const uint64_t v0 = wgmma_descriptor(shared_address(sh.v[0]), K_CHUNK);
    float s[32], o[128];
    uint32_t p[4][4];
    struct rows2 r;
    for (int h = 0; h < 2; h++) {
        r.most[h] = -INFINITY;
        r.total[h] = 0;
        r.position[h] = w.tile.span.pos0 + (w.tile.row0 + row_in_tile + 8 * h) / w.group;
    }
    load_q(sh, a, w, wg);
    if (wg == 1)
        bar_arrive(3, 256); // the first warpgroup has the first turn
    mbarrier_wait(shared_address(&sh.k_full[0]), 0);
    bar_sync(3 + wg, 256); // this warpgroup's turn at the matrix units
    wgmma_fence();
    scores<half_t>(s, q, k0);
    bar_arrive(4 - wg, 256);
    wgmma_wait_group<0>();
    if (lane == 0)
        mbarrier_arrive(shared_address(&sh.k_empty[0]));
    soften(s, r, 0, KEYS - 1 > first_position);
    pack<half_t>(p, s);
    for (int j = 1; j < w.pages; j++) {
        const int k = j % STAGES, v = (j - 1) % STAGES;
        mbarrier_wait(shared_address(&sh.k_full[k]), j / STAGES & 1);
        bar_sync(3 + wg, 256); // this warpgroup's turn
        wgmma_fence();
        scores<half_t>(s, q, k0 + k * (BLOCK_BYTES / 16));
        mbarrier_wait(shared_address(&sh.v_full[v]), (j - 1) / STAGES & 1);
        values<half_t>(o, p, v0 + v * (BLOCK_BYTES / 16), j > 1);
        bar_arrive(4 - wg, 256);
        wgmma_wait_group<1>(); // the scores
        if (lane == 0)
            mbarrier_arrive(shared_address(&sh.k_empty[k]));
        const float2 scale = soften(s, r, j * KEYS, j * KEYS + KEYS - 1 > first_position);
        wgmma_wait_group<0>(); // the values
        if (lane == 0)
            mbarrier_arrive(shared_address(&sh.v_empty[v]));
        rescale(o, scale);
        pack<half_t>(p, s);
    }
    if (wg == 0)
        bar_sync(3, 256); // takes the other's last turn back
    const int last = w.pages - 1;
    mbarrier_wait(shared_address(&sh.v_full[last % STAGES]), last / STAGES & 1);
    wgmma_fence();
    values<half_t>(o, p, v0 + last % STAGES * (BLOCK_BYTES / 16), w.pages > 1);
    wgmma_wait_group<0>();
    store<half_t>(sh, o, r, a, w, wg);
}

template <typename half_t>
__global__ __launch_bounds__(THREADS,
                             1) void prefill(const __grid_constant__ struct attention_job job)
{
    extern __shared__ unsigned char memory[];
    struct shared &sh = *(struct shared *)(((uintptr_t)memory + 1023) & ~(uintptr_t)1023);
    struct work w;
    if (!find_work(&w, job))
        return;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            mbarrier_init(shared_address(&sh.k_full[i]), 1);
            mbarrier_init(shared_address(&sh.v_full[i]), 1);
            mbarrier_init(shared_address(&sh.k_empty[i]), 8); // the consumers' warps
            mbarrier_init(shared_address(&sh.v_empty[i]), 8);
        }
        fence_mbarrier_init();
    }
    __syncthreads();                                       // the barriers are initialised
    const int wg = __shfl_sync(~0u, threadIdx.x / 128, 0); // known to be one value a warp
    if (wg == 0) {
        setmaxnreg_dec<40>();
        if (threadIdx.x < 32)
            produce(sh, job.a, w);
    } else {
        setmaxnreg_inc<232>();
        consume<half_t>(sh, job.a, w, wg - 1);
    }
}

} // namespace

template <typename half_t> static void launch(struct dev *dev, const struct attention_job *job)
{
    constexpr int BYTES = sizeof(struct shared) + 1024;
    if (!cuda_ok(dev,
                 cudaFuncSetAttribute(prefill<half_t>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      BYTES),
                 "attention: shared memory"))
        return;
    prefill<half_t><<<job->tiles * job->a.kv_heads, THREADS, BYTES, cuda_of(dev)->stream>>>(*job);
    LAUNCHED(dev, "attention, prefill");
}

void attention_prefill(struct dev *dev, const struct attention_job *job)
{
    HALF_SWITCH(dev, launch<half_t>(dev, job));
}
