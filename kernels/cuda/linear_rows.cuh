// linear_rows.cuh - the few-rows path's common ground: the order in which a value is summed, and the
// stream of weights that every warp keeps for itself. Private to linear_few.cu and linear_wide.cu.
//
// The order. A row of W is cut into blocks of 64 bytes and the blocks into SEGMENTS runs of (nearly)
// equal length. Within a run a value is one chain of tensor-core products, 64 bytes after 64 bytes; the
// runs' sums are added in their order. Both kernels keep to that for any number of rows of x, so a row's
// bits depend on the row and the matrix alone. INT8 sums are exact anyway.
//
// The stream. Weights are read once, so no two threads share one: lane (g, q) of a warp, g = lane / 4,
// q = lane % 4, copies bytes 16 q .. 16 q + 15 of a block of row g of its tile into its own column of
// shared memory, and later reads them back as its fragment of the product. No barrier, any depth; what
// the depth holds is what is in flight. Which k a fragment's words are does not matter as long as x is
// read in the same places.
#ifndef LINEAR_ROWS_CUH
#define LINEAR_ROWS_CUH

#include <type_traits>

#include "linear.cuh"

// A row of x of so many values fits in linear_few's shared memory.
constexpr int FEW_COLS_MAX = 32 << 10;
constexpr int SEGMENTS = 8, BLOCK = 64, TILE = 8, STAGE = 4; // bytes; rows of W; blocks of a stage

struct rows_matrix {
    const char *w;
    const float *scale;
    void *y;
    int rows, tile0; // tile0: its first tile among those of all matrices
    bool int8;
};

struct rows_args {
    struct rows_matrix m[LINEAR_MAX];
    int n, tiles;         // matrices, tiles of all
    const void *x;        // [t, k]; few: activations, wide: rounded
    const float *x_scale; // [t], wide with int8 only
    int t, k;
    bool y_float; // else bf16
};

// linear_few.cu: rows of x that fit in every block's shared memory; rounds them itself. At most
// few_rows_max rows.
int few_rows_max(const struct linear_args *a);
void linear_few(struct dev *dev, const struct rows_args *a);

// linear_wide.cu: up to WIDE_ROWS rows of rounded x, matrices of one type; sm_90.
constexpr int WIDE_ROWS = 64;
void linear_wide(struct dev *dev, const struct rows_args *a);

__host__ __device__ inline int row_bytes(int k, bool int8)
{
    return int8 ? k : 2 * k;
}

__host__ __device__ inline int row_blocks(int k, bool int8)
{
    return (row_bytes(k, int8) + BLOCK - 1) / BLOCK;
}

// Rows of x in shared memory lie so that the eight rows of a fragment meet different banks.
__host__ __device__ inline int x_stride(int blocks)
{
    return (blocks | 1) * BLOCK;
}

__device__ __forceinline__ int segment_begin(int blocks, int segment)
{
    return blocks * segment / SEGMENTS;
}

__device__ __forceinline__ const struct rows_matrix &matrix_of(const struct rows_args &a, int tile)
{
    int i = 0;
#pragma unroll
    for (int j = 1; j < LINEAR_MAX; j++)
        i = j < a.n && tile >= a.m[j].tile0 ? j : i;
    return a.m[i];
}

// One tile's row of the lane in a stream.
struct rows_source {
    const char *p; // at the lane's 16 bytes of block 0
    int bytes;     // of the row, from p

    __device__ void aim(const struct rows_args &a, int tile, int lane)
    {
        const struct rows_matrix &m = matrix_of(a, tile);
        const int row = min((tile - m.tile0) * TILE + lane / 4, m.rows - 1);
        const int all = row_bytes(a.k, m.int8);
        p = m.w + (size_t)row * all + lane % 4 * 16;
        bytes = all - lane % 4 * 16;
    }

    __device__ void copy(uint4 *to, int block, uint64_t policy) const
    {
        const int at = block * BLOCK;
        copy_async_16(to, p + (at < bytes ? at : 0), at < bytes ? 16 : 0, policy);
    }
};

// One block against 16 rows of x: two products.
template <typename sum_t>
__device__ __forceinline__ void block_product(sum_t sum[4], const uint4 &low, const uint4 &high,
                                              const uint4 &w)
{
    const unsigned a0[4] = {low.x, high.x, low.y, high.y}, a1[4] = {low.z, high.z, low.w, high.w};
    const unsigned b0[2] = {w.x, w.y}, b1[2] = {w.z, w.w};
    if constexpr (std::is_same_v<sum_t, int>) {
        mma_int8(sum, a0, b0);
        mma_int8(sum, a1, b1);
    } else {
        mma_bf16(sum, a0, b0);
        mma_bf16(sum, a1, b1);
    }
}

__device__ __forceinline__ void store_y(const struct rows_args &a, const struct rows_matrix &m,
                                        int t, int row, float v)
{
    const size_t at = (size_t)t * m.rows + row;
    if (a.y_float)
        ((float *)m.y)[at] = v;
    else
        ((bf16 *)m.y)[at] = from_float<bf16>(v);
}

#endif
