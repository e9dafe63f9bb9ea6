// linear_avx512.c - the few-rows path for AVX-512. Four weight rows at a time against up to four rows
// of x: enough loads in flight to stream W, one accumulator a value so that its sum has one order.
#include <immintrin.h>

#include "linear.h"

enum { COLS = 4, ROWS = 4 };
#define INLINE static inline __attribute__((always_inline))

// The float32 values of 16 bf16.
INLINE __m512 widen(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

INLINE __m512 load(enum dtype type, const void *p, size_t i, __mmask16 mask)
{
    if (type == DTYPE_F32)
        return _mm512_maskz_loadu_ps(mask, (const float *)p + i);
    return widen(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)p + i));
}

// y[r][c] for `rows` rows of x and `cols` weight rows from col.
INLINE void block_float(const struct linear_rows *g, enum dtype type, int row, int rows, int col,
                        int cols)
{
    const size_t k = (size_t)g->w.cols, size = type == DTYPE_F32 ? 4 : 2;
    const uint8_t *x = (const uint8_t *)g->x + (size_t)row * k * size;
    const uint8_t *w = (const uint8_t *)g->w.data + (size_t)col * k * size;
    __m512 sum[ROWS][COLS];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++)
            sum[r][c] = _mm512_setzero_ps();
    for (size_t i = 0; i < k; i += 16) {
        const __mmask16 mask = k - i >= 16 ? 0xFFFF : (__mmask16)((1u << (k - i)) - 1);
        __m512 v[COLS];
        for (int c = 0; c < cols; c++)
            v[c] = load(type, w + (size_t)c * k * size, i, mask);
        for (int r = 0; r < rows; r++) {
            const __m512 u = load(type, x + (size_t)r * k * size, i, mask);
            for (int c = 0; c < cols; c++)
                sum[r][c] = _mm512_fmadd_ps(u, v[c], sum[r][c]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++)
            g->y[(size_t)(row + r) * (size_t)g->ldy + (size_t)(col + c)] =
                _mm512_reduce_add_ps(sum[r][c]);
}

INLINE void block_bf16(const struct linear_rows *g, int row, int rows, int col, int cols)
{
    const size_t k = (size_t)g->w.cols;
    const uint16_t *x = (const uint16_t *)g->x + (size_t)row * k;
    const uint16_t *w = (const uint16_t *)g->w.data + (size_t)col * k;
    __m512 sum[ROWS][COLS];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++)
            sum[r][c] = _mm512_setzero_ps();
    for (size_t i = 0; i < k; i += 32) {
        const __mmask32 mask = k - i >= 32 ? 0xFFFFFFFF : (__mmask32)((1u << (k - i)) - 1);
        __m512i v[COLS];
        for (int c = 0; c < cols; c++)
            v[c] = _mm512_maskz_loadu_epi16(mask, w + (size_t)c * k + i);
        for (int r = 0; r < rows; r++) {
            const __m512i u = _mm512_maskz_loadu_epi16(mask, x + (size_t)r * k + i);
            for (int c = 0; c < cols; c++)
                sum[r][c] = _mm512_dpbf16_ps(sum[r][c], (__m512bh)u, (__m512bh)v[c]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++)
            g->y[(size_t)(row + r) * (size_t)g->ldy + (size_t)(col + c)] =
                _mm512_reduce_add_ps(sum[r][c]);
}

// vpdpbusd multiplies unsigned by signed: x + 128 is unsigned, and 128 times the sum of the weight
// row, which the same instruction gives, is taken off again. All of it exact in int32.
INLINE void block_int8(const struct linear_rows *g, int row, int rows, int col, int cols)
{
    const size_t k = (size_t)g->w.cols;
    const int8_t *x = (const int8_t *)g->x + (size_t)row * k;
    const int8_t *w = (const int8_t *)g->w.data + (size_t)col * k;
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m512i sum[ROWS][COLS], shift[COLS];
    for (int c = 0; c < cols; c++) {
        shift[c] = _mm512_setzero_si512();
        for (int r = 0; r < rows; r++)
            sum[r][c] = _mm512_setzero_si512();
    }
    for (size_t i = 0; i < k; i += 64) {
        const __mmask64 mask = k - i >= 64 ? ~0ull : (1ull << (k - i)) - 1;
        __m512i v[COLS];
        for (int c = 0; c < cols; c++) {
            v[c] = _mm512_maskz_loadu_epi8(mask, w + (size_t)c * k + i);
            shift[c] = _mm512_dpbusd_epi32(shift[c], flip, v[c]);
        }
        for (int r = 0; r < rows; r++) {
            const __m512i u =
                _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, x + (size_t)r * k + i), flip);
            for (int c = 0; c < cols; c++)
                sum[r][c] = _mm512_dpbusd_epi32(sum[r][c], u, v[c]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++) {
            const int exact = _mm512_reduce_add_epi32(_mm512_sub_epi32(sum[r][c], shift[c]));
            g->y[(size_t)(row + r) * (size_t)g->ldy + (size_t)(col + c)] =
                (float)exact * (g->scale[row + r] * g->w.scale[col + c]);
        }
}

enum kernel { FLOAT32, WIDENED, DOT_BF16, DOT_INT8 };

INLINE void block(const struct linear_rows *g, enum kernel kernel, const int place[4])
{
    if (kernel == FLOAT32)
        block_float(g, DTYPE_F32, place[0], place[1], place[2], place[3]);
    else if (kernel == WIDENED)
        block_float(g, DTYPE_BF16, place[0], place[1], place[2], place[3]);
    else if (kernel == DOT_BF16)
        block_bf16(g, place[0], place[1], place[2], place[3]);
    else
        block_int8(g, place[0], place[1], place[2], place[3]);
}

// Constant tile sizes keep the sums in registers; what is left over goes one by one.
INLINE void all(const struct linear_rows *g, enum kernel kernel)
{
    const int end = g->col0 + g->cols;
    int col = g->col0;
    for (; col + COLS <= end; col += COLS) {
        int row = 0;
        for (; row + ROWS <= g->rows; row += ROWS)
            block(g, kernel, (const int[4]){row, ROWS, col, COLS});
        for (; row < g->rows; row++)
            block(g, kernel, (const int[4]){row, 1, col, COLS});
    }
    for (; col < end; col++)
        for (int row = 0; row < g->rows; row++)
            block(g, kernel, (const int[4]){row, 1, col, 1});
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
