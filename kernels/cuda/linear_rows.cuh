// linear_rows.cuh - the few-rows path's common ground: the order in which a value is summed, and the stream of weights
// that every warp of linear_few.cu and linear_wide.cu keeps for itself. Private to those and linear_cluster.cu.
//
// The order. A row of W is cut into blocks of 64 bytes and the blocks into runs, none longer than RUN_BLOCKS, and
// PHASE_RUNS of them are a phase: their number is a multiple of it. Within a run a value is one chain of tensor-core
// products, 64 bytes after 64 bytes; a phase's runs are added one after another, and then the phases. All kernels
// keep to that for any number of rows of x, so a row's bits depend on the row and the matrix alone. INT8 sums are
// exact anyway.
//
// The stream. Weights are read once and by one warp each, so every warp keeps a ring of its own in shared
// memory that it alone orders copies into and reads: no barrier but the warp's, any depth; what the ring
// holds is what is in flight. Lane (g, q), g = lane / 4, q = lane % 4, of a product wants bytes 16 q ..
// 16 q + 15 of row g of a block, and which k those are does not matter as long as x is read in the same
// places. The copies go by whole lines instead, eight lanes to 128 bytes of a row (linear_few.cu has another way
// for many bytes: linear_source.cuh).
#ifndef LINEAR_ROWS_CUH
#define LINEAR_ROWS_CUH

#include <type_traits>

#include "linear.cuh"

// A row of x of so many values fits in linear_few's shared memory.
constexpr int FEW_COLS_MAX = 18 << 10;
constexpr int BLOCK = 64, TILE = 8; // BLOCK in bytes, TILE in rows of W
constexpr int PAIR = 64;            // two blocks of a tile, in pieces of 16 bytes
constexpr int PHASE_RUNS = 8, RUN_BLOCKS = 16;

struct rows_matrix {
    const char *w;
    const float *scale;
    void *y;
    int rows, tile0; // tile0: its first tile among those of all matrices
    bool int8;
};

// How k is cut for a type of weights: run r is blocks r * length .. of `blocks`.
struct rows_order {
    int blocks, runs, length; // length is even: runs are whole lines of two blocks
};

// In runs of at most `most` blocks, as few as that needs.
static inline struct rows_order rows_order_of(int blocks, int most)
{
    const int runs = (blocks + PHASE_RUNS * most - 1) / (PHASE_RUNS * most) * PHASE_RUNS;
    return {blocks, runs, ((blocks + 1) / 2 + runs - 1) / runs * 2};
}

struct rows_args {
    struct rows_matrix m[LINEAR_MAX];
    int n, tiles;         // matrices, tiles of all
    const void *x;        // [t, k]; few: activations, wide: rounded
    const float *x_scale; // [t], wide with int8 only
    int t, k;
    enum dtype y_type;
    struct rows_order order[2]; // of 16-bit values, of int8
    // few: SiLU of matrix 0's y times matrix 1's goes to the latter's place; they have equal tiles.
    bool pair;
    struct {
        const float *w; // NULL: none
        const void *add;
        void *sum;
        float eps;
    } norm; // few: as in linear_args
};

// linear_few.cu: rows of x that fit in every block's shared memory; rounds them itself. At most
// few_rows_max rows, which is 0 on a device that it does not run on.
int few_rows_max(struct dev *dev, const struct linear_args *a);
// Would it norm the rows of that call, too?
bool few_norms(struct dev *dev, const struct rows_args *a);
void linear_few(struct dev *dev, const struct rows_args *a);

// Up to WIDE_ROWS rows of rounded x, matrices of one type. linear_cluster.cu is for sm_90a; false: it does not take
// the call. linear_wide.cu takes all.
constexpr int WIDE_ROWS = 64;
bool linear_cluster(struct dev *dev, const struct rows_args *a);
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

__device__ __forceinline__ int run_begin(const struct rows_order &o, int run)
{
    return min(run * o.length, o.blocks);
}

__device__ __forceinline__ int matrix_index(const struct rows_args &a, int tile)
{
    int i = 0;
#pragma unroll
    for (int j = 1; j < LINEAR_MAX; j++)
        i = j < a.n && tile >= a.m[j].tile0 ? j : i;
    return i;
}

__device__ __forceinline__ const struct rows_matrix &matrix_of(const struct rows_args &a, int tile)
{
    return a.m[matrix_index(a, tile)];
}

// What a lane copies of a tile: 16 bytes of a line of row lane / 8 and of the fourth row after it.
struct rows_source {
    const char *p; // at the lane's bytes of line 0
    int high;      // from there to the other row's
    int bytes;     // of the row, from there

    __device__ void aim(const struct rows_args &a, int tile)
    {
        const struct rows_matrix &m = matrix_of(a, tile);
        const int all = row_bytes(a.k, m.int8), at = threadIdx.x % 8 * 16;
        const int wanted = (tile - m.tile0) * TILE + threadIdx.x % 32 / 8;
        const int row = min(wanted, m.rows - 1);
        p = m.w + (size_t)row * all + at;
        high = (min(wanted + 4, m.rows - 1) - row) * all;
        bytes = all - at;
    }

    // Orders blocks `block` (even) and the next into a PAIR, zeros beyond the row.
    __device__ void copy(uint4 *pair, int block, uint64_t policy) const
    {
        const bool within = block * BLOCK < bytes;
        const char *from = p + (within ? block * BLOCK : 0);
        const int piece = threadIdx.x % 8, column = threadIdx.x % 32 / 8 * 4 + piece % 4;
        // The second block's columns are shifted so that a line meets all banks.
        const uint32_t to = shared_address(pair + (piece < 4 ? column : 32 + (column ^ 4)));
        cp_async_16_hint(to, from, within ? 16 : 0, policy);
        cp_async_16_hint(to + 16 * sizeof(uint4), from + high, within ? 16 : 0, policy);
    }
};

// The lane's 16 bytes of block 0 or 1 of a PAIR.
__device__ __forceinline__ uint4 pair_read(const uint4 *pair, int block)
{
    const int lane = threadIdx.x % 32;
    return pair[block ? 32 + (lane ^ 4) : lane];
}

// What products of a type of weights (bf16, f16, int8_t) are summed in.
template <typename w_t> using sum_of = std::conditional_t<std::is_same_v<w_t, int8_t>, int, float>;

// One block against 16 rows of x: two products.
template <typename w_t>
__device__ __forceinline__ void block_product(sum_of<w_t> (&sum)[4], const uint4 &low,
                                              const uint4 &high, const uint4 &w)
{
    const uint32_t a0[4] = {low.x, high.x, low.y, high.y}, a1[4] = {low.z, high.z, low.w, high.w};
    if constexpr (std::is_same_v<w_t, int8_t>) {
        mma_m16n8k32_s8(sum, a0, w.x, w.y);
        mma_m16n8k32_s8(sum, a1, w.z, w.w);
    } else {
        mma_m16n8k16<w_t>(sum, a0, w.x, w.y);
        mma_m16n8k16<w_t>(sum, a1, w.z, w.w);
    }
}

__device__ __forceinline__ void store_y(const struct rows_args &a, const struct rows_matrix &m,
                                        int t, int row, float v)
{
    const size_t at = (size_t)t * m.rows + row;
    if (a.y_type == DTYPE_F32)
        ((float *)m.y)[at] = v;
    else if (a.y_type == DTYPE_F16)
        ((f16 *)m.y)[at] = from_float<f16>(v);
    else
        ((bf16 *)m.y)[at] = from_float<bf16>(v);
}

#endif
