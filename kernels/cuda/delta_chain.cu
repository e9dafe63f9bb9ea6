// delta_chain.cu - the part of the gated delta rule that goes from chunk to chunk, on warpgroup matrices.
// bf16, chunks of 64, heads of 128 x 128; struct delta_unit says what came before.
//
// A warpgroup owns 64 columns of one head's state and keeps their transpose, in float32, in its
// registers. All products are taken transposed, so that the sums of one are the left operand of the
// next in the same registers, and nothing but the inputs passes through shared memory:
//   (K S)^T = S^T K^T     (Q S)^T = S^T Q^T
//   V'^T = V^T - (K S)^T diag(v_from_s)
//   N^T = V'^T T^T        O^T = (Q S)^T diag(o_from_s) + N^T P^T
//   S^T = decay S^T + (N^T diag(s_from_n)) K
// A warp of its own keeps the copy engine STAGES chunks ahead.
//
// Bound by the products of one chunk after another while there are fewer blocks than multiprocessors:
// 8.4 MFLOP a chunk and head.
#include <cudaTypedefs.h>

#include "delta.cuh"
#include "ptx.cuh"

static constexpr int COLUMNS = 64, GROUP = 128; // of a warpgroup: columns, threads

// GROUPS warpgroups share what they need of k, q, T and P.
template <int GROUPS> struct chain_shape {
    static constexpr int STAGES = 3, THREADS = (GROUPS + 1) * GROUP;
};

struct stage_k {
    unsigned char half[2][64 * 128]; // columns 0 .. 63 and 64 .. 127, rows of 128 bytes, swizzled
};

template <int GROUPS> struct chain_shared {
    struct stage {
        struct stage_k k, q;
        unsigned char v[GROUPS][64 * 128];
        struct delta_unit unit;
    } stage[chain_shape<GROUPS>::STAGES];
    unsigned char o[GROUPS * 4][64 * 32]; // of each warp: 64 tokens, 16 columns
    uint64_t full[chain_shape<GROUPS>::STAGES], empty[chain_shape<GROUPS>::STAGES];
};

struct chain_args {
    bf16 *o;
    float *state;
    const struct span *spans;
    const struct delta_unit *units;
    struct delta_slab slab;
    int k_heads, v_heads;
};

// The copies of one chunk.
template <int GROUPS>
static __device__ void fetch(typename chain_shared<GROUPS>::stage &s, uint32_t full,
                             const struct chain_args &a, const CUtensorMap *map, int row, int unit)
{
    const int v_head = blockIdx.y, k_head = v_head / (a.v_heads / a.k_heads);
    const int q = k_head * DELTA_DIM, k = q + a.k_heads * DELTA_DIM;
    const int v = (2 * a.k_heads + v_head) * DELTA_DIM + blockIdx.x * GROUPS * COLUMNS;
    mbarrier_arrive_expect_tx(full, (4 + GROUPS) * 64 * 128 + DELTA_UNIT_BYTES);
    cp_async_bulk_tensor_2d(shared_address(s.k.half[0]), map, k, row, full);
    cp_async_bulk_tensor_2d(shared_address(s.k.half[1]), map, k + 64, row, full);
    cp_async_bulk_tensor_2d(shared_address(s.q.half[0]), map, q, row, full);
    cp_async_bulk_tensor_2d(shared_address(s.q.half[1]), map, q + 64, row, full);
#pragma unroll
    for (int i = 0; i < GROUPS; i++)
        cp_async_bulk_tensor_2d(shared_address(s.v[i]), map, v + i * COLUMNS, row, full);
    cp_async_bulk(shared_address(&s.unit), &a.units[(size_t)unit * a.v_heads + v_head],
                  DELTA_UNIT_BYTES, full);
}

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
template <int N>
static __device__ __forceinline__ void to_left(uint32_t (&y)[N / 2], const float (&x)[N])
{
#pragma unroll
    for (int i = 0; i < N / 2; i++)
        y[i] = cvt_bf16x2(x[2 * i], x[2 * i + 1]);
}

// The two values of a per-token vector for tokens 8 j + 2 (lane % 4) and the one after.
static __device__ __forceinline__ float2 pair_of(const float *x, int j)
{
    return *(const float2 *)&x[8 * j + threadIdx.x % 4 * 2];
}

// c = s^T m^T for m = k or q.
static __device__ __forceinline__ void times_rows(float (&c)[32], const uint32_t (&s)[32],
                                                  const struct stage_k &m)
{
#pragma unroll
    for (int i = 0; i < 8; i++)
        wgmma_m64n64k16_bf16_rs(
            c, &s[4 * i], wgmma_descriptor(shared_address(m.half[i / 4]) + i % 4 * 32, 0), i > 0);
}

// c (+)= x m^T for m = T or P.
static __device__ __forceinline__ void times_square(float (&c)[32], const uint32_t (&x)[16],
                                                    const bf16 *m, int keep)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        wgmma_m64n64k16_bf16_rs(c, &x[4 * i], wgmma_descriptor(shared_address(m) + i * 32, 0),
                                keep || i > 0);
}

// v'^T as a left operand.
static __device__ __forceinline__ void subtract_from_v(uint32_t (&y)[16], const float (&ks)[32],
                                                       const unsigned char *v,
                                                       const float *v_from_s)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    const int group = 2 * warp + lane / 8 % 2; // 8 columns of v
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int token = 16 * i + lane / 16 * 8 + lane % 8;
        uint32_t x[4];
        ldmatrix_x4_trans(x, shared_address(v + token * 128 + (group ^ (token % 8)) * 16));
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const float2 f = pair_of(v_from_s, 2 * i + e / 2);
            const float low = __uint_as_float(x[e] << 16);
            const float high = __uint_as_float(x[e] & 0xffff0000u);
            y[4 * i + e] =
                cvt_bf16x2(low - f.x * ks[8 * i + 2 * e], high - f.y * ks[8 * i + 2 * e + 1]);
        }
    }
}

static __device__ __forceinline__ void scale_columns(float (&x)[32], const float *by)
{
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const float2 f = pair_of(by, j);
        x[4 * j] *= f.x;
        x[4 * j + 1] *= f.y;
        x[4 * j + 2] *= f.x;
        x[4 * j + 3] *= f.y;
    }
}

// A chunk's outputs of one warp: 16 columns of n tokens, turned in shared memory.
static __device__ void write_outputs(bf16 *o, size_t stride, unsigned char *tile,
                                     const uint32_t (&x)[16], int n)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t y[4] = {x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]};
        const int token = 16 * i + lane / 16 * 8 + lane % 8, half = lane / 8 % 2;
        stmatrix_x4_trans(shared_address(tile + token * 32 + (half ^ (token / 4 % 2)) * 16), y);
    }
    __syncwarp(); // the tile is written
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int token = 16 * i + lane / 2, half = lane % 2;
        if (token < n)
            *(uint4 *)(o + token * stride + half * 8) =
                *(const uint4 *)(tile + token * 32 + (half ^ (token / 4 % 2)) * 16);
    }
    __syncwarp(); // the tile is free
}

// Where element e of a lane's share of the state lies, from its first: rows are those of k.
static __device__ __forceinline__ constexpr int state_at(int e)
{
    return (e / 4 * 8 + e % 2) * DELTA_DIM + e / 2 % 2 * 8;
}

static __device__ __forceinline__ float *first_of_lane(float *state)
{
    const int lane = threadIdx.x % 32;
    return state + lane % 4 * 2 * DELTA_DIM + lane / 4;
}

static __device__ void write_state(float *state, const float (&s)[64])
{
    float *to = first_of_lane(state);
#pragma unroll
    for (int e = 0; e < 64; e++)
        to[state_at(e)] = s[e];
}

// The copying warp, one thread of it.
template <int GROUPS>
static __device__ void feed(struct chain_shared<GROUPS> &s, const struct chain_args &a,
                            const CUtensorMap *map, int row, int2 units)
{
    constexpr int STAGES = chain_shape<GROUPS>::STAGES;
    for (int i = 0; i < units.y; i++) {
        const int at = i % STAGES;
        if (i >= STAGES)
            mbarrier_wait(shared_address(&s.empty[at]), (i / STAGES - 1) % 2);
        fetch<GROUPS>(s.stage[at], shared_address(&s.full[at]), a, map, row + i * DELTA_CHUNK,
                      units.x + i);
    }
}

template <int GROUPS>
static __global__ void __launch_bounds__(chain_shape<GROUPS>::THREADS, 1)
    chain_kernel(const struct chain_args a, const __grid_constant__ CUtensorMap map)
{
    constexpr int STAGES = chain_shape<GROUPS>::STAGES;
    extern __shared__ __align__(1024) unsigned char raw[];
    struct chain_shared<GROUPS> &s = *(struct chain_shared<GROUPS> *)raw;
    const struct span span = a.spans[blockIdx.z];
    const int chunks =
        __shfl_sync(~0u, delta_slab_chunks(a.slab, span.t), 0); // the same in all lanes
    if (chunks == 0)
        return;
    const int first_token = a.slab.first * DELTA_CHUNK, row = span.t0 + first_token;
    const int unit = delta_first_unit(a.spans, a.slab, blockIdx.z);
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            mbarrier_init(shared_address(&s.full[i]), 1);
            mbarrier_init(shared_address(&s.empty[i]), GROUPS * 4);
        }
        fence_mbarrier_init();
    }
    __syncthreads(); // the barriers are there
    const int group = __shfl_sync(~0u, threadIdx.x / GROUP, 0);
    if (group == GROUPS) {
        setmaxnreg_dec<24>();
        if (threadIdx.x == GROUPS * GROUP)
            feed<GROUPS>(s, a, &map, row, make_int2(unit, chunks));
        return;
    }
    setmaxnreg_inc<240>();

    const int warp = threadIdx.x / 32;
    const int column = (blockIdx.x * GROUPS + group) * COLUMNS + warp % 4 * 16;
    const size_t head_state = (size_t)DELTA_DIM * DELTA_DIM, stride = (size_t)a.v_heads * DELTA_DIM;
    float *state = a.state + ((size_t)span.slot * a.v_heads + blockIdx.y) * head_state + column;
    bf16 *o = a.o + (size_t)row * stride + blockIdx.y * DELTA_DIM + column;
    float S[64], c[32], out[32];                     // c: (K S)^T, then N^T
    uint32_t left_s[32], left[16], packed[16] = {0}; // packed: outputs of the chunk before
#pragma unroll
    for (int e = 0; e < 64; e++)
        S[e] = span.pos0 == 0 && a.slab.first == 0 ? 0.0f : first_of_lane(state)[state_at(e)];
    to_left(left_s, S);

    for (int i = 0; i < chunks; i++) {
        const int at = i % STAGES, done = first_token + i * DELTA_CHUNK, n = min(64, span.t - done);
        typename chain_shared<GROUPS>::stage &in = s.stage[at];
        mbarrier_wait(shared_address(&s.full[at]), i / STAGES % 2);
        if (n < 64) {
            clear_rows(in.k.half[0], n);
            clear_rows(in.k.half[1], n);
            clear_rows(in.v[group], n);
            fence_proxy_async_shared();
            bar_sync(1, GROUPS * GROUP); // the rows are clear
        }
        pin(left_s);
        wgmma_fence();
        times_rows(c, left_s, in.k);
        wgmma_commit_group();
        // The last chunk's outputs, under these products; none before the first chunk.
        write_outputs(o, stride, s.o[warp], packed, i ? 64 : 0);
        o += i ? 64 * stride : 0;
        wgmma_fence();
        times_rows(out, left_s, in.q);
        wgmma_commit_group();
        wgmma_wait_group<1>(); // c
        pin(c);
        subtract_from_v(left, c, in.v[group], in.unit.v_from_s);
        pin(left);
        pin(c);
        wgmma_fence();
        times_square(c, left, in.unit.T, 0);
        wgmma_commit_group();
        const float decay = in.unit.decay;
#pragma unroll
        for (int e = 0; e < 64; e++)
            S[e] *= decay;
        wgmma_wait_group<1>(); // out
        pin(out);
        pin(left_s);
        scale_columns(out, in.unit.o_from_s);
        wgmma_wait_group<0>(); // c
        pin(c);
        pin(left);
        uint32_t left_n[16];
        to_left(left_n, c);
        scale_columns(c, in.unit.s_from_n);
        to_left(left, c);
        pin(left);
        pin(left_n);
        pin(S);
        pin(out);
        wgmma_fence();
#pragma unroll
        for (int j = 0; j < 4; j++)
            wgmma_m64n128k16_bf16_rs_trans(
                S, &left[4 * j],
                wgmma_descriptor(shared_address(in.k.half[0]) + j * 2048, 64 * 128));
        wgmma_commit_group();
        times_square(out, left_n, in.unit.P, 1);
        wgmma_commit_group();
        wgmma_wait_group<1>(); // S
        pin(S);
        pin(left);
        to_left(left_s, S);
        wgmma_wait_group<0>(); // out
        pin(out);
        pin(left_n);
        to_left(packed, out);
        __syncwarp(); // all of the warp is done with the stage
        if (threadIdx.x % 32 == 0)
            mbarrier_arrive(shared_address(&s.empty[at]));
        if (done + n == span.save_t)
            write_state(a.state + ((size_t)span.save_slot * a.v_heads + blockIdx.y) * head_state +
                            column,
                        S);
    }
    write_outputs(o, stride, s.o[warp], packed, span.t - first_token - (chunks - 1) * DELTA_CHUNK);
    write_state(state, S);
}

// Boxes of 64 rows of 64 values of the input, swizzled.
static bool map_input(struct dev *dev, CUtensorMap *map, const struct delta_rule_args *a)
{
    static PFN_cuTensorMapEncodeTiled_v12000 encode;
    const cuuint64_t width = (cuuint64_t)(2 * a->k_heads + a->v_heads) * DELTA_DIM;
    const cuuint64_t size[2] = {width, (cuuint64_t)a->batch.t}, stride[1] = {width * sizeof(bf16)};
    const cuuint32_t box[2] = {64, 64}, step[2] = {1, 1};
    if (!encode) {
        void *entry = NULL;
        cudaDriverEntryPointQueryResult found;
        if (!cuda_ok(dev,
                     cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                                      cudaEnableDefault, &found),
                     "cuTensorMapEncodeTiled"))
            return false;
        encode = (PFN_cuTensorMapEncodeTiled_v12000)entry;
    }
    const CUresult r =
        encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)a->qkv, size, stride, box, step,
               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (r != CUDA_SUCCESS)
        cuda_fail(dev, "delta_rule: tensor map of %d x %d: driver error %d", a->batch.t, (int)width,
                  (int)r);
    return r == CUDA_SUCCESS;
}

template <int GROUPS>
static void launch(struct dev *dev, const struct chain_args &p, const CUtensorMap &map)
{
    const int bytes = sizeof(struct chain_shared<GROUPS>);
    cuda_ok(dev,
            cudaFuncSetAttribute(chain_kernel<GROUPS>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 bytes),
            "delta_chain: shared memory");
    chain_kernel<GROUPS><<<dim3(DELTA_DIM / COLUMNS / GROUPS, p.v_heads, p.slab.n_spans),
                           chain_shape<GROUPS>::THREADS, bytes, cuda_of(dev)->stream>>>(p, map);
    LAUNCHED(dev, "delta_chain");
}

void delta_chain(struct dev *dev, const struct delta_rule_args *a, const struct delta_slab &slab,
                 const struct delta_unit *units)
{
    CUtensorMap map;
    if (!map_input(dev, &map, a))
        return;
    const struct chain_args p = {.o = (bf16 *)a->o,
                                 .state = a->state,
                                 .spans = a->batch.spans,
                                 .units = units,
                                 .slab = slab,
                                 .k_heads = a->k_heads,
                                 .v_heads = a->v_heads};
    // Two warpgroups a block read less; one a block is sooner done. Their bits are the same.
    if (2 * a->v_heads * slab.n_spans > cuda_of(dev)->n_sm)
        launch<2>(dev, p, map);
    else
        launch<1>(dev, p, map);
}
