// rmsnorm.c - optional residual add, then the zero-centred norm of Qwen3_5RMSNorm.
// Computes: sum = x + add; y = sum * rsqrt(mean(sum^2) + eps) * (1 + w).
// Bound by: memory, x read once, sum and y written once. Rows are independent.
#include <math.h>

#include "cpu.h"

// v: where x + add goes, y where nobody wants it.
static void norm_row(float *y, const float *x, const float *add, float *v,
                     const struct rmsnorm_args *a)
{
    const int n = a->n;
    float sum = 0;
    for (int i = 0; i < n && add; i++)
        v[i] = x[i] + add[i];
    for (int i = 0; i < n && !add && v != x; i++)
        v[i] = x[i];
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++)
        sum += v[i] * v[i];
    const float r = 1.0f / sqrtf(sum / (float)n + a->eps);
    for (int i = 0; i < n; i++)
        y[i] = v[i] * r * (1.0f + a->w[i]);
}

void cpu_rmsnorm(struct dev *dev, const struct rmsnorm_args *a)
{
    const int threads = cpu_of(dev)->threads;
    (void)threads; // without OpenMP
#pragma omp parallel for num_threads(threads) if (a->t > 8) schedule(static)
    for (int t = 0; t < a->t; t++) {
        size_t at = (size_t)t * (size_t)a->n;
        norm_row((float *)a->y + at, (const float *)a->x + at,
                 a->add ? (const float *)a->add + at : NULL, (float *)(a->sum ? a->sum : a->y) + at,
                 a);
    }
}
