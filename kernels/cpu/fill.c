// fill.c - numbers for a model that has only a shape; see fill_args and fill_value.h.
#include "cpu.h"
#include "fill_value.h"
#include "half.h"

void cpu_fill(struct dev *dev, const struct fill_args *a)
{
    const int threads = cpu_of(dev)->threads;
    (void)threads; // without OpenMP
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < a->n; i++) {
        const float v = fill_value(a->seed, i, a->mean, a->deviation);
        if (a->type == DTYPE_F32)
            ((float *)a->p)[i] = v;
        else
            ((uint16_t *)a->p)[i] = half_of_value(v, a->type);
    }
}
