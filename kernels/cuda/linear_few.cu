// linear_few.cu - y = x W^T for a few rows of x: all matrices of a call in one launch, with the norm ahead of
// them and SwiGLU's product behind them where the call has those. For devices with a copy engine and 228 KB
// of shared memory a multiprocessor (sm_90, sm_100); others take linear_wide.cu for any number of rows.
// Bound by: the bytes of W.
//
// Of a block eight warps take a tile of eight rows of W at a time, each its share of the runs of k, from
// one stream that goes on over the tiles (linear_rows.cuh), and leave the runs' sums in shared memory; a
// ninth warp adds them and writes y. It is up to BUFFERS tiles behind, so that no stream waits for
// another. x is normed and rounded by every block for itself, into shared memory: at one row that is cheaper
// than a launch. The stream starts before the kernels ahead have ended, for weights do not change.
//
// What a block asks for itself meanwhile queues behind its stream's copies for the 5 us that device memory
// takes to fill all rings (21 to 25 MB). The copy engine does not, so it brings the row of x. Of gate and
// up a block takes tiles by pairs, and the ninth warp keeps SiLU of the first for the second.
//
// Measured on NVIDIA H200s, 2026-11-24. By itself, one row, as linear_table.c does (`ops_check perf linear
// --device cuda --act bf16`), microseconds where a copy moves 4.2 TB/s, before norm and pair came in: 9B gate
// and up 51.8, int8 28.2; down 27.8, 16.5; in_proj 26.2, 16.2; out_proj 10.3, 8.3; lm_head 506.
// A 9B step in one process after the other on one card, before and after (`model_check perf`, batch 1, depth
// 2,048 and 8,192): int8 3.36, 3.35 ms and 3.20, 3.22; bf16 4.87, 4.84 and 4.87, 4.83.
// Without the norm in it int8 3.41, without the pair 3.35, bf16 4.92 and 4.89, where all had 3.31 and 4.87.
//
// Where the rings begin in shared memory matters: see SHIFT_BF16.
//
// Tried and not kept. The stream by the copy engine, pieces of 1 KB of eight rows: lm_head 485 us, 4.2 TB/s, gate
// and up 50.5, which is all that memory gives; but out_proj 13.5 to 13.9, down 28.3 to 31.4, in_proj 27.8 to
// 28.5: bf16 steps as fast as these, int8 ones 0.1 ms slower. A tensor map and one thread for all orders is the
// better of its forms, a copy a row the worse, pieces of half the size and x by the copy engine too worse
// again. Whoever finds where its 3 us a launch go has 4.5 ms a step. Also slower: one block a
// multiprocessor; four warps for x beside the streams; the next run asked for in L2 as well.
//
// In a played 9B step, bf16, by marks of all blocks, 2026-12-01: gate and up have x 7.7 us after out_proj's end,
// the slowest block 9.5, and half of their blocks end by 53, the last at 60 (each has 5 or 6 pairs of tiles,
// and multiprocessors differ by 15 % in what they get). The next kernel's rings fill meanwhile, so down takes
// 26.9 us, less than by itself. But between the ends of in_proj and of out_proj 18 us pass for 33 MB, with
// empty rings after it: that is what a step loses most by. Tried against it and not kept, as steps were
// within 1 % or slower: the next matrix's first 8, 17 or 34 MB asked for in L2 when a stream has no more
// to order (8: -1 to +1 %, 17: 0 to +3 %, 34: +2 to 6 %; 8 after its last sums: -2 to +1 %): from L2 it comes
// no faster than from memory; x looked at when two stages are ordered (it is there at 5.4 us in place of
// 7.7, and the end is the same); one to three unfinished stages at a time while rings fill; delta_decode's y
// handed over by flags, which are seen 2 to 4 us late, behind the copies. Untried: out_proj, gate and up as
// one launch whose rings go on from the one into the others.
#include "linear_rows.cuh"
#include "quantize.cuh"

constexpr int STREAMS = 8, THREADS = 32 * (STREAMS + 1), PER_SM = 2;
constexpr int STAGE = 2;                    // pairs of a stage
constexpr int DEPTH = 6, DEPTH_LEAST = 5;   // stages of a warp's ring: what fits beside x
constexpr int BUFFERS = 4;                  // tiles' sums
constexpr int HELD = 8;                     // packs of a row of x that a thread keeps
constexpr int NORM_HELD = 3;                // of a row that is normed here
constexpr int ROWS_MOST = 4, ROWS_INT8 = 2; // rows of x; int8 costs more to round in every block
constexpr int X_BYTES = 28 << 10;           // of rounded x: two blocks fit in an SM
constexpr int HALF_SM = 115200;             // of SM_SHARED each of two blocks can order so many
constexpr int LINE = 128;
// Bytes from a whole line to where the rings begin, of bf16: lm_head takes 515 us, with 0 or 64 590, with 16 or
// 48 620 to 640; steps with int8 are 3 % slower with 32 than with 0. Why is not known.
constexpr int SHIFT_BF16 = 32;
constexpr int FULL = 1, EMPTY = FULL + BUFFERS; // named barriers

static_assert(HELD * PACK * THREADS >= FEW_COLS_MAX, "a row fits in the block's registers");
static_assert((NORM_HELD * THREADS + 31) / 32 <= 32, "a place a warp's share of the squares");

// Where things are in shared memory: rows of x as bf16 from the start, then those as int8, the tiles' sums, the
// rings. One row of x is brought by the copy engine, as it is, to the start, and what is to be added to it
// behind it: the rounded rows and the sums take that place when it has been read.
struct few_layout {
    int x_int8, stride_bf16, stride_int8, sums, sums_each, rings, depth, bytes;
    int raw; // bytes of a row as it is; 0: it is read from device memory
    bool bf16s, int8s;
};

static int whole_lines(int bytes)
{
    return (bytes + LINE - 1) / LINE * LINE;
}

// With rings of `depth` stages.
static few_layout layout_with(struct dev *dev, const struct rows_args *a, int depth)
{
    const int t = a->t;
    few_layout l = {};
    for (int i = 0; i < a->n; i++)
        (a->m[i].int8 ? l.int8s : l.bf16s) = true;
    l.stride_bf16 = x_stride(a->order[0].blocks);
    l.stride_int8 = x_stride(a->order[1].blocks);
    l.x_int8 = l.bf16s ? t * l.stride_bf16 : 0;
    if (t == 1)
        l.raw = a->k * (int)dtype_bytes(cuda_of(dev)->act);
    const int rounded = l.x_int8 + (l.int8s ? t * l.stride_int8 : 0);
    const int raw = l.raw * (a->norm.add ? 2 : 1);
    l.sums = rounded;
    l.sums_each = a->order[!l.bf16s].runs * t * TILE * (int)sizeof(float);
    const int end = l.sums + BUFFERS * l.sums_each;
    l.rings = whole_lines(end > raw ? end : raw) + (l.int8s ? 0 : SHIFT_BF16);
    l.depth = depth;
    l.bytes = l.rings + STREAMS * depth * STAGE * PAIR * (int)sizeof(uint4);
    return l;
}

static few_layout layout_of(struct dev *dev, const struct rows_args *a)
{
    const few_layout l = layout_with(dev, a, DEPTH);
    return l.bytes <= HALF_SM ? l : layout_with(dev, a, DEPTH_LEAST);
}

// A thread's share of a row: packs threadIdx.x, threadIdx.x + THREADS, .. All are asked for before the
// first is looked at.
template <typename type_t, int N>
static __device__ __forceinline__ void fetch_share(raw_pack<type_t> (&held)[N], const type_t *x,
                                                   int k)
{
#pragma unroll
    for (int n = 0; n < N; n++) {
        const int i = PACK * (threadIdx.x + n * THREADS);
        held[n] = {};
        if (i < k)
            held[n] = pack_fetch(x + i);
    }
}

static __device__ __forceinline__ float warp_fold(float x)
{
#pragma unroll
    for (int lane = 16; lane; lane /= 2)
        x += __shfl_xor_sync(~0u, x, lane);
    return x;
}

// The same of the norm of x + add, in rmsnorm's order of sums; `squares` holds a float for each 32 packs.
template <typename act_t>
static __device__ __forceinline__ void
norm_share(raw_pack<act_t> (&held)[NORM_HELD], const raw_pack<float> (&w)[NORM_HELD],
           const act_t *x, const act_t *add, float *squares, const struct rows_args &a)
{
    const int lane = threadIdx.x % 32, warps = (a.k / PACK + 31) / 32;
    pack v[NORM_HELD];
#pragma unroll
    for (int n = 0; n < NORM_HELD; n++) {
        const int i = PACK * (threadIdx.x + n * THREADS);
        float sum = 0;
        v[n] = {};
        if (i < a.k) {
            v[n] = pack_load(x + i);
            if (add) {
                const pack other = pack_load(add + i);
#pragma unroll
                for (int j = 0; j < PACK; j++)
                    v[n].v[j] += other.v[j];
            }
            if (blockIdx.x == 0 && a.norm.sum)
                pack_store((act_t *)a.norm.sum + i, v[n]);
#pragma unroll
            for (int j = 0; j < PACK; j++)
                sum += v[n].v[j] * v[n].v[j];
        }
        sum = warp_fold(sum);
        if (lane == 0)
            squares[i / PACK / 32] = sum;
    }
    __syncthreads(); // every share's squares are there
    const float sum = warp_fold(lane < warps ? squares[lane] : 0.0f);
    const float r = 1.0f / sqrtf(sum / (float)a.k + a.norm.eps);
#pragma unroll
    for (int n = 0; n < NORM_HELD; n++) {
        const pack weight = pack_open(w[n]);
#pragma unroll
        for (int j = 0; j < PACK; j++)
            v[n].v[j] = v[n].v[j] * r * (1.0f + weight.v[j]);
        pack_store((act_t *)&held[n], v[n]);
    }
}

// A row of x as bf16, the end of the last block zero.
template <typename act_t, int N>
static __device__ __forceinline__ void put_bf16(char *to, const raw_pack<act_t> (&held)[N], int k)
{
    const int end = row_blocks(k, false) * BLOCK / 2;
#pragma unroll
    for (int n = 0; n < N; n++) {
        const int i = PACK * (threadIdx.x + n * THREADS);
        if (i < end)
            pack_store((bf16 *)to + i, pack_open(held[n]));
    }
}

// A row of x as int8, and its scale; `parts` holds a float a warp.
template <typename act_t, int N>
static __device__ __forceinline__ void put_int8(char *to, float *row_scale, float *parts,
                                                const raw_pack<act_t> (&held)[N], int k)
{
    const int end = row_blocks(k, true) * BLOCK;
    float most = 0;
#pragma unroll
    for (int n = 0; n < N; n++)
        most = raw_largest(held[n], most);
#pragma unroll
    for (int lane = 16; lane; lane /= 2)
        most = fmaxf(most, __shfl_xor_sync(~0u, most, lane));
    if (threadIdx.x % 32 == 0)
        parts[threadIdx.x / 32] = most;
    __syncthreads(); // every warp's largest is there
#pragma unroll
    for (int i = 0; i < THREADS / 32; i++)
        most = fmaxf(most, parts[i]);
    const float scale = quantize_scale(most);
    const quantizer<act_t> to_int8(scale);
#pragma unroll
    for (int n = 0; n < N; n++) {
        const int i = PACK * (threadIdx.x + n * THREADS);
        if (i < end)
            *(uint2 *)(to + i) = to_int8.values(pack_open(held[n]));
    }
    if (threadIdx.x == 0)
        *row_scale = scale;
}

// The warp's share of a tile's runs.
__device__ __forceinline__ int first_run(const struct rows_order &o, int warp)
{
    return o.runs * warp / STREAMS;
}

// The tile after `tile` of a block: + gridDim.x, or where two matrices make a pair, the second's and then the
// first's next.
__device__ __forceinline__ int next_tile(const struct rows_args &a, int tile)
{
    const int half = a.m[1].tile0;
    if (!a.pair)
        return tile + gridDim.x;
    if (tile < half)
        return tile + half;
    tile += gridDim.x - half;
    return tile < half ? tile : a.tiles;
}

// The warp's stream: the block's tiles from tile blockIdx.x on, of each its share, run by run.
template <int DEEP> struct few_stream {
    uint4 *ring;
    struct rows_source source;
    int tile, run, block, end,
        stage; // of the stage ordered next; block .. end: the rest of its run
    uint64_t policy;

    // Goes to the first run that has blocks, from `run` of `tile` on.
    __device__ void find(const struct rows_args &a, bool fresh)
    {
        const int warp = threadIdx.x / 32;
        for (; tile < a.tiles; tile = next_tile(a, tile), fresh = true) {
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
        stage = stage + 1 == DEEP ? 0 : stage + 1;
    }
};

// One run from the stream against x: the sums of row g, into `to` [t, TILE].
template <typename sum_t, int DEEP>
static __device__ __forceinline__ void stream_run(struct few_stream<DEEP> &s, const char *x,
                                                  int stride, const struct rows_args &a, int block,
                                                  int end, sum_t *to)
{
    const int lane = threadIdx.x % 32, g = lane / 4;
    sum_t sum[4] = {};
    x += g * stride + lane % 4 * 16;
    for (; block < end; block += 2 * STAGE) {
        cp_async_wait_group<DEEP - 1>();
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
template <typename act_t>
static __device__ void fold_all(const char *sums, const struct rows_args &a, const few_layout &l,
                                const float *x_scale)
{
    static_assert(ROWS_MOST * TILE <= 32, "a value a lane");
    const int lane = threadIdx.x % 32, t = lane / TILE, next = a.t * TILE;
    const int each = a.pair ? 2 : 1;
    const int count = each * ((a.tiles / each - (int)blockIdx.x - 1) / (int)gridDim.x + 1);
    float gate = 0;
    for (int tile = blockIdx.x, n = 0; n < count; tile = next_tile(a, tile), n++) {
        const struct rows_matrix &m = matrix_of(a, tile);
        const int row = (tile - m.tile0) * TILE + lane % TILE, runs = a.order[m.int8].runs;
        const bool mine = t < a.t && row < m.rows;
        const float w_scale = mine && m.int8 ? m.scale[row] : 0; // comes while the sums are made
        const char *from = sums + n % BUFFERS * l.sums_each;
        bar_sync(FULL + n % BUFFERS, THREADS); // every stream's sums of the tile are there
        float y = 0;
        if (mine)
            y = m.int8 ? (float)fold((const int *)from + lane, runs, next) * (x_scale[t] * w_scale)
                       : fold((const float *)from + lane, runs, next);
        if (a.pair) {
            y = to_float(from_float<act_t>(y));
            if (n % 2)
                y *= gate;
            else
                gate = silu<act_t>(y);
        }
        if (mine && (!a.pair || n % 2))
            store_y(a, m, t, row, y);
        if (n + BUFFERS < count)
            bar_arrive(EMPTY + n % BUFFERS, THREADS); // they have been read
    }
}

template <int DEEP>
static __device__ void stream_all(struct few_stream<DEEP> &s, char *shared,
                                  const struct rows_args &a, const few_layout &l)
{
    const int warp = threadIdx.x / 32;
    for (int tile = blockIdx.x, n = 0; tile < a.tiles; tile = next_tile(a, tile), n++) {
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
                stream_run(s, shared, l.stride_bf16, a, block, end, (float *)to + at);
        }
        bar_arrive(FULL + n % BUFFERS, THREADS);
    }
}

// The copy engine brings the row of x and what is added to it: thread 0 of the ninth warp orders, after the
// kernels ahead have ended, and all wait.
static __device__ void copy_row(char *to, uint64_t *full, const struct rows_args &a,
                                const few_layout &l)
{
    const uint32_t barrier = shared_address(full);
    if (threadIdx.x == 32 * STREAMS) {
        mbarrier_arrive_expect_tx(barrier, l.raw * (a.norm.add ? 2 : 1));
        cp_async_bulk(shared_address(to), a.x, l.raw, barrier);
        if (a.norm.add)
            cp_async_bulk(shared_address(to + l.raw), a.norm.add, l.raw, barrier);
    }
    mbarrier_wait(barrier, 0);
}

// Row t of x to shared memory as the matrices want it.
template <typename act_t, int N>
static __device__ __forceinline__ void put_row(char *shared, float *x_scale, int t,
                                               const raw_pack<act_t> (&held)[N],
                                               const struct rows_args &a, const few_layout &l)
{
    __shared__ float parts[ROWS_MOST][THREADS / 32];
    if (l.raw)
        __syncthreads(); // the row has been read: the rounded one goes there
    if (l.bf16s)
        put_bf16(shared + t * l.stride_bf16, held, a.k);
    if (l.int8s)
        put_int8(shared + l.x_int8 + t * l.stride_int8, &x_scale[t], parts[t], held, a.k);
}

// The rows of x, rounded, to shared memory.
template <typename act_t>
static __device__ void stage_all(char *shared, float *x_scale, uint64_t *full,
                                 const raw_pack<float> (&w)[NORM_HELD], const struct rows_args &a,
                                 const few_layout &l)
{
    __shared__ float squares[32];
    const act_t *copied = (const act_t *)shared;
    if (l.raw)
        copy_row(shared, full, a, l);
    if (a.norm.w) {
        raw_pack<act_t> held[NORM_HELD];
        norm_share(held, w, copied, a.norm.add ? copied + a.k : NULL, squares, a);
        put_row(shared, x_scale, 0, held, a, l);
        return;
    }
    raw_pack<act_t> held[HELD];
    for (int t = 0; t < a.t; t++) {
        fetch_share(held, l.raw ? copied : (const act_t *)a.x + (size_t)t * a.k, a.k);
        put_row(shared, x_scale, t, held, a, l);
    }
}

template <typename act_t, int DEEP>
static __global__ void __launch_bounds__(THREADS, PER_SM)
    few(const __grid_constant__ struct rows_args a, const __grid_constant__ struct few_layout l)
{
    extern __shared__ __align__(128) char shared[];
    __shared__ float x_scale[ROWS_MOST];
    __shared__ uint64_t full;
    const bool streaming = threadIdx.x < 32 * STREAMS;
    raw_pack<float> w[NORM_HELD] = {};
    if (threadIdx.x == 32 * STREAMS && l.raw) {
        mbarrier_init(shared_address(&full), 1);
        fence_mbarrier_init();
    }
    griddepcontrol_launch_dependents();
    if (a.norm.w)
        fetch_share(w, a.norm.w, a.k);
    __syncthreads(); // `full` is there
    few_stream<DEEP> s = {};
    s.ring = (uint4 *)(shared + l.rings) + threadIdx.x / 32 * DEEP * STAGE * PAIR;
    s.tile = streaming ? blockIdx.x : a.tiles;
    s.policy = createpolicy_evict_first();
    s.find(a, true);
    for (int i = 0; i < DEEP; i++)
        s.order(a);
    griddepcontrol_wait();
    stage_all<act_t>(shared, x_scale, &full, w, a, l);
    __syncthreads(); // x is there
    if (streaming)
        stream_all(s, shared, a, l);
    else
        fold_all<act_t>(shared + l.sums, a, l, x_scale);
}

int few_rows_max(struct dev *dev, const struct linear_args *a)
{
    if (cuda_of(dev)->arch < 90 || cuda_of(dev)->sm_shared < SM_SHARED)
        return 0;
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

bool few_norms(struct dev *dev, const struct rows_args *a)
{
    return a->t == 1 && a->k <= NORM_HELD * PACK * THREADS && a->k % PACK == 0 &&
           layout_of(dev, a).bytes <= HALF_SM;
}

void linear_few(struct dev *dev, const struct rows_args *a)
{
    const struct few_layout l = layout_of(dev, a);
    const int most = (l.bytes <= HALF_SM ? PER_SM : 1) * cuda_of(dev)->n_sm;
    const int tiles = a->pair ? a->tiles / 2 : a->tiles;
    const struct cuda_shape shape = {(unsigned)(tiles < most ? tiles : most), THREADS,
                                     (size_t)l.bytes};
    if (l.depth == DEPTH)
        ACT_SWITCH(dev, (cuda_launch(dev, "linear", shape, few<act_t, DEPTH>, *a, l)));
    else
        ACT_SWITCH(dev, (cuda_launch(dev, "linear", shape, few<act_t, DEPTH_LEAST>, *a, l)));
}
