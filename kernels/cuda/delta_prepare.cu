// delta_prepare.cu - the part of a chunk that does not depend on the state, for all chunks at once: gates,
// K K^T and Q K^T, A, T = (I + A)^-1 and P, into struct delta_unit. 16-bit activations, chunks of 64, k_dim 128.
//
// A block is one chunk of one key head; the value heads of that key head share its products. Each of
// the four warps owns 16 rows: their products stay in its registers, the diagonal 16 x 16 block of A
// is inverted there (order 3, residual 8), and the blocks are merged over shared memory:
//   T[w][w-1] = -(T[w][w] A[w][w-1]) T[w-1][w-1]     16 -> 32, warps 1 and 3
//   Z = [T22 0; T32 T33] [A20 A21; A30 A31], T21 = -Z [T00 0; T10 T11]     32 -> 64, warps 2 and 3
// Squared norms: rows in pairs of threads. Only differences of G are exponentiated, after the mask.
//
// The inverse's operands are fp16, or for fp32 the sum of two fp16 (22 bits, 2^-25 at the least) and
// three products instead of one: entries are at most 1, see inverse.h.
//
// Bound by latency, then by memory: q and k read, T and P (17 KiB a chunk and value head) written.
// Measured, 8192 tokens: 78 us for 16/32 heads (100 with fp32), 61 for 16/16, 17.5 for 2/8; NVIDIA H200,
// 2026-11-24. The traffic alone would take 31, 25 and 6.
#include "delta.cuh"
#include "ptx.cuh"

static constexpr int THREADS = 128, HEADS_MAX = 8; // value heads of a key head

enum right_slot { T00, T22, A20, A21, T10, T11, RIGHT_SLOTS };

// A 16 x 16 block as the left or as the right operand of a product; low: what fp16 leaves of a float.
template <bool WIDE> struct block {
    uint32_t high[4], low[WIDE ? 4 : 1];
};

template <bool WIDE> struct shared {
    alignas(1024) unsigned char k[64 * 256], q[64 * 256]; // 16-byte group c of row i at c ^ (i % 8)
    struct delta_unit unit[2]; // of this value head and of the last, which is being copied out
    uint4 right[RIGHT_SLOTS][WIDE ? 2 : 1][32];
    float G[HEADS_MAX][64], beta[HEADS_MAX][64]; // G in units of log 2
    float k_norm[64], q_norm[64];                // 1 / |k|, scale / |q|
};

template <bool WIDE> static __device__ struct block<WIDE> make_left(const float (&c)[8]) {
    struct block<WIDE> y;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        y.high[i] = cvt_f16x2(c[2 * i], c[2 * i + 1]);
        if constexpr (WIDE) {
            const float2 high = __half22float2(*(const half2 *)&y.high[i]);
            y.low[i] = cvt_f16x2(c[2 * i] - high.x, c[2 * i + 1] - high.y);
        }
    }
    return y;
}

template <bool WIDE>
static __device__ struct block<WIDE> make_right(const struct block<WIDE> &x) {
    struct block<WIDE> y;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        y.high[i] = movmatrix_trans(x.high[i]);
        if constexpr (WIDE)
            y.low[i] = movmatrix_trans(x.low[i]);
    }
    return y;
}

// c += a b
template <bool WIDE>
static __device__ __forceinline__ void multiply(float (&c)[8], const struct block<WIDE> &a,
                                                const struct block<WIDE> &b)
{
    float(&left)[4] = *(float(*)[4]) & c[0], (&right)[4] = *(float(*)[4]) & c[4];
    if constexpr (WIDE) {
        mma_m16n8k16<f16>(left, a.low, b.high[0], b.high[1]);
        mma_m16n8k16<f16>(right, a.low, b.high[2], b.high[3]);
        mma_m16n8k16<f16>(left, a.high, b.low[0], b.low[1]);
        mma_m16n8k16<f16>(right, a.high, b.low[2], b.low[3]);
    }
    mma_m16n8k16<f16>(left, a.high, b.high[0], b.high[1]);
    mma_m16n8k16<f16>(right, a.high, b.high[2], b.high[3]);
}

template <bool WIDE>
static __device__ void put_right(uint4 (*slot)[32], const struct block<WIDE> &b)
{
    const int lane = threadIdx.x % 32;
    slot[0][lane] = make_uint4(b.high[0], b.high[1], b.high[2], b.high[3]);
    if constexpr (WIDE)
        slot[1][lane] = make_uint4(b.low[0], b.low[1], b.low[2], b.low[3]);
}

template <bool WIDE> static __device__ struct block<WIDE> get_right(const uint4 (*slot)[32]) {
    const int lane = threadIdx.x % 32;
    struct block<WIDE> b;
    const uint4 high = slot[0][lane];
    b.high[0] = high.x, b.high[1] = high.y, b.high[2] = high.z, b.high[3] = high.w;
    if constexpr (WIDE) {
        const uint4 low = slot[1][lane];
        b.low[0] = low.x, b.low[1] = low.y, b.low[2] = low.z, b.low[3] = low.w;
    }
    return b;
}

// Row and column in its block of element e of a lane's share.
static __device__ __forceinline__ int
block_row(int e)
{
    return threadIdx.x % 32 / 4 + (e / 2 % 2) * 8;
}
static __device__ __forceinline__ int block_col(int e)
{
    return threadIdx.x % 4 * 2 + e % 2 + e / 4 * 8;
}

static __device__ void negate(float (&c)[8])
{
#pragma unroll
    for (int e = 0; e < 8; e++)
        c[e] = -c[e];
}

// What a report keeps of a warp's products.
struct notes {
    float value_max;
};

template <bool REPORT> static __device__ void note(struct notes *n, const float (&c)[8])
{
    if constexpr (REPORT)
#pragma unroll
        for (int e = 0; e < 8; e++)
            n->value_max = fmaxf(n->value_max, fabsf(c[e]));
}

// t = (I + a)^-1 of one 16 x 16 block: three exact sub-diagonals, then T0 (I + E)(I + E^2)(I + E^4).
template <bool WIDE, bool REPORT>
static __device__ void invert_leaf(float (&t)[8], const float (&a)[8], struct notes *n)
{
    const struct block<WIDE> left_a = make_left<WIDE>(a);
    float x[8] = {0};
#pragma unroll
    for (int e = 0; e < 8; e++) {
        const int below = block_row(e) - block_col(e);
        t[e] = below == 0 ? 1.0f : below == 1 ? -a[e] : 0.0f;
    }
    multiply(x, left_a, make_right(make_left<WIDE>(t)));
    note<REPORT>(n, x);
#pragma unroll
    for (int e = 0; e < 8; e++) {
        if (block_row(e) - block_col(e) == 2)
            t[e] = -x[e];
        x[e] = 0;
    }
    struct block<WIDE> left_t = make_left<WIDE>(t);
    multiply(x, left_a, make_right(left_t));
    note<REPORT>(n, x);
#pragma unroll
    for (int e = 0; e < 8; e++)
        x[e] = block_row(e) - block_col(e) > 2 ? -x[e] : 0.0f;
#pragma unroll
    for (int round = 0; round < 3; round++) {
        const struct block<WIDE> left_e = make_left<WIDE>(x), right_e = make_right(left_e);
        multiply(t, left_t, right_e);
        note<REPORT>(n, t);
        if (round == 2)
            break;
        left_t = make_left<WIDE>(t);
#pragma unroll
        for (int e = 0; e < 8; e++)
            x[e] = 0;
        multiply(x, left_e, right_e);
        note<REPORT>(n, x);
    }
}

// A warp's row of blocks of A and of T: the diagonal one, its neighbour within the pair (odd warps), the
// two of the other pair (warps 2 and 3).
template <bool WIDE> struct rows {
    struct block<WIDE> near, far[2]; // of A, as right operands
    float diagonal[8], t_near[8], t_far[2][8];
};

template <bool WIDE, bool REPORT>
static __device__ void invert(struct rows<WIDE> *r, uint4 (*slots)[WIDE ? 2 : 1][32],
                              struct notes *n)
{
    const int warp = threadIdx.x / 32;
    float leaf[8];
#pragma unroll
    for (int e = 0; e < 8; e++)
        leaf[e] = r->diagonal[e];
    invert_leaf<WIDE, REPORT>(r->diagonal, leaf, n);
    const struct block<WIDE> own = make_left<WIDE>(r->diagonal);
    if (warp % 2 == 0)
        put_right(slots[warp == 0 ? T00 : T22], make_right(own));
    if (warp == 2) {
        put_right(slots[A20], r->far[0]);
        put_right(slots[A21], r->far[1]);
    }
    __syncthreads(); // T00, T22, A20, A21 are there
    float z[2][8] = {{0}, {0}};
    if (warp >= 2) {
        multiply(z[0], own, r->far[0]);
        multiply(z[1], own, r->far[1]);
    }
    if (warp % 2) {
        float near[8] = {0};
        multiply(near, own, r->near);
        note<REPORT>(n, near);
#pragma unroll
        for (int e = 0; e < 8; e++)
            r->t_near[e] = 0;
        multiply(r->t_near, make_left<WIDE>(near), get_right<WIDE>(slots[warp == 1 ? T00 : T22]));
        negate(r->t_near);
        note<REPORT>(n, r->t_near);
        const struct block<WIDE> left_near = make_left<WIDE>(r->t_near);
        if (warp == 1) {
            put_right(slots[T10], make_right(left_near));
            put_right(slots[T11], make_right(own));
        } else {
            multiply(z[0], left_near, get_right<WIDE>(slots[A20]));
            multiply(z[1], left_near, get_right<WIDE>(slots[A21]));
        }
    }
    __syncthreads(); // T10 and T11 are there
    if (warp < 2)
        return;
    const struct block<WIDE> z0 = make_left<WIDE>(z[0]), z1 = make_left<WIDE>(z[1]);
#pragma unroll
    for (int e = 0; e < 8; e++)
        r->t_far[0][e] = r->t_far[1][e] = 0;
    multiply(r->t_far[0], z0, get_right<WIDE>(slots[T00]));
    multiply(r->t_far[0], z1, get_right<WIDE>(slots[T10]));
    multiply(r->t_far[1], z1, get_right<WIDE>(slots[T11]));
#pragma unroll
    for (int c = 0; c < 2; c++) {
        note<REPORT>(n, z[c]);
        negate(r->t_far[c]);
        note<REPORT>(n, r->t_far[c]);
    }
}

// Block (warp, col) of a matrix of the unit.
template <typename half_t>
static __device__ __forceinline__ void put_block(uint16_t *m, int col, const float (&c)[8])
{
    const int warp = threadIdx.x / 32;
#pragma unroll
    for (int e = 0; e < 8; e += 2) {
        const int at = delta_swizzle(16 * warp + block_row(e), 16 * col + block_col(e));
        *(uint32_t *)((unsigned char *)m + at) = cvt_x2<half_t>(c[e], c[e + 1]);
    }
}

static __device__ __forceinline__ void put_float_block(float *m, int col, const float (&c)[8])
{
#pragma unroll
    for (int e = 0; e < 8; e++)
        m[(threadIdx.x / 32 * 16 + block_row(e)) * 64 + 16 * col + block_col(e)] = c[e];
}

// The strictly lower rows of q or k of a chunk; rows from n on are zero.
static __device__ void load_tile(unsigned char *tile, const uint16_t *from, size_t stride, int n)
{
    for (int i = threadIdx.x; i < 64 * 16; i += THREADS) {
        const int row = i / 16, group = i % 16;
        const uint16_t *src = from + (row < n ? (size_t)row * stride + group * 8 : 0);
        cp_async_16(shared_address(tile + row * 256 + (group ^ (row % 8)) * 16), src,
                    row < n ? 16 : 0);
    }
}

// scale / |x| of every row, two threads a row.
template <typename half_t>
static __device__ void find_norms(float *norm, const unsigned char *tile, float scale)
{
    const int row = threadIdx.x / 2, half = threadIdx.x % 2;
    float sum = 0;
#pragma unroll
    for (int c = 0; c < 8; c++) {
        const uint4 x = *(const uint4 *)(tile + row * 256 + ((half * 8 + c) ^ (row % 8)) * 16);
        const uint32_t words[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 v = widen_x2<half_t>(words[i]);
            sum += v.x * v.x;
            sum += v.y * v.y;
        }
    }
    sum += __shfl_xor_sync(~0u, sum, 1);
    if (half == 0)
        norm[row] = scale * rsqrtf(sum + DELTA_NORM_EPS);
}

// Rows of this warp times all rows of k up to its own: c[j] is block j.
template <typename half_t>
static __device__ void multiply_rows(float (&kk)[4][8], float (&qk)[4][8], const unsigned char *k,
                                     const unsigned char *q)
{
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int row = lane % 16, half = lane / 16; // of the left operands
    const int col = lane % 8 + lane / 16 * 8, col_half = lane / 8 % 2;
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
        for (int e = 0; e < 8; e++)
            kk[j][e] = qk[j][e] = 0;
#pragma unroll
    for (int step = 0; step < 8; step++) {
        uint32_t left_k[4], left_q[4];
        const int at = (16 * warp + row) * 256 + ((2 * step + half) ^ (row % 8)) * 16;
        ldmatrix_x4(left_k, shared_address(k + at));
        ldmatrix_x4(left_q, shared_address(q + at));
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (j > warp)
                continue;
            uint32_t b[4];
            ldmatrix_x4(b, shared_address(k + (16 * j + col) * 256 +
                                          ((2 * step + col_half) ^ (col % 8)) * 16));
            mma_m16n8k16<half_t>(*(float(*)[4]) & kk[j][0], left_k, b[0], b[1]);
            mma_m16n8k16<half_t>(*(float(*)[4]) & kk[j][4], left_k, b[2], b[3]);
            mma_m16n8k16<half_t>(*(float(*)[4]) & qk[j][0], left_q, b[0], b[1]);
            mma_m16n8k16<half_t>(*(float(*)[4]) & qk[j][4], left_q, b[2], b[3]);
        }
    }
}

template <typename half_t> struct prepare_args {
    const half_t *qkv, *a, *b;
    const float *A_log, *dt_bias;
    const struct span *spans;
    struct delta_unit *units;
    float *A; // [units, 64, 64] out where another kernel inverts; T is left to it
    struct inverse_report *report;
    struct delta_slab slab;
    int k_heads, v_heads, report_every;
};

// Running sums of g of one head by one warp, two tokens a lane.
template <typename half_t>
static __device__ void find_gates(float *G, float *beta, const struct prepare_args<half_t> &p,
                                  int row, int n, int head)
{
    const int lane = threadIdx.x % 32;
    float g[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int t = 2 * lane + i;
        struct delta_gate gate = {0, 0};
        if (t < n)
            gate = delta_gate_of(p.a, p.b, (size_t)(row + t) * p.v_heads + head, p.A_log[head],
                                 p.dt_bias[head]);
        g[i] = gate.g * 1.44269504f;
        beta[t] = gate.beta;
    }
    float sum = g[0] + g[1];
    for (int d = 1; d < 32; d *= 2) {
        const float other = __shfl_up_sync(~0u, sum, d);
        sum += lane >= d ? other : 0;
    }
    const float before = __shfl_up_sync(~0u, sum, 1);
    G[2 * lane] = (lane ? before : 0) + g[0];
    G[2 * lane + 1] = G[2 * lane] + g[1];
}

// A's and P's blocks of this warp, from the products of its rows: A to r (and whole to A_out), P to the
// unit.
template <typename half_t, bool KEEP, bool WIDE>
static __device__ void decay_rows(struct rows<WIDE> *r, struct shared<WIDE> &s, float *A_out,
                                  const float (&kk)[4][8], const float (&qk)[4][8], int head)
{
    const int warp = threadIdx.x / 32;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (j > warp)
            continue;
        float A[8], P[8];
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const int row = 16 * warp + block_row(e), col = 16 * j + block_col(e);
            const float x = col > row ? -INFINITY : s.G[head][row] - s.G[head][col];
            const float d = ex2_approx(x);
            P[e] = qk[j][e] * d;
            A[e] = col < row ? s.beta[head][row] * (kk[j][e] * d) : 0.0f;
        }
        put_block<half_t>(s.unit[head % 2].P, j, P);
        if constexpr (KEEP)
            put_float_block(A_out, j, A);
        if (j == warp) {
#pragma unroll
            for (int e = 0; e < 8; e++)
                r->diagonal[e] = A[e];
        } else if (j == warp - 1 && warp % 2) {
            r->near = make_right(make_left<WIDE>(A));
        } else if (j < 2) {
            r->far[j] = make_right(make_left<WIDE>(A));
        }
    }
}

template <typename half_t, bool WIDE>
static __device__ void put_rows(uint16_t *T, float *T_out, struct rows<WIDE> &r, const float *beta)
{
    const int warp = threadIdx.x / 32;
    const auto put = [&](int col, float(&c)[8]) {
        if (T_out)
            put_float_block(T_out, col, c);
#pragma unroll
        for (int e = 0; e < 8; e++)
            c[e] *= beta[16 * col + block_col(e)];
        put_block<half_t>(T, col, c);
    };
    put(warp, r.diagonal);
    if (warp % 2)
        put(warp - 1, r.t_near);
    if (warp >= 2) {
        put(0, r.t_far[0]);
        put(1, r.t_far[1]);
    }
}

// max |I - (I + A) T| of a chunk, and the warps' notes, into the report.
static __device__ void write_report(struct inverse_report *report, const float *A, const float *T,
                                    const struct notes &n)
{
    float worst = 0;
    bool finite = true;
    for (int at = threadIdx.x; at < 64 * 64; at += THREADS) {
        const int i = at / 64, j = at % 64;
        if (j >= i)
            continue;
        float sum = T[at];
        for (int k = j; k < i; k++)
            sum += A[i * 64 + k] * (k == j ? 1.0f : T[k * 64 + j]);
        worst = fmaxf(worst, fabsf(sum));
        finite = finite && isfinite(T[at]);
    }
    // Floats that are not negative are in the order of their bits.
    atomicMax((int *)&report->residual_max, __float_as_int(worst));
    atomicMax((int *)&report->value_max, __float_as_int(n.value_max));
    if (!__syncthreads_and(finite) && threadIdx.x == 0)
        atomicAdd(&report->nonfinite, 1u);
    if (threadIdx.x == 0)
        atomicAdd(&report->checked, 1u);
}

template <typename half_t, bool WIDE, bool REPORT, bool FUSED>
static __global__ void __launch_bounds__(THREADS, WIDE ? 2 : 3)
    prepare_kernel(const struct prepare_args<half_t> p)
{
    extern __shared__ __align__(1024) unsigned char raw[];
    struct shared<WIDE> &s = *(struct shared<WIDE> *)raw;
    struct delta_place place;
    if (!delta_find(&place, p.spans, p.slab, blockIdx.x))
        return;
    const int k_head = blockIdx.y, ratio = p.v_heads / p.k_heads, tid = threadIdx.x;
    const size_t stride = (size_t)(2 * p.k_heads + p.v_heads) * DELTA_DIM;
    const uint16_t *q =
        (const uint16_t *)p.qkv + (size_t)place.row * stride + (size_t)k_head * DELTA_DIM;
    load_tile(s.k, q + (size_t)p.k_heads * DELTA_DIM, stride, place.n);
    load_tile(s.q, q, stride, place.n);
    for (int h = tid / 32; h < ratio; h += THREADS / 32)
        find_gates(s.G[h], s.beta[h], p, place.row, place.n, k_head * ratio + h);
    for (int i = tid; i < 2 * (int)(2 * sizeof s.unit->T / 16); i += THREADS)
        ((uint4 *)s.unit[i % 2].T)[i / 2] = make_uint4(0, 0, 0, 0); // stays zero above the diagonal
    cp_async_wait_all();
    __syncthreads(); // tiles, gates and zeros are there
    find_norms<half_t>(s.k_norm, s.k, 1.0f);
    find_norms<half_t>(s.q_norm, s.q, rsqrtf((float)DELTA_DIM));
    float kk[4][8], qk[4][8];
    multiply_rows<half_t>(kk, qk, s.k, s.q);
    __syncthreads(); // norms are there; the tiles are free
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const int row = tid / 32 * 16 + block_row(e);
            const float norm = s.k_norm[16 * j + block_col(e)];
            kk[j][e] *= s.k_norm[row] * norm;
            qk[j][e] *= s.q_norm[row] * norm;
        }
    float *A_out = (float *)s.k; // 64 x 64 each: exactly the tile of k, and that of q
    float *T_out = (float *)s.q;
    for (int h = 0; h < ratio; h++) {
        const int head = k_head * ratio + h;
        const int number = place.span.pos0 / DELTA_CHUNK + place.index;
        const bool checked = REPORT && (number + head) % p.report_every == 0;
        struct rows<WIDE> r;
        struct notes notes = {0};
        struct delta_unit &unit = s.unit[h % 2];
        if (h >= 2) {
            if (tid == 0)
                cp_async_bulk_wait_group_read<1>();
            __syncthreads(); // what the unit held has been copied out
        }
        const size_t number_of_unit = (size_t)blockIdx.x * p.v_heads + head;
        decay_rows<half_t, REPORT || !FUSED>(&r, s, FUSED ? A_out : p.A + number_of_unit * 64 * 64,
                                             kk, qk, h);
        if (tid < 64) {
            const float last = s.G[h][63], G = s.G[h][tid];
            unit.v_from_s[tid] = ex2_approx(G) * s.k_norm[tid];
            unit.o_from_s[tid] = ex2_approx(G) * s.q_norm[tid];
            unit.s_from_n[tid] = tid < place.n ? ex2_approx(last - G) * s.k_norm[tid] : 0.0f;
            unit.decay = ex2_approx(last);
        }
        if constexpr (FUSED) {
            invert<WIDE, REPORT>(&r, s.right, &notes);
            put_rows<half_t>(unit.T, checked ? T_out : NULL, r, s.beta[h]);
        }
        fence_proxy_async_shared();
        __syncthreads(); // the unit is complete
        if (tid == 0) {
            cp_async_bulk_store(&p.units[number_of_unit], shared_address(&unit), DELTA_UNIT_BYTES);
            cp_async_bulk_commit_group();
        }
        if (checked) {
            write_report(p.report, A_out, T_out, notes);
            __syncthreads(); // the report's matrices are free
        }
    }
    if (tid == 0)
        cp_async_bulk_wait_group_read<0>(); // before the block's memory goes
}

// T diag(beta) of a unit, from T in float32.
template <typename half_t>
static __global__ void __launch_bounds__(THREADS)
    pack_kernel(const struct prepare_args<half_t> p, const float *T)
{
    __shared__ float beta[64];
    struct delta_place place;
    if (!delta_find(&place, p.spans, p.slab, blockIdx.x))
        return;
    const int head = blockIdx.y, t = threadIdx.x;
    const size_t unit = (size_t)blockIdx.x * p.v_heads + head;
    if (t < 64) {
        const bool in = t < place.n;
        const size_t at = (size_t)(place.row + (in ? t : 0)) * p.v_heads + head;
        beta[t] = in ? 1.0f / (1.0f + expf(-to_float(p.b[at]))) : 0.0f;
    }
    __syncthreads(); // beta is there
    for (int i = t; i < 64 * 32; i += THREADS) {
        const int row = i / 32, col = i % 32 * 2;
        const float2 x = *(const float2 *)&T[unit * 64 * 64 + row * 64 + col];
        *(uint32_t *)((unsigned char *)p.units[unit].T + delta_swizzle(row, col)) =
            cvt_x2<half_t>(x.x * beta[col], x.y * beta[col + 1]);
    }
}

template <bool WIDE, bool REPORT, bool FUSED, typename half_t>
static void launch(struct dev *dev, const struct prepare_args<half_t> &p, int n)
{
    const int bytes = sizeof(struct shared<WIDE>);
    cuda_ok(dev,
            cudaFuncSetAttribute(prepare_kernel<half_t, WIDE, REPORT, FUSED>,
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
            "delta_prepare: shared memory");
    prepare_kernel<half_t, WIDE, REPORT, FUSED>
        <<<dim3(n, p.k_heads), THREADS, bytes, cuda_of(dev)->stream>>>(p);
    LAUNCHED(dev, "delta_prepare");
}

bool delta_fast(struct dev *dev, const struct delta_rule_args *a)
{
    const struct cuda *cuda = cuda_of(dev);
    return cuda->act != DTYPE_F32 && cuda->arch == 90 && a->chunk == DELTA_CHUNK &&
           a->k_dim == DELTA_DIM && a->v_dim == DELTA_DIM && a->v_heads / a->k_heads <= HEADS_MAX &&
           a->v_heads <= DELTA_OUTSIDE_MAX;
}

bool delta_inverts_inside(const struct delta_rule_args *a)
{
    const struct inverse *v = &a->inverse;
    return v->executor == INVERSE_FUSED && v->method == INVERSE_NEUMANN && v->block == 16 &&
           v->order == 3 && v->residual == 8 &&
           (v->type == INVERSE_FP16 || v->type == INVERSE_FP32);
}

// By way of device memory: any method, type and executor.
template <typename half_t>
static void prepare_by_memory(struct dev *dev, const struct delta_rule_args *a,
                              struct prepare_args<half_t> p, int n)
{
    const size_t units = (size_t)n * a->v_heads;
    p.A = (float *)cuda_scratch(dev, CUDA_SLOT_DELTA_2,
                                (size_t)DELTA_OUTSIDE_MAX * 2 * 64 * 64 * sizeof(float));
    if (!p.A)
        return;
    struct tri_inverse_args t = {.t_out = p.A + units * 64 * 64,
                                 .a = p.A,
                                 .n = (int)units,
                                 .chunk = DELTA_CHUNK,
                                 .inverse = a->inverse,
                                 .report = NULL};
    launch<false, false, false>(dev, p, n);
    cuda_tri_inverse(dev, &t);
    delta_report(dev, a, p.slab, &t);
    pack_kernel<<<dim3(n, a->v_heads), THREADS, 0, cuda_of(dev)->stream>>>(p, t.t_out);
    LAUNCHED(dev, "delta_prepare: pack");
}

template <typename half_t>
static void prepare(struct dev *dev, const struct delta_rule_args *a, const struct delta_slab &slab,
                    struct delta_unit *units, int n)
{
    const struct prepare_args<half_t> p = {
        .qkv = (const half_t *)a->qkv, .a = (const half_t *)a->a, .b = (const half_t *)a->b,
        .A_log = a->A_log, .dt_bias = a->dt_bias, .spans = a->batch.spans, .units = units,
        .A = NULL, .report = a->report, .slab = slab, .k_heads = a->k_heads, .v_heads = a->v_heads,
        .report_every = a->report_every
    };
    const bool report = a->report && a->report_every > 0;
    if (!delta_inverts_inside(a))
        prepare_by_memory(dev, a, p, n);
    else if (a->inverse.type == INVERSE_FP32)
        report ? launch<true, true, true>(dev, p, n) : launch<true, false, true>(dev, p, n);
    else
        report ? launch<false, true, true>(dev, p, n) : launch<false, false, true>(dev, p, n);
}

void delta_prepare(struct dev *dev, const struct delta_rule_args *a, const struct delta_slab &slab,
                   struct delta_unit *units, int n)
{
    HALF_SWITCH(dev, prepare<half_t>(dev, a, slab, units, n));
}
