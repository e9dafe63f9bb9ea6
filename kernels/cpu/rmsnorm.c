// rmsnorm.c - optional residual add, then the zero-centred norm of Qwen3_5RMSNorm.
// Computes: x += add; y = x * rsqrt(mean(x^2) + eps) * (1 + w).
// Bound by: memory, x read and written once, y written once. Rows are independent.
#include <math.h>

#include "cpu.h"

static void norm_row(float *y, float *x, const float *add, const struct rmsnorm_args *a)
{
    const int n = a->n;
    float sum = 0;
    if (add)
        for (int i = 0; i < n; i++)
            x[i] += add[i];
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    const float r = 1.0f / sqrtf(sum / (float)n + a->eps);
    for (int i = 0; i < n; i++)
        y[i] = x[i] * r * (1.0f + a->w[i]);
}

void cpu_rmsnorm(struct dev *dev, const struct rmsnorm_args *a)
{
    const int threads = cpu_of(dev)->threads;
    (void)threads; // without OpenMP
#pragma omp parallel for num_threads(threads) if (a->t > 8) schedule(static)
    for (int t = 0; t < a->t; t++) {
        size_t at = (size_t)t * (size_t)a->n;
        norm_row((float *)a->y + at, (float *)a->x + at, a->add ? (const float *)a->add + at : NULL,
                 a);
    }
}
