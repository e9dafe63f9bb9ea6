// linear_wide.cu - y = x W^T for up to 64 rows of x on sm_90: what linear_few.cu sums in one block, a
// cluster of eight blocks sums here, so that 16 to 64 rows of x fit beside the stream of weights.
// Bound by: the bytes of W.
//
// A block of a cluster owns one segment of k. The clusters share out the tiles of W evenly and take
// them in bands of up to 32 tiles: every warp multiplies COLS tiles of the band with the block's part
// of x, the sums go to shared memory, and block r of the cluster adds rows r, r + 8, .. of x over the
// eight blocks in the segments' order (distributed shared memory) and writes y.
// x's part is loaded once, or, where it does not fit, in phases of every band.
#include "linear_rows.cuh"
#include "pack.cuh"

constexpr int WARPS = 8, THREADS = 32 * WARPS, SHARED_MOST = 225 << 10;

// Stages of a warp's ring: a stage is a pair of blocks of COLS tiles.
__host__ __device__ constexpr int depth_of(int rows16, int cols)
{
    return (rows16 > 2 ? 10 : 12) / cols;
}

struct wide_layout {
    int clusters;
    int phases, phase_blocks; // x is loaded in this many parts of so many blocks
    int sums, x, bytes;       // where they are in shared memory; they share it if there are phases
};

// Sums lie as [row of x][row of W of the band], padded against bank conflicts.
__host__ __device__ constexpr int sums_stride(int cols)
{
    return WARPS * cols * TILE + 8;
}

// The tiles of one band and the warp's own.
struct band {
    int base, tiles; // of the cluster
    int first, n;    // of the warp: tiles base + first ..

    __device__ void set(int from, int end, int cols)
    {
        base = from;
        tiles = min(WARPS * cols, end - from);
        const int each = (tiles + WARPS - 1) / WARPS;
        first = threadIdx.x / 32 * each;
        n = max(0, min(each, tiles - first));
    }
};

// The warp's stream over its bands.
template <int COLS, int DEPTH> struct wide_stream {
    uint4 *ring;
    struct rows_source source[COLS];
    struct band band;
    int tiles_end, block0, block, end, stage; // block0 .. end: the segment
    uint64_t policy;

    __device__ void begin(const struct rows_args &a, int from)
    {
        for (;;) {
            band.set(from, tiles_end, COLS);
            block = block0;
            if (band.tiles <= 0 || (band.n > 0 && block < end))
                break;
            from = band.base + band.tiles;
        }
#pragma unroll
        for (int j = 0; j < COLS; j++)
            if (band.tiles > 0 && j < band.n)
                source[j].aim(a, band.base + band.first + j);
    }

    __device__ void order(const struct rows_args &a)
    {
        if (band.tiles > 0) {
#pragma unroll
            for (int j = 0; j < COLS; j++)
                if (j < band.n)
                    source[j].copy(ring + (stage * COLS + j) * PAIR, block, policy);
            block += 2;
            if (block >= end)
                begin(a, band.base + band.tiles);
        }
        cp_async_commit_group();
        stage = stage + 1 == DEPTH ? 0 : stage + 1;
    }
};

// Blocks block .. of the rows of x, zero beyond the last row; `size` bytes of a row are x.
template <int ROWS16>
static __device__ void load_x(char *to, int stride, const struct rows_args &a, int size, int block,
                              int blocks)
{
    const int pieces = blocks * (BLOCK / 16);
    for (int t = threadIdx.x / 32; t < 16 * ROWS16; t += WARPS) {
        const char *x = (const char *)a.x + (size_t)t * size;
#pragma unroll 4
        for (int i = threadIdx.x % 32; i < pieces; i += 32) {
            const int at = block * BLOCK + i * 16;
            uint4 v = {};
            if (t < a.t && at < size)
                v = *(const uint4 *)(x + at);
            *(uint4 *)(to + t * stride + i * 16) = v;
        }
    }
}

// The rows of y that are this block's, over the cluster's sums.
template <typename sum_t, int COLS>
static __device__ void fold(sum_t *sums, const struct rows_args &a, const struct band &band)
{
    const int width = band.tiles * TILE;
    for (int i = threadIdx.x * 4; i < (a.t + SEGMENTS - 1) / SEGMENTS * width; i += THREADS * 4) {
        const int t = i / width * SEGMENTS + (int)cluster_ctarank(), col = i % width;
        if (t >= a.t)
            break;
        sum_t part[SEGMENTS][4], sum[4];
#pragma unroll
        for (int s = 0; s < SEGMENTS; s++) {
            const uint4 v = *(const uint4 *)mapa(sums + t * sums_stride(COLS) + col, s);
            memcpy(part[s], &v, sizeof v);
        }
        const int tile = band.base + col / TILE;
        const struct rows_matrix &m = matrix_of(a, tile);
        const int row = (tile - m.tile0) * TILE + col % TILE;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            sum[j] = part[0][j];
#pragma unroll
            for (int s = 1; s < SEGMENTS; s++)
                sum[j] += part[s][j];
            if (row + j < m.rows)
                store_y(a, m, t, row + j,
                        m.int8 ? (float)sum[j] * (a.x_scale[t] * m.scale[row + j]) : (float)sum[j]);
        }
    }
}

// One stage of the stream against x; the second block of the segment's last may be none.
template <typename sum_t, int ROWS16, int COLS>
static __device__ __forceinline__ void stage_product(sum_t (&sum)[ROWS16][COLS][4],
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
                block_product(sum[r][j], low, high, w[j]);
        }
    }
}

template <typename sum_t, int ROWS16, int COLS>
static __device__ void store_sums(sum_t *sums, const sum_t (&sum)[ROWS16][COLS][4],
                                  const struct band &band)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int r = 0; r < ROWS16; r++)
#pragma unroll
        for (int j = 0; j < COLS; j++) {
            if (j >= band.n)
                break;
            sum_t *to = sums + (r * 16 + lane / 4) * sums_stride(COLS) + (band.first + j) * TILE +
                        lane % 4 * 2;
            to[0] = sum[r][j][0];
            to[1] = sum[r][j][1];
            to[8 * sums_stride(COLS)] = sum[r][j][2];
            to[8 * sums_stride(COLS) + 1] = sum[r][j][3];
        }
}

template <typename sum_t, int ROWS16, int COLS>
static __global__ void __launch_bounds__(THREADS, 1)
    wide(const __grid_constant__ struct rows_args a, const struct wide_layout l)
{
#if __CUDA_ARCH__ >= 900
    constexpr int DEPTH = depth_of(ROWS16, COLS);
    constexpr bool INT8 = std::is_same_v<sum_t, int>;
    extern __shared__ __align__(16) char shared[];
    const int lane = threadIdx.x % 32, segment = (int)cluster_ctarank();
    const int cluster_id = blockIdx.x / SEGMENTS;
    const int blocks = row_blocks(a.k, INT8), size = row_bytes(a.k, INT8);
    const int stride = x_stride(l.phase_blocks);
    sum_t *sums = (sum_t *)(shared + l.sums);
    struct wide_stream<COLS, DEPTH> s = {
    };
    s.ring = (uint4 *)shared + threadIdx.x / 32 * DEPTH * COLS * PAIR;
    s.policy = createpolicy_evict_first();
    s.block0 = segment_begin(blocks, segment);
    s.end = segment_begin(blocks, segment + 1);
    s.tiles_end = (int)((long)a.tiles * (cluster_id + 1) / l.clusters);
    struct band band;
    int from = (int)((long)a.tiles * cluster_id / l.clusters);
    griddepcontrol_launch_dependents();
    s.begin(a, from);
    for (int i = 0; i < DEPTH; i++)
        s.order(a);
    griddepcontrol_wait();
    for (bool loaded = false; from < s.tiles_end; from += band.tiles) {
        band.set(from, s.tiles_end, COLS);
        sum_t sum[ROWS16][COLS][4] = {};
        for (int phase = 0; phase < l.phases; phase++) {
            const int block0 = s.block0 + phase * l.phase_blocks;
            const int end = min(s.end, block0 + l.phase_blocks);
            if (!loaded || l.phases > 1) {
                __syncthreads(); // all warps are done with the phase before
                load_x<ROWS16>(shared + l.x, stride, a, size, block0, end - block0);
                __syncthreads(); // x is there
                loaded = true;
            }
            const char *x = shared + l.x + lane / 4 * stride + lane % 4 * 16;
            for (int block = block0; block < end && band.n > 0; block += 2) {
                cp_async_wait_group<DEPTH - 1>();
                __syncwarp(); // the other lanes' copies of the oldest stage are there too
                stage_product<sum_t, ROWS16, COLS>(sum, s.ring + s.stage * COLS * PAIR,
                                                   x + (block - block0) * BLOCK, stride,
                                                   end - block);
                __syncwarp(); // all lanes have read it: it is the one ordered next
                s.order(a);
            }
        }
        if (l.phases > 1)
            __syncthreads(); // x gives way to the sums
        store_sums(sums, sum, band);
        barrier_cluster_arrive();
        barrier_cluster_wait(); // every block's sums are there
        fold<sum_t, COLS>(sums, a, band);
        barrier_cluster_arrive();
        barrier_cluster_wait(); // and have been read: they may be overwritten, and a block may end
    }
#endif
}

static wide_layout layout_of(const struct rows_args *a, bool int8, int rows16, int cols)
{
    wide_layout l = {};
    const int pairs = (row_blocks(a->k, int8) + 1) / 2;
    const int blocks = (pairs + SEGMENTS - 1) / SEGMENTS * 2;
    const int sums = 16 * rows16 * sums_stride(cols) * (int)sizeof(float);
    l.sums = WARPS * depth_of(rows16, cols) * cols * PAIR * (int)sizeof(uint4);
    for (l.phases = 1;; l.phases++) {
        l.phase_blocks = ((blocks + l.phases - 1) / l.phases + 1) / 2 * 2;
        const int x = 16 * rows16 * x_stride(l.phase_blocks);
        l.x = l.phases > 1 ? l.sums : l.sums + sums;
        l.bytes = l.phases > 1 ? l.sums + (x > sums ? x : sums) : l.x + x;
        if (l.bytes <= SHARED_MOST)
            return l;
    }
}

template <typename sum_t, int ROWS16, int COLS>
static void launch(struct dev *dev, const struct rows_args *a)
{
    const struct cuda *cuda = cuda_of(dev);
    wide_layout l = layout_of(a, std::is_same_v<sum_t, int>, ROWS16, COLS);
    const auto kernel = wide<sum_t, ROWS16, COLS>;
    if (!cuda_ok(dev,
                 cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, l.bytes),
                 "linear"))
        return;
    // One block an SM; a cluster lies within a group of SMs that may have some left over.
    l.clusters = cuda->n_sm / SEGMENTS;
    cuda_launch(dev, "linear",
                {(unsigned)(l.clusters * SEGMENTS), THREADS, (size_t)l.bytes, SEGMENTS}, kernel, *a,
                l);
}

template <typename sum_t, int ROWS16>
static void choose_cols(struct dev *dev, const struct rows_args *a)
{
    const int each = a->tiles / (cuda_of(dev)->n_sm / SEGMENTS); // tiles of a cluster
    if (each > 2 * WARPS)
        launch<sum_t, ROWS16, 4>(dev, a);
    else
        launch<sum_t, ROWS16, 2>(dev, a);
}

template <typename sum_t> static void choose_rows(struct dev *dev, const struct rows_args *a)
{
    if (a->t <= 16)
        choose_cols<sum_t, 1>(dev, a);
    else if (a->t <= 32)
        choose_cols<sum_t, 2>(dev, a);
    else
        choose_cols<sum_t, 4>(dev, a);
}

void linear_wide(struct dev *dev, const struct rows_args *a)
{
    if (a->m[0].int8)
        choose_rows<int>(dev, a);
    else
        choose_rows<float>(dev, a);
}
