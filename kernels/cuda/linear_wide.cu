// linear_wide.cu - y = x W^T for up to 64 rows of x: what linear_few.cu sums in one block, many blocks
// sum here, so that the rows of x fit in shared memory beside the stream of weights. On sm_90a for what
// linear_cluster.cu does not take, rows of W that are not whole lines of 128 bytes mostly.
// Bound by: the bytes of W; towards 64 rows also by the runs' sums, 4 bytes a value and run, which go
// through L2.
//
// A block owns one run of k and keeps that part of x. Its warps take COLS tiles of W at a time from their
// streams and write the run's sums; none waits for another. A second kernel adds the runs' sums in their
// order and writes y. Calls are cut so that the sums stay in L2.
//
// Measured before linear_cluster.cu was there, 8, 16, 64 rows, microseconds (floor of gate and up: 47 in bf16): 9B
// gate and up 61, 62, 94 (int8 34, 39, 68); down 33, 32, 43 (24, 25, 33); in_proj 32, 34, 44 (25, 27, 43); out_proj
// 11, 12, 17 (10, 11, 17); lm_head 632, 684, 1000. NVIDIA H200, 2026-11-24, runs played as in linear_table.c.
#include "linear_rows.cuh"
#include "pack.cuh"

constexpr int WARPS = 8, THREADS = 32 * WARPS, PER_SM = 2;
constexpr size_t SUMS = 48 << 20; // bytes of all runs' sums at a time

struct wide_args {
    void *sums; // [runs, t, TILE * (end - begin)]
    int runs, groups, begin,
        end; // tiles begin .. end, dealt to the warps of `groups` groups of blocks
};

// Stages of a warp's ring: a stage is a pair of blocks of COLS tiles.
__host__ __device__ constexpr int depth_of(int rows16, int cols)
{
    return (rows16 > 2 ? 4 : 6) / cols;
}

// The warp's stream over its tiles, COLS at a time.
template <int COLS, int DEPTH> struct wide_stream {
    uint4 *ring;
    struct rows_source source[COLS];
    int tile, tile_end, block0, block, end, stage; // block0 .. end: the run
    uint64_t policy;

    __device__ void aim(const struct rows_args &a)
    {
        block = block0;
#pragma unroll
        for (int j = 0; j < COLS; j++)
            if (tile + j < tile_end)
                source[j].aim(a, tile + j);
    }

    __device__ void order(const struct rows_args &a)
    {
        if (tile < tile_end && block < end) {
#pragma unroll
            for (int j = 0; j < COLS; j++)
                if (tile + j < tile_end)
                    source[j].copy(ring + (stage * COLS + j) * PAIR, block, policy);
            block += 2;
            if (block >= end) {
                tile += COLS;
                aim(a);
            }
        }
        cp_async_commit_group();
        stage = stage + 1 == DEPTH ? 0 : stage + 1;
    }
};

// Blocks block .. of the rows of x, zero beyond the last row; `size` bytes of a row are x. A warp asks for
// a piece of all its rows before it keeps the first: a reading queues behind the stream's copies.
template <int ROWS16>
static __device__ void load_x(char *to, int stride, const struct rows_args &a, int size, int block,
                              int blocks)
{
    constexpr int ROWS = 16 * ROWS16 / WARPS; // of a warp: its number, WARPS later, ..
    const int warp = threadIdx.x / 32;
    for (int i = threadIdx.x % 32; i < blocks * (BLOCK / 16); i += 32) {
        const int at = block * BLOCK + i * 16;
        uint4 v[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int t = warp + r * WARPS;
            v[r] = {};
            if (t < a.t && at < size)
                v[r] = *(const uint4 *)((const char *)a.x + (size_t)t * size + at);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            *(uint4 *)(to + (warp + r * WARPS) * stride + i * 16) = v[r];
    }
}

// One stage of the stream against x; the second block of a run's last may be none.
template <typename w_t, int ROWS16, int COLS>
static __device__ __forceinline__ void stage_product(sum_of<w_t> (&sum)[ROWS16][COLS][4],
                                                     const uint4 *pairs, const char *x, int stride,
                                                     int blocks)
{
#pragma unroll
    for (int b = 0; b < 2; b++) {
        if (b >= blocks)
            break;
        uint4 w[COLS];
#pragma unroll
        for (int j = 0; j < COLS; j++)
            w[j] = pair_read(pairs + j * PAIR, b);
#pragma unroll
        for (int r = 0; r < ROWS16; r++) {
            const char *p = x + r * 16 * stride + b * BLOCK;
            const uint4 low = *(const uint4 *)p, high = *(const uint4 *)(p + 8 * stride);
#pragma unroll
            for (int j = 0; j < COLS; j++)
                block_product<w_t>(sum[r][j], low, high, w[j]);
        }
    }
}

// A run's sums of tiles first .. to memory.
template <typename sum_t, int ROWS16, int COLS>
static __device__ __forceinline__ void store_sums(const sum_t (&sum)[ROWS16][COLS][4],
                                                  const struct wide_args &w, int run, int t_end,
                                                  int first, int tile_end)
{
    using pair_t = std::conditional_t<std::is_same_v<sum_t, int>, int2, float2>;
    const int lane = threadIdx.x % 32, width = (w.end - w.begin) * TILE;
#pragma unroll
    for (int r = 0; r < ROWS16; r++)
#pragma unroll
        for (int j = 0; j < COLS; j++) {
            const int t = r * 16 + lane / 4, col = (first + j - w.begin) * TILE + lane % 4 * 2;
            sum_t *to = (sum_t *)w.sums + ((size_t)run * t_end + t) * width + col;
            if (first + j < tile_end && t < t_end)
                *(pair_t *)to = {sum[r][j][0], sum[r][j][1]};
            if (first + j < tile_end && t + 8 < t_end)
                *(pair_t *)(to + 8 * width) = {sum[r][j][2], sum[r][j][3]};
        }
}

template <typename w_t, int ROWS16, int COLS>
static __global__ void __launch_bounds__(THREADS, PER_SM)
    wide(const __grid_constant__ struct rows_args a, const __grid_constant__ struct wide_args w)
{
    constexpr int DEPTH = depth_of(ROWS16, COLS);
    constexpr bool INT8 = std::is_same_v<w_t, int8_t>;
    extern __shared__ __align__(16) char shared[];
    const int lane = threadIdx.x % 32, run = blockIdx.x % w.runs;
    const int warp = blockIdx.x / w.runs * WARPS + threadIdx.x / 32, warps = w.groups * WARPS;
    const int size = row_bytes(a.k, INT8);
    struct wide_stream<COLS, DEPTH> s = {
    };
    s.ring = (uint4 *)shared + threadIdx.x / 32 * DEPTH * COLS * PAIR;
    s.policy = createpolicy_evict_first();
    s.block0 = run_begin(a.order[INT8], run);
    s.end = run_begin(a.order[INT8], run + 1);
    s.tile = w.begin + (int)((long)(w.end - w.begin) * warp / warps);
    s.tile_end = w.begin + (int)((long)(w.end - w.begin) * (warp + 1) / warps);
    const int stride = x_stride(s.end - s.block0), block0 = s.block0, end = s.end;
    int tile = s.tile;
    griddepcontrol_launch_dependents();
    s.aim(a);
    for (int i = 0; i < DEPTH; i++)
        s.order(a);
    griddepcontrol_wait();
    char *x = shared + WARPS * DEPTH * COLS * PAIR * (int)sizeof(uint4);
    load_x<ROWS16>(x, stride, a, size, block0, end - block0);
    __syncthreads(); // x is there
    x += lane / 4 * stride + lane % 4 * 16;
    for (; tile < s.tile_end; tile += COLS) {
        sum_of<w_t> sum[ROWS16][COLS][4] = {};
        for (int block = block0; block < end; block += 2) {
            cp_async_wait_group<DEPTH - 1>();
            __syncwarp(); // the other lanes' copies of the oldest stage are there too
            stage_product<w_t, ROWS16, COLS>(sum, s.ring + s.stage * COLS * PAIR,
                                             x + (block - block0) * BLOCK, stride, end - block);
            __syncwarp(); // all lanes have read it: it is the one ordered next
            s.order(a);
        }
        store_sums<sum_of<w_t>, ROWS16, COLS>(sum, w, run, a.t, tile, s.tile_end);
    }
}

// The runs' sums in their order, four values a thread.
template <typename sum_t>
static __global__ void __launch_bounds__(256) wide_fold(const __grid_constant__ struct rows_args a,
                                                        const __grid_constant__ struct wide_args w)
{
    const int width = (w.end - w.begin) * TILE, t = blockIdx.y;
    const int col = 4 * (blockIdx.x * 256 + threadIdx.x);
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    if (col >= width)
        return;
    const sum_t *from = (const sum_t *)w.sums + (size_t)t * width + col;
    sum_t sum[4] = {};
    for (int phase = 0; phase < w.runs; phase += PHASE_RUNS) {
        sum_t of_phase[4];
#pragma unroll
        for (int run = 0; run < PHASE_RUNS; run++) {
            sum_t v[4];
            const uint4 raw = *(const uint4 *)(from + (size_t)(phase + run) * a.t * width);
            memcpy(v, &raw, sizeof v);
#pragma unroll
            for (int j = 0; j < 4; j++)
                of_phase[j] = run ? of_phase[j] + v[j] : v[j];
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
            sum[j] = phase ? sum[j] + of_phase[j] : of_phase[j];
    }
    const int tile = w.begin + col / TILE;
    const struct rows_matrix &m = matrix_of(a, tile);
    const int row = (tile - m.tile0) * TILE + col % TILE;
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (row + j < m.rows)
            store_y(a, m, t, row + j,
                    m.int8 ? (float)sum[j] * (a.x_scale[t] * m.scale[row + j]) : (float)sum[j]);
}

template <typename w_t, int ROWS16, int COLS>
static void launch(struct dev *dev, const struct rows_args *a, struct wide_args w)
{
    const int run = a->order[std::is_same_v<w_t, int8_t>].length;
    const int bytes = WARPS * depth_of(ROWS16, COLS) * COLS * PAIR * (int)sizeof(uint4) +
                      16 * ROWS16 * x_stride(run);
    const auto kernel = wide<w_t, ROWS16, COLS>;
    const int groups = PER_SM * cuda_of(dev)->n_sm / w.runs;
    w.groups = groups > 0 ? groups : 1;
    cuda_launch(dev, "linear", {(unsigned)(w.groups * w.runs), THREADS, (size_t)bytes}, kernel, *a,
                w);
    const unsigned across = blocks_for((size_t)(w.end - w.begin) * TILE / 4, 256);
    cuda_launch(dev, "linear", {dim3(across, (unsigned)a->t), 256}, wide_fold<sum_of<w_t>>, *a, w);
}

template <typename w_t>
static void choose(struct dev *dev, const struct rows_args *a, const struct wide_args &w)
{
    if (a->t <= 16)
        launch<w_t, 1, 2>(dev, a, w);
    else if (a->t <= 32)
        launch<w_t, 2, 2>(dev, a, w);
    else
        launch<w_t, 4, 2>(dev, a, w);
}

void linear_wide(struct dev *dev, const struct rows_args *a)
{
    struct wide_args w = {};
    w.runs = a->order[a->m[0].int8].runs;
    const size_t tile = (size_t)w.runs * (size_t)a->t * TILE * sizeof(float);
    const int most = (int)(SUMS / tile); // tiles of a launch
    const int each = a->tiles < most ? a->tiles : most;
    w.sums = cuda_scratch(dev, CUDA_SLOT_LINEAR_SUM, (size_t)each * tile);
    for (w.begin = 0; w.sums && w.begin < a->tiles; w.begin = w.end) {
        w.end = w.begin + each < a->tiles ? w.begin + each : a->tiles;
        if (a->m[0].int8)
            choose<int8_t>(dev, a, w);
        else
            HALF_SWITCH(dev, choose<half_t>(dev, a, w));
    }
}
