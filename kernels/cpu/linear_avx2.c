// linear_avx2.c - the few-rows path for AVX2: four weight rows at a time against one row of x, one
// accumulator a value so that its sum has one order.
#include <immintrin.h>

#include "half.h"
#include "linear.h"

enum { COLS = 4 };
#define INLINE static inline __attribute__((always_inline))

INLINE float sum8(__m256 x)
{
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}

INLINE __m256 load(enum dtype type, const uint8_t *p, size_t i)
{
    if (type == DTYPE_F32)
        return _mm256_loadu_ps((const float *)(const void *)p + i);
    const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)(p + 2 * i));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE float value(enum dtype type, const uint8_t *p, size_t i)
{
    float f;
    if (type == DTYPE_F32)
        memcpy(&f, p + 4 * i, sizeof f);
    else
        half_from_bf16(&f, p + 2 * i, 1);
    return f;
}

INLINE void block_float(const struct linear_rows *g, enum dtype type, int row, int col, int cols)
{
    const size_t k = (size_t)g->w.cols, bytes = k * (type == DTYPE_F32 ? 4 : 2);
    const uint8_t *x = (const uint8_t *)g->x + (size_t)row * bytes;
    const uint8_t *w = (const uint8_t *)g->w.data + (size_t)col * bytes;
    __m256 sum[COLS];
    for (int c = 0; c < cols; c++)
        sum[c] = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 8 <= k; i += 8) {
        const __m256 u = load(type, x, i);
        for (int c = 0; c < cols; c++)
            sum[c] = _mm256_fmadd_ps(u, load(type, w + (size_t)c * bytes, i), sum[c]);
    }
    for (int c = 0; c < cols; c++) {
        float y = sum8(sum[c]);
        for (size_t j = i; j < k; j++)
            y += value(type, x, j) * value(type, w + (size_t)c * bytes, j);
        g->y[(size_t)row * (size_t)g->ldy + (size_t)(col + c)] = y;
    }
}

// Products of int8 widened to int16 first: vpmaddubsw would saturate.
INLINE void block_int8(const struct linear_rows *g, int row, int col, int cols)
{
    const size_t k = (size_t)g->w.cols;
    const int8_t *x = (const int8_t *)g->x + (size_t)row * k;
    const int8_t *w = (const int8_t *)g->w.data + (size_t)col * k;
    for (int c = 0; c < cols; c++, w += k) {
        __m256i sum = _mm256_setzero_si256();
        size_t i = 0;
        for (; i + 16 <= k; i += 16) {
            const __m128i *u = (const __m128i *)(const void *)(x + i);
            const __m128i *v = (const __m128i *)(const void *)(w + i);
            sum =
                _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(u)),
                                                        _mm256_cvtepi8_epi16(_mm_loadu_si128(v))));
        }
        int32_t parts[8], exact = 0;
        _mm256_storeu_si256((__m256i *)(void *)parts, sum);
        for (int j = 0; j < 8; j++)
            exact += parts[j];
        for (; i < k; i++)
            exact += x[i] * w[i];
        g->y[(size_t)row * (size_t)g->ldy + (size_t)(col + c)] =
            (float)exact * (g->scale[row] * g->w.scale[col + c]);
    }
}

INLINE void block(const struct linear_rows *g, enum dtype type, int row, int col, int cols)
{
    if (type == DTYPE_INT8)
        block_int8(g, row, col, cols);
    else
        block_float(g, type, row, col, cols);
}

INLINE void all(const struct linear_rows *g, enum dtype type)
{
    const int end = g->col0 + g->cols;
    int col = g->col0;
    for (; col + COLS <= end; col += COLS)
        for (int row = 0; row < g->rows; row++)
            block(g, type, row, col, COLS);
    for (; col < end; col++)
        for (int row = 0; row < g->rows; row++)
            block(g, type, row, col, 1);
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
