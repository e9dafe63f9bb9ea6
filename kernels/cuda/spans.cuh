// spans.cuh - device code that asks which span a row or a tile of rows of a step belongs to. The spans
// are read from device memory, so that a recorded step finds the next step's.
#ifndef SPANS_CUH
#define SPANS_CUH

#include "ops_cuda.cuh"

// Rows row0 .. of span `index`, counted in its (token, query head of one KV head) pairs.
struct span_tile {
    struct span span;
    int index, row0;
};

// The u-th tile of `rows` (token, head) rows of spans first .. n - 1, `group` heads a token; within a
// span the last tile first, as it has most keys to look at. Called by whole warps; false when there are
// fewer tiles.
static __device__ inline bool span_tile_find(struct span_tile *tile, const struct batch &b,
                                             int first, int u, int group, int rows)
{
    const int lane = threadIdx.x % 32;
    for (int base = first; base < b.n_spans; base += 32) {
        const int n =
            base + lane < b.n_spans ? (b.spans[base + lane].t * group + rows - 1) / rows : 0;
        int upto = n;
        for (int d = 1; d < 32; d *= 2) {
            const int other = __shfl_up_sync(~0u, upto, d);
            upto += lane >= d ? other : 0;
        }
        const unsigned beyond = __ballot_sync(~0u, upto > u);
        if (beyond) {
            const int at = __ffs(beyond) - 1;
            const int left = __shfl_sync(~0u, upto, at) - 1 - u; // tiles of the span after this
            tile->index = base + at;
            tile->span = b.spans[base + at];
            tile->row0 = left * rows;
            return true;
        }
        u -= __shfl_sync(~0u, upto, 31);
    }
    return false;
}

// A row of the step: its span and its position in the sequence.
struct span_row {
    int index, position;
};

// Called by whole warps. index < 0: the row belongs to no span.
static __device__ inline struct span_row span_row_find(const struct batch &b, int row)
{
    const int lane = threadIdx.x % 32;
    for (int base = 0; base < b.n_spans; base += 32) {
        const int i = min(base + lane, b.n_spans - 1);
        const int t0 = b.spans[i].t0, t = b.spans[i].t, pos0 = b.spans[i].pos0;
        const unsigned in = __ballot_sync(~0u, row >= t0 && row < t0 + t);
        if (in) {
            const int at = __ffs(in) - 1;
            return {__shfl_sync(~0u, i, at), __shfl_sync(~0u, pos0 + row - t0, at)};
        }
    }
    return {-1, 0};
}

#endif
