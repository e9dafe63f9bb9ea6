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
// What a block asks for itself meanwhile queues behind its lanes' copies for the 5 us that device memory
// takes to fill all rings (21 to 25 MB). The copy engine does not, so it brings the row of x. Of gate and
// up a block takes tiles by pairs, and the ninth warp keeps SiLU of the first for the second.
//
// Weights come by lanes' copies of lines, or where a block has many of them by boxes of the copy engine; see
// linear_source.cuh. What a block asks for itself does not wait for boxes, so with those it reads x itself.
//
// Measured, NVIDIA H200, 2026-12-01. By itself, one row, as linear_table.c does (`ops_check perf linear --device
// cuda --act bf16`), microseconds where a copy moves 4.2 TB/s: 9B gate and up 50.6 (lines alone 53.2), int8 30.5;
// down 28.2 (29.7), 19.1; in_proj 26.6 (29.8), 19.6; out_proj 13.2 (by boxes 14.6), 9.4; lm_head 486 (514), 4.19 TB/s.
// A 9B step before boxes and with them, one process after the other on one card, twice (`model_check perf --quick
// yes`, batch 1, depth 2,048 and 8,192): bf16 4.735, 4.742 and 4.704, 4.718 ms before, 4.502, 4.502 and 4.543,
// 4.523 with; int8, of which lm_head alone is bf16, 3.032, 3.048 and 3.043, 3.047 before, 3.001, 2.995 and 3.021,
// 3.001 with. Boxes of half the size 4.551 to 4.565 and 4.580 to 4.596, for gate and up and lm_head alone 4.652,
// 4.654 and 4.695, 4.700; for out_proj too 4.57 and 4.60 to 4.61; of int8 as well 3.06 to 3.07 and 3.11. Norm and
// pair, on 2026-11-24: without the norm in it int8 3.41, without the pair 3.35, bf16 4.92 and 4.89, where all had 3.31
// and 4.87.
//
// Where the rings begin in shared memory matters to lines: see SHIFT_HALF.
//
// Tried and not kept: boxes of a line, 1 KB, each of a lane's or all of one thread's order; a row's line a copy of
// the engine; x by the engine behind boxes; one block a multiprocessor; four warps for x beside the streams; the
// next run asked for in L2 as well. One block a multiprocessor for out_proj and down of up to 128 KB of W each, so
// that the next launch's rings fill beside it, in turns, ms a step: 2B bf16 1.485 to 1.462, int8 1.189 to 1.167; 9B
// int8 2.990 to 2.972; but 4B int8 2.124 to 2.152, and with wider matrices so too steps are up to 11 % slower
// (`model_check perf --quick yes`, batch 1, depth 2,048, 2026-12-01).
//
// In a played 9B step, bf16, lines alone, by marks of all blocks, 2026-12-01: gate and up have x 7.7 us after
// out_proj's end, the slowest block 9.5, and half of their blocks end by 53, the last at 60 (each has 5 or 6 pairs
// of tiles, and multiprocessors differ by 15 % in what they get). The next kernel's rings fill meanwhile, so down
// takes 26.9 us, less than by itself. But between the ends of in_proj and of out_proj 18 us pass for 33 MB, with
// empty rings after it: that is what a step loses most by. Tried against it and not kept, as steps were within 1 %
// or slower: the next matrix's first 8, 17 or 34 MB asked for in L2 when a stream has no more to order (8: -1 to
// +1 %, 17: 0 to +3 %, 34: +2 to 6 %; 8 after its last sums: -2 to +1 %): from L2 it comes no faster than from
// memory; x looked at when two stages are ordered (it is there at 5.4 us in place of 7.7, and the end is the
// same); one to three unfinished stages at a time while rings fill; delta_decode's y handed over by flags, which
// are seen 2 to 4 us late, behind the copies. Untried: out_proj, gate and up as one launch whose rings go on from
// the one into the others.
#include "linear_source.cuh"
#include "quantize.cuh"

constexpr int STREAMS = 8, THREADS = 32 * (STREAMS + 1), PER_SM = 2;
constexpr int LINES = 6, LINES_LEAST = 5;   // stages of a warp's ring: what fits beside x
constexpr int BOXES = 3, BOXES_LEAST = 2;   // the same of boxes
constexpr int BUFFERS = 4;                  // tiles' sums
constexpr int HELD = 8;                     // packs of a row of x that a thread keeps
constexpr int NORM_HELD = 3;                // of a row that is normed here
constexpr int ROWS_MOST = 4, ROWS_INT8 = 2; // rows of x; int8 costs more to round in every block
constexpr int X_BYTES = 28 << 10;           // of rounded x: two blocks fit in an SM
constexpr int HALF_SM = 115200;             // of SM_SHARED each of two blocks can order so many
constexpr int LINE = 128, BOX_ALIGN = 1024;
// Boxes from so many bytes of W a block on: out_proj of 9B, 127 KB, is slower with them, in_proj and down, 383 KB,
// are faster.
constexpr size_t BOXED_BYTES = 256 << 10;
// Bytes from a whole line to where the rings begin, of 16-bit weights (measured with bf16): lm_head takes 515 us, with
// 0 or 64 590, with 16 or 48 620 to 640; steps with int8 are 3 % slower with 32 than with 0. Why is not known.
constexpr int SHIFT_HALF = 32;
constexpr int FULL = 1, EMPTY = FULL + BUFFERS; // named barriers

static_assert(HELD * PACK * THREADS >= FEW_COLS_MAX, "a row fits in the block's registers");
static_assert((NORM_HELD * THREADS + 31) / 32 <= 32, "a place a warp's share of the squares");

// Where things are in shared memory: rows of x as 16-bit values from the start, then those as int8, the tiles' sums,
// the rings. One row of x is brought by the copy engine, as it is, to the start, and what is to be added to it
// behind it: the rounded rows and the sums take that place when it has been read.
struct few_layout {
    int x_int8, stride_half, stride_int8, sums, sums_each, rings, depth, bytes;
    int raw; // bytes of a row as it is; 0: it is read from device memory
    bool halves, int8s, boxes;
};

static int whole(int bytes, int align)
{
    return (bytes + align - 1) / align * align;
}

// Do boxes bring this call's weights? See linear_source.cuh.
static bool takes_boxes(struct dev *dev, const struct rows_args *a)
{
    const size_t bytes = (size_t)a->tiles * TILE * (size_t)row_bytes(a->k, false);
    for (int i = 0; i < a->n; i++)
        if (a->m[i].int8)
            return false;
    return cuda_of(dev)->act != DTYPE_F32 && row_bytes(a->k, false) % LINE == 0 &&
           a->order[0].length % (2 * BOX_PAIRS) == 0 &&
           bytes >= BOXED_BYTES * PER_SM * cuda_of(dev)->n_sm;
}

// With rings of `depth` stages.
static few_layout layout_with(struct dev *dev, const struct rows_args *a, bool boxes, int depth)
{
    const int t = a->t, pairs = boxes ? BOX_PAIRS : line_source<LINES>::STAGE;
    few_layout l = {};
    l.boxes = boxes;
    for (int i = 0; i < a->n; i++)
        (a->m[i].int8 ? l.int8s : l.halves) = true;
    l.stride_half = x_stride(a->order[0].blocks);
    l.stride_int8 = x_stride(a->order[1].blocks);
    l.x_int8 = l.halves ? t * l.stride_half : 0;
    if (t == 1 && !l.boxes)
        l.raw = a->k * (int)dtype_bytes(cuda_of(dev)->act);
    const int rounded = l.x_int8 + (l.int8s ? t * l.stride_int8 : 0);
    const int raw = l.raw * (a->norm.add ? 2 : 1);
    l.sums = rounded;
    l.sums_each = a->order[!l.halves].runs * t * TILE * (int)sizeof(float);
    const int end = l.sums + BUFFERS * l.sums_each;
    l.rings = l.boxes ? whole(end, BOX_ALIGN)
                      : whole(end > raw ? end : raw, LINE) + (l.int8s ? 0 : SHIFT_HALF);
    l.depth = depth;
    l.bytes = l.rings + STREAMS * depth * pairs * PAIR * (int)sizeof(uint4);
    return l;
}

static few_layout layout_of(struct dev *dev, const struct rows_args *a)
{
    const bool boxes = takes_boxes(dev, a);
    const few_layout l = layout_with(dev, a, boxes, boxes ? BOXES : LINES);
    return l.bytes <= HALF_SM ? l : layout_with(dev, a, boxes, boxes ? BOXES_LEAST : LINES_LEAST);
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
                    v[n].v[j] = held_by<act_t>(v[n].v[j] + other.v[j]);
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

// A row of x as 16-bit values, the end of the last block zero.
template <typename act_t, int N>
static __device__ __forceinline__ void put_half(char *to, const raw_pack<act_t> (&held)[N], int k)
{
    const int end = row_blocks(k, false) * BLOCK / 2;
#pragma unroll
    for (int n = 0; n < N; n++) {
        const int i = PACK * (threadIdx.x + n * THREADS);
        if (i < end)
            pack_store((half_of<act_t> *)to + i, pack_open(held[n]));
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
template <typename source_t> struct few_stream {
    uint4 *ring;
    source_t source;
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
            source.fetch(ring, stage, block, end, policy);
            block += 2 * source_t::STAGE;
            if (block >= end) {
                run++;
                find(a, false);
            }
        }
        source.close();
        stage = stage + 1 == source_t::DEEP ? 0 : stage + 1;
    }
};

// One run from the stream against x: the sums of row g, into `to` [t, TILE].
template <typename w_t, typename source_t>
static __device__ __forceinline__ void stream_run(struct few_stream<source_t> &s, const char *x,
                                                  int stride, const struct rows_args &a, int block,
                                                  int end, sum_of<w_t> *to)
{
    constexpr int STAGE = source_t::STAGE;
    const int lane = threadIdx.x % 32, g = lane / 4;
    sum_of<w_t> sum[4] = {};
    x += g * stride + lane % 4 * 16;
    for (; block < end; block += 2 * STAGE) {
        s.source.wait(s.stage);
        const uint4 *pairs = s.ring + s.stage * STAGE * PAIR;
#pragma unroll
        for (int i = 0; i < 2 * STAGE; i++)
            if (block + i < end) {
                uint4 low = {};
                if (g < a.t)
                    low = *(const uint4 *)(x + (block + i) * BLOCK);
                block_product<w_t>(sum, low, uint4{}, source_t::read(pairs + i / 2 * PAIR, i % 2));
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
    sum_t sum = 0;
    for (int phase = 0; phase < runs; phase += PHASE_RUNS, sums += PHASE_RUNS * next) {
        sum_t of_phase = sums[0];
#pragma unroll
        for (int run = 1; run < PHASE_RUNS; run++)
            of_phase += sums[run * next];
        sum = phase ? sum + of_phase : of_phase;
    }
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

template <typename half_t, typename source_t>
static __device__ void stream_all(struct few_stream<source_t> &s, char *shared,
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
            if (source_t::INT8 && int8)
                stream_run<int8_t>(s, shared + l.x_int8, l.stride_int8, a, block, end,
                                   (int *)to + at);
            else
                stream_run<half_t>(s, shared, l.stride_half, a, block, end, (float *)to + at);
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
    if (l.halves)
        put_half(shared + t * l.stride_half, held, a.k);
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
    const act_t *copied = (const act_t *)shared, *x = (const act_t *)a.x;
    const act_t *add = (const act_t *)a.norm.add;
    if (l.raw) {
        copy_row(shared, full, a, l);
        x = copied;
        add = add ? copied + a.k : NULL;
    }
    if (a.norm.w) {
        raw_pack<act_t> held[NORM_HELD];
        norm_share(held, w, x, add, squares, a);
        put_row(shared, x_scale, 0, held, a, l);
        return;
    }
    raw_pack<act_t> held[HELD];
    for (int t = 0; t < a.t; t++) {
        fetch_share(held, x + (size_t)t * a.k, a.k);
        put_row(shared, x_scale, t, held, a, l);
    }
}

template <typename act_t, typename source_t>
static __global__ void __launch_bounds__(THREADS, PER_SM)
    few(const __grid_constant__ struct rows_args a, const __grid_constant__ struct few_layout l,
        const __grid_constant__ typename source_t::maps_t maps)
{
    extern __shared__ __align__(1024) char shared[];
    __shared__ float x_scale[ROWS_MOST];
    __shared__ uint64_t full, stages[STREAMS][source_t::BARRIERS];
    const bool streaming = threadIdx.x < 32 * STREAMS;
    const int warp = threadIdx.x / 32;
    raw_pack<float> w[NORM_HELD] = {};
    if (threadIdx.x == 32 * STREAMS && l.raw) {
        mbarrier_init(shared_address(&full), 1);
        fence_mbarrier_init();
    }
    griddepcontrol_launch_dependents();
    if (a.norm.w)
        fetch_share(w, a.norm.w, a.k);
    __syncthreads(); // `full` is there
    few_stream<source_t> s = {};
    if (streaming)
        s.source.begin(maps, stages[warp]);
    s.ring = (uint4 *)(shared + l.rings) + warp * source_t::DEEP * source_t::STAGE * PAIR;
    s.tile = streaming ? blockIdx.x : a.tiles;
    s.policy = createpolicy_evict_first();
    s.find(a, true);
    for (int i = 0; i < source_t::DEEP; i++)
        s.order(a);
    griddepcontrol_wait();
    stage_all<act_t>(shared, x_scale, &full, w, a, l);
    __syncthreads(); // x is there
    if (streaming)
        stream_all<half_of<act_t>>(s, shared, a, l);
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

template <typename act_t, typename source_t>
static void launch(struct dev *dev, const struct rows_args *a, const struct few_layout &l,
                   const typename source_t::maps_t &maps)
{
    const int most = (l.bytes <= HALF_SM ? PER_SM : 1) * cuda_of(dev)->n_sm;
    const int tiles = a->pair ? a->tiles / 2 : a->tiles;
    const struct cuda_shape shape = {(unsigned)(tiles < most ? tiles : most), THREADS,
                                     (size_t)l.bytes};
    cuda_launch(dev, "linear", shape, few<act_t, source_t>, *a, l, maps);
}

template <int DEPTH>
static void launch_lines(struct dev *dev, const struct rows_args *a, const struct few_layout &l)
{
    const typename line_source<DEPTH>::maps_t none = {};
    ACT_SWITCH(dev, (launch<act_t, line_source<DEPTH>>(dev, a, l, none)));
}

template <int DEPTH>
static void launch_boxes(struct dev *dev, const struct rows_args *a, const struct few_layout &l)
{
    typename box_source<DEPTH>::maps_t maps = {};
    for (int i = 0; i < a->n; i++)
        if (!box_map(&maps.of[i], &a->m[i], a->k, TILE, BOX_PAIRS))
            cuda_fail(dev, "linear: the driver takes no tensor map of %d x %d", a->m[i].rows, a->k);
    HALF_SWITCH(dev, (launch<half_t, box_source<DEPTH>>(dev, a, l, maps)));
}

void linear_few(struct dev *dev, const struct rows_args *a)
{
    const struct few_layout l = layout_of(dev, a);
    if (l.boxes)
        (l.depth == BOXES ? launch_boxes<BOXES> : launch_boxes<BOXES_LEAST>)(dev, a, l);
    else
        (l.depth == LINES ? launch_lines<LINES> : launch_lines<LINES_LEAST>)(dev, a, l);
}
