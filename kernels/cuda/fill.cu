// fill.cu - numbers for a model that has only a shape; see fill_args and fill_value.h.
// Bound by: the hash, some thirty integer instructions a value.
#include "fill_value.h"
#include "pack.cuh"

template <typename type_t>
static __global__ void fill_values(type_t *p, size_t n, uint64_t seed, float mean, float deviation)
{
    griddepcontrol_wait();
    const size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        p[i] = from_float<type_t>(fill_value(seed, i, mean, deviation));
}

void cuda_fill(struct dev *dev, const struct fill_args *a)
{
    if (!a->n)
        return;
    const size_t wanted = (a->n + 255) / 256, most = (size_t)cuda_of(dev)->n_sm * 8;
    const struct cuda_shape shape = {(unsigned)(wanted < most ? wanted : most), 256};
    if (a->type == DTYPE_F32)
        cuda_launch(dev, "fill", shape, fill_values<float>, (float *)a->p, a->n, a->seed, a->mean,
                    a->deviation);
    else if (a->type == DTYPE_F16)
        cuda_launch(dev, "fill", shape, fill_values<f16>, (f16 *)a->p, a->n, a->seed, a->mean,
                    a->deviation);
    else
        cuda_launch(dev, "fill", shape, fill_values<bf16>, (bf16 *)a->p, a->n, a->seed, a->mean,
                    a->deviation);
    cuda_settle(dev);
}
