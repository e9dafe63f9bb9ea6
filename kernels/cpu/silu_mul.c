// silu_mul.c - the gate of SwiGLU. Computes: y = SiLU(gate) * up.
// Bound by: memory and one exp a value.

#include "cpu.h"
#include "expf.h"

void cpu_silu_mul(struct dev *dev, const struct silu_mul_args *a)
{
    const int threads = cpu_of(dev)->threads;
    (void)threads; // without OpenMP
#pragma omp parallel for num_threads(threads) if (a->t > 2) schedule(static)
    for (int t = 0; t < a->t; t++) {
        size_t at = (size_t)t * (size_t)a->n;
        const float *gate = (const float *)a->gate + at, *up = (const float *)a->up + at;
        float *y = (float *)a->y + at;
        for (int i = 0; i < a->n; i++)
            y[i] = gate[i] / (1.0f + expf_fast(-gate[i])) * up[i];
    }
}
