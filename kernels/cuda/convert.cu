// convert.cu - numbers from one float type to another.
// Bound by: memory, x read once and y written once.
#include "linear.cuh"

template <typename to_t, typename from_t>
static __global__ void __launch_bounds__(256) convert(to_t *y, const from_t *x, size_t n)
{
    const size_t step = (size_t)gridDim.x * blockDim.x;
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        y[i] = from_float<to_t>(to_float(x[i]));
}

template <typename to_t, typename from_t>
static void launch(struct dev *dev, const struct convert_args *a)
{
    const size_t wanted = (a->n + 255) / 256, most = (size_t)cuda_of(dev)->n_sm * 64;
    cuda_launch(dev, "convert", {(unsigned)(wanted < most ? wanted : most), 256},
                convert<to_t, from_t>, (to_t *)a->y, (const from_t *)a->x, a->n);
}

template <typename to_t> static void launch_from(struct dev *dev, const struct convert_args *a)
{
    if (a->from == DTYPE_F32)
        launch<to_t, float>(dev, a);
    else if (a->from == DTYPE_F16)
        launch<to_t, f16>(dev, a);
    else
        launch<to_t, bf16>(dev, a);
}

void convert_values(struct dev *dev, const struct convert_args *a)
{
    if (a->n == 0)
        return;
    if (a->to == DTYPE_F32)
        launch_from<float>(dev, a);
    else if (a->to == DTYPE_F16)
        launch_from<f16>(dev, a);
    else
        launch_from<bf16>(dev, a);
}

void cuda_convert(struct dev *dev, const struct convert_args *a)
{
    convert_values(dev, a);
    cuda_settle(dev); // they may be weights
}
