// inverse_any.cuh - every method of the inversion, with any block, order and residual, for one matrix in
// shared memory. The default setting has a faster way of its own, inverse_default.cuh.
//
// Steps and roundings are those of the CPU's definition (kernels/cpu/tri_inverse.c): the same products
// in the same order, so that int8 gives the same integers. Blocks of all widths run in 16 x 16 tiles;
// narrower ones side by side in one tile, with A cut down to them.
#ifndef INVERSE_ANY_CUH
#define INVERSE_ANY_CUH

#include "inverse_tile.cuh"

static constexpr int TRI_LEAF = 16;

// Rows of a square matrix are so far apart: 4 banks a row, so that tiles are read without conflicts.
constexpr __host__ __device__ int tri_ld(int width)
{
    return width + 4;
}

// Floats of scratch: a copy of A, the powers of the residual, the residual itself.
constexpr __host__ __device__ int tri_any_floats(int chunk)
{
    const int whole = chunk * tri_ld(chunk), halves = 2 * chunk * tri_ld(chunk / 2),
              leaves = 2 * chunk * tri_ld(TRI_LEAF), most = whole > halves ? whole : halves;
    return whole + (most > leaves ? most : leaves);
}

// The diagonal blocks of a matrix, or as many small matrices: block i begins at p + i * step.
struct tri_blocks {
    float *p;
    int ld, step;
};

// What becomes of a product: on sub-diagonals first .. last the old value where it is kept (sub-diagonals
// 0 .. keep_below - 1) plus sign times the sum; elsewhere nothing, or 0 with clear.
struct tri_rule {
    float sign;
    int keep_below, first, last;
    bool clear;
};

template <int WARPS> __device__ __forceinline__ void tri_sync()
{
    if constexpr (WARPS == 1)
        __syncwarp();
    else
        __syncthreads();
}

// The thread's place in the group that shares the matrix.
template <int WARPS> __device__ __forceinline__ int tri_warp()
{
    return threadIdx.x / 32 % WARPS;
}

// c = rule(a b) block by block, all lower triangular; c may be a or b: results wait in registers until
// all are there. A function of its own: eight calls of it are most of a method.
template <int C, int TYPE, int WARPS>
__device__ __noinline__ tri_seen tri_products(const tri_blocks c, const tri_blocks a,
                                              const tri_blocks b, int width, const tri_rule rule,
                                              tri_seen seen)
{
    __builtin_assume(__isShared(c.p));
    __builtin_assume(__isShared(a.p));
    __builtin_assume(__isShared(b.p));
    constexpr int SIDE = C / TRI_LEAF;
    constexpr int ROUNDS = (SIDE * (SIDE + 1) / 2 + WARPS - 1) / WARPS;
    const int side = width / TRI_LEAF, per_block = side * (side + 1) / 2;
    const int n = C / width * per_block;
    float result[ROUNDS][TILE_VALUES];
    int row[ROUNDS], col[ROUNDS], block[ROUNDS];
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        const int at = r * WARPS + tri_warp<WARPS>();
        int i = 0, j = at % per_block;
        while (j > i)
            j -= ++i;
        row[r] = i * TRI_LEAF, col[r] = j * TRI_LEAF, block[r] = at / per_block;
        tile_sum<TYPE> sum = {};
        if (at < n)
            for (int k = col[r]; k <= row[r]; k += TRI_LEAF)
                tile_add<TYPE>(sum, a.p + block[r] * a.step + row[r] * a.ld + k, a.ld,
                               b.p + block[r] * b.step + k * b.ld + col[r], b.ld, seen);
        const float *old = c.p + block[r] * c.step + row[r] * c.ld + col[r];
#pragma unroll
        for (int e = 0; e < TILE_VALUES; e++) {
            const int y = tile_row(e), x = tile_col(e);
            const int d = row[r] + y - col[r] - x; // above the diagonal nothing is kept, or there
            const bool keep = at < n && d >= 0 && d < rule.keep_below;
            result[r][e] =
                tile_value<TYPE>(sum, e, keep ? old[y * c.ld + x] : 0.0f, rule.sign, seen);
        }
    }
    tri_sync<WARPS>(); // all operands are read before any of them is overwritten
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        float *to = c.p + block[r] * c.step + row[r] * c.ld + col[r];
#pragma unroll
        for (int e = 0; e < TILE_VALUES; e++) {
            const int y = tile_row(e), x = tile_col(e), d = row[r] + y - col[r] - x;
            if (block[r] >= C / width)
                continue;
            if (d >= rule.first && d <= rule.last)
                to[y * c.ld + x] = result[r][e];
            else if (rule.clear)
                to[y * c.ld + x] = 0.0f;
        }
    }
    tri_sync<WARPS>(); // the result is written before it is read
    return seen;
}

// The matrix at work: T in place of what A was, and the scratch.
struct tri_matrices {
    tri_blocks t, a, power, e; // of the width at work
    tri_blocks whole_t, whole_a;
};

// Entry (i, j) of C x width numbers: a row of every diagonal block, one block after another.
template <int C, int WARPS, typename F>
__device__ __forceinline__ void tri_each(int width, const F &body)
{
    for (int k = tri_warp<WARPS>() * 32 + tri_lane(); k < C * width; k += WARPS * 32)
        body(k / (width * width), k / width % width, k % width);
}

// T0, E in power (and e when terms is no power of two), then T0 (I + E + ... + E^(terms - 1)) by
// doubling. A's blocks are cut down to `cut` columns when they are narrower than a tile.
template <int C, int TYPE, int WARPS>
__device__ void tri_series(tri_matrices &m, const struct inverse &v, int width, tri_seen &seen)
{
    const int n = max(width, TRI_LEAF), order = min(v.order, width), terms = v.residual;
    tri_blocks a = m.a;
    if (width < TRI_LEAF) {
        a = m.e; // free until the residual is known
        tri_each<C, WARPS>(n, [&](int b, int i, int j) {
            a.p[b * a.step + i * a.ld + j] =
                i / width == j / width ? m.a.p[b * m.a.step + i * m.a.ld + j] : 0.0f;
        });
        tri_sync<WARPS>(); // A is cut
    }
    tri_each<C, WARPS>(n, [&](int b, int i, int j) {
        if (i == j + 1)
            m.t.p[b * m.t.step + i * m.t.ld + j] = -a.p[b * a.step + i * a.ld + j];
    });
    tri_sync<WARPS>(); // the first sub-diagonal is there
    for (int d = 2; d < order; d++)
        seen = tri_products<C, TYPE, WARPS>(m.t, a, m.t, n, {-1.0f, 0, d, d, false}, seen);
    if (terms < 2)
        return;
    seen = tri_products<C, TYPE, WARPS>(m.power, a, m.t, n, {-1.0f, 0, order, n, true}, seen);
    if (terms & (terms - 1))
        tri_each<C, WARPS>(n, [&](int b, int i, int j) {
            m.e.p[b * m.e.step + i * m.e.ld + j] = m.power.p[b * m.power.step + i * m.power.ld + j];
        });
    tri_sync<WARPS>(); // E is kept
    const tri_rule add = {1.0f, n, 0, n, false}, set = {1.0f, 0, 0, n, false};
    int digit = 1;
    while (digit * 2 <= terms)
        digit *= 2;
    while ((digit /= 2) > 0) {
        seen = tri_products<C, TYPE, WARPS>(m.t, m.t, m.power, n, add, seen);
        if (digit > 1)
            seen = tri_products<C, TYPE, WARPS>(m.power, m.power, m.power, n, set, seen);
        if (terms & digit) {
            // T0 + T E, T0 being T's first sub-diagonals, which no term of the series touches.
            seen = tri_products<C, TYPE, WARPS>(m.t, m.t, m.e, n, {1.0f, order, 0, n, false}, seen);
            if (digit > 1)
                seen = tri_products<C, TYPE, WARPS>(m.power, m.power, m.e, n, set, seen);
        }
    }
}

// Inside every leaf: T -= T (A o mask) T, the mask keeping what lies between the two blocks of a pair.
template <int C, int TYPE, int WARPS>
__device__ void tri_merge_inside(tri_matrices &m, int width, tri_seen &seen)
{
    constexpr int n = TRI_LEAF;
    tri_each<C, WARPS>(n, [&](int b, int i, int j) {
        const bool between = i / (2 * width) == j / (2 * width) && i / width > j / width;
        m.e.p[b * m.e.step + i * m.e.ld + j] =
            between ? m.a.p[b * m.a.step + i * m.a.ld + j] : 0.0f;
    });
    tri_sync<WARPS>(); // A is cut
    seen = tri_products<C, TYPE, WARPS>(m.power, m.e, m.t, n, {1.0f, 0, 0, n, true}, seen);
    seen = tri_products<C, TYPE, WARPS>(m.t, m.t, m.power, n, {-1.0f, n, 0, n, false}, seen);
}

// c (row, col) = sign * sum over k of a (row, k) b (k, col), for one tile of a pair of blocks.
template <int TYPE>
__device__ __forceinline__ void tri_tile(const tri_blocks &c, const tri_blocks &a,
                                         const tri_blocks &b, int from, int to, float sign,
                                         tri_seen &seen)
{
    tile_sum<TYPE> sum = {};
    for (int k = from; k < to; k += TRI_LEAF)
        tile_add<TYPE>(sum, a.p + k, a.ld, b.p + k * b.ld, b.ld, seen);
#pragma unroll
    for (int e = 0; e < TILE_VALUES; e++)
        c.p[tile_row(e) * c.ld + tile_col(e)] = tile_value<TYPE>(sum, e, 0.0f, sign, seen);
}

// X21 = -X22 (A21 X11) for every pair of neighbouring blocks. A21 X11 waits above the diagonal.
template <int C, int TYPE, int WARPS>
__device__ void tri_merge_pairs(const tri_matrices &m, int width, tri_seen &seen)
{
    const int side = width / TRI_LEAF, per_pair = side * side, n = C / width / 2 * per_pair;
    float *t = m.whole_t.p, *a = m.whole_a.p;
    const int ld = tri_ld(C);
    for (int second = 0; second < 2; second++) {
        for (int at = tri_warp<WARPS>(); at < n; at += WARPS) {
            const int first = at / per_pair * 2 * width, r = at % per_pair / side * TRI_LEAF,
                      c = at % side * TRI_LEAF, lower = first + width + r;
            float *y = t + (first + r) * ld + first + width + c;
            const tri_blocks x11 = {t + first * ld + first + c, ld, 0},
                             x21 = {t + lower * ld + first + c, ld, 0},
                             x22 = {t + lower * ld + first + width, ld, 0},
                             a21 = {a + lower * ld + first, ld, 0};
            if (second)
                tri_tile<TYPE>(x21, x22, {y - r * ld, ld, 0}, 0, r + TRI_LEAF, -1.0f, seen);
            else
                tri_tile<TYPE>({y, ld, 0}, a21, x11, c, width, 1.0f, seen);
        }
        tri_sync<WARPS>(); // the product is written before the next one reads it
    }
}

// Row by row, T[i] = -A[i] T: a column of T belongs to one thread, which nobody waits for. The plain
// sequential reference; int8 multiplies whole fixed-point numbers, whose sums are those of the planes.
template <int C, int TYPE, int WARPS>
__device__ void tri_substitute(const tri_matrices &m, tri_seen &seen)
{
    constexpr int ld = tri_ld(C);
    float *t = m.whole_t.p;
    const float *a = m.whole_a.p;
    for (int j = tri_warp<WARPS>() * 32 + tri_lane(); j < C; j += WARPS * 32)
        for (int i = j + 1; i < C; i++) {
            float sum = 0.0f;
            long long whole = 0;
            for (int k = j; k < i; k++)
                if constexpr (TYPE == INVERSE_INT8)
                    whole += (long long)tri_fixed(a[i * ld + k], seen.lost) *
                             tri_fixed(t[k * ld + j], seen.lost);
                else
                    sum += tri_round<TYPE>(a[i * ld + k]) * tri_round<TYPE>(t[k * ld + j]);
            if constexpr (TYPE == INVERSE_INT8) {
                const float unit = 1.0f / (1 << TRI_SHIFT);
                const long long half = 1 << (TRI_SHIFT - 1);
                sum =
                    (float)tri_fixed((float)((whole + half) >> TRI_SHIFT) * unit, seen.lost) * unit;
            }
            t[i * ld + j] = -sum;
            seen.value_max = fmaxf(seen.value_max, fabsf(sum));
        }
}

// t: [C][tri_ld(C)], A on entry (read below the diagonal only), T on return. scratch:
// [tri_any_floats(C)]; its first C tri_ld(C) floats are A, zero on and above the diagonal, on return
// unless one neumann block spans the chunk. Called by all WARPS warps of the block.
template <int C, int TYPE, int WARPS>
__device__ void tri_invert_any(float *t, float *scratch, const struct inverse &v, tri_seen &seen)
{
    constexpr int ld = tri_ld(C);
    const int wanted = v.method == INVERSE_MERGE ? 1 : v.block, width = min(wanted, C);
    const int leaf = max(width, TRI_LEAF);
    float *a = scratch, *rest = scratch + C * ld;
    tri_matrices m;
    m.whole_t = {t, ld, 0};
    m.whole_a = {a, ld, 0};
    m.t = {t, ld, leaf * (ld + 1)};
    m.a = {a, ld, leaf * (ld + 1)};
    m.power = {rest, tri_ld(leaf), leaf * tri_ld(leaf)};
    m.e = {rest + C * tri_ld(leaf), tri_ld(leaf), leaf * tri_ld(leaf)};
    if (leaf == C && width == leaf)
        m.e.p = a;     // no merge will want A
    tri_sync<WARPS>(); // A is there
    tri_each<C, WARPS>(C, [&](int, int i, int j) {
        a[i * ld + j] = j < i ? t[i * ld + j] : 0.0f;
        t[i * ld + j] = i == j ? 1.0f : 0.0f;
    });
    tri_sync<WARPS>(); // A is copied, T is the identity
    if (v.method == INVERSE_SUBSTITUTION) {
        tri_substitute<C, TYPE, WARPS>(m, seen);
    } else {
        if (width > 1)
            tri_series<C, TYPE, WARPS>(m, v, width, seen);
        for (int merged = width; merged < leaf; merged *= 2)
            tri_merge_inside<C, TYPE, WARPS>(m, merged, seen);
        for (int merged = leaf; merged < C; merged *= 2)
            tri_merge_pairs<C, TYPE, WARPS>(m, merged, seen);
        tri_each<C, WARPS>(C, [&](int, int i, int j) {
            if (j > i)
                t[i * ld + j] = 0.0f;
        });
    }
    tri_sync<WARPS>(); // T is whole
}

#endif
