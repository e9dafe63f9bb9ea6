// linear_source.cuh - how the bytes of W come into a warp's ring in linear_few.cu. Private to it, but for box_map,
// which linear_cluster.cu takes too.
//
// Both bring stages of a tile's blocks and leave the same bytes to the same lanes, so y's bits do not depend on
// which it is. A line_source has every lane copy 16 bytes at a time, a box_source one lane order boxes of the copy
// engine. Boxes come at the rate that memory gives, copies at 94 % of it; but a launch's first boxes come some
// microseconds after its first copies would. linear_few.cu says which is taken where.
#ifndef LINEAR_SOURCE_CUH
#define LINEAR_SOURCE_CUH

#include "linear_rows.cuh"
#include "tensor_map.cuh"

template <int DEPTH> struct line_source {
    static constexpr int STAGE = 2, DEEP = DEPTH; // pairs of a stage, stages of a ring
    static constexpr int BARRIERS = 1;            // none is used
    static constexpr bool INT8 = true;            // may be of int8
    struct maps_t {                               // what a launch brings along
    };
    struct rows_source rows;

    __device__ void begin(const struct maps_t &, uint64_t *)
    {
    }

    __device__ void aim(const struct rows_args &a, int tile)
    {
        rows.aim(a, tile);
    }

    // Blocks `block` .. of the tile, none from `end` on, into stage `stage` of the ring.
    __device__ void fetch(uint4 *ring, int stage, int block, int end, uint64_t policy)
    {
#pragma unroll
        for (int i = 0; i < STAGE; i++)
            if (block + 2 * i < end)
                rows.copy(ring + (stage * STAGE + i) * PAIR, block + 2 * i, policy);
    }

    // After every stage, one that nothing is fetched into as well.
    __device__ void close()
    {
        cp_async_commit_group();
    }

    // Until the oldest stage, `stage`, is there.
    __device__ void wait(int)
    {
        cp_async_wait_group<DEEP - 1>();
        __syncwarp(); // the other lanes' copies are there too
    }

    // The lane's 16 bytes of block 0 or 1 of a pair.
    static __device__ __forceinline__ uint4 read(const uint4 *pair, int block)
    {
        return pair_read(pair, block);
    }
};

// A box is a stage: lines of 128 bytes of a tile's eight rows, STAGE of them. A run is whole boxes.
constexpr int BOX_PAIRS = 4, BOX_BYTES = BOX_PAIRS * PAIR * (int)sizeof(uint4);

template <int DEPTH> struct box_source {
    static constexpr int STAGE = BOX_PAIRS, DEEP = DEPTH;
    static constexpr int BARRIERS = DEEP; // a warp
    static constexpr bool INT8 = false;
    struct maps_t {
        CUtensorMap of[LINEAR_MAX];
    };
    const struct maps_t *all;
    const CUtensorMap *map; // of the tile's matrix
    int row;                // the tile's first
    uint32_t full, parity;  // the warp's barriers, one a stage

    __device__ void begin(const struct maps_t &maps, uint64_t *barriers)
    {
        all = &maps;
        full = shared_address(barriers);
        parity = 0;
        if (threadIdx.x % 32 == 0) {
            for (int i = 0; i < DEEP; i++)
                mbarrier_init(full + i * (int)sizeof *barriers, 1);
            fence_mbarrier_init();
        }
        __syncwarp(); // the barriers are initialised
    }

    __device__ void aim(const struct rows_args &a, int tile)
    {
        const int i = matrix_index(a, tile);
        map = &all->of[i];
        row = (tile - a.m[i].tile0) * TILE;
    }

    __device__ void fetch(uint4 *ring, int stage, int block, int, uint64_t policy)
    {
        if (threadIdx.x % 32)
            return;
        const uint32_t barrier = full + stage * (int)sizeof(uint64_t);
        mbarrier_arrive_expect_tx(barrier, BOX_BYTES);
        cp_async_bulk_tensor_3d_hint(shared_address(ring + stage * STAGE * PAIR), map,
                                     {0, row, block / 2}, barrier, policy);
    }

    __device__ void close()
    {
    }

    __device__ void wait(int stage)
    {
        mbarrier_wait(full + stage * (int)sizeof(uint64_t), parity);
        if (stage == DEEP - 1)
            parity ^= 1;
    }

    static __device__ __forceinline__ uint4 read(const uint4 *pair, int block)
    {
        const int row = threadIdx.x % 32 / 4, piece = block * 4 + threadIdx.x % 4;
        return pair[row * 8 + (piece ^ row)];
    }
};

// The map of a matrix whose rows are whole lines: lines of 128 bytes, row by row, line by line. A box is `lines` of
// `rows` rows.
static inline bool box_map(CUtensorMap *map, const struct rows_matrix *m, int k, int rows,
                           int lines)
{
    const cuuint64_t bytes = (cuuint64_t)row_bytes(k, m->int8);
    const struct tensor_array a = {.p = m->w,
                                   .type = CU_TENSOR_MAP_DATA_TYPE_UINT8,
                                   .rank = 3,
                                   .size = {2 * BLOCK, (cuuint64_t)m->rows, bytes / (2 * BLOCK)},
                                   .stride = {bytes, 2 * BLOCK},
                                   .box = {2 * BLOCK, (cuuint32_t)rows, (cuuint32_t)lines}};
    return tensor_map(map, &a);
}

#endif
