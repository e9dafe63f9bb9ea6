// quantize.c - rows to int8 with one symmetric scale a row.
// Computes: scale = max|x| / 127 (1 for a zero row), q = round to nearest even(x / scale).
// Bound by: memory, x read twice (the second time from cache).
#include <math.h>

#include "cpu.h"
#include "half.h"

static float value(const struct quantize_args *a, size_t i)
{
    uint16_t h;
    if (a->type == DTYPE_F32) {
        float f;
        memcpy(&f, (const uint8_t *)a->x + 4 * i, sizeof f);
        return f;
    }
    memcpy(&h, (const uint8_t *)a->x + 2 * i, sizeof h);
    return a->type == DTYPE_BF16 ? half_bf16_value(h) : half_f16_value(h);
}

static void quantize_row(const struct quantize_args *a, size_t row)
{
    const size_t n = (size_t)a->cols, at = row * n;
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(value(a, at + i)));
    const float scale = most > 0 ? most / 127.0f : 1.0f;
    for (size_t i = 0; i < n; i++)
        a->q[at + i] = (int8_t)rintf(fminf(fmaxf(value(a, at + i) / scale, -127.0f), 127.0f));
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
