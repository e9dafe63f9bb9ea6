// attention_decode.cu - attention of generated tokens, the context split over blocks.
// Computes: o = softmax(q k^T / sqrt(256)) v * sigmoid(gate); 16-bit operands on warp matrices, float32
// scores, softmax and sums.
// Bound by: reading K and V once (for up to 8 query heads of a KV head together).
//
// Measured, NVIDIA H200, 2026-11-24, CUDA 13.0, both kernels: a graph of launches that take turns among
// sets of pages beyond the cache, timed by events; floor at 4.2 TB/s (what a copy reaches, a kernel that
// only reads gets a little more). us, ratio to the floor:
//   heads  batch    ctx 512      ctx 2048      ctx 8192     ctx 32768     ctx 131072
//   16/4      1    9.9  20x     13    6.3     18    2.3     44   1.39      138   1.08
//   16/4      8   12   3.0      31    2.0     83    1.29   268   1.05      978   0.96
//   16/4     64   52   1.62    158    1.24   535    1.05  2004   0.98     7665   0.94
//    8/2      1    9.7  39x     12    12      15    3.8     28   1.75       76   1.18
//    8/2     64   32   1.99     87    1.36   274    1.07  1008   0.99     3838   0.94
// torch 2.11's flash backend in a run of the same hour, 16/4: 60 (8192) and 193 us (131072) at batch 1,
// 1029 (131072) at batch 8, 525 (8192) at batch 64.
//
// A block takes one token, one KV head and a run of pages; each of its warps 16 keys of every page, with
// a ring of copies and sums of its own, so that nothing in the loop waits for another warp. Scores and
// values are computed transposed (keys or dims down, heads across): 8 heads fill a product. The warps'
// sums are put together in order at the end, and the runs' by a second kernel.
// How many pages a run has follows from the token's own position alone, and so do its bits.
//
// At batch 1 it is latency, so each kernel asks for what is there before its predecessor has ended: a run's
// first page, if this step does not write it, and in the second kernel all of the partial results and the
// gate at once. With the same in attn_prep, 9B steps (`model_check perf --quick yes`, depth 2,048 and 8,192) took
// 4.752 and 4.717 ms where delta_decode's changes of the same day alone gave 4.802 and 4.768 on another card
// (without either 4.87 and 4.84 on both). The table above is older. Letting the next product in after the
// run's loads in place of at the start was 0.01 to 0.03 ms slower. NVIDIA H200, 2026-12-01.
#include <cfloat>

#include "attention.cuh"
#include "ptx.cuh"

namespace
{

constexpr int DIM = 256, HEADS = 8, WARPS = 4, THREADS = WARPS * 32;
constexpr int KEYS = PAGE_TOKENS / WARPS; // of a page, a warp's
constexpr int SLOTS = 2, SLOT_BYTES = KEYS * DIM * 2, CHUNK_BYTES = KEYS * 128;
constexpr int RUNS_MAX = 64;
constexpr int STRIDE = DIM + 4; // floats between heads in the exchange: no bank conflicts

struct shared {
    union {
        unsigned char slot[WARPS][SLOTS][SLOT_BYTES];
        float sum[WARPS][HEADS][STRIDE];
    };
    float most[WARPS][HEADS], total[WARPS][HEADS];
    uint64_t full[WARPS][SLOTS];
};

// What a run hands to the second kernel, a head: DIM sums, the largest score, the total.
constexpr int PARTIAL = DIM + 4, MOST = DIM, TOTAL = DIM + 1; // floats, a multiple of 16 bytes

__host__ __device__ inline int part_heads(const struct attention_args &a)
{
    const int group = a.heads / a.kv_heads;
    return group < HEADS ? group : HEADS;
}

// Pages of a run: few where the context is short and blocks are too few to fill the GPU.
__host__ __device__ inline int run_pages(int pages)
{
    int n = pages <= 32 ? 2 : 4;
    while (n * RUNS_MAX < pages)
        n *= 2;
    return n;
}

// The most runs that a context of up to `pages` pages can have.
int count_runs(int pages)
{
    if (pages <= 32)
        return (pages + 1) / 2;
    const int n = (pages + 3) / 4;
    return n < 16 ? 16 : n < RUNS_MAX ? n : RUNS_MAX;
}

// The token and heads of a block.
struct work {
    struct span_tile tile;
    int kv_head, head0, heads;     // query heads head0 ..; heads <= HEADS of them
    int position, pages, per, run; // per: pages of a run
    size_t row0;                   // of head0 in q and o
};

__device__ bool find_work(struct work *w, const struct attention_job &job, int run, int part,
                          int token)
{
    const int group = job.a.heads / job.a.kv_heads, parts = (group + HEADS - 1) / HEADS;
    if (!span_tile_find(&w->tile, job.a.batch, job.first, token, 1, 1))
        return false;
    w->kv_head = part / parts;
    w->head0 = w->kv_head * group + part % parts * HEADS;
    w->heads = min(HEADS, group - part % parts * HEADS);
    w->position = w->tile.span.pos0 + w->tile.row0;
    w->pages = w->position / PAGE_TOKENS + 1;
    w->per = run_pages(w->pages);
    w->run = run;
    w->row0 = (size_t)(w->tile.span.t0 + w->tile.row0) * job.a.heads + w->head0;
    return run * w->per < w->pages;
}

// A warp's sums: lane holds heads 2 (lane % 4) + {0, 1}, dims 16 i + lane / 4 + {0, 8}.
struct sums {
    float o[DIM / 16][4];
    float most[2], total[2]; // total: of the lane's keys alone
};

// A warp's 16 keys of one page of K or V into a slot; `keys` of them are written yet.
__device__ void fetch(unsigned char *slot, const unsigned char *block, uint32_t full, int keys)
{
    const int lane = threadIdx.x % 32;
    for (int i = max(keys, 0) * 8 + lane; i < KEYS * 8; i += 32) // zeros: their weights are zero
        for (int c = 0; c < DIM / KV_CHUNK; c++)
            *(uint4 *)(slot + c * CHUNK_BYTES + i * 16) = make_uint4(0, 0, 0, 0);
    if (lane == 0 && keys > 0) {
        const uint32_t bytes = min(keys, KEYS) * 128;
        mbarrier_arrive_expect_tx(full, bytes * (DIM / KV_CHUNK));
        for (int c = 0; c < DIM / KV_CHUNK; c++)
            cp_async_bulk(shared_address(slot) + c * CHUNK_BYTES, block + c * PAGE_TOKENS * 128,
                          bytes, full);
    }
    __syncwarp(); // the zeros are written before the warp's other lanes read them
}

// The warp's 16 keys by 8 heads of scores: lane holds keys lane / 4 + {0, 8}, heads 2 (lane % 4) + {0, 1}.
template <typename half_t>
__device__ void scores(float (&s)[4], const uint32_t (&q)[DIM / 16][2], uint32_t slot)
{
    const int lane = threadIdx.x % 32, row = lane % 16;
    float part[4][4] = {}; // four chains of products, that none waits for the one before
#pragma unroll
    for (int i = 0; i < DIM / 16; i++) {
        uint32_t k[4];
        const int piece = i * 2 + lane / 16;
        ldmatrix_x4(k, slot + piece / 8 * CHUNK_BYTES + row * 128 + ((piece % 8 ^ (row & 7)) << 4));
        mma_m16n8k16<half_t>(part[i % 4], k, q[i][0], q[i][1]);
    }
#pragma unroll
    for (int c = 0; c < 4; c++)
        s[c] = (part[0][c] + part[1][c]) + (part[2][c] + part[3][c]);
}

// Scores to weights, and what there is so far to the new largest score.
template <typename half_t>
__device__ void soften(uint32_t (&p)[2], struct sums &w, float (&s)[4], int keys)
{
    constexpr float SCALE = 0.0625f * 1.44269504088896f; // 256^-1/2, to base 2
    const int lane = threadIdx.x % 32;
    float scale[2];
#pragma unroll
    for (int c = 0; c < 4; c++)
        s[c] = lane / 4 + c / 2 * 8 < keys ? s[c] * SCALE : -INFINITY;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = fmaxf(w.most[h], fmaxf(s[h], s[h + 2]));
#pragma unroll
        for (int d = 4; d < 32; d *= 2)
            most = fmaxf(most, __shfl_xor_sync(~0u, most, d));
        scale[h] = ex2_approx(w.most[h] - most);
        w.most[h] = most;
        s[h] = ex2_approx(s[h] - most);
        s[h + 2] = ex2_approx(s[h + 2] - most);
        w.total[h] = w.total[h] * scale[h] + (s[h] + s[h + 2]);
    }
    p[0] = movmatrix_trans(cvt_x2<half_t>(s[0], s[1]));
    p[1] = movmatrix_trans(cvt_x2<half_t>(s[2], s[3]));
    if (__all_sync(~0u, scale[0] == 1.0f && scale[1] == 1.0f))
        return; // the same bits
#pragma unroll
    for (int i = 0; i < DIM / 16; i++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            w.o[i][c] *= scale[c % 2];
}

template <typename half_t>
__device__ void values(struct sums &w, const uint32_t (&p)[2], uint32_t slot)
{
    const int lane = threadIdx.x % 32, row = lane % 8 + lane / 16 * 8;
#pragma unroll
    for (int i = 0; i < DIM / 16; i++) {
        uint32_t v[4];
        const int piece = i * 2 + lane / 8 % 2;
        ldmatrix_x4_trans(v, slot + piece / 8 * CHUNK_BYTES + row * 128 +
                                 ((piece % 8 ^ (row & 7)) << 4));
        mma_m16n8k16<half_t>(w.o[i], v, p[0], p[1]);
    }
}

// The warp's walk over the run's pages: item 2 i is K and item 2 i + 1 V of its i-th page.
struct page_walk {
    const int *pages;     // of the run
    int n, seen;          // pages; keys at and after the warp's first of the first of them
    int ids;              // of 32 pages, one a lane
    int fetched, slot_in; // items asked for, where the next goes
    int slot;             // of the item that is next in turn
    uint32_t parity;

    __device__ void begin(const struct attention_args &a, const struct work &w)
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first = w.run * w.per;
        seen = w.position + 1 - warp * KEYS - first * PAGE_TOKENS;
        n = min(w.per, w.pages - first);
        if ((n - 1) * PAGE_TOKENS >= seen)
            n--; // nothing for this warp in the last page
        pages = a.batch.pages + (size_t)w.tile.index * a.batch.pages_max + first;
        ids = lane < n ? pages[lane] : 0;
        fetched = slot_in = slot = 0;
        parity = 0;
    }

    __device__ void fetch_next(struct shared &sh, const struct attention_args &a,
                               const struct work &w)
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, i = fetched / 2;
        if (i % 32 == 0 && i > 0 && fetched % 2 == 0)
            ids = i + lane < n ? pages[i + lane] : 0;
        const size_t at = ((size_t)__shfl_sync(~0u, ids, i % 32) * a.kv_heads + w.kv_head) *
                              PAGE_TOKENS * DIM * 2 +
                          warp * CHUNK_BYTES;
        fetch(sh.slot[warp][slot_in],
              (const unsigned char *)(fetched % 2 ? a.v_pages : a.k_pages) + at,
              shared_address(&sh.full[warp][slot_in]), seen - i * PAGE_TOKENS);
        slot_in = slot_in == SLOTS - 1 ? 0 : slot_in + 1;
        fetched++;
    }

    __device__ void fill(struct shared &sh, const struct attention_args &a, const struct work &w)
    {
        while (fetched < 2 * n && fetched < SLOTS)
            fetch_next(sh, a, w);
    }

    __device__ void release(struct shared &sh, const struct attention_args &a, const struct work &w)
    {
        if (slot == SLOTS - 1)
            parity ^= 1;
        slot = slot == SLOTS - 1 ? 0 : slot + 1;
        __syncwarp(); // every lane has read the slot that is written next
        if (fetched < 2 * n)
            fetch_next(sh, a, w);
    }

    template <typename half_t>
    __device__ void go(struct shared &sh, struct sums &sums, const struct attention_args &a,
                       const struct work &w, const uint32_t (&q)[DIM / 16][2])
    {
        const int warp = threadIdx.x / 32;
        for (int i = 0; i < n; i++) {
            float s[4];
            uint32_t p[2];
            mbarrier_wait(shared_address(&sh.full[warp][slot]), parity);
            scores<half_t>(s, q, shared_address(sh.slot[warp][slot]));
            release(sh, a, w);
            soften<half_t>(p, sums, s, seen - i * PAGE_TOKENS);
            mbarrier_wait(shared_address(&sh.full[warp][slot]), parity);
            values<half_t>(sums, p, shared_address(sh.slot[warp][slot]));
            release(sh, a, w);
        }
    }
};

template <typename half_t>
__device__ void load_q(uint32_t (&q)[DIM / 16][2], const struct attention_args &a,
                       const struct work &w)
{
    const int head = threadIdx.x % 32 / 4, dim = threadIdx.x % 4 * 2;
    const half_t *row = (const half_t *)a.q + (w.row0 + min(head, w.heads - 1)) * DIM + dim;
#pragma unroll
    for (int i = 0; i < DIM / 16; i++)
#pragma unroll
        for (int j = 0; j < 2; j++)
            q[i][j] = head < w.heads ? *(const uint32_t *)(row + i * 16 + j * 8) : 0;
}

// The warps' sums to one run's: each scaled to the largest of their largest scores, added in their order.
__device__ void exchange(struct shared &sh, struct sums &sums)
{
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = lane % 4 * 2;
    for (int h = 0; h < 2; h++) {
        for (int d = 4; d < 32; d *= 2)
            sums.total[h] += __shfl_xor_sync(~0u, sums.total[h], d);
        if (lane < 4) {
            sh.most[warp][head + h] = sums.most[h];
            sh.total[warp][head + h] = sums.total[h];
        }
    }
    __syncthreads(); // all warps' largest scores are there, and all slots are free for the sums
    float scale[2];
    for (int h = 0; h < 2; h++) {
        float most = sh.most[0][head + h];
        for (int i = 1; i < WARPS; i++)
            most = fmaxf(most, sh.most[i][head + h]);
        scale[h] = ex2_approx(sums.most[h] - most);
    }
#pragma unroll
    for (int i = 0; i < DIM / 16; i++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            sh.sum[warp][head + c % 2][i * 16 + lane / 4 + c / 2 * 8] = sums.o[i][c] * scale[c % 2];
    __syncthreads(); // all sums are there
}

template <typename half_t>
__device__ float gate_of(const struct attention_args &a, size_t row, int dim)
{
    return to_float(((const half_t *)a.qg)[(2 * row + 1) * DIM + dim]);
}

template <typename half_t>
__device__ void finish(const struct attention_args &a, size_t row, int dim, float o, float gate)
{
    ((half_t *)a.o)[row * DIM + dim] = from_float<half_t>(o * sigmoid(gate));
}

template <typename half_t>
__global__ __launch_bounds__(THREADS,
                             3) void decode(const __grid_constant__ struct attention_job job,
                                            float *partials)
{
    extern __shared__ unsigned char memory[];
    struct shared &sh = *(struct shared *)(((uintptr_t)memory + 127) & ~(uintptr_t)127);
    griddepcontrol_launch_dependents();
    struct work w;
    const bool any = find_work(&w, job, blockIdx.x, blockIdx.y, blockIdx.z);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (!any)
        return;
    if (lane == 0) {
        for (int i = 0; i < SLOTS; i++)
            mbarrier_init(shared_address(&sh.full[warp][i]), 1);
        fence_mbarrier_init();
    }
    __syncwarp(); // the warp's barriers are initialised
    struct page_walk walk;
    walk.begin(job.a, w);
    // A page that this step does not write is of a step that the host has waited for.
    if (w.run * w.per < w.tile.span.pos0 / PAGE_TOKENS)
        walk.fill(sh, job.a, w);
    griddepcontrol_wait(); // q, and the step's own keys and values, are written
    walk.fill(sh, job.a, w);
    uint32_t q[DIM / 16][2];
    struct sums sums = {};
    sums.most[0] = sums.most[1] = -FLT_MAX;
    load_q<half_t>(q, job.a, w);
    walk.go<half_t>(sh, sums, job.a, w, q);
    exchange(sh, sums);
    const size_t block = ((size_t)blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    for (int h = 0; h < w.heads; h++) {
        float *out = partials + (block * part_heads(job.a) + h) * PARTIAL;
        float most = sh.most[0][h], total = 0;
        for (int i = 1; i < WARPS; i++)
            most = fmaxf(most, sh.most[i][h]);
        for (int i = 0; i < WARPS; i++)
            total += sh.total[i][h] * ex2_approx(sh.most[i][h] - most);
        for (int dim = threadIdx.x; dim < DIM; dim += THREADS) {
            float o = 0;
            for (int i = 0; i < WARPS; i++)
                o += sh.sum[i][h][dim];
            if (w.per >= w.pages)
                finish<half_t>(job.a, w.row0 + h, dim, o / total,
                               gate_of<half_t>(job.a, w.row0 + h, dim));
            else
                out[dim] = o;
        }
        if (threadIdx.x == 0) {
            out[MOST] = most;
            out[TOTAL] = total;
        }
    }
}

// One query head of one token: its runs' sums, each scaled to the largest score, in their order inside
// four quarters, and the quarters in theirs.
template <typename half_t>
__global__ __launch_bounds__(256) void combine(const __grid_constant__ struct attention_job job,
                                               const float *partials, int runs_max)
{
    constexpr int QUARTERS = 4, EACH = RUNS_MAX / QUARTERS;
    __shared__ float scales[RUNS_MAX], totals[2];
    __shared__ float4 sum[QUARTERS][DIM / 4];
    const int group = job.a.heads / job.a.kv_heads, parts = (group + HEADS - 1) / HEADS;
    const int kv_head = blockIdx.x / group, of = blockIdx.x % group, h = of % HEADS;
    const int part = kv_head * parts + of / HEADS;
    struct work w;
    griddepcontrol_launch_dependents();
    griddepcontrol_wait(); // the partial results are written
    if (!find_work(&w, job, 0, part, blockIdx.y) || w.per >= w.pages)
        return;
    const int runs = (w.pages + w.per - 1) / w.per;
    const size_t next = (size_t)part_heads(job.a) * PARTIAL; // to the same head of the next run
    partials +=
        ((size_t)blockIdx.y * job.a.kv_heads * parts + part) * runs_max * next + h * PARTIAL;
    const size_t row = w.row0 - w.head0 + blockIdx.x;
    const int dim = threadIdx.x, quarter = dim / (DIM / 4), at = dim % (DIM / 4);
    const float gate = gate_of<half_t>(job.a, row, dim);
    float4 x[EACH]; // all asked for before the first is needed
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if (quarter * EACH + i < runs)
            x[i] = ((const float4 *)(partials + (quarter * EACH + i) * next))[at];
    if (threadIdx.x < 32) {
        const int lane = threadIdx.x;
        const float a = lane < runs ? partials[lane * next + MOST] : -INFINITY;
        const float b = lane + 32 < runs ? partials[(lane + 32) * next + MOST] : -INFINITY;
        float most = fmaxf(a, b);
        for (int d = 16; d > 0; d /= 2)
            most = fmaxf(most, __shfl_xor_sync(~0u, most, d));
        scales[lane] = lane < runs ? ex2_approx(a - most) : 0;
        scales[lane + 32] = lane + 32 < runs ? ex2_approx(b - most) : 0;
        float total = lane < runs ? scales[lane] * partials[lane * next + TOTAL] : 0;
        total += lane + 32 < runs ? scales[lane + 32] * partials[(lane + 32) * next + TOTAL] : 0;
        for (int d = 16; d > 0; d /= 2)
            total += __shfl_xor_sync(~0u, total, d);
        totals[0] = total;
    }
    __syncthreads(); // scales and total are there
    float4 o = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int run = quarter * EACH + i;
        if (run < runs) {
            o.x += scales[run] * x[i].x;
            o.y += scales[run] * x[i].y;
            o.z += scales[run] * x[i].z;
            o.w += scales[run] * x[i].w;
        }
    }
    sum[quarter][at] = o;
    __syncthreads(); // the quarters are there
    const float *all = (const float *)sum;
    const float sums = (all[dim] + all[DIM + dim]) + (all[2 * DIM + dim] + all[3 * DIM + dim]);
    finish<half_t>(job.a, row, dim, sums / totals[0], gate);
}

} // namespace

void attention_decode(struct dev *dev, const struct attention_job *job)
{
    constexpr int BYTES = sizeof(struct shared) + 128;
    const struct attention_args *a = &job->a;
    const int parts = a->kv_heads * blocks_for(a->heads / a->kv_heads, HEADS);
    const int runs_max = count_runs(a->batch.pages_max);
    float *partials = (float *)cuda_scratch(dev, CUDA_SLOT_ATTENTION,
                                            (size_t)job->tiles * parts * runs_max * part_heads(*a) *
                                                PARTIAL * sizeof(float));
    if (!partials)
        return;
    const dim3 grid(runs_max, parts, job->tiles);
    HALF_SWITCH(dev, cuda_launch(dev, "attention, decode", {grid, THREADS, BYTES}, decode<half_t>,
                                 *job, partials));
    if (runs_max > 1)
        HALF_SWITCH(dev, cuda_launch(dev, "attention, combine", {dim3(a->heads, job->tiles), 256},
                                     combine<half_t>, *job, partials, runs_max));
}
