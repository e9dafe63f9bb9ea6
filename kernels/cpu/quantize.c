// quantize.c - rows to int8 with one symmetric scale a row.
// Computes: scale = max|x| / 127 (1 for a zero row), q = round to nearest even(x / scale).
// Bound by: memory, x read twice (the second time from cache).
#include <math.h>

#include "cpu.h"
#include "half.h"

static void widen(float *y, const struct quantize_args *a, size_t at, size_t n)
{
    const uint8_t *x = (const uint8_t *)a->x + at * dtype_bytes(a->type);
    if (a->type == DTYPE_F32) {
        memcpy(y, x, n * sizeof *y);
    } else if (a->type == DTYPE_BF16) {
        half_from_bf16(y, x, n);
    } else {
        for (size_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, x + 2 * i, sizeof h);
            y[i] = half_f16_value(h);
        }
    }
}

// Blocks of a row as float32 on the stack, so that the loops over them become vectors.
static void quantize_row(const struct quantize_args *a, size_t row)
{
    enum { BLOCK = 512 };
    const size_t n = (size_t)a->cols, at = row * n;
    const float round = 12582912.0f; // 1.5 * 2^23: adding it rounds to nearest even
    float x[BLOCK], most = 0;
    for (size_t i = 0; i < n; i += BLOCK) {
        const size_t count = n - i < BLOCK ? n - i : BLOCK;
        widen(x, a, at + i, count);
        for (size_t j = 0; j < count; j++)
            most = fabsf(x[j]) > most ? fabsf(x[j]) : most;
    }
    const float scale = most > 0 ? most / 127.0f : 1.0f;
    for (size_t i = 0; i < n; i += BLOCK) {
        const size_t count = n - i < BLOCK ? n - i : BLOCK;
        widen(x, a, at + i, count);
        for (size_t j = 0; j < count; j++) {
            float v = x[j] / scale;
            v = v > -127.0f ? v : -127.0f; // NaN too, and what a tiny scale's rounding lets over
            v = v < 127.0f ? v : 127.0f;
            const float shifted = v + round;
            int32_t bits;
            memcpy(&bits, &shifted, sizeof bits);
            a->q[at + i + j] = (int8_t)(bits & 0xFF);
        }
    }
    a->scale[row] = scale;
}

void cpu_quantize(struct dev *dev, const struct quantize_args *a)
{
    const int threads = cpu_of(dev)->threads;
    (void)threads; // without OpenMP
#pragma omp parallel for num_threads(threads) if (a->rows > 8) schedule(static)
    for (int row = 0; row < a->rows; row++)
        quantize_row(a, (size_t)row);
}
