// linear_few.cu - y = x W^T for a few rows of x: all matrices of a call in one launch.
// Bound by: the bytes of W.
//
// A block of eight warps takes a tile of eight rows of W at a time, one segment of k a warp, from one
// stream that runs on over the tiles (linear_rows.cuh). x is rounded by every block for itself, into
// shared memory: at one row that is cheaper than a launch. The stream starts before the kernels ahead
// have ended, for weights do not change.
#include "linear_rows.cuh"
#include "quantize.cuh"

#ifndef FEW_DEPTH
#define FEW_DEPTH 6
#define FEW_PER_SM 1
#endif
constexpr int THREADS = 32 * SEGMENTS, ROWS_MOST = 16, PER_SM = FEW_PER_SM;
constexpr int STAGE = 2, DEPTH = FEW_DEPTH; // pairs of a stage, stages of a warp's ring
constexpr int X_BYTES = 40 << 10;           // of rounded x

// Where things are in shared memory.
struct few_layout {
    int sums, x_bf16, x_int8, stride_bf16, stride_int8, bytes;
};

__host__ __device__ static inline few_layout layout_of(int t, int k, bool bf16s, bool int8s)
{
    few_layout l = {};
    l.stride_bf16 = x_stride(row_blocks(k, false));
    l.stride_int8 = x_stride(row_blocks(k, true));
    l.sums = SEGMENTS * DEPTH * STAGE * PAIR * (int)sizeof(uint4);
    l.x_bf16 = l.sums + 2 * SEGMENTS * t * TILE * (int)sizeof(float);
    l.x_int8 = l.x_bf16 + (bf16s ? t * l.stride_bf16 : 0);
    l.bytes = l.x_int8 + (int8s ? t * l.stride_int8 : 0);
    return l;
}

// The rows of x as bf16, the end of the last block zero.
template <typename act_t>
static __device__ void stage_bf16(char *to, int stride, const struct rows_args &a)
{
    const act_t *x = (const act_t *)a.x;
    const int end = row_blocks(a.k, false) * BLOCK / 2;
    for (int t = 0; t < a.t; t++)
        for (int i = PACK * threadIdx.x; i < end; i += PACK * THREADS) {
            pack v = {};
            if (i < a.k)
                v = pack_load(x + (size_t)t * a.k + i);
            pack_store((bf16 *)(to + t * stride) + i, v);
        }
}

// The rows of x as int8 and their scales; `parts` holds a float a row and warp.
template <typename act_t>
static __device__ void stage_int8(char *to, int stride, float *scales, float (*parts)[SEGMENTS],
                                  const struct rows_args &a)
{
    const act_t *x = (const act_t *)a.x;
    const int end = row_blocks(a.k, true) * BLOCK;
    for (int t = 0; t < a.t; t++) {
        float most = 0;
        for (int i = PACK * threadIdx.x; i < a.k; i += PACK * THREADS) {
            const pack v = pack_load(x + (size_t)t * a.k + i);
#pragma unroll
            for (int j = 0; j < PACK; j++)
                most = fmaxf(most, fabsf(v.v[j]));
        }
#pragma unroll
        for (int lane = 16; lane; lane /= 2)
            most = fmaxf(most, __shfl_xor_sync(~0u, most, lane));
        if (threadIdx.x % 32 == 0)
            parts[t][threadIdx.x / 32] = most;
    }
    __syncthreads(); // every warp's largest of every row is there
    for (int t = 0; t < a.t; t++) {
        float most = 0;
#pragma unroll
        for (int i = 0; i < SEGMENTS; i++)
            most = fmaxf(most, parts[t][i]);
        const float scale = quantize_scale(most);
        for (int i = PACK * threadIdx.x; i < end; i += PACK * THREADS) {
            pack v = {};
            if (i < a.k)
                v = pack_load(x + (size_t)t * a.k + i);
            *(uint2 *)(to + t * stride + i) = quantize_pack(v, scale);
        }
        if (threadIdx.x == 0)
            scales[t] = scale;
    }
}

// The warp's stream: tiles blockIdx.x, + gridDim.x, .., of each its segment.
struct few_stream {
    uint4 *ring;
    struct rows_source source;
    int tile, block, end, stage;
    uint64_t policy;

    __device__ void begin(const struct rows_args &a)
    {
        for (; tile < a.tiles; tile += gridDim.x) {
            const int blocks = row_blocks(a.k, matrix_of(a, tile).int8), warp = threadIdx.x / 32;
            block = segment_begin(blocks, warp);
            end = segment_begin(blocks, warp + 1);
            source.aim(a, tile);
            if (block < end)
                return;
        }
    }

    // Orders the next stage.
    __device__ void order(const struct rows_args &a)
    {
        if (tile < a.tiles) {
#pragma unroll
            for (int i = 0; i < STAGE; i++)
                if (block + 2 * i < end)
                    source.copy(ring + (stage * STAGE + i) * PAIR, block + 2 * i, policy);
            block += 2 * STAGE;
            if (block >= end) {
                tile += gridDim.x;
                begin(a);
            }
        }
        cp_async_commit_group();
        stage = stage + 1 == DEPTH ? 0 : stage + 1;
    }
};

// One tile's segment from the stream against x: the sums of rows g and g + 8.
template <typename sum_t>
static __device__ __forceinline__ void few_tile(sum_t (&sum)[4], struct few_stream &s,
                                                const char *x, int stride,
                                                const struct rows_args &a, int blocks)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4;
    const int end = segment_begin(blocks, warp + 1);
    x += g * stride + lane % 4 * 16;
    for (int block = segment_begin(blocks, warp); block < end; block += 2 * STAGE) {
        cp_async_wait_group<DEPTH - 1>();
        __syncwarp(); // the other lanes' copies of the oldest stage are there too
        const uint4 *pairs = s.ring + s.stage * STAGE * PAIR;
#pragma unroll
        for (int i = 0; i < 2 * STAGE; i++)
            if (block + i < end) {
                uint4 low = {}, high = {};
                if (g < a.t)
                    low = *(const uint4 *)(x + (block + i) * BLOCK);
                if (g + 8 < a.t)
                    high = *(const uint4 *)(x + 8 * stride + (block + i) * BLOCK);
                block_product(sum, low, high, pair_read(pairs + i / 2 * PAIR, i % 2));
            }
        __syncwarp(); // all lanes have read it: it is the one ordered next
        s.order(a);
    }
}

// The segments' sums of a tile in their order, by the first t * TILE threads.
template <typename sum_t>
static __device__ __forceinline__ void few_fold(const sum_t *sums, const struct rows_args &a,
                                                int tile, const float *x_scale)
{
    const int t = threadIdx.x / TILE, col = threadIdx.x % TILE;
    const struct rows_matrix &m = matrix_of(a, tile);
    const int row = (tile - m.tile0) * TILE + col;
    const bool mine = t < a.t && row < m.rows;
    const float scale = mine && m.int8 ? m.scale[row] : 1.0f;
    __syncthreads(); // all segments' sums are there; who reads the other buffer has read it
    if (!mine)
        return;
    sum_t sum = sums[t * TILE + col];
#pragma unroll
    for (int i = 1; i < SEGMENTS; i++)
        sum += sums[(i * a.t + t) * TILE + col];
    store_y(a, m, t, row, m.int8 ? (float)sum * (x_scale[t] * scale) : (float)sum);
}

// A tile from the stream to y.
template <typename sum_t>
static __device__ __forceinline__ void few_whole(struct few_stream &s, const char *x, int stride,
                                                 sum_t *sums, const struct rows_args &a, int tile,
                                                 const float *x_scale)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, col = lane % 4 * 2;
    sum_t sum[4] = {};
    few_tile(sum, s, x, stride, a, row_blocks(a.k, matrix_of(a, tile).int8));
    sum_t *to = sums + (warp * a.t + g) * TILE + col;
    if (g < a.t) {
        to[0] = sum[0];
        to[1] = sum[1];
    }
    if (g + 8 < a.t) {
        to[8 * TILE] = sum[2];
        to[8 * TILE + 1] = sum[3];
    }
    few_fold(sums, a, tile, x_scale);
}

template <typename act_t>
static __global__ void __launch_bounds__(THREADS, PER_SM)
    few(const __grid_constant__ struct rows_args a, const struct few_layout l)
{
    extern __shared__ __align__(16) char shared[];
    __shared__ float parts[ROWS_MOST][SEGMENTS], x_scale[ROWS_MOST];
    struct few_stream s = {};
    s.ring = (uint4 *)shared + threadIdx.x / 32 * DEPTH * STAGE * PAIR;
    s.tile = blockIdx.x;
    s.policy = createpolicy_evict_first();
    griddepcontrol_launch_dependents();
    s.begin(a);
    for (int i = 0; i < DEPTH; i++)
        s.order(a);
    griddepcontrol_wait();
    if (l.x_int8 > l.x_bf16)
        stage_bf16<act_t>(shared + l.x_bf16, l.stride_bf16, a);
    if (l.bytes > l.x_int8)
        stage_int8<act_t>(shared + l.x_int8, l.stride_int8, x_scale, parts, a);
    __syncthreads(); // x is there
    char *sums = shared + l.sums;
    const int other = SEGMENTS * a.t * TILE * (int)sizeof(float);
    for (int tile = blockIdx.x, odd = 0; tile < a.tiles; tile += gridDim.x, odd ^= 1)
        if (matrix_of(a, tile).int8)
            few_whole(s, shared + l.x_int8, l.stride_int8, (int *)(sums + odd * other), a, tile,
                      x_scale);
        else
            few_whole(s, shared + l.x_bf16, l.stride_bf16, (float *)(sums + odd * other), a, tile,
                      x_scale);
}

int few_rows_max(const struct linear_args *a)
{
    int bytes = 0;
    bool seen[2] = {};
    for (int i = 0; i < a->n; i++) {
        const bool int8 = a->w[i].type == DTYPE_INT8;
        if (!seen[int8])
            bytes += x_stride(row_blocks(a->w[i].cols, int8));
        seen[int8] = true;
    }
    const int rows = X_BYTES / bytes;
    return rows < 1 ? 1 : rows > ROWS_MOST ? ROWS_MOST : rows;
}

void linear_few(struct dev *dev, const struct rows_args *a)
{
    bool bf16s = false, int8s = false;
    for (int i = 0; i < a->n; i++)
        (a->m[i].int8 ? int8s : bf16s) = true;
    const struct few_layout l = layout_of(a->t, a->k, bf16s, int8s);
    const int most = PER_SM * cuda_of(dev)->n_sm;
    const struct cuda_shape shape = {(unsigned)(a->tiles < most ? a->tiles : most), THREADS,
                                     (size_t)l.bytes};
    ACT_SWITCH(dev, {
        if (cuda_ok(dev,
                    cudaFuncSetAttribute(few<act_t>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         l.bytes),
                    "linear"))
            cuda_launch(dev, "linear", shape, few<act_t>, *a, l);
    });
}
