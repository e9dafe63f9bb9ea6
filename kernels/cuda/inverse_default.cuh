// inverse_default.cuh - the sound default, neumann:16,3,8, for one matrix in shared memory, in place.
//
// Leaves of 16 x 16 are inverted in registers, by a warp each on the tensor cores, or for fp32 by one
// or two columns a thread in multiply-adds. The merges replace A21 by A21 X11 and that by
// X21 = -X22 (A21 X11), so that a matrix needs no room but its own; for fp32 they are three products of tf32.
// The products are those of inverse_any.cuh, each rounded as there; what the masks make zero beforehand is
// left out in fp32. int8 goes the general way.
#ifndef INVERSE_DEFAULT_CUH
#define INVERSE_DEFAULT_CUH

#include "inverse_any.cuh"

// Where row block r of 16 rows lies: block r and block n - 2 - r side by side in one band, as the tiles up
// to the diagonal one are all there is. Rows are tri_ld(C) floats apart, so that addresses are constants.
template <int C> struct tri_folded {
    static constexpr int CHUNK = C, N = C / 16, FLOATS = (N / 2 + 1) * 16 * tri_ld(C);
    static __device__ __forceinline__ int row_block(int r)
    {
        const int partner = N - 2 - r;
        return r >= partner ? (N - 1 - r) * 16 * tri_ld(C)
                            : (N - 1 - partner) * 16 * tri_ld(C) + 16 * (partner + 1);
    }
};

// How a matrix is inverted: its layout, the type, the warps that share it, whether the report is wanted.
template <typename LAYOUT, int TYPE_OF, int WARPS_OF, bool REPORT_WANTED> struct tri_how {
    using L = LAYOUT;
    static constexpr int TYPE = TYPE_OF, WARPS = WARPS_OF;
    static constexpr bool REPORT = REPORT_WANTED;
};

__host__ __device__ __forceinline__ bool tri_is_default(const struct inverse &v)
{
    return v.method == INVERSE_NEUMANN && v.block == 16 && v.order == 3 && v.residual == 8 &&
           v.type != INVERSE_INT8;
}

// c += a b for 16 x 16 matrices held as sums of a tensor product are.
template <int TYPE>
__device__ __forceinline__ void tri_registers_add(float *c, const float *a, const float *b)
{
    if constexpr (TYPE == INVERSE_TF32) {
        // Lane (g, t) wants rows 2 t and 2 t + 1 of column g; k is taken in the order of tile_add.
        const int t = tri_lane() % 4, g = tri_lane() / 4, from = 8 * t + g / 2;
        const bool odd = g % 2;
#pragma unroll
        for (int s = 0; s < 2; s++) {
            const uint32_t left[4] = {cvt_rna_tf32(a[4 * s]), cvt_rna_tf32(a[4 * s + 2]),
                                      cvt_rna_tf32(a[4 * s + 1]), cvt_rna_tf32(a[4 * s + 3])};
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const uint32_t even_col = cvt_rna_tf32(b[4 * h + 2 * s]),
                               odd_col = cvt_rna_tf32(b[4 * h + 2 * s + 1]);
                const uint32_t x0 = __shfl_sync(~0u, even_col, from),
                               x1 = __shfl_sync(~0u, odd_col, from),
                               y0 = __shfl_sync(~0u, even_col, from + 4),
                               y1 = __shfl_sync(~0u, odd_col, from + 4);
                mma_m16n8k8_tf32(tri_half(c, h), left, odd ? x1 : x0, odd ? y1 : y0);
            }
        }
    } else {
        uint32_t left[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            left[i] = tri_pack<TYPE>(a[2 * i], a[2 * i + 1]);
#pragma unroll
        for (int h = 0; h < 2; h++)
            tri_mma_16<TYPE>(tri_half(c, h), left,
                             movmatrix_trans(tri_pack<TYPE>(b[4 * h], b[4 * h + 1])),
                             movmatrix_trans(tri_pack<TYPE>(b[4 * h + 2], b[4 * h + 3])));
    }
}

template <int TYPE, bool REPORT>
__device__ __forceinline__ void tri_registers(float *c, const float *a, const float *b,
                                              tri_seen &seen)
{
    float left[8];
#pragma unroll
    for (int e = 0; e < 8; e++)
        left[e] = a[e];
    tri_registers_add<TYPE>(c, left, b);
#pragma unroll
    for (int e = 0; REPORT && e < 8; e++)
        seen.value_max = fmaxf(seen.value_max, fabsf(c[e]));
}

// One leaf, by a warp.
template <int TYPE, bool REPORT>
__device__ __forceinline__ void tri_leaf(float *p, int ld, tri_seen &seen)
{
    float a[8], t[8], power[8], x[8];
#pragma unroll
    for (int e = 0; e < 8; e++) {
        const int i = tile_row(e), j = tile_col(e);
        a[e] = j < i ? p[i * ld + j] : 0.0f;
        t[e] = i == j ? 1.0f : i == j + 1 ? -a[e] : 0.0f;
        x[e] = power[e] = 0.0f;
    }
    tri_registers<TYPE, REPORT>(x, a, t, seen);
#pragma unroll
    for (int e = 0; e < 8; e++) {
        t[e] = tile_row(e) == tile_col(e) + 2 ? -x[e] : t[e];
        x[e] = 0.0f;
    }
    tri_registers<TYPE, REPORT>(x, a, t, seen); // -E
#pragma unroll
    for (int e = 0; e < 8; e++)
        power[e] = tile_row(e) >= tile_col(e) + 3 ? -x[e] : 0.0f;
#pragma unroll
    for (int terms = 2; terms <= 8; terms *= 2) {
        tri_registers<TYPE, REPORT>(t, t, power, seen);
        if (terms == 8)
            break;
        float square[8] = {};
        tri_registers<TYPE, REPORT>(square, power, power, seen);
#pragma unroll
        for (int e = 0; e < 8; e++)
            power[e] = square[e];
    }
#pragma unroll
    for (int e = 0; e < 8; e++)
        p[tile_row(e) * ld + tile_col(e)] = t[e];
}

// One column j of a leaf in fp32, split at the barriers. Its tile holds, one after another: A; T0 and E
// together (they share no entry); T and, transposed above the diagonal, E^2; the result.
struct tri_column {
    float t[16], e[16], square[16];
};

__device__ __forceinline__ void tri_see(float x, tri_seen &seen)
{
    seen.value_max = fmaxf(seen.value_max, fabsf(x));
}

template <bool REPORT>
__device__ __forceinline__ void tri_column_begin(tri_column &x, const float *p, int ld, int j,
                                                 tri_seen &seen)
{
    const float first = j < 15 ? -p[(j + 1) * ld + j] : 0.0f;
    const float second = j < 14 ? -(p[(j + 2) * ld + j] + p[(j + 2) * ld + j + 1] * first) : 0.0f;
#pragma unroll
    for (int i = 0; i < 16; i++) {
        const float *a = p + i * ld + j;
        x.t[i] = i == j ? 1.0f : i == j + 1 ? first : i == j + 2 ? second : 0.0f;
        x.e[i] = i < 3 || i < j + 3 ? 0.0f : -(a[0] + a[1] * first + a[2] * second);
        if (REPORT)
            tri_see(x.e[i], seen), tri_see(x.t[i], seen);
    }
}

// T0 + T0 E and E E. Rows are read four at a time.
template <bool REPORT>
__device__ __forceinline__ void tri_column_first(tri_column &x, const float *p, int ld,
                                                 tri_seen &seen)
{
#pragma unroll
    for (int i = 3; i < 16; i++) {
        float row[16], sum = 0.0f;
#pragma unroll
        for (int k = 0; k <= i; k += 4)
            *(float4 *)(row + k) = *(const float4 *)(p + i * ld + k);
#pragma unroll
        for (int k = 3; k <= i - 3; k++)
            sum += row[k] * x.e[k];
        x.square[i] = sum;
#pragma unroll
        for (int k = i - 2 > 3 ? i - 2 : 3; k < i; k++)
            x.t[i] += row[k] * x.e[k];
        x.t[i] += x.e[i];
        if (REPORT)
            tri_see(x.square[i], seen), tri_see(x.t[i], seen);
    }
}

// T + T E^2, then with E^4, which only the last four rows have, T + T E^4.
template <bool REPORT>
__device__ __forceinline__ void tri_column_last(tri_column &x, const float *p, int ld,
                                                tri_seen &seen)
{
    float fourth[4] = {}; // rows 12 .. 15
#pragma unroll
    for (int k = 6; k < 10; k++) {
        const float4 e = *(const float4 *)(p + k * ld + 12); // E^2, column k
#pragma unroll
        for (int i = k + 6; i < 16; i++)
            fourth[i - 12] += (&e.x)[i - 12] * x.square[k];
    }
#pragma unroll
    for (int i = 6; i < 16; i++) {
        float row[16];
#pragma unroll
        for (int k = 4; k <= i; k += 4)
            *(float4 *)(row + k) = *(const float4 *)(p + i * ld + k);
        x.t[i] += x.square[i];
#pragma unroll
        for (int k = 6; k < i; k++)
            x.t[i] += row[k] * x.square[k];
        if (REPORT)
            tri_see(x.t[i], seen);
        if (i < 12)
            continue;
        x.t[i] += fourth[i - 12];
#pragma unroll
        for (int k = 12; k < i; k++)
            x.t[i] += row[k] * fourth[k - 12];
        if (REPORT)
            tri_see(x.t[i], seen), tri_see(fourth[i - 12], seen);
    }
}

// All leaves in fp32: a thread has two columns of one when there are fewer threads than columns.
template <typename HOW> __device__ __forceinline__ void tri_leaves_fp32(float *m, tri_seen &seen)
{
    using L = typename HOW::L;
    constexpr int WARPS = HOW::WARPS;
    constexpr bool REPORT = HOW::REPORT;
    constexpr int COLS = L::CHUNK > WARPS * 32 ? L::CHUNK / (WARPS * 32) : 1, THREADS = 16 / COLS;
    const int thread = tri_warp<WARPS>() * 32 + tri_lane(), leaf = thread / THREADS;
    const bool active = leaf < L::CHUNK / 16;
    const int j = thread % THREADS * COLS, at = active ? leaf : 0;
    constexpr int ld = tri_ld(L::CHUNK);
    float *p = m + L::row_block(at) + 16 * at;
    tri_column x[COLS];
#pragma unroll
    for (int c = 0; c < COLS; c++)
        tri_column_begin<REPORT>(x[c], p, ld, j + c, seen);
    tri_sync<WARPS>(); // A is read
#pragma unroll
    for (int c = 0; c < COLS; c++)
#pragma unroll
        for (int i = 0; i < 16; i++)
            if (active && i >= j + c)
                p[i * ld + j + c] = i < j + c + 3 ? x[c].t[i] : x[c].e[i];
    tri_sync<WARPS>(); // T0 and E are there
#pragma unroll
    for (int c = 0; c < COLS; c++)
        tri_column_first<REPORT>(x[c], p, ld, seen);
    tri_sync<WARPS>(); // T0 and E are read
#pragma unroll
    for (int c = 0; c < COLS; c++)
#pragma unroll
        for (int i = 0; i < 16; i++) {
            if (active && i >= j + c)
                p[i * ld + j + c] = x[c].t[i];
            if (active && i >= 6 && i >= j + c + 6)
                p[(j + c) * ld + i] = x[c].square[i];
        }
    tri_sync<WARPS>(); // T and E^2 are there
#pragma unroll
    for (int c = 0; c < COLS; c++)
        tri_column_last<REPORT>(x[c], p, ld, seen);
    tri_sync<WARPS>(); // T and E^2 are read
#pragma unroll
    for (int c = 0; c < COLS; c++)
#pragma unroll
        for (int i = 0; i < 16; i++)
            if (active)
                p[i * ld + j + c] = i >= j + c ? x[c].t[i] : 0.0f;
    tri_sync<WARPS>(); // the leaves are done
}

// One of the two products of every merge at this width, in place of A21: A21 X11, or -X22 Y.
template <typename HOW, int WIDTH, bool SECOND>
__device__ __forceinline__ void tri_merge_half(float *m, tri_seen &seen)
{
    using L = typename HOW::L;
    constexpr int TYPE = HOW::TYPE == INVERSE_FP32 ? TRI_SPLIT_FP32 : HOW::TYPE;
    constexpr int WARPS = HOW::WARPS;
    constexpr int SIDE = WIDTH / 16;
    constexpr int TILES = L::CHUNK / WIDTH / 2 * SIDE * SIDE, ROUNDS = (TILES + WARPS - 1) / WARPS;
    constexpr int ld = tri_ld(L::CHUNK);
    tile_sum<TYPE> sum[ROUNDS] = {};
    int row[ROUNDS], col[ROUNDS];
#pragma unroll
    for (int n = 0; n < ROUNDS; n++) {
        // Neighbouring units share what bounds their sums: the column, or the row.
        const int at = n * WARPS + tri_warp<WARPS>(), slow = at / SIDE % SIDE, fast = at % SIDE;
        const int base = at / (SIDE * SIDE) * 2 * SIDE;
        row[n] = base + SIDE + (SECOND ? slow : fast);
        col[n] = base + (SECOND ? fast : slow);
        if (at >= TILES)
            continue;
        const float *a = m + L::row_block(row[n]) + (SECOND ? 16 * SIDE : 0) + 16 * base;
#pragma unroll
        for (int k = 0; k < SIDE; k++) {
            const int at_k = base + (SECOND ? SIDE : 0) + k;
            if (SECOND ? k <= slow : k >= slow)
                tile_add<TYPE>(sum[n], a + 16 * k, ld, m + L::row_block(at_k) + 16 * col[n], ld,
                               seen);
        }
    }
    tri_sync<WARPS>(); // A21, or Y, is read
#pragma unroll
    for (int n = 0; n < ROUNDS; n++) {
        if (TILES % WARPS && n * WARPS + tri_warp<WARPS>() >= TILES)
            continue;
        float *to = m + L::row_block(row[n]) + 16 * col[n];
#pragma unroll
        for (int e = 0; e < TILE_VALUES; e++) {
            const float x = SECOND ? -sum[n].v[e] : sum[n].v[e];
            to[tile_row(e) * ld + tile_col(e)] = x;
            if (HOW::REPORT)
                tri_see(x, seen);
        }
    }
    tri_sync<WARPS>(); // and replaced
}

template <typename HOW, int WIDTH>
__device__ __forceinline__ void tri_merge(float *m, tri_seen &seen)
{
    if constexpr (WIDTH < HOW::L::CHUNK) {
        tri_merge_half<HOW, WIDTH, false>(m, seen);
        tri_merge_half<HOW, WIDTH, true>(m, seen);
        tri_merge<HOW, 2 * WIDTH>(m, seen);
    }
}

// m, laid out as L says: A on entry (read below the diagonal only), T on return. Called by WARPS warps, all
// of the block; A is visible to all of them, and so is T on return.
template <typename L, int TYPE, int WARPS, bool REPORT>
__device__ __forceinline__ void tri_invert_default(float *m, tri_seen &seen)
{
    using how = tri_how<L, TYPE, WARPS, REPORT>;
    if constexpr (TYPE == INVERSE_FP32) {
        tri_leaves_fp32<how>(m, seen);
    } else {
#pragma unroll 2
        for (int leaf = tri_warp<WARPS>(); leaf < L::CHUNK / 16; leaf += WARPS)
            tri_leaf<TYPE, REPORT>(m + L::row_block(leaf) + 16 * leaf, tri_ld(L::CHUNK), seen);
        tri_sync<WARPS>(); // the leaves are done
    }
    tri_merge<how, 16>(m, seen);
}

#endif
