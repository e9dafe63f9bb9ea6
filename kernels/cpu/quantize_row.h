// quantize_row.h - one row to int8, compiled for each instruction set by quantize*.c.
// Computes: scale = max|x| / 127 (1 for a zero row), q = round to nearest even(x / scale).
// Bound by: memory, x read twice (the second time from cache).
#ifndef QUANTIZE_ROW_H
#define QUANTIZE_ROW_H

#include <math.h>
#include <string.h>

#include "cpu.h"
#include "half.h"

void quantize_row_avx2(const struct quantize_args *a, size_t row);
void quantize_row_avx512(const struct quantize_args *a, size_t row);

// n values from number `at` as float32, in y unless they are that already.
static inline const float *quantize_values(float *y, const struct quantize_args *a, size_t at,
                                           size_t n)
{
    const uint8_t *x = (const uint8_t *)a->x + at * dtype_bytes(a->type);
    if (a->type == DTYPE_F32)
        return (const float *)a->x + at;
    if (a->type == DTYPE_BF16) {
        half_from_bf16(y, x, n);
    } else {
        for (size_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, x + 2 * i, sizeof h);
            y[i] = half_f16_value(h);
        }
    }
    return y;
}

// The largest |x|, in lanes so that the loop becomes vectors.
static inline float quantize_most(const float *x, size_t n, float most)
{
    enum { LANES = 32 };
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            lanes[j] = fabsf(x[i + (size_t)j]) > lanes[j] ? fabsf(x[i + (size_t)j]) : lanes[j];
    for (; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    for (int j = 0; j < LANES; j++)
        most = lanes[j] > most ? lanes[j] : most;
    return most;
}

// restrict: an int8_t may alias anything, which would forbid vectors.
static inline void quantize_block(int8_t *restrict q, const float *restrict x, size_t n,
                                  float scale)
{
    const float round = 12582912.0f; // 1.5 * 2^23: adding it rounds to nearest even
    for (size_t i = 0; i < n; i++) {
        float v = x[i] / scale;
        v = v > -127.0f ? v : -127.0f; // NaN too, and what a tiny scale's rounding lets over
        v = v < 127.0f ? v : 127.0f;
        const float shifted = v + round;
        int32_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        q[i] = (int8_t)(bits & 0xFF);
    }
}

// By blocks, so that a row of another type becomes float32 on the stack.
static inline void quantize_row_body(const struct quantize_args *a, size_t row)
{
    enum { BLOCK = 512 };
    const size_t n = (size_t)a->cols, at = row * n;
    float block[BLOCK], most = 0;
    for (size_t i = 0; i < n; i += BLOCK) {
        const size_t count = n - i < BLOCK ? n - i : BLOCK;
        most = quantize_most(quantize_values(block, a, at + i, count), count, most);
    }
    const float scale = most > 0 ? most / 127.0f : 1.0f;
    for (size_t i = 0; i < n; i += BLOCK) {
        const size_t count = n - i < BLOCK ? n - i : BLOCK;
        quantize_block(a->q + at + i, quantize_values(block, a, at + i, count), count, scale);
    }
    a->scale[row] = scale;
}

#endif
