// linear_avx2.c - the few-rows path for AVX2.
// Computes: y[row][col] = x[row] . w[col], one accumulator of 8 lanes a value, lanes added as a tree,
// then the values that fill no vector one by one.
// Bound by: the bytes of W up to about four rows of x, then multiply-adds.
//
// One row of x goes against 8 weight rows at a time, more rows in tiles of 4 x 2, so W is read from
// memory once however many rows there are. Both shapes add in the same order, so a row's bits do not
// depend on how many rows there are.
// Measured, one core, GB/s of weights from memory, before | now | reading alone: one row bf16
// 10.2 | 13.6 | 16.6 (1024 columns), 17.7 | 22.0 | 16.5 (4096), int8 12.1 | 14.5 | 17.5 (1024),
// 12.2 | 19.0 | 17.1 (4096); four rows bf16 5.4 | 10.1, int8 4.4 | 12.0. AMD EPYC (Zen 3), 2026-11-24,
// thread time on a shared machine; ops_check perf linear times two cores.
#include <immintrin.h>

#include "half.h"
#include "linear.h"

#define INLINE static inline __attribute__((always_inline))
// Loops over a tile must disappear, or its sums live in memory.
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { SUMS = 8 };

enum { STEP = 32 }; // bytes that one vector takes from a row

INLINE size_t bytes_of(enum dtype type)
{
    return type == DTYPE_F32 ? 4 : type == DTYPE_BF16 ? 2 : 1;
}

INLINE __m256i load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

INLINE __m256i fma8(__m256i u, __m256i v, __m256i sum)
{
    return _mm256_castps_si256(
        _mm256_fmadd_ps(_mm256_castsi256_ps(u), _mm256_castsi256_ps(v), _mm256_castsi256_ps(sum)));
}

// x at u, W at v. BF16: the even values become float32 by a shift, the odd ones by a mask. INT8:
// vpmaddubsw multiplies unsigned by signed, so |w| meets x with w's sign; a pair's sum is at most
// 2 * 128 * 127 and does not saturate.
INLINE __m256i multiply_add(enum dtype type, __m256i sum, __m256i u, __m256i v)
{
    if (type == DTYPE_F32)
        return fma8(u, v, sum);
    if (type == DTYPE_BF16) {
        const __m256i odd = _mm256_set1_epi32((int)0xffff0000);
        sum = fma8(_mm256_slli_epi32(u, 16), _mm256_slli_epi32(v, 16), sum);
        return fma8(_mm256_and_si256(u, odd), _mm256_and_si256(v, odd), sum);
    }
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_sign_epi8(u, v));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

INLINE float add_lanes(__m256i v)
{
    const __m256 x = _mm256_castsi256_ps(v);
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}

INLINE int32_t add_exact(__m256i v)
{
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
}

INLINE float value(enum dtype type, const uint8_t *p)
{
    float f;
    if (type == DTYPE_F32)
        memcpy(&f, p, sizeof f);
    else
        half_from_bf16(&f, p, 1);
    return f;
}

// A tile of the result: `rows` rows of x against `cols` weight rows, rows * cols <= SUMS.
struct tile {
    int row, col, rows, cols;
    size_t stride; // bytes of a row of x and of W
    bool ahead;    // fetch the next tile's weight rows
};

// The sums of a tile and the values from number i on of its rows, which fill no vector.
INLINE void store(const struct linear_rows *g, enum dtype type, const struct tile *t,
                  const __m256i sums[SUMS], size_t i)
{
    const size_t k = (size_t)g->w.cols, size = bytes_of(type);
    for (int s = 0; s < t->rows * t->cols; s++) {
        const int row = t->row + s / t->cols, col = t->col + s % t->cols;
        const uint8_t *x = (const uint8_t *)g->x + (size_t)row * t->stride;
        const uint8_t *w = (const uint8_t *)g->w.data + (size_t)col * t->stride;
        float *y = &g->y[(size_t)row * (size_t)g->ldy + (size_t)col];
        if (type == DTYPE_INT8) {
            int32_t exact = add_exact(sums[s]);
            for (size_t j = i; j < k; j++)
                exact += (int8_t)x[j] * (int8_t)w[j];
            *y = (float)exact * (g->scale[row] * g->w.scale[col]);
        } else {
            *y = add_lanes(sums[s]);
            for (size_t j = i; j < k; j++)
                *y += value(type, x + j * size) * value(type, w + j * size);
        }
    }
}

// One vector further along the rows at x and w.
INLINE void advance(enum dtype type, const struct tile *t, __m256i sums[SUMS], const uint8_t *x,
                    const uint8_t *w)
{
    __m256i u[4];
    UNROLL
    for (int r = 0; r < t->rows; r++)
        u[r] = load(x + (size_t)r * t->stride);
    UNROLL
    for (int c = 0; c < t->cols; c++) {
        const __m256i v = load(w + (size_t)c * t->stride);
        UNROLL
        for (int r = 0; r < t->rows; r++)
            sums[r * t->cols + c] = multiply_add(type, sums[r * t->cols + c], u[r], v);
    }
}

// Which weights to ask memory for while a tile is multiplied, a line of each row at a time. Long rows:
// NEAR bytes further along each row, at its end the next tile's row. Short ones: the next tile, line
// by line in the order of memory, because the processor's own prefetching stops at every row's end.
struct fetch {
    const uint8_t *p;
    size_t gap, go, turn; // from row to row; from line to line; where a row ends
};

enum { NEAR = 256, SHORT_TILE = 8192 };

INLINE struct fetch fetch_start(const struct tile *t, const uint8_t *w)
{
    const size_t tile = (size_t)t->cols * t->stride;
    if (tile <= SHORT_TILE || t->stride <= NEAR)
        return (struct fetch){w + tile, 64, 64 * (size_t)t->cols, SIZE_MAX};
    return (struct fetch){w + NEAR, t->stride, 64, t->stride / 64 * 64 - NEAR};
}

INLINE void fetch_line(struct fetch *f, const struct tile *t, size_t at)
{
    if (at == f->turn)
        f->p += (size_t)(t->cols - 1) * t->stride;
    UNROLL
    for (int c = 0; c < t->cols; c++)
        _mm_prefetch((const char *)f->p + (size_t)c * f->gap, _MM_HINT_T0);
    f->p += f->go;
}

// rows, cols and ahead of *t are constants wherever this is called, so that its loops unroll.
INLINE void block(const struct linear_rows *g, enum dtype type, const struct tile *t)
{
    const uint8_t *x = (const uint8_t *)g->x + (size_t)t->row * t->stride;
    const uint8_t *w = (const uint8_t *)g->w.data + (size_t)t->col * t->stride;
    struct fetch fetch = fetch_start(t, w);
    __m256i sums[SUMS];
    UNROLL
    for (int s = 0; s < SUMS; s++)
        sums[s] = _mm256_setzero_si256();
    size_t at = 0; // bytes into the rows
    for (; at + 2 * STEP <= t->stride; at += 2 * STEP) {
        if (t->ahead)
            fetch_line(&fetch, t, at);
        advance(type, t, sums, x + at, w + at);
        advance(type, t, sums, x + at + STEP, w + at + STEP);
    }
    if (at + STEP <= t->stride) {
        advance(type, t, sums, x + at, w + at);
        at += STEP;
    }
    store(g, type, t, sums, at / bytes_of(type));
}

// All rows of x against the weight rows col .. col + 7.
INLINE void strip(const struct linear_rows *g, enum dtype type, int col, size_t stride)
{
    const int quads = g->rows / 4 * 4;
    for (int c = col; quads && c < col + SUMS; c += 2) {
        block(g, type, &(struct tile){0, c, 4, 2, stride, true});
        for (int row = 4; row < quads; row += 4)
            block(g, type, &(struct tile){row, c, 4, 2, stride, false});
    }
    for (int row = quads; row < g->rows; row++)
        block(g, type, &(struct tile){row, col, 1, SUMS, stride, true});
}

INLINE void all(const struct linear_rows *g, enum dtype type)
{
    const int end = g->col0 + g->cols;
    const size_t stride = (size_t)g->w.cols * bytes_of(type);
    int col = g->col0;
    for (; col + SUMS <= end; col += SUMS)
        strip(g, type, col, stride);
    for (; col < end; col++)
        for (int row = 0; row < g->rows; row++)
            block(g, type, &(struct tile){row, col, 1, 1, stride, false});
}

void linear_rows_avx2(const struct linear_rows *g)
{
    if (g->w.type == DTYPE_F32)
        all(g, DTYPE_F32);
    else if (g->w.type == DTYPE_BF16)
        all(g, DTYPE_BF16);
    else
        all(g, DTYPE_INT8);
}
