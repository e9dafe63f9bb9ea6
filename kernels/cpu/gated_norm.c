// gated_norm.c - the delta-net layer's output norm, Qwen3_5RMSNormGated: plain weight, SiLU gate.
// Computes: y = o * rsqrt(mean(o^2) + eps) * w * SiLU(z), per head.
// Bound by: memory and one exp a value.
#include <math.h>

#include "cpu.h"
#include "expf.h"

static void norm_head(float *y, const float *o, const float *z, const struct gated_norm_args *a)
{
    const int n = a->dim;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++)
        sum += o[i] * o[i];
    const float r = 1.0f / sqrtf(sum / (float)n + a->eps);
    for (int i = 0; i < n; i++)
        y[i] = o[i] * r * a->w[i] * (z[i] / (1.0f + expf_fast(-z[i])));
}

void cpu_gated_norm(struct dev *dev, const struct gated_norm_args *a)
{
    const int threads = cpu_of(dev)->threads, rows = a->t * a->heads;
    (void)threads; // without OpenMP
#pragma omp parallel for num_threads(threads) if (a->t > 8) schedule(static)
    for (int i = 0; i < rows; i++) {
        size_t at = (size_t)i * (size_t)a->dim;
        norm_head((float *)a->y + at, (const float *)a->o + at, (const float *)a->z + at, a);
    }
}
