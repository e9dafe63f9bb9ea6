// delta_chain.cu - the part of the gated delta rule that goes from chunk to chunk, on warpgroup matrices.
// 16-bit activations, chunks of 64, heads of 128 x 128; struct delta_unit says what came before.
//
// The chain. A warpgroup owns 64 columns of one head's state and keeps their transpose, in float32, in
// its registers. Its products are taken transposed, so that the sums of one are the left operand of the
// next in the same registers, and nothing on the way from state to state passes through memory:
//   (K S)^T = S^T K^T,  V'^T = V^T - (K S)^T diag(v_from_s),  N^T = V'^T T^T,
//   S^T = decay S^T + (N^T diag(s_from_n)) K
// The outputs. A second warpgroup is handed S and N, in their type through shared memory, and follows:
//   O = diag(o_from_s) Q S + P N
// A third keeps the copy engine some chunks ahead. What one waits for is named at its barrier.
//
// The state is float32 inside whatever slots keep; a bf16 slot gets it rounded, which with bf16 activations is what the
// next product would have read.
//
// Bound by one chunk after another while there are fewer blocks than multiprocessors: products of 6.3
// MFLOP a chunk and head without the outputs', and what lies between them; beyond that by all 8.4 MFLOP.
// Measured: 1.25 us a chunk for 2 to 64 heads of one sequence, 2.28 us for 32 heads of four sequences.
// Outputs by a warp's own products instead (no fence for the chain to wait for) took 1.37 and 2.92 us.
// NVIDIA H200, 2026-11-24.
#include "delta.cuh"
#include "ptx.cuh"
#include "tensor_map.cuh"

static constexpr int COLUMNS = 64, GROUP = 128; // of a warpgroup of the chain: columns, threads

// GROUPS warpgroups of the chain share what they need of k, q, T and P. The registers of a warpgroup's
// threads: four warpgroups of 128, or three, may have 65536 in all.
template <int GROUPS> struct chain_shape;
template <> struct chain_shape<1> {
    static constexpr int STAGES = 3, THREADS = 3 * GROUP;
    static constexpr int CHAIN_REGISTERS = 240, OUTPUT_REGISTERS = 168;
};
template <> struct chain_shape<2> {
    static constexpr int STAGES = 2, THREADS = 4 * GROUP;
    static constexpr int CHAIN_REGISTERS = 200, OUTPUT_REGISTERS = 88;
};
static constexpr int COPY_REGISTERS = 24;

struct tile_64x128 {
    unsigned char half[2][64 * 128]; // columns 0 .. 63 and 64 .. 127, rows of 128 bytes, swizzled
};

template <int GROUPS> struct chain_shared {
    struct stage {
        struct tile_64x128 k, q;
        unsigned char v[GROUPS][64 * 128];
        struct delta_unit unit;
    } stage[chain_shape<GROUPS>::STAGES];
    struct tile_64x128 state[GROUPS];        // S^T as it enters the chunk
    unsigned char changes[GROUPS][64 * 128]; // N^T
    unsigned char o[4][16 * 128];            // of each warp of the outputs: 16 tokens, 64 columns
    uint64_t full[chain_shape<GROUPS>::STAGES], empty[chain_shape<GROUPS>::STAGES];
    uint64_t state_full[GROUPS], state_free[GROUPS], changes_full[GROUPS], changes_free[GROUPS];
};

template <typename half_t, typename state_t> struct chain_args {
    half_t *o;
    state_t *state;
    const struct span *spans;
    const struct delta_unit *units;
    struct delta_slab slab;
    int k_heads, v_heads;
    float *carry; // see struct delta_slab
};

// A block's share: chunks of one span in the slab, one head.
struct chain_job {
    struct span span;
    int chunks, first_token, unit; // unit: of its first chunk
};

static __device__ __forceinline__ int tokens_of(const struct chain_job &job, int i)
{
    return min(DELTA_CHUNK, job.span.t - job.first_token - i * DELTA_CHUNK);
}

// A warp has written its part of what the products read, or has read its part: one arrival a warp.
static __device__ __forceinline__ void arrive_written(uint64_t *barrier)
{
    fence_proxy_async_shared();
    __syncwarp(); // the warp's writes
    if (threadIdx.x % 32 == 0)
        mbarrier_arrive(shared_address(barrier));
}
static __device__ __forceinline__ void arrive_read(uint64_t *barrier)
{
    __syncwarp(); // the warp's reads
    if (threadIdx.x % 32 == 0)
        mbarrier_arrive(shared_address(barrier));
}

// ---- the copies -----------------------------------------------------------------------------------

template <int GROUPS, typename half_t, typename state_t>
static __device__ void fetch(typename chain_shared<GROUPS>::stage &s, uint32_t full,
                             const struct chain_args<half_t, state_t> &a, const CUtensorMap *map,
                             int row, int unit)
{
    const int v_head = blockIdx.y, k_head = v_head / (a.v_heads / a.k_heads);
    const int q = k_head * DELTA_DIM, k = q + a.k_heads * DELTA_DIM;
    const int v = (2 * a.k_heads + v_head) * DELTA_DIM + blockIdx.x * GROUPS * COLUMNS;
    mbarrier_arrive_expect_tx(full, (4 + GROUPS) * 64 * 128 + DELTA_UNIT_BYTES);
    cp_async_bulk_tensor_2d(shared_address(s.k.half[0]), map, k, row, full);
    cp_async_bulk_tensor_2d(shared_address(s.k.half[1]), map, k + 64, row, full);
#pragma unroll
    for (int i = 0; i < GROUPS; i++)
        cp_async_bulk_tensor_2d(shared_address(s.v[i]), map, v + i * COLUMNS, row, full);
    cp_async_bulk(shared_address(&s.unit), &a.units[(size_t)unit * a.v_heads + v_head],
                  DELTA_UNIT_BYTES, full);
    cp_async_bulk_tensor_2d(shared_address(s.q.half[0]), map, q, row, full);
    cp_async_bulk_tensor_2d(shared_address(s.q.half[1]), map, q + 64, row, full);
}

// One thread.
template <int GROUPS, typename half_t, typename state_t>
static __device__ void feed(struct chain_shared<GROUPS> &s,
                            const struct chain_args<half_t, state_t> &a, const CUtensorMap *map,
                            const struct chain_job &job)
{
    constexpr int STAGES = chain_shape<GROUPS>::STAGES;
    for (int i = 0; i < job.chunks; i++) {
        const int at = i % STAGES;
        if (i >= STAGES) // all have read what the stage held
            mbarrier_wait(shared_address(&s.empty[at]), (i / STAGES - 1) % 2);
        fetch<GROUPS>(s.stage[at], shared_address(&s.full[at]), a, map,
                      job.span.t0 + job.first_token + i * DELTA_CHUNK, job.unit + i);
    }
}

// ---- the chain ------------------------------------------------------------------------------------

// Rows from n on belong to nobody or to another sequence: zero in k and v, since 0 times what they hold
// may be NaN.
static __device__ void clear_rows(unsigned char *tile, int n)
{
    for (int i = n * 128 + threadIdx.x % GROUP * 16; i < 64 * 128; i += GROUP * 16)
        *(uint4 *)(tile + i) = make_uint4(0, 0, 0, 0);
}

// Keeps the compiler from moving uses of registers that products in flight read or write.
template <int N> static __device__ __forceinline__ void pin(float (&x)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+f"(x[i])::"memory");
}
template <int N> static __device__ __forceinline__ void pin(uint32_t (&x)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+r"(x[i])::"memory");
}

// Sums of a product as the left operand of the next.
template <typename half_t, int N>
static __device__ __forceinline__ void to_left(uint32_t (&y)[N / 2], const float (&x)[N])
{
#pragma unroll
    for (int i = 0; i < N / 2; i++)
        y[i] = cvt_x2<half_t>(x[2 * i], x[2 * i + 1]);
}

// A per-token vector for the columns of a lane: tokens 8 j + 2 (lane % 4) and the one after.
static __device__ __forceinline__ void load_pairs(float2 (&y)[8], const float *x)
{
#pragma unroll
    for (int j = 0; j < 8; j++)
        y[j] = *(const float2 *)&x[8 * j + threadIdx.x % 4 * 2];
}

// V^T in the places of the sums of a product.
static __device__ __forceinline__ void load_v(uint32_t (&x)[16], const unsigned char *v)
{
    const int lane = threadIdx.x % 32, group = threadIdx.x / 32 % 4 * 2 + lane / 8 % 2;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int token = 16 * i + lane / 16 * 8 + lane % 8;
        uint32_t y[4];
        ldmatrix_x4_trans(y, shared_address(v + token * 128 + (group ^ (token % 8)) * 16));
        x[4 * i] = y[0], x[4 * i + 1] = y[1], x[4 * i + 2] = y[2], x[4 * i + 3] = y[3];
    }
}

// (V - diag(f) K S)^T as a left operand, in place of V^T.
template <typename half_t>
static __device__ __forceinline__ void subtract_from_v(uint32_t (&v)[16], const float (&ks)[32],
                                                       const float2 (&f)[8])
{
#pragma unroll
    for (int i = 0; i < 16; i++) {
        const float2 x = widen_x2<half_t>(v[i]);
        v[i] = cvt_x2<half_t>(x.x - f[i / 2].x * ks[2 * i], x.y - f[i / 2].y * ks[2 * i + 1]);
    }
}

// A warp's 16 rows of a left operand to a swizzled tile of 64 columns: groups of 16 columns.
static __device__ __forceinline__ void put_left(unsigned char *tile, const uint32_t *x)
{
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 % 4 * 16 + lane % 16;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t y[4] = {x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]};
        stmatrix_x4(shared_address(tile + row * 128 + ((2 * i + lane / 16) ^ (row % 8)) * 16), y);
    }
}

// Where element e of a lane's share of the state lies, from its first: rows are those of k.
static __device__ __forceinline__ constexpr int state_at(int e)
{
    return (e / 4 * 8 + e % 2) * DELTA_DIM + e / 2 % 2 * 8;
}

// The first element of a lane in a slot, or of a span in carry.
static __device__ __forceinline__ float *state_of(float *states, int slot, int v_heads, int column)
{
    const int lane = threadIdx.x % 32;
    return states + ((size_t)slot * v_heads + blockIdx.y) * DELTA_DIM * DELTA_DIM +
           lane % 4 * 2 * DELTA_DIM + column + threadIdx.x / 32 % 4 * 16 + lane / 4;
}

static __device__ __forceinline__ void read_state(float (&s)[64], const float *from, bool fresh)
{
#pragma unroll
    for (int e = 0; e < 64; e++)
        s[e] = fresh ? 0.0f : from[state_at(e)];
}

template <typename half_t>
static __device__ void write_state(float *to, const float (&s)[64], const uint32_t (&)[32])
{
#pragma unroll
    for (int e = 0; e < 64; e++)
        to[state_at(e)] = s[e];
}

// The same with slots of bf16. A register of a left operand has two columns of S^T, which are rows of the
// state, and eight lanes have neighbours of a row; turned, a register has the neighbours, and the two
// tiles of a row fill a sector of memory. With bf16 operands, what a state is rounded to is its left operand as
// it is.
static __device__ __forceinline__ bf16 *state_of(bf16 *states, int slot, int v_heads, int column)
{
    const int lane = threadIdx.x % 32;
    return states + ((size_t)slot * v_heads + blockIdx.y) * DELTA_DIM * DELTA_DIM +
           lane / 4 * DELTA_DIM + column + threadIdx.x / 32 % 4 * 16 + lane % 4 * 2;
}

static __device__ __forceinline__ constexpr int turned_at(int i)
{
    return i / 2 * 8 * DELTA_DIM + i % 2 * 8;
}

static __device__ __forceinline__ void read_state(float (&s)[64], const bf16 *from, bool fresh)
{
#pragma unroll
    for (int i = 0; i < 32; i++) {
        const uint32_t x = movmatrix_trans(fresh ? 0 : *(const uint32_t *)(from + turned_at(i)));
        s[2 * i] = __uint_as_float(x << 16);
        s[2 * i + 1] = __uint_as_float(x & 0xffff0000u);
    }
}

template <typename half_t>
static __device__ void write_state(bf16 *to, const float (&s)[64], const uint32_t (&left)[32])
{
    constexpr bool SAME = std::is_same_v<half_t, bf16>;
#pragma unroll
    for (int i = 0; i < 32; i++)
        *(uint32_t *)(to + turned_at(i)) =
            movmatrix_trans(SAME ? left[i] : cvt_bf16x2(s[2 * i], s[2 * i + 1]));
}

template <int GROUPS, typename half_t, typename state_t>
static __device__ void follow_state(struct chain_shared<GROUPS> &s,
                                    const struct chain_args<half_t, state_t> &a,
                                    const struct chain_job &job, int group)
{
    constexpr int STAGES = chain_shape<GROUPS>::STAGES;
    const int column = (blockIdx.x * GROUPS + group) * COLUMNS;
    const bool fresh = job.span.pos0 == 0 && a.slab.first == 0;
    float S[64], c[32]; // c: (K S)^T, then N^T
    uint32_t left_s[32], left[16];
    float2 factor[8];
    if (delta_carried_in<state_t>(a.slab))
        read_state(S, state_of(a.carry, blockIdx.z, a.v_heads, column), false);
    else
        read_state(S, state_of(a.state, job.span.slot, a.v_heads, column), fresh);
    to_left<half_t>(left_s, S);
    for (int i = 0; i < job.chunks; i++) {
        const int at = i % STAGES, n = tokens_of(job, i);
        typename chain_shared<GROUPS>::stage &in = s.stage[at];
        mbarrier_wait(shared_address(&s.full[at]), i / STAGES % 2); // the chunk's copies
        if (n < DELTA_CHUNK) {
            clear_rows(in.k.half[0], n);
            clear_rows(in.k.half[1], n);
            clear_rows(in.v[group], n);
            fence_proxy_async_shared();
            bar_sync(1, GROUPS * GROUP); // the rows are clear
        }
        pin(left_s);
        wgmma_fence();
#pragma unroll
        for (int j = 0; j < 8; j++)
            wgmma_m64n64k16_rs<half_t>(
                c, &left_s[4 * j],
                wgmma_descriptor(shared_address(in.k.half[j / 4]) + j % 4 * 32, 0), j > 0);
        wgmma_commit_group();
        load_v(left, in.v[group]);
        load_pairs(factor, in.unit.v_from_s);
        mbarrier_wait(shared_address(&s.state_free[group]), (i + 1) % 2); // Q S of the chunk before
        put_left(s.state[group].half[0], left_s);
        put_left(s.state[group].half[1], left_s + 16);
        arrive_written(&s.state_full[group]);
        wgmma_wait_group<0>(); // (K S)^T
        pin(c);
        pin(left_s);
        subtract_from_v<half_t>(left, c, factor);
        pin(left);
        pin(c);
        wgmma_fence();
#pragma unroll
        for (int j = 0; j < 4; j++)
            wgmma_m64n64k16_rs<half_t>(
                c, &left[4 * j], wgmma_descriptor(shared_address(in.unit.T) + j * 32, 0), j > 0);
        wgmma_commit_group();
        load_pairs(factor, in.unit.s_from_n);
        const float decay = in.unit.decay;
#pragma unroll
        for (int e = 0; e < 64; e++)
            S[e] *= decay;
        wgmma_wait_group<0>(); // N^T
        pin(c);
        pin(left);
#pragma unroll
        for (int e = 0; e < 16; e++)
            left[e] = cvt_x2<half_t>(c[2 * e] * factor[e / 2].x, c[2 * e + 1] * factor[e / 2].y);
        pin(left);
        pin(S);
        wgmma_fence();
#pragma unroll
        for (int j = 0; j < 4; j++)
            wgmma_m64n128k16_rs_trans<half_t>(
                S, &left[4 * j],
                wgmma_descriptor(shared_address(in.k.half[0]) + j * 2048, 64 * 128));
        wgmma_commit_group();
        uint32_t changes[16];
        to_left<half_t>(changes, c);
        mbarrier_wait(shared_address(&s.changes_free[group]),
                      (i + 1) % 2); // P N of the chunk before
        put_left(s.changes[group], changes);
        arrive_written(&s.changes_full[group]);
        wgmma_wait_group<0>(); // S^T
        pin(S);
        pin(left);
        arrive_read(&s.empty[at]);
        to_left<half_t>(left_s, S);
        if (i * DELTA_CHUNK + job.first_token + n == job.span.save_t)
            write_state<half_t>(state_of(a.state, job.span.save_slot, a.v_heads, column), S,
                                left_s);
    }
    if (delta_carried_out<state_t>(a.slab, job.chunks, job.span))
        write_state<half_t>(state_of(a.carry, blockIdx.z, a.v_heads, column), S, left_s);
    else
        write_state<half_t>(state_of(a.state, job.span.slot, a.v_heads, column), S, left_s);
}

// ---- the outputs ----------------------------------------------------------------------------------

// A warp's 16 tokens of 64 columns, turned to whole rows in shared memory; n of the chunk's are stored.
template <typename half_t>
static __device__ void write_outputs(half_t *o, size_t stride, unsigned char *tile,
                                     const float (&x)[32], int n)
{
    const int lane = threadIdx.x % 32, row = lane % 16, first = threadIdx.x / 32 % 4 * 16;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t y[4] = {
            cvt_x2<half_t>(x[8 * i], x[8 * i + 1]), cvt_x2<half_t>(x[8 * i + 2], x[8 * i + 3]),
            cvt_x2<half_t>(x[8 * i + 4], x[8 * i + 5]), cvt_x2<half_t>(x[8 * i + 6], x[8 * i + 7])};
        stmatrix_x4(shared_address(tile + row * 128 + ((2 * i + lane / 16) ^ (row % 8)) * 16), y);
    }
    __syncwarp(); // the tile is written
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int token = 4 * i + lane / 8, group = lane % 8;
        if (first + token < n)
            *(uint4 *)(o + (first + token) * stride + group * 8) =
                *(const uint4 *)(tile + token * 128 + (group ^ (token % 8)) * 16);
    }
    __syncwarp(); // the tile is free
}

template <int GROUPS, typename half_t, typename state_t>
static __device__ void find_outputs(struct chain_shared<GROUPS> &s,
                                    const struct chain_args<half_t, state_t> &a,
                                    const struct chain_job &job)
{
    constexpr int STAGES = chain_shape<GROUPS>::STAGES;
    const int warp = threadIdx.x / 32 % 4, row = warp * 16 + threadIdx.x % 32 / 4;
    const size_t stride = (size_t)a.v_heads * DELTA_DIM;
    half_t *o = a.o + (size_t)(job.span.t0 + job.first_token) * stride + blockIdx.y * DELTA_DIM +
                blockIdx.x * GROUPS * COLUMNS;
    for (int i = 0; i < job.chunks; i++, o += DELTA_CHUNK * stride) {
        const int at = i % STAGES;
        typename chain_shared<GROUPS>::stage &in = s.stage[at];
        mbarrier_wait(shared_address(&s.full[at]), i / STAGES % 2); // the chunk's copies
        const float low = in.unit.o_from_s[row], high = in.unit.o_from_s[row + 8];
#pragma unroll 1
        for (int g = 0; g < GROUPS; g++) {
            float x[32];
            mbarrier_wait(shared_address(&s.state_full[g]), i % 2); // S of the chunk
            wgmma_fence();
#pragma unroll
            for (int j = 0; j < 8; j++)
                wgmma_m64n64k16<half_t>(
                    x, wgmma_descriptor(shared_address(in.q.half[j / 4]) + j % 4 * 32, 0),
                    wgmma_descriptor(shared_address(s.state[g].half[j / 4]) + j % 4 * 32, 0),
                    j > 0);
            wgmma_commit_group();
            wgmma_wait_group<0>();
            pin(x);
            arrive_read(&s.state_free[g]);
#pragma unroll
            for (int e = 0; e < 32; e++)
                x[e] *= e % 4 < 2 ? low : high;
            mbarrier_wait(shared_address(&s.changes_full[g]), i % 2); // N of the chunk
            pin(x);
            wgmma_fence();
#pragma unroll
            for (int j = 0; j < 4; j++)
                wgmma_m64n64k16<half_t>(x, wgmma_descriptor(shared_address(in.unit.P) + j * 32, 0),
                                        wgmma_descriptor(shared_address(s.changes[g]) + j * 32, 0),
                                        1);
            wgmma_commit_group();
            wgmma_wait_group<0>();
            pin(x);
            arrive_read(&s.changes_free[g]);
            if (g + 1 == GROUPS)
                arrive_read(&s.empty[at]);
            write_outputs(o + g * COLUMNS, stride, s.o[warp], x, tokens_of(job, i));
        }
    }
}

// ---- the kernel -----------------------------------------------------------------------------------

template <int GROUPS> static __device__ void init_barriers(struct chain_shared<GROUPS> &s)
{
    for (int i = 0; i < chain_shape<GROUPS>::STAGES; i++) {
        mbarrier_init(shared_address(&s.full[i]), 1);
        mbarrier_init(shared_address(&s.empty[i]), (GROUPS + 1) * 4);
    }
    for (int g = 0; g < GROUPS; g++) {
        mbarrier_init(shared_address(&s.state_full[g]), 4);
        mbarrier_init(shared_address(&s.state_free[g]), 4);
        mbarrier_init(shared_address(&s.changes_full[g]), 4);
        mbarrier_init(shared_address(&s.changes_free[g]), 4);
    }
    fence_mbarrier_init();
}

template <int GROUPS, typename half_t, typename state_t>
static __global__ void __launch_bounds__(chain_shape<GROUPS>::THREADS, 1)
    chain_kernel(const struct chain_args<half_t, state_t> a,
                 const __grid_constant__ CUtensorMap map)
{
    using shape = chain_shape<GROUPS>;
    extern __shared__ __align__(1024) unsigned char raw[];
    struct chain_shared<GROUPS> &s = *(struct chain_shared<GROUPS> *)raw;
    struct chain_job job = {a.spans[blockIdx.z], 0, a.slab.first * DELTA_CHUNK, 0};
    // Shuffled so that the compiler knows them to be the same in all lanes.
    job.chunks = __shfl_sync(~0u, delta_slab_chunks(a.slab, job.span.t), 0);
    const int group = __shfl_sync(~0u, threadIdx.x / GROUP, 0);
    if (job.chunks == 0)
        return;
    job.unit = delta_first_unit(a.spans, a.slab, blockIdx.z);
    if (threadIdx.x == 0)
        init_barriers(s);
    __syncthreads(); // the barriers are there
    if (group < GROUPS) {
        setmaxnreg_inc<shape::CHAIN_REGISTERS>();
        follow_state(s, a, job, group);
    } else if (group == GROUPS) {
        if constexpr (shape::OUTPUT_REGISTERS < 128)
            setmaxnreg_dec<shape::OUTPUT_REGISTERS>();
        find_outputs(s, a, job);
    } else {
        setmaxnreg_dec<COPY_REGISTERS>();
        if (threadIdx.x % GROUP == 0)
            feed(s, a, &map, job);
    }
}

// Boxes of 64 rows of 64 values of the input, swizzled.
static bool map_input(struct dev *dev, CUtensorMap *map, const struct delta_rule_args *a)
{
    const cuuint64_t width = (cuuint64_t)(2 * a->k_heads + a->v_heads) * DELTA_DIM;
    const struct tensor_array qkv = {.p = a->qkv,
                                     .type = CU_TENSOR_MAP_DATA_TYPE_UINT16,
                                     .rank = 2,
                                     .size = {width, (cuuint64_t)a->batch.t},
                                     .stride = {width * sizeof(uint16_t)},
                                     .box = {64, 64}};
    if (tensor_map(map, &qkv))
        return true;
    cuda_fail(dev, "delta_rule: the driver takes no tensor map of %d x %d", a->batch.t, (int)width);
    return false;
}

template <int GROUPS, typename half_t, typename state_t>
static void launch(struct dev *dev, const struct chain_args<half_t, state_t> &p,
                   const CUtensorMap &map, cudaStream_t stream)
{
    const int bytes = sizeof(struct chain_shared<GROUPS>);
    cuda_ok(dev,
            cudaFuncSetAttribute(chain_kernel<GROUPS, half_t, state_t>,
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
            "delta_chain: shared memory");
    chain_kernel<GROUPS, half_t, state_t>
        <<<dim3(DELTA_DIM / COLUMNS / GROUPS, p.v_heads, p.slab.n_spans),
           chain_shape<GROUPS>::THREADS, bytes, stream>>>(p, map);
    LAUNCHED(dev, "delta_chain");
}

bool delta_chain_is_narrow(struct dev *dev, const struct delta_rule_args *a, int n_spans)
{
    return DELTA_DIM / COLUMNS * a->v_heads * n_spans <= cuda_of(dev)->n_sm;
}

template <typename half_t, typename state_t>
static void launch_width(struct dev *dev, const struct delta_rule_args *a,
                         const struct chain_args<half_t, state_t> &p, cudaStream_t stream)
{
    CUtensorMap map;
    if (!map_input(dev, &map, a))
        return;
    // One warpgroup of the chain a block is sooner done, two read less. Their bits are the same.
    if (delta_chain_is_narrow(dev, a, p.slab.n_spans))
        launch<1>(dev, p, map, stream);
    else
        launch<2>(dev, p, map, stream);
}

template <typename half_t>
static void chain(struct dev *dev, const struct delta_rule_args *a, const struct delta_slab &slab,
                  const struct delta_unit *units, float *carry, cudaStream_t stream)
{
    STATE_SWITCH(a->state_type, (launch_width<half_t, state_t>(dev, a,
                                                               {.o = (half_t *)a->o,
                                                                .state = (state_t *)a->state,
                                                                .spans = a->batch.spans,
                                                                .units = units,
                                                                .slab = slab,
                                                                .k_heads = a->k_heads,
                                                                .v_heads = a->v_heads,
                                                                .carry = carry},
                                                               stream)));
}

void delta_chain(struct dev *dev, const struct delta_rule_args *a, const struct delta_slab &slab,
                 const struct delta_unit *units, float *carry, cudaStream_t stream)
{
    HALF_SWITCH(dev, chain<half_t>(dev, a, slab, units, carry, stream));
}
