// linear_few.cu - y = x W^T for a few rows of x: all matrices of a call in one launch.
// Bound by: the bytes of W.
//
// Of a block eight warps take a tile of eight rows of W at a time, each its share of the runs of k, from
// one stream that goes on over the tiles (linear_rows.cuh), and leave the runs' sums in shared memory; a
// ninth warp adds them and writes y. It is up to BUFFERS tiles behind, so that no stream waits for
// another. x is rounded by every block for itself, into shared memory: at one row that is cheaper than a
// launch. The stream starts before the kernels ahead have ended, for weights do not change.
//
// Measured, one row, microseconds and TB/s of weights, where a copy moves 4.23: 9B gate and up 53.4 (3.77),
// int8 30.2 (3.3); down 29.3 (3.4), int8 20.2 (2.5); in_proj 27.7 (3.6), int8 20.0 (2.5); out_proj 11.7
// (2.9), int8 9.8 (1.7); lm_head 514 (4.0). NVIDIA H200, 2026-11-24, `ops_check perf linear --device cuda
// --act bf16`: weights swept and runs played as one graph, as linear_table.c does.
//
// In a played step (marks of globaltimer, same day): filling the rings takes 5 us, as long as device memory
// takes for 21 MB, and a block comes to x only then, 7 to 9 us after the end of the product before where a
// norm stands between, 5 where silu_mul does, 14 where delta_decode does; x is there 0.7 us later (int8 1.9),
// and until then memory idles. Tried and slower, ms of a 9B step in bf16 and int8, where this has 4.8 and
// 3.3: the norm and SwiGLU's product made in the blocks, 96 launches fewer, 4.9 and 3.4; besides with one block
// a multiprocessor 5.2 and 4.0; with four warps for x beside the streams 5.9 and 4.0, since whatever they
// read queues behind the rings' copies; with the next run asked for in L2 as well 6.9 and 4.5.
#include "linear_rows.cuh"
#include "quantize.cuh"

constexpr int STREAMS = 8, THREADS = 32 * (STREAMS + 1), PER_SM = 2;
constexpr int STAGE = 2, DEPTH = 5;           // pairs of a stage, stages of a warp's ring
constexpr int BUFFERS = 4;                    // tiles' sums
constexpr int HELD = 6;                       // packs of x that a thread asks for at once
constexpr int SHARES = HELD * PACK * THREADS; // values that makes for the block
constexpr int ROWS_MOST = 4, ROWS_INT8 = 2;   // rows of x; int8 costs more to round in every block
constexpr int X_BYTES = 28 << 10;             // of rounded x: two blocks fit in an SM
constexpr int HALF_SM = 112 << 10;            // shared memory of each of two blocks
constexpr int FULL = 1, EMPTY = FULL + BUFFERS; // named barriers

// Where things are in shared memory.
struct few_layout {
    int sums, sums_each, x_bf16, x_int8, stride_bf16, stride_int8, bytes;
};

static few_layout layout_of(const struct rows_args *a, bool bf16s, bool int8s)
{
    const int t = a->t;
    few_layout l = {};
    l.stride_bf16 = x_stride(a->order[0].blocks);
    l.stride_int8 = x_stride(a->order[1].blocks);
    l.sums = STREAMS * DEPTH * STAGE * PAIR * (int)sizeof(uint4);
    l.sums_each = a->order[!bf16s].runs * t * TILE * (int)sizeof(float);
    l.x_bf16 = l.sums + BUFFERS * l.sums_each;
    l.x_int8 = l.x_bf16 + (bf16s ? t * l.stride_bf16 : 0);
    l.bytes = l.x_int8 + (int8s ? t * l.stride_int8 : 0);
    return l;
}

// A thread's share of HELD * PACK * THREADS values of a row, from `from` on, zeros beyond k: packs
// threadIdx.x, threadIdx.x + THREADS, .. All are asked for before the first is looked at, for a reading
// queues behind the stream's copies, and most rows need no second.
template <typename act_t>
static __device__ __forceinline__ void fetch_share(raw_pack<act_t> (&held)[HELD], const act_t *x,
                                                   int k, int from)
{
#pragma unroll
    for (int n = 0; n < HELD; n++) {
        const int i = from + PACK * (threadIdx.x + n * THREADS);
        held[n] = {};
        if (i < k)
            held[n] = pack_fetch(x + i);
    }
}

// The rows of x as bf16, the end of the last block zero.
template <typename act_t>
static __device__ void stage_bf16(char *to, int stride, const struct rows_args &a)
{
    const int end = row_blocks(a.k, false) * BLOCK / 2;
    raw_pack<act_t> held[HELD];
    for (int t = 0; t < a.t; t++)
        for (int from = 0; from < end; from += SHARES) {
            fetch_share(held, (const act_t *)a.x + (size_t)t * a.k, a.k, from);
#pragma unroll
            for (int n = 0; n < HELD; n++) {
                const int i = from + PACK * (threadIdx.x + n * THREADS);
                if (i < end)
                    pack_store((bf16 *)(to + t * stride) + i, pack_open(held[n]));
            }
        }
}

template <typename act_t>
static __device__ __forceinline__ float largest(const raw_pack<act_t> (&held)[HELD], float most)
{
#pragma unroll
    for (int n = 0; n < HELD; n++)
        most = pack_largest(pack_open(held[n]), most);
    return most;
}

// The rows of x as int8 and their scales; `parts` holds a float a row and warp.
template <typename act_t>
static __device__ void stage_int8(char *to, int stride, float *scales, float (*parts)[THREADS / 32],
                                  const struct rows_args &a)
{
    const int end = row_blocks(a.k, true) * BLOCK;
    raw_pack<act_t> held[HELD];
    for (int t = 0; t < a.t; t++) {
        const act_t *x = (const act_t *)a.x + (size_t)t * a.k;
        float most = 0;
        for (int from = (a.k - 1) / SHARES * SHARES; from >= 0; from -= SHARES) {
            fetch_share(held, x, a.k, from); // the first share last: it is kept
            most = largest(held, most);
        }
#pragma unroll
        for (int lane = 16; lane; lane /= 2)
            most = fmaxf(most, __shfl_xor_sync(~0u, most, lane));
        if (threadIdx.x % 32 == 0)
            parts[t][threadIdx.x / 32] = most;
        __syncthreads(); // every warp's largest of the row is there
#pragma unroll
        for (int i = 0; i < THREADS / 32; i++)
            most = fmaxf(most, parts[t][i]);
        const float scale = quantize_scale(most);
        const quantizer to_int8(scale);
        for (int from = 0; from < end; from += SHARES) {
            if (from > 0)
                fetch_share(held, x, a.k, from);
#pragma unroll
            for (int n = 0; n < HELD; n++) {
                const int i = from + PACK * (threadIdx.x + n * THREADS);
                if (i < end)
                    *(uint2 *)(to + t * stride + i) = to_int8.values(pack_open(held[n]));
            }
        }
        if (threadIdx.x == 0)
            scales[t] = scale;
    }
}

// The warp's share of a tile's runs.
__device__ __forceinline__ int first_run(const struct rows_order &o, int warp)
{
    return o.runs * warp / STREAMS;
}

// The warp's stream: tiles blockIdx.x, + gridDim.x, .., of each its share, run by run.
struct few_stream {
    uint4 *ring;
    struct rows_source source;
    int tile, run, block, end,
        stage; // of the stage ordered next; block .. end: the rest of its run
    uint64_t policy;

    // Goes to the first run that has blocks, from `run` of `tile` on.
    __device__ void find(const struct rows_args &a, bool fresh)
    {
        const int warp = threadIdx.x / 32;
        for (; tile < a.tiles; tile += gridDim.x, fresh = true) {
            const struct rows_order &o = a.order[matrix_of(a, tile).int8];
            if (fresh) {
                source.aim(a, tile);
                run = first_run(o, warp);
            }
            for (; run < first_run(o, warp + 1); run++) {
                block = run_begin(o, run);
                end = run_begin(o, run + 1);
                if (block < end)
                    return;
            }
        }
    }

    __device__ void order(const struct rows_args &a)
    {
        if (tile < a.tiles) {
#pragma unroll
            for (int i = 0; i < STAGE; i++)
                if (block + 2 * i < end)
                    source.copy(ring + (stage * STAGE + i) * PAIR, block + 2 * i, policy);
            block += 2 * STAGE;
            if (block >= end) {
                run++;
                find(a, false);
            }
        }
        cp_async_commit_group();
        stage = stage + 1 == DEPTH ? 0 : stage + 1;
    }
};

// One run from the stream against x: the sums of row g, into `to` [t, TILE].
template <typename sum_t>
static __device__ __forceinline__ void stream_run(struct few_stream &s, const char *x, int stride,
                                                  const struct rows_args &a, int block, int end,
                                                  sum_t *to)
{
    const int lane = threadIdx.x % 32, g = lane / 4;
    sum_t sum[4] = {};
    x += g * stride + lane % 4 * 16;
    for (; block < end; block += 2 * STAGE) {
        cp_async_wait_group<DEPTH - 1>();
        __syncwarp(); // the other lanes' copies of the oldest stage are there too
        const uint4 *pairs = s.ring + s.stage * STAGE * PAIR;
#pragma unroll
        for (int i = 0; i < 2 * STAGE; i++)
            if (block + i < end) {
                uint4 low = {};
                if (g < a.t)
                    low = *(const uint4 *)(x + (block + i) * BLOCK);
                block_product(sum, low, uint4{}, pair_read(pairs + i / 2 * PAIR, i % 2));
            }
        __syncwarp(); // all lanes have read it: it is the one ordered next
        s.order(a);
    }
    to += g * TILE + lane % 4 * 2;
    if (g < a.t) {
        to[0] = sum[0];
        to[1] = sum[1];
    }
}

// A value of a tile: its runs' sums in their order.
template <typename sum_t>
static __device__ __forceinline__ sum_t fold(const sum_t *sums, int runs, int next)
{
    sum_t sum = sums[0];
#pragma unroll 8
    for (int run = 1; run < runs; run++)
        sum += sums[run * next];
    return sum;
}

// The ninth warp, a value of the tile a lane.
static __device__ void fold_all(const char *sums, const struct rows_args &a, const few_layout &l,
                                const float *x_scale)
{
    static_assert(ROWS_MOST * TILE <= 32, "a value a lane");
    const int lane = threadIdx.x % 32, t = lane / TILE, next = a.t * TILE;
    for (int tile = blockIdx.x, n = 0; tile < a.tiles; tile += gridDim.x, n++) {
        const struct rows_matrix &m = matrix_of(a, tile);
        const int row = (tile - m.tile0) * TILE + lane % TILE, runs = a.order[m.int8].runs;
        const bool mine = t < a.t && row < m.rows;
        const float w_scale = mine && m.int8 ? m.scale[row] : 0; // comes while the sums are made
        const char *from = sums + n % BUFFERS * l.sums_each;
        bar_sync(FULL + n % BUFFERS, THREADS); // every stream's sums of the tile are there
        if (mine)
            store_y(a, m, t, row,
                    m.int8
                        ? (float)fold((const int *)from + lane, runs, next) * (x_scale[t] * w_scale)
                        : fold((const float *)from + lane, runs, next));
        if (tile + BUFFERS * (int)gridDim.x < a.tiles)
            bar_arrive(EMPTY + n % BUFFERS, THREADS); // they have been read
    }
}

static __device__ void stream_all(struct few_stream &s, char *shared, const struct rows_args &a,
                                  const few_layout &l)
{
    const int warp = threadIdx.x / 32;
    for (int tile = blockIdx.x, n = 0; tile < a.tiles; tile += gridDim.x, n++) {
        const bool int8 = matrix_of(a, tile).int8;
        const struct rows_order &o = a.order[int8];
        char *to = shared + l.sums + n % BUFFERS * l.sums_each;
        if (n >= BUFFERS)
            bar_sync(EMPTY + n % BUFFERS, THREADS); // the sums of BUFFERS tiles ago have been read
        for (int run = first_run(o, warp); run < first_run(o, warp + 1); run++) {
            const int at = run * a.t * TILE, block = run_begin(o, run), end = run_begin(o, run + 1);
            if (int8)
                stream_run(s, shared + l.x_int8, l.stride_int8, a, block, end, (int *)to + at);
            else
                stream_run(s, shared + l.x_bf16, l.stride_bf16, a, block, end, (float *)to + at);
        }
        bar_arrive(FULL + n % BUFFERS, THREADS);
    }
}

template <typename act_t>
static __global__ void __launch_bounds__(THREADS, PER_SM)
    few(const __grid_constant__ struct rows_args a, const __grid_constant__ struct few_layout l)
{
    extern __shared__ __align__(16) char shared[];
    __shared__ float parts[ROWS_MOST][THREADS / 32], x_scale[ROWS_MOST];
    const bool streaming = threadIdx.x < 32 * STREAMS;
    struct few_stream s = {};
    s.ring = (uint4 *)shared + threadIdx.x / 32 * DEPTH * STAGE * PAIR;
    s.tile = streaming ? blockIdx.x : a.tiles;
    s.policy = createpolicy_evict_first();
    griddepcontrol_launch_dependents();
    s.find(a, true);
    for (int i = 0; i < DEPTH; i++)
        s.order(a);
    griddepcontrol_wait();
    if (l.x_int8 > l.x_bf16)
        stage_bf16<act_t>(shared + l.x_bf16, l.stride_bf16, a);
    if (l.bytes > l.x_int8)
        stage_int8<act_t>(shared + l.x_int8, l.stride_int8, x_scale, parts, a);
    __syncthreads(); // x is there
    if (streaming)
        stream_all(s, shared, a, l);
    else
        fold_all(shared + l.sums, a, l, x_scale);
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
    const int rows = X_BYTES / bytes, most = seen[1] ? ROWS_INT8 : ROWS_MOST;
    return rows < 1 ? 1 : rows > most ? most : rows;
}

void linear_few(struct dev *dev, const struct rows_args *a)
{
    bool bf16s = false, int8s = false;
    for (int i = 0; i < a->n; i++)
        (a->m[i].int8 ? int8s : bf16s) = true;
    const struct few_layout l = layout_of(a, bf16s, int8s);
    const int most = (l.bytes <= HALF_SM ? PER_SM : 1) * cuda_of(dev)->n_sm;
    const struct cuda_shape shape = {(unsigned)(a->tiles < most ? a->tiles : most), THREADS,
                                     (size_t)l.bytes};
    ACT_SWITCH(dev, cuda_launch(dev, "linear", shape, few<act_t>, *a, l));
}
