// tri_inverse.cuh - T = (I + A)^-1 of one matrix in shared memory, as tri_inverse and delta_rule share it.
//
// For the delta rule, in a block of WARPS warps (or WARPS warps of a larger one, on a named barrier):
//
//     __shared__ float m[C * tri_ld(C)];                 // rows tri_ld(C) = C + 4 floats apart
//     ... write A[i][j], j < i, to m[i * tri_ld(C) + j] (what lies on and above the diagonal is not read)
//     tri_seen seen = {};
//     tri_invert_block<C, WARPS>(m, scratch, v, 0, seen); // now m is T: unit diagonal, zero above
//
// scratch is NULL for the default setting (tri_is_default(v): neumann:16,3,8 of any type but int8), else
// shared memory of tri_scratch_bytes(v, C), 16-aligned. m and scratch are 16-aligned. All threads of the
// WARPS warps call it; it begins by waiting for their writes of A and ends with T visible to them.
// A kernel that knows its method and type calls tri_invert_default or tri_invert_any itself and spares
// the instances of the others.
#ifndef TRI_INVERSE_CUH
#define TRI_INVERSE_CUH

#include "inverse_default.cuh"

// Shared memory beside the matrix.
static inline size_t tri_scratch_bytes(const struct inverse &v, int chunk)
{
    return tri_is_default(v) ? 0 : (size_t)tri_any_floats(chunk) * sizeof(float);
}

template <int C, int TYPE, int WARPS>
__device__ __forceinline__ void tri_invert_typed(float *m, float *scratch, const struct inverse &v,
                                                 int barrier, tri_seen &seen)
{
    if constexpr (TYPE != INVERSE_INT8) {
        if (tri_is_default(v)) {
            tri_sync<WARPS>(barrier); // A is there
            tri_invert_default<tri_square<C>, TYPE, WARPS, true>(m, barrier, seen);
            return;
        }
    }
    tri_invert_any<C, TYPE, WARPS>(m, scratch, v, barrier, seen);
}

template <int C, int WARPS>
__device__ void tri_invert_block(float *m, void *scratch, const struct inverse &v, int barrier,
                                 tri_seen &seen)
{
    float *work = (float *)scratch;
    switch (v.type) {
    case INVERSE_FP32:
        return tri_invert_typed<C, INVERSE_FP32, WARPS>(m, work, v, barrier, seen);
    case INVERSE_TF32:
        return tri_invert_typed<C, INVERSE_TF32, WARPS>(m, work, v, barrier, seen);
    case INVERSE_FP16:
        return tri_invert_typed<C, INVERSE_FP16, WARPS>(m, work, v, barrier, seen);
    case INVERSE_BF16:
        return tri_invert_typed<C, INVERSE_BF16, WARPS>(m, work, v, barrier, seen);
    case INVERSE_INT8:
        return tri_invert_typed<C, INVERSE_INT8, WARPS>(m, work, v, barrier, seen);
    }
}

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

// |I - (I + A) T| of entry (i, j), j < i, in float32; a is read below its diagonal.
__device__ __forceinline__ float tri_residual(const float *a, int lda, const float *t, int ldt,
                                              int i, int j)
{
    float sum = t[i * ldt + j];
    for (int k = j; k < i; k++)
        sum += a[i * lda + k] * t[k * ldt + j];
    return fabsf(sum);
}

// The kernels of tri_inverse, a block a matrix.
struct tri_kernel_args {
    float *t;
    const float *a;
    struct inverse v;
    struct inverse_report *report;
};

template <int C> constexpr int DEFAULT_WARPS = C <= 64 ? 1 : 4;

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
