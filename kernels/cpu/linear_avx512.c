// linear_avx512.c - the few-rows path for AVX-512.
// Computes: y[row][col] = x[row] . w[col], one accumulator of 16 lanes a value, lanes added as a tree.
// Bound by: the bytes of W up to about eight rows of x, then multiply-adds.
//
// One row of x goes against 16 weight rows at a time, more rows in tiles of 4 x 4: enough loads in
// flight to stream W, and W is read from memory once however many rows there are. Both shapes add in
// the same order, so a row's bits do not depend on how many rows there are.
// Measured, one core, GB/s of weights: one row bf16 16 (32768 x 1024) and 21 (8192 x 4096), f32 21,
// int8 11, where reading alone reaches 19 to 26; eight rows bf16 75 and 91 GFLOP/s. AMD EPYC (Zen 4),
// 2026-11-23, thread time on a shared machine; ops_check perf linear times two cores.
#include <immintrin.h>

#include "linear.h"

#define INLINE static inline __attribute__((always_inline))
// Loops over a tile must disappear, or its sums live in memory.
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { SUMS = 16 };
enum kernel { FLOAT32, WIDENED, DOT_BF16, DOT_INT8 };

// Values that one vector of the kernel takes from a row, and their bytes.
INLINE size_t kernel_step(enum kernel kernel)
{
    return kernel == DOT_INT8 ? 64 : kernel == DOT_BF16 ? 32 : 16;
}

INLINE size_t kernel_bytes(enum kernel kernel)
{
    return kernel == FLOAT32 ? 4 : kernel == DOT_INT8 ? 1 : 2;
}

// Up to kernel_step values at p, zero beyond `n`.
INLINE __m512i load(enum kernel kernel, const uint8_t *p, size_t n)
{
    const uint64_t mask = n >= 64 ? ~0ull : (1ull << n) - 1;
    if (kernel == FLOAT32)
        return _mm512_maskz_loadu_epi32((__mmask16)mask, p);
    if (kernel == WIDENED)
        return _mm512_slli_epi32(
            _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16((__mmask16)mask, p)), 16);
    if (kernel == DOT_BF16)
        return _mm512_maskz_loadu_epi16((__mmask32)mask, p);
    return _mm512_maskz_loadu_epi8(mask, p);
}

INLINE __m512i multiply_add(enum kernel kernel, __m512i sum, __m512i u, __m512i v)
{
    if (kernel == DOT_INT8)
        return _mm512_dpbusd_epi32(sum, v, u);
    if (kernel == DOT_BF16)
        return _mm512_castps_si512(
            _mm512_dpbf16_ps(_mm512_castsi512_ps(sum), (__m512bh)u, (__m512bh)v));
    return _mm512_castps_si512(
        _mm512_fmadd_ps(_mm512_castsi512_ps(u), _mm512_castsi512_ps(v), _mm512_castsi512_ps(sum)));
}

INLINE __m512i add(enum kernel kernel, __m512i a, __m512i b)
{
    if (kernel == DOT_INT8)
        return _mm512_add_epi32(a, b);
    return _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)));
}

// The 16 sums over the lanes of 16 vectors: each halving packs two vectors into one, so that it costs
// 45 instructions and not 16 times eight.
INLINE __m512i add_lanes(enum kernel kernel, const __m512i v[SUMS])
{
    __m512i a[8], b[4], c[2];
    UNROLL
    for (int i = 0; i < 8; i++)
        a[i] = add(kernel, _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]),
                   _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
    UNROLL
    for (int i = 0; i < 4; i++)
        b[i] = add(kernel, _mm512_unpacklo_epi64(a[2 * i], a[2 * i + 1]),
                   _mm512_unpackhi_epi64(a[2 * i], a[2 * i + 1]));
    UNROLL
    for (int i = 0; i < 2; i++)
        c[i] = add(kernel, _mm512_shuffle_i32x4(b[2 * i], b[2 * i + 1], 0x88),
                   _mm512_shuffle_i32x4(b[2 * i], b[2 * i + 1], 0xdd));
    return add(kernel, _mm512_shuffle_i32x4(c[0], c[1], 0x88),
               _mm512_shuffle_i32x4(c[0], c[1], 0xdd));
}

// A tile of the result: `rows` rows of x against `cols` weight rows, rows * cols <= SUMS.
struct tile {
    int row, col, rows, cols;
    size_t stride; // bytes of a row of x and of W
    bool ahead;    // fetch the next tile's weight rows
};

// One row of x: the weights NEAR bytes further along each row are fetched, at the end of a row those at
// the next tile's beginning, because the processor's own prefetching stops at every row's end. On AVX2
// this took bf16 from 62 to 82 % of the rate of reading (linear_avx2.c).
enum { NEAR = 256 };

INLINE void fetch_line(const struct tile *t, const uint8_t *w, size_t at)
{
    const size_t turn = at + NEAR < t->stride ? 0 : (size_t)(t->cols - 1) * t->stride;
    UNROLL
    for (int c = 0; c < t->cols; c++)
        _mm_prefetch((const char *)w + turn + (size_t)c * t->stride + NEAR, _MM_HINT_T0);
}

INLINE void store(const struct linear_rows *g, enum kernel kernel, const struct tile *t,
                  __m512i sums)
{
    int32_t exact[SUMS];
    float value[SUMS];
    _mm512_storeu_si512(exact, sums);
    _mm512_storeu_si512(value, sums);
    for (int r = 0; r < t->rows; r++)
        for (int c = 0; c < t->cols; c++) {
            float *y = &g->y[(size_t)(t->row + r) * (size_t)g->ldy + (size_t)(t->col + c)];
            const int i = r * t->cols + c;
            *y = kernel != DOT_INT8
                     ? value[i]
                     : (float)exact[i] * (g->scale[t->row + r] * g->w.scale[t->col + c]);
        }
}

struct sums {
    __m512i sum[SUMS], shift[SUMS];
};

// One vector further along the rows at x and w (both k values long); n: values left, 64 for all.
// vpdpbusd multiplies unsigned by signed: w + 128 is unsigned, and 128 times the sum of x's row, which
// the same instruction gives, is taken off at the end. All of it exact in int32.
INLINE void advance(enum kernel kernel, struct sums *s, const uint8_t *x, const uint8_t *w,
                    const struct tile *t, size_t n)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m512i v[SUMS];
    UNROLL
    for (int c = 0; c < t->cols; c++) {
        v[c] = load(kernel, w + (size_t)c * t->stride, n);
        if (t->ahead)
            _mm_prefetch((const char *)w + (size_t)(c + t->cols) * t->stride, _MM_HINT_T0);
        if (kernel == DOT_INT8)
            v[c] = _mm512_xor_si512(v[c], flip);
    }
    UNROLL
    for (int r = 0; r < t->rows; r++) {
        const __m512i u = load(kernel, x + (size_t)r * t->stride, n);
        if (kernel == DOT_INT8)
            s->shift[r] = _mm512_dpbusd_epi32(s->shift[r], flip, u);
        UNROLL
        for (int c = 0; c < t->cols; c++) {
            __m512i *sum = &s->sum[r * t->cols + c];
            *sum = multiply_add(kernel, *sum, u, v[c]);
        }
    }
}

// rows, cols and ahead of *t are constants wherever this is called, so that its loops unroll.
INLINE void block(const struct linear_rows *g, enum kernel kernel, const struct tile *t)
{
    const size_t k = (size_t)g->w.cols, step = kernel_step(kernel), size = kernel_bytes(kernel);
    const uint8_t *x = (const uint8_t *)g->x + (size_t)t->row * t->stride;
    const uint8_t *w = (const uint8_t *)g->w.data + (size_t)t->col * t->stride;
    struct sums s;
    UNROLL
    for (int i = 0; i < SUMS; i++)
        s.sum[i] = s.shift[i] = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + step <= k; i += step) {
        if (t->rows == 1 && t->cols == SUMS)
            fetch_line(t, w + i * size, i * size);
        advance(kernel, &s, x + i * size, w + i * size, t, 64);
    }
    if (i < k)
        advance(kernel, &s, x + i * size, w + i * size, t, k - i);
    if (kernel == DOT_INT8) {
        UNROLL
        for (int j = 0; j < SUMS; j++)
            s.sum[j] = _mm512_sub_epi32(s.sum[j], s.shift[j / t->cols]);
    }
    store(g, kernel, t, add_lanes(kernel, s.sum));
}

// All rows of x against the weight rows col .. col + 15.
INLINE void strip(const struct linear_rows *g, enum kernel kernel, int col, size_t stride)
{
    const int quads = g->rows / 4 * 4;
    for (int c = col; quads && c < col + 16; c += 4) {
        block(g, kernel, &(struct tile){0, c, 4, 4, stride, true});
        for (int row = 4; row < quads; row += 4)
            block(g, kernel, &(struct tile){row, c, 4, 4, stride, false});
    }
    for (int row = quads; row < g->rows; row++)
        block(g, kernel, &(struct tile){row, col, 1, 16, stride, false});
}

INLINE void all(const struct linear_rows *g, enum kernel kernel)
{
    const int end = g->col0 + g->cols;
    const size_t stride = (size_t)g->w.cols * kernel_bytes(kernel);
    int col = g->col0;
    for (; col + 16 <= end; col += 16)
        strip(g, kernel, col, stride);
    for (; col < end; col++)
        for (int row = 0; row < g->rows; row++)
            block(g, kernel, &(struct tile){row, col, 1, 1, stride, false});
}

void linear_rows_avx512(const struct linear_rows *g)
{
    if (g->w.type == DTYPE_F32)
        all(g, FLOAT32);
    else if (g->w.type == DTYPE_BF16)
        all(g, WIDENED);
    else
        all(g, DOT_INT8);
}

void linear_rows_avx512bf16(const struct linear_rows *g)
{
    all(g, DOT_BF16);
}

void linear_scale_avx512(float *y, int n, float x_scale, const float *w_scale)
{
    const __m512 scale = _mm512_set1_ps(x_scale);
    for (int j = 0; j < n; j += 16) {
        const __mmask16 mask = n - j < 16 ? (__mmask16)((1u << (n - j)) - 1) : 0xffff;
        const __m512 sums = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(mask, y + j));
        const __m512 scales = _mm512_mul_ps(scale, _mm512_maskz_loadu_ps(mask, w_scale + j));
        _mm512_mask_storeu_ps(y + j, mask, _mm512_mul_ps(sums, scales));
    }
}
