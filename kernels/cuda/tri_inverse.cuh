// tri_inverse.cuh - what the kernels of tri_inverse share: arguments, launch, report.
#ifndef TRI_INVERSE_CUH
#define TRI_INVERSE_CUH

#include "inverse_default.cuh"

// Raises a maximum of a report.
__device__ __forceinline__ void tri_raise(float *to, float x)
{
    if (x > 0.0f)
        atomicMax((int *)to, __float_as_int(x)); // floats from 0 up are ordered as their bits are
}

// What the threads of a block saw of one matrix, into the report.
__device__ __forceinline__ void tri_raise_report(struct inverse_report *report,
                                                 const tri_seen &seen, bool finite)
{
    tri_raise(&report->value_max, seen.value_max);
    const bool bad = __syncthreads_or(seen.lost > 0 || !finite);
    if (threadIdx.x == 0 && bad)
        atomicAdd(&report->nonfinite, 1u);
}

// The kernels of tri_inverse, a block a matrix.
struct tri_kernel_args {
    float *t;
    const float *a;
    struct inverse v;
    struct inverse_report *report;
};

// Launches with as much shared memory as the kernel asks for.
template <typename K>
static void tri_launch(struct dev *dev, K kernel, int threads, int floats,
                       const struct tri_inverse_args *a)
{
    const int bytes = floats * (int)sizeof(float);
    const struct tri_kernel_args p = {a->t_out, a->a, a->inverse, a->report};
    if (!cuda_ok(dev,
                 cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                 "tri_inverse: shared memory"))
        return;
    kernel<<<a->n, threads, bytes, cuda_of(dev)->stream>>>(p);
    LAUNCHED(dev, "tri_inverse");
}

#endif
