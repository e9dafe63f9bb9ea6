// linear_int8.cu - y = (x W^T) * scales for int8 x and W on sm_90a, many rows: the matrix path's own
// product, because the library writes the int32 sums to memory and leaves the scales to a second pass.
// Bound by: int8 multiply-adds.
//
// A cluster of two blocks takes 256 x 256 values of y at a time, each block 128 rows of x: it loads its
// rows of x for itself and half of the rows of W for both (multicast). One warp orders the tiles of 128
// values of k into a ring, two warpgroups multiply 64 x 256 each, sums in registers. Clusters walk over
// y so that those running at the same time share rows of W and, by groups, rows of x in the cache.
//
// Measured with the rounding of x, 8192 rows, us: 9B gate and up 1173 (1,406 TOPS), in_proj 622, out_proj 215,
// down 679, 0.8B gate and up 109; the library and a second pass took 1700, 829, 301, 676, 248, on another
// card. NVIDIA H200, 2026-11-24, `ops_check perf linear`, where a large product runs at 1,389 TOPS.
// linear_lt.cu takes whichever is faster.
#include "linear.cuh"
#include "pack.cuh"
#include "tensor_map.cuh"

namespace
{
constexpr int ROWS = 128, COLS = 256,
              DEEP = 128;            // a block's tile: rows of x, rows of W, values of k
constexpr int STAGES = 4, GROUP = 8; // GROUP: pairs of row tiles that go together
constexpr int CONSUMERS = 2, THREADS = 128 * (CONSUMERS + 1);
constexpr int X_BYTES = ROWS * DEEP, W_BYTES = COLS * DEEP, STAGE_BYTES = X_BYTES + W_BYTES;
constexpr int SHARED = STAGES * STAGE_BYTES + 1024; // 1024: for the alignment

struct int8_args {
    void *y;
    const float *x_scale, *w_scale;
    int t, n, k;
};

struct ring {
    uint64_t full[STAGES], empty[STAGES];
};

// Where a cluster's i-th tile is: first row of x (of the pair) and first row of W.
struct place {
    int row, col;
};

__device__ __forceinline__ place place_of(int i, int row_tiles, int col_tiles)
{
    const int whole = GROUP * col_tiles, group = i / whole, first = group * GROUP;
    const int high = min(GROUP, row_tiles - first), within = i - group * whole;
    return {(first + within % high) * 2 * ROWS, within / high * COLS};
}

// Orders every tile of k of every place into the ring.
__device__ void produce(const CUtensorMap *x_map, const CUtensorMap *w_map, char *shared,
                        struct ring *r, const struct int8_args &a)
{
    const int rank = (int)cluster_ctarank(), step = gridDim.x / 2;
    const int row_tiles = (a.t + 2 * ROWS - 1) / (2 * ROWS), col_tiles = (a.n + COLS - 1) / COLS;
    int stage = 0, parity = 1;
    for (int i = blockIdx.x / 2; i < row_tiles * col_tiles; i += step) {
        const place at = place_of(i, row_tiles, col_tiles);
        for (int k = 0; k < a.k; k += DEEP) {
            const uint32_t full = shared_address(&r->full[stage]);
            const uint32_t to = shared_address(shared + stage * STAGE_BYTES);
            mbarrier_wait(shared_address(&r->empty[stage]), parity); // both blocks have let it go
            mbarrier_arrive_expect_tx(full, STAGE_BYTES);
            cp_async_bulk_tensor_2d(to, x_map, k, at.row + rank * ROWS, full);
            cp_async_bulk_tensor_2d_multicast(to + X_BYTES + rank * (W_BYTES / 2), w_map, k,
                                              at.col + rank * (COLS / 2), full, 3);
            stage = stage + 1 == STAGES ? 0 : stage + 1;
            parity ^= stage == 0;
        }
    }
}

// Of four lanes, lane q holds v[j] of columns 2 q of group j and ends with the columns of group q: in
// round r it sends what lane q ^ r keeps.
__device__ __forceinline__ void exchange(uint32_t (&v)[4])
{
    const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
    uint32_t w[4];
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        const uint32_t got = __shfl_xor_sync(~0u, odd ? v[i] : v[i + 1], 1);
        w[i] = odd ? got : v[i];
        w[i + 1] = odd ? v[i + 1] : got;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint32_t got = __shfl_xor_sync(~0u, high ? w[i] : w[i + 2], 2);
        v[i] = high ? got : w[i];
        v[i + 2] = high ? w[i + 2] : got;
    }
}

// Where a thread's part of a warpgroup's sums goes: rows `row` and row + 8 of y, of each 8 columns
// col + 8 j the pair 2 q, q the lane of four.
struct part {
    int row, col;
    float x_scale[2];
    const float *w_scale; // of the tile's columns, in shared memory
};

// Each of four lanes writes 8 columns of a row at once.
template <typename half_t>
__device__ __forceinline__ void write(const int (&sum)[128], half_t *y, const part &p,
                                      const struct int8_args &a)
{
    const int q = threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j < COLS / 8; j += 4) {
        const int c = p.col + 8 * (j + q);
        float2 s[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[i] = *(const float2 *)(p.w_scale + 8 * (j + i) + 2 * q);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int t = p.row + 8 * half;
            uint32_t v[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int at = 4 * (j + i) + 2 * half;
                v[i] = cvt_x2<half_t>((float)sum[at] * (p.x_scale[half] * s[i].x),
                                      (float)sum[at + 1] * (p.x_scale[half] * s[i].y));
            }
            exchange(v);
            if (t < a.t && c < a.n)
                *(uint4 *)(y + (size_t)t * a.n + c) = {v[0], v[1], v[2], v[3]};
        }
    }
}

__device__ __forceinline__ void write(const int (&sum)[128], float *y, const part &p,
                                      const struct int8_args &a)
{
#pragma unroll
    for (int i = 0; i < 128; i++) {
        const int half = (i & 2) / 2, at = i / 4 * 8 + threadIdx.x % 4 * 2 + (i & 1);
        const int t = p.row + 8 * half, c = p.col + at;
        if (t < a.t && c < a.n)
            y[(size_t)t * a.n + c] = (float)sum[i] * (p.x_scale[half] * p.w_scale[at]);
    }
}

template <typename y_t>
__device__ void consume(char *shared, struct ring *r, const struct int8_args &a)
{
    // Of the tile's columns, a copy a warpgroup.
    __shared__ alignas(8) float w_scale[CONSUMERS][COLS];
    const int group = threadIdx.x / 128 - 1, step = gridDim.x / 2;
    const int row_tiles = (a.t + 2 * ROWS - 1) / (2 * ROWS), col_tiles = (a.n + COLS - 1) / COLS;
    const int tiles_k = (a.k + DEEP - 1) / DEEP, lane = threadIdx.x % 128;
    int stage = 0, parity = 0;
    for (int i = blockIdx.x / 2; i < row_tiles * col_tiles; i += step) {
        const place at = place_of(i, row_tiles, col_tiles);
        const int row = at.row + (int)cluster_ctarank() * ROWS + group * 64 + lane / 32 * 16 +
                        lane % 32 / 4,
                  col = at.col + 2 * lane;
        // Scales are asked for now and needed after the sums, while nothing multiplies.
        const float2 columns = col < a.n ? *(const float2 *)(a.w_scale + col) : float2{0, 0};
        const part to = {row,
                         at.col,
                         {row < a.t ? a.x_scale[row] : 0, row + 8 < a.t ? a.x_scale[row + 8] : 0},
                         w_scale[group]};
        int sum[128];
        for (int k = 0; k < tiles_k; k++) {
            const uint32_t from = shared_address(shared + stage * STAGE_BYTES);
            const uint64_t x = wgmma_descriptor(from + group * 64 * DEEP, 0);
            const uint64_t w = wgmma_descriptor(from + X_BYTES, 0);
            mbarrier_wait(shared_address(&r->full[stage]), parity);
            wgmma_fence();
#pragma unroll
            for (int d = 0; d < DEEP / 32; d++) // 32 bytes on are 2 in a descriptor
                wgmma_m64n256k32_s8(sum, x + 2 * d, w + 2 * d, k > 0 || d > 0);
            wgmma_commit_group();
            // The stage before is read: give it back to both blocks.
            wgmma_wait_group<1>();
            if (k > 0 && lane < 2)
                mbarrier_arrive_cluster(shared_address(&r->empty[stage ? stage - 1 : STAGES - 1]),
                                        lane);
            stage = stage + 1 == STAGES ? 0 : stage + 1;
            parity ^= stage == 0;
        }
        wgmma_wait_group<0>();
        if (lane < 2)
            mbarrier_arrive_cluster(shared_address(&r->empty[stage ? stage - 1 : STAGES - 1]),
                                    lane);
        bar_sync(1 + group, 128); // the warpgroup has read the scales of the tile before
        *(float2 *)(w_scale[group] + 2 * lane) = columns;
        bar_sync(1 + group, 128);
        write(sum, (y_t *)a.y, to, a);
    }
}

template <typename y_t>
__global__ void __launch_bounds__(THREADS, 1)
    int8_product(const __grid_constant__ CUtensorMap x_map,
                 const __grid_constant__ CUtensorMap w_map,
                 const __grid_constant__ struct int8_args a)
{
    extern __shared__ char raw[];
    __shared__ struct ring ring;
    char *shared =
        raw + (1024 - shared_address(raw) % 1024) % 1024; // the swizzle counts from there
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            mbarrier_init(shared_address(&ring.full[i]), 1);
            mbarrier_init(shared_address(&ring.empty[i]), 2 * CONSUMERS);
        }
        fence_mbarrier_init();
    }
    __syncwarp();
    barrier_cluster_arrive_relaxed();
    barrier_cluster_wait(); // both blocks' barriers are there
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    if (threadIdx.x < 128) {
        setmaxnreg_dec<40>();
        if (threadIdx.x == 0)
            produce(&x_map, &w_map, shared, &ring, a);
    } else {
        setmaxnreg_inc<232>();
        consume<y_t>(shared, &ring, a);
    }
    __syncwarp();
    barrier_cluster_arrive_relaxed();
    barrier_cluster_wait(); // nothing of the other block's is on its way here any more
}

// A row-major int8 matrix in boxes of `box` rows and DEEP columns. False: the driver does not take it.
bool make_map(CUtensorMap *map, const void *p, int rows, int k, int box)
{
    const struct tensor_array a = {.p = p,
                                   .type = CU_TENSOR_MAP_DATA_TYPE_UINT8,
                                   .rank = 2,
                                   .size = {(cuuint64_t)k, (cuuint64_t)rows},
                                   .stride = {(cuuint64_t)k},
                                   .box = {DEEP, (cuuint32_t)box}};
    return tensor_map(map, &a);
}
} // namespace

bool linear_int8(struct dev *dev, const struct product *p)
{
    const struct cuda *cuda = cuda_of(dev);
    const int tiles =
        (int)(blocks_for((size_t)p->t, 2 * ROWS) * blocks_for((size_t)p->w->rows, COLS));
    if (cuda->arch != 90)
        return false;
    CUtensorMap x_map, w_map;
    if (!make_map(&x_map, p->x, p->t, p->w->cols, ROWS) ||
        !make_map(&w_map, p->w->data, p->w->rows, p->w->cols, COLS / 2))
        return false;
    const struct int8_args a = {p->y, p->x_scale, p->w->scale, p->t, p->w->rows, p->w->cols};
    const int clusters = tiles < cuda->n_sm / 2 ? tiles : cuda->n_sm / 2;
    const struct cuda_shape shape = {(unsigned)(2 * clusters), THREADS, SHARED, 2};
    const auto kernel = p->y_type == DTYPE_F32   ? int8_product<float>
                        : p->y_type == DTYPE_F16 ? int8_product<f16>
                                                 : int8_product<bf16>;
    cuda_launch(dev, "linear", shape, kernel, x_map, w_map, a);
    return true;
}
