// quantize.cu - rows to int8 with one symmetric scale a row.
// Computes: scale = max|x| / 127 (1 for a zero row), q = round to nearest even(x / scale); a true
// division, so that every backend makes the same bytes.
// Bound by: memory, x read once while a row fits 2 packs of eight values a thread, else twice.
#include "quantize.cuh"

enum { PACKS = 2 }; // of a thread

template <typename type_t>
static __global__ void __launch_bounds__(1024)
    quantize_packed(int8_t *q, float *scales, const type_t *x, int n)
{
    __shared__ float shared[32];
    const size_t at = (size_t)blockIdx.x * n;
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    pack v[PACKS] = {};
    float most = 0;
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int i = PACK * (threadIdx.x + k * blockDim.x);
        if (i < n)
            v[k] = pack_load(x + at + i);
#pragma unroll
        for (int j = 0; j < PACK; j++)
            most = fmaxf(most, fabsf(v[k].v[j])); // NaN is passed over
    }
    const float scale = quantize_scale(block_largest(most, shared));
    const quantizer to_int8(scale);
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int i = PACK * (threadIdx.x + k * blockDim.x);
        if (i < n)
            *(uint2 *)(q + at + i) = to_int8.values(v[k]);
    }
    if (threadIdx.x == 0)
        scales[blockIdx.x] = scale;
}

template <typename type_t>
static __global__ void __launch_bounds__(256)
    quantize_any(int8_t *q, float *scales, const type_t *x, int n)
{
    __shared__ float shared[32];
    const size_t at = (size_t)blockIdx.x * n;
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    float most = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        most = fmaxf(most, fabsf(to_float(x[at + i])));
    const float scale = quantize_scale(block_largest(most, shared));
    const quantizer to_int8(scale);
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        q[at + i] = to_int8.value(to_float(x[at + i]));
    if (threadIdx.x == 0)
        scales[blockIdx.x] = scale;
}

template <typename type_t> static void run(struct dev *dev, const struct quantize_args *a)
{
    const type_t *x = (const type_t *)a->x;
    const bool packed = a->cols % PACK == 0 && a->cols <= 1024 * PACK * PACKS && pack_aligned(x) &&
                        pack_aligned(a->q);
    if (packed)
        cuda_launch(dev, "quantize",
                    {(unsigned)a->rows, threads_for((a->cols / PACK + PACKS - 1) / PACKS, 1024)},
                    quantize_packed<type_t>, a->q, a->scale, x, a->cols);
    else
        cuda_launch(dev, "quantize", {(unsigned)a->rows, 256}, quantize_any<type_t>, a->q, a->scale,
                    x, a->cols);
}

void quantize_rows(struct dev *dev, const struct quantize_args *a)
{
    if (a->rows < 1)
        return;
    if (a->type == DTYPE_F32)
        run<float>(dev, a);
    else if (a->type == DTYPE_BF16)
        run<bf16>(dev, a);
    else
        run<__half>(dev, a);
}

void cuda_quantize(struct dev *dev, const struct quantize_args *a)
{
    quantize_rows(dev, a);
    cuda_settle(dev); // they may be weights
}
