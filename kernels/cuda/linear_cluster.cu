// linear_cluster.cu - y = x W^T for up to 64 rows of x on sm_90a, by wgmma: the bits of linear_few.cu.
// Bound by: the bytes of W. What 64 rows lose over 16 in a short product is at its start and end, it seems: x
// is 64 KB a block then, and no block of the next launch fits beside it.
//
// A cluster of eight blocks takes a tile of 64 rows of W at a time, each block one run of k (linear_rows.cuh). So a
// block keeps its run of x in shared memory and nothing but W streams. Two warpgroups take tiles by turns: for each
// a thread orders boxes of 64 rows x 128 bytes into a ring, the warpgroup multiplies them with x and sends the run's
// sums through the cluster, eight rows of W to each block, which adds the runs in their order and writes y. Where k
// has more than eight runs, each eight of them are a phase, and what they make of a tile an item by itself; a second
// kernel adds the phases. A cluster has a range of items, the phases one after another, so that x is seldom loaded
// again.
//
// Why the bits are those of linear_few.cu: there a value is a chain of mma.sync of 16 values of k each (int8: 32),
// here one of wgmma over the same sets of 16 in the same order. That a set's sum is the same in both, and does not
// depend on the order within the set, was measured: m64n64k16 beside m16n8k16, bf16, 6 times 4,096 chains of 32
// products, normal values and such of 30 binary orders, none different; with sets of other 16 values two of three
// are. (f16: by ops_check and model_check, whose rows are the same bits alone and in company.) The
// sets are set by how linear_few.cu reads shared memory: word i of each 16 bytes of a block of 64 goes to product
// i / 2. W goes through registers for that, x is written into shared memory that way.
//
// Rows 8 i .. of a box stand in a warp's fragment in the order of row_of, so that eight lanes read all banks of the
// swizzled box.
//
// Measured, NVIDIA H200, 2026-12-01, `ops_check perf linear --device cuda --act bf16`, 8, 16 and 64 rows, us (floor
// at 8 and 64 rows; what linear_wide.cu took that day): 9B gate and up 50, 50, 56 (48, 49; 61, 67, 93), down 30, 30,
// 35 (24, 24; 34, 34, 42), in_proj 28, 27, 33 (24, 24; 35, 36, 44), out_proj 12, 13, 18 (8, 8; 13, 13, 19), lm_head
// 479, 483, 551 (486, 500; 657, 698, 987). int8: gate and up 31, 32, 39 (24, 25; 38, 41, 67), down 22, 23, 30 (12,
// 13; 26, 26, 33), in_proj 20, 22, 26 (12, 13; 22, 23, 32), out_proj 11, 12, 18 (4, 4; 11, 12, 17).
// A step, `model_check perf --quick yes`, depth 2,048, batch 8 and 64, ms: 9B bf16 5.0 and 8.2 (before 5.7
// and 10.6), 27B 16.1 and 28.3 (18.0, 33.4), 4B 3.15 and 6.5 (3.5, 8.2), 2B 1.59 and 3.2 (1.74, 3.9), 0.8B int8 1.27
// and 2.75 (1.26, 3.2). cuBLASLt takes 53, 59, 27, 12, 508 for 64 rows, in an order of sums that one row does not
// have.
//
// Tried: one warpgroup (64 rows: gate and up 64, lm_head 588); all of shared memory for 16 rows, so that no block of
// the next launch is there before the end (gate and up 51.7 for 50.3, in_proj 28.8 for 27.6); a cluster doing all
// phases of its tiles, x loaded each time (down at 64 rows 45, int8 35); a block's own sums stored, not sent to itself
// (no different); SwiGLU's product where gate's and up's sums are folded, a launch less a layer (9B steps in turns,
// batch 8 and 64: bf16 5.03 for 5.00 and 8.20 for 8.24 ms, int8 4.16 for 3.93 and 7.90 for 7.63). Two more in one
// build that failed 2 of linear's 708 checks, why was not looked for, and were no faster at 64 rows: reading a line,
// and giving its box back, while the one before is multiplied; clusters of four for int8. A box goes back after its
// products here, for until then nothing says that it has been read.
#include "linear_source.cuh"
#include "pack.cuh"

namespace
{
constexpr int RANKS = PHASE_RUNS, ROWS = 64; // blocks of a cluster, rows of W in a tile
// Blocks of a run of int8, at most: its sums are exact, so k may be cut otherwise than elsewhere.
constexpr int RUN_INT8 = 24;
constexpr int LINE = 2 * BLOCK, BOX = ROWS * LINE;
constexpr int GROUPS = 2, CONSUMERS = 128 * GROUPS;
constexpr int PRODUCERS = CONSUMERS / 32, FOLDERS = PRODUCERS + GROUPS; // their first warps
constexpr int STAGES_MAX = 12, STAGES_MIN = 3;                          // of a group's ring
// Of shared memory; for few rows half, so that the next product's blocks come in beside this one's.
constexpr int SHARED_MOST = 224 << 10, SHARED_HALF = 112 << 10;
constexpr size_t PART_MOST = 128 << 20; // bytes of the phases' sums

struct cluster_args {
    struct rows_args a;      // tile0, tiles: of 64 rows
    struct rows_order order; // in RANKS * phases runs
    int phases, stages;
    void *part; // of several phases: [phases, tiles, RANKS, threads that fold] of four sums
};

struct cluster_maps {
    CUtensorMap of[LINEAR_MAX];
};

// Of a group: its ring, and the buffer that the runs' sums of its tiles come to.
struct barriers {
    uint64_t full[STAGES_MAX], empty[STAGES_MAX];
    uint64_t sums_full, sums_empty;
};

// What the block takes: a run of each phase, items begin .. end - 1; groups take those by turns.
struct place {
    int rank, begin, end;
};

__device__ __forceinline__ place place_of(const struct cluster_args &c)
{
    const int cluster = blockIdx.x / RANKS, clusters = gridDim.x / RANKS;
    const long items = (long)c.phases * c.a.tiles;
    return {(int)cluster_ctarank(), (int)(items * cluster / clusters),
            (int)(items * (cluster + 1) / clusters)};
}

// The block's run of a phase.
struct span {
    int begin, end; // blocks
};

__device__ __forceinline__ span run_of(const struct cluster_args &c, const struct place &at,
                                       int phase)
{
    const int run = phase * RANKS + at.rank;
    return {run_begin(c.order, run), run_begin(c.order, run + 1)};
}

// Bytes of sums that a block sends to another.
template <int N> constexpr int SUMS = 4 * N *(ROWS / RANKS);

// A stage of several that come by turns, and the parity of its barriers.
struct turn {
    int i, parity;

    __device__ void next(int n)
    {
        i = i + 1 == n ? 0 : i + 1;
        parity ^= i == 0;
    }
};

__device__ void produce(const struct cluster_maps &maps, char *ring, struct barriers &b, int group,
                        const struct cluster_args &c, const struct place &at)
{
    const uint64_t policy = createpolicy_evict_first();
    struct turn s = {0, 1};
    for (int n = at.begin + group; n < at.end; n += GROUPS) {
        const int tile = n % c.a.tiles, i = matrix_index(c.a, tile);
        const int row = (tile - c.a.m[i].tile0) * ROWS;
        const struct span run = run_of(c, at, n / c.a.tiles);
        for (int block = run.begin; block < run.end; block += 2) {
            const uint32_t full = shared_address(&b.full[s.i]);
            mbarrier_wait(shared_address(&b.empty[s.i]), s.parity);
            mbarrier_arrive_expect_tx(full, BOX);
            cp_async_bulk_tensor_3d_hint(shared_address(ring + s.i * BOX), &maps.of[i],
                                         {0, row, block / 2}, full, policy);
            s.next(c.stages);
        }
    }
}

// Of 16 rows of a box, where in it row g or g + 8 of a warp's fragment is: see above.
__device__ __forceinline__ int row_of(int g)
{
    return (g & 1) << 2 | g >> 1;
}

// The run's blocks of the rows of x, zero beyond the last row and the end of k. Word w of each of a block's
// four pieces of 16 bytes goes to its column w, a column being N rows of 16 bytes.
template <int N>
__device__ void load_x(char *to, const struct rows_args &a, int size, const struct span &run)
{
#pragma unroll 4
    for (int i = threadIdx.x; i < N * (run.end - run.begin); i += CONSUMERS) {
        const int t = i % N, block = i / N;
        const char *from = (const char *)a.x + (size_t)t * size + (run.begin + block) * BLOCK;
        uint4 v[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            v[j] = {};
            if (t < a.t && (run.begin + block) * BLOCK + j * 16 < size)
                v[j] = ((const uint4 *)from)[j];
        }
        uint4 *column = (uint4 *)to + block * 4 * N + t;
        column[0] = {v[0].x, v[1].x, v[2].x, v[3].x};
        column[N] = {v[0].y, v[1].y, v[2].y, v[3].y};
        column[2 * N] = {v[0].z, v[1].z, v[2].z, v[3].z};
        column[3 * N] = {v[0].w, v[1].w, v[2].w, v[3].w};
    }
}

template <typename w_t>
__device__ __forceinline__ void wgmma(sum_of<w_t> (&d)[8], const uint32_t *a, uint64_t b)
{
    if constexpr (std::is_same_v<w_t, int8_t>)
        wgmma_m64n16k32_s8_rs(d, a, b);
    else
        wgmma_m64n16k16_rs<w_t>(d, a, b);
}
template <typename w_t>
__device__ __forceinline__ void wgmma(sum_of<w_t> (&d)[16], const uint32_t *a, uint64_t b)
{
    if constexpr (std::is_same_v<w_t, int8_t>)
        wgmma_m64n32k32_s8_rs(d, a, b);
    else
        wgmma_m64n32k16_rs<w_t>(d, a, b);
}
template <typename w_t>
__device__ __forceinline__ void wgmma(sum_of<w_t> (&d)[32], const uint32_t *a, uint64_t b)
{
    if constexpr (std::is_same_v<w_t, int8_t>)
        wgmma_m64n64k32_s8_rs(d, a, b);
    else
        wgmma_m64n64k16_rs<w_t>(d, a, b, 1);
}

// The warpgroup's sums of `lines` lines of a tile, from the ring against x.
template <typename w_t, int N>
__device__ __forceinline__ void multiply(sum_of<w_t> (&sum)[N / 2], const char *ring,
                                         struct barriers &b, struct turn &s, int stages, uint64_t x,
                                         int lines)
{
    const int lane = threadIdx.x % 32, row = row_of(lane / 4);
    const int low = (threadIdx.x % 128 / 32 * 16 + row) * (LINE / 16), high = low + 8 * (LINE / 16);
    for (int line = 0; line < lines; line++) {
        const uint4 *box = (const uint4 *)(ring + s.i * BOX);
        uint4 w[2][2];
        mbarrier_wait(shared_address(&b.full[s.i]), s.parity);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int piece = (i * 4 + lane % 4) ^ row;
            w[i][0] = box[low + piece];
            w[i][1] = box[high + piece];
        }
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const uint32_t first[4] = {w[i][0].x, w[i][1].x, w[i][0].y, w[i][1].y};
            const uint32_t second[4] = {w[i][0].z, w[i][1].z, w[i][0].w, w[i][1].w};
            wgmma<w_t>(sum, first, x);
            wgmma<w_t>(sum, second, x + 2 * N); // two columns on
            x += 4 * N;
        }
        wgmma_commit_group();
        wgmma_wait_group<0>();
        if (lane == 0)
            mbarrier_arrive(shared_address(&b.empty[s.i]));
        s.next(stages);
    }
}

// A run's sums to the blocks that fold them: rows 16 w .. 16 w + 7 of warp w to block 2 w, those after to the next.
template <typename sum_t, int N>
__device__ __forceinline__ void send(const sum_t (&sum)[N / 2], const char *sums, uint64_t *full,
                                     int rank)
{
    const int warp = threadIdx.x % 128 / 32, lane = threadIdx.x % 32;
    const uint32_t at = shared_address(sums + rank * SUMS<N>) + lane * (int)sizeof(uint4);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint32_t to = mapa_shared(at, 2 * warp + half);
        const uint32_t barrier = mapa_shared(shared_address(full), 2 * warp + half);
#pragma unroll
        for (int j = 0; j < N / 16; j++) {
            const sum_t four[4] = {sum[8 * j + 2 * half], sum[8 * j + 2 * half + 1],
                                   sum[8 * j + 4 + 2 * half], sum[8 * j + 4 + 2 * half + 1]};
            uint4 v;
            memcpy(&v, four, sizeof v);
            st_async_v4(to + j * 32 * (int)sizeof v, v, barrier);
        }
    }
}

template <typename w_t, int N>
__device__ void consume(const char *ring, char *sums, char *x, struct barriers &b,
                        const struct cluster_args &c, const struct place &at)
{
    const uint64_t x_at = wgmma_descriptor_plain(shared_address(x), 16 * N, 128);
    const int size = row_bytes(c.a.k, std::is_same_v<w_t, int8_t>);
    const int tiles = c.a.tiles;
    struct turn s = {0, 0};
    int n = at.begin + threadIdx.x / 128, parity = 1;
    griddepcontrol_wait();
    for (int phase = at.begin / tiles; phase * tiles < at.end; phase++) {
        const struct span run = run_of(c, at, phase);
        bar_sync(1, CONSUMERS); // all have multiplied with the x before
        load_x<N>(x, c.a, size, run);
        fence_proxy_async_shared();
        bar_sync(1, CONSUMERS); // x is there
        for (; n < min((phase + 1) * tiles, at.end); n += GROUPS, parity ^= 1) {
            sum_of<w_t> sum[N / 2] = {};
            multiply<w_t, N>(sum, ring, b, s, c.stages, x_at, (run.end - run.begin + 1) / 2);
            mbarrier_wait(shared_address(&b.sums_empty), parity);
            send<sum_of<w_t>, N>(sum, sums, &b.sums_full, at.rank);
        }
    }
}

// Four values each of eight runs or some phases, `next` apart, in their order.
template <typename sum_t>
__device__ __forceinline__ void fold(sum_t (&sum)[4], const uint4 *sums, size_t next, int n)
{
#pragma unroll 8
    for (int i = 0; i < n; i++) {
        const uint4 raw = sums[i * next];
        sum_t v[4];
        memcpy(v, &raw, sizeof v);
#pragma unroll
        for (int j = 0; j < 4; j++)
            sum[j] = i ? sum[j] + v[j] : v[j];
    }
}

// Those four of y: of a row of tile `tile`'s slice `slice`, as a thread of those that fold has them.
template <typename sum_t>
__device__ __forceinline__ void write(const sum_t (&sum)[4], const struct rows_args &a, int tile,
                                      int slice, int thread)
{
    const struct rows_matrix &m = matrix_of(a, tile);
    const int t0 = thread / 32 * 16 + thread % 4 * 2;
    const int row = (tile - m.tile0) * ROWS + slice * 8 + row_of(thread % 32 / 4);
    if (row >= m.rows)
        return;
    const float scale = m.int8 ? m.scale[row] : 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int t = t0 + i / 2 * 8 + i % 2;
        if (t < a.t)
            store_y(a, m, t, row, m.int8 ? (float)sum[i] * (a.x_scale[t] * scale) : (float)sum[i]);
    }
}

// Folds eight rows of every tile, four values a thread.
template <typename sum_t, int N>
__device__ void fold_all(const char *sums, struct barriers *groups, const struct cluster_args &c,
                         const struct place &at)
{
    constexpr int EACH = N / 16 * 32; // threads
    const int lane = threadIdx.x % 32, thread = threadIdx.x - 32 * FOLDERS;
    if (thread < GROUPS)
        mbarrier_arrive_expect_tx(shared_address(&groups[thread].sums_full), RANKS * SUMS<N>);
    griddepcontrol_wait();
    for (int n = at.begin; n < at.end; n++) {
        const int turn = n - at.begin, group = turn % GROUPS;
        const bool again = n + GROUPS < at.end;
        struct barriers &b = groups[group];
        sum_t sum[4];
        mbarrier_wait(shared_address(&b.sums_full), turn / GROUPS % 2);
        if (thread == 0 && again)
            mbarrier_arrive_expect_tx(shared_address(&b.sums_full), RANKS * SUMS<N>);
        fold(sum, (const uint4 *)(sums + group * RANKS * SUMS<N>)+thread, EACH, RANKS);
        __syncwarp(); // the warp has read them
        if (lane < RANKS && again)
            mbarrier_arrive_cluster(shared_address(&b.sums_empty), lane);
        if (c.phases == 1) {
            write(sum, c.a, n, at.rank, thread);
        } else {
            uint4 raw;
            memcpy(&raw, sum, sizeof raw);
            ((uint4 *)c.part)[((size_t)n * RANKS + at.rank) * EACH + thread] = raw;
        }
    }
}

template <int N> constexpr int THREADS = 32 * (FOLDERS + N / 16);

template <int N> __device__ void init(struct barriers &b, int stages)
{
    for (int i = 0; i < stages; i++) {
        mbarrier_init(shared_address(&b.full[i]), 1);
        mbarrier_init(shared_address(&b.empty[i]), 4);
    }
    mbarrier_init(shared_address(&b.sums_full), 1);
    mbarrier_init(shared_address(&b.sums_empty), RANKS * (N / 16));
    fence_mbarrier_init();
}

template <typename w_t, int N>
__global__ void __launch_bounds__(THREADS<N>, 1)
    cluster_product(const __grid_constant__ struct cluster_args c,
                    const __grid_constant__ struct cluster_maps maps)
{
    extern __shared__ __align__(1024) char shared[];
    __shared__ struct barriers b[GROUPS];
    char *sums = shared + GROUPS * c.stages * BOX, *x = sums + GROUPS * RANKS * SUMS<N>;
    const int warp = threadIdx.x / 32;
    const struct place at = place_of(c);
    if (threadIdx.x < GROUPS)
        init<N>(b[threadIdx.x], c.stages);
    __syncwarp();
    griddepcontrol_launch_dependents();
    barrier_cluster_arrive_relaxed();
    barrier_cluster_wait(); // all blocks' barriers are there
    if (warp >= FOLDERS) {
        fold_all<sum_of<w_t>, N>(sums, b, c, at);
    } else {
        const int group = warp < PRODUCERS ? warp / 4 : warp - PRODUCERS;
        char *ring = shared + group * c.stages * BOX;
        if (warp < PRODUCERS)
            consume<w_t, N>(ring, sums + group * RANKS * SUMS<N>, x, b[group], c, at);
        else if (threadIdx.x % 32 == 0)
            produce(maps, ring, b[group], group, c, at);
    }
    __syncwarp();
    barrier_cluster_arrive_relaxed();
    barrier_cluster_wait(); // nobody leaves while others send it sums
}

// Adds the phases: a block a slice of a tile.
template <typename sum_t>
__global__ void __launch_bounds__(128) cluster_fold(const __grid_constant__ struct cluster_args c)
{
    const size_t next = (size_t)c.a.tiles * RANKS * blockDim.x;
    sum_t sum[4];
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    fold(sum, (const uint4 *)c.part + blockIdx.x * blockDim.x + threadIdx.x, next, c.phases);
    write(sum, c.a, (int)blockIdx.x / RANKS, (int)blockIdx.x % RANKS, (int)threadIdx.x);
}

// As many clusters as the device runs at a time; 0 where a part of a device has no room for one.
int clusters_at_once(void (*kernel)(struct cluster_args, struct cluster_maps), int threads)
{
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {RANKS, 1, 1};
    cudaLaunchConfig_t config = {};
    config.gridDim = RANKS;
    config.blockDim = threads;
    config.dynamicSmemBytes = SHARED_MOST;
    config.attrs = &cluster;
    config.numAttrs = 1;
    int n = 0;
    if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_MOST) ||
        cudaOccupancyMaxActiveClusters(&n, kernel, &config)) {
        cudaGetLastError(); // linear_wide.cu takes the calls
        return 0;
    }
    return n;
}

template <typename w_t, int N>
bool launch(struct dev *dev, struct cluster_args c, const struct cluster_maps &maps)
{
    const auto kernel = cluster_product<w_t, N>;
    static const int most = clusters_at_once(kernel, THREADS<N>);
    const int beside = GROUPS * RANKS * SUMS<N> + N * c.order.length * BLOCK;
    const int fit = ((N <= 32 ? SHARED_HALF : SHARED_MOST) - beside) / (GROUPS * BOX);
    const int items = c.phases * c.a.tiles, clusters = most < items ? most : items;
    const size_t part = c.phases > 1 ? (size_t)items * RANKS * SUMS<N> : 0;
    c.stages = fit < STAGES_MAX ? fit : STAGES_MAX;
    if (!most || c.stages < STAGES_MIN || part > PART_MOST)
        return false;
    c.part = part ? cuda_scratch(dev, CUDA_SLOT_LINEAR_SUM, part) : NULL;
    if (part && !c.part)
        return true; // the failure is kept
    const size_t bytes = (size_t)(beside + GROUPS * c.stages * BOX);
    cuda_launch(dev, "linear", {(unsigned)(clusters * RANKS), THREADS<N>, bytes, RANKS}, kernel, c,
                maps);
    if (part)
        cuda_launch(dev, "linear", {(unsigned)(c.a.tiles * RANKS), N / 16 * 32},
                    cluster_fold<sum_of<w_t>>, c);
    return true;
}

template <typename w_t>
bool choose(struct dev *dev, const struct cluster_args &c, const struct cluster_maps &maps)
{
    return c.a.t <= 16   ? launch<w_t, 16>(dev, c, maps)
           : c.a.t <= 32 ? launch<w_t, 32>(dev, c, maps)
                         : launch<w_t, 64>(dev, c, maps);
}
} // namespace

bool linear_cluster(struct dev *dev, const struct rows_args *a)
{
    const bool int8 = a->m[0].int8;
    struct cluster_args c = {};
    struct cluster_maps maps = {};
    if (cuda_of(dev)->arch != 90 || row_bytes(a->k, int8) % LINE)
        return false;
    c.a = *a;
    c.order = int8 ? rows_order_of(row_blocks(a->k, true), RUN_INT8) : a->order[0];
    c.phases = c.order.runs / RANKS;
    c.a.tiles = 0;
    for (int i = 0; i < a->n; i++) {
        c.a.m[i].tile0 = c.a.tiles;
        c.a.tiles += (a->m[i].rows + ROWS - 1) / ROWS;
        if (!box_map(&maps.of[i], &a->m[i], a->k, ROWS, 1))
            return false;
    }
    return int8                          ? choose<int8_t>(dev, c, maps)
           : cuda_half(dev) == DTYPE_F16 ? choose<f16>(dev, c, maps)
                                         : choose<bf16>(dev, c, maps);
}
