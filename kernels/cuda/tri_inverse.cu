// tri_inverse.cu - the fused executor: T = (I + A)^-1 of n matrices, one kernel, all products on chip.
//
// Bound by memory with the default setting: A's tiles up to the diagonal in, T out. A warp takes a matrix of
// up to 64 x 64, in 11 KB of shared memory, so that some eighteen are under way on every SM: some load, some
// compute, some store. Every other setting, and int8, takes the general kernel, a block a matrix.
#include "tri_inverse.cuh"

#include <cmath>

struct fused_args {
    float *t;
    const float *a;
    struct inverse v;
    struct inverse_report *report;
};

template <int C> constexpr int DEFAULT_WARPS = C <= 64 ? 1 : 4;
template <int C> constexpr int ANY_WARPS = C == 128 ? 8 : C == 64 ? 4 : C == 32 ? 2 : 1;

// What the threads of a block saw of one matrix, into the report.
__device__ __forceinline__ void raise_report(struct inverse_report *report, const tri_seen &seen,
                                             bool finite)
{
    tri_raise(&report->value_max, seen.value_max);
    const bool bad = __syncthreads_or(seen.lost > 0 || !finite);
    if (threadIdx.x == 0 && bad)
        atomicAdd(&report->nonfinite, 1u);
}

// Rows of a's tiles up to the diagonal, 16 bytes at a time where there is anything below the diagonal.
template <typename L, int THREADS>
__device__ __forceinline__ void load_packed(float *m, const float *a)
{
#pragma unroll
    for (int r = 0; r < L::CHUNK / 16; r++)
#pragma unroll
        for (int k = 0; k < 64 * (r + 1); k += THREADS) {
            const int at = k + (int)threadIdx.x, i = at / (4 * (r + 1)), j = at % (4 * (r + 1)) * 4;
            if (at < 64 * (r + 1) && j < 16 * r + i)
                ptx_cp_async_16(m + L::row_block(r) + i * L::ld(r) + j,
                                a + (16 * r + i) * L::CHUNK + j);
        }
    ptx_cp_async_wait_all();
}

template <typename L, int THREADS>
__device__ __forceinline__ bool store_packed(float *t, const float *m)
{
    constexpr int C = L::CHUNK, QUADS = C / 4;
    bool finite = true;
#pragma unroll
    for (int k = 0; k < C * QUADS; k += THREADS) {
        const int at = k + (int)threadIdx.x, i = at / QUADS, j = at % QUADS * 4, r = i / 16;
        float4 x = {};
        if (j / 16 <= r)
            x = *(const float4 *)(m + L::row_block(r) + i % 16 * L::ld(r) + j);
        finite = finite && isfinite(x.x) && isfinite(x.y) && isfinite(x.z) && isfinite(x.w);
        __stcs((float4 *)(t + i * C + j), x);
    }
    return finite;
}

template <int C, int TYPE, bool REPORT>
__global__ void __launch_bounds__(32 * DEFAULT_WARPS<C>) default_kernel(struct fused_args p)
{
    using L = tri_packed<C>;
    constexpr int WARPS = DEFAULT_WARPS<C>, THREADS = 32 * WARPS;
    extern __shared__ float4 shared[];
    float *m = (float *)shared;
    const size_t first = (size_t)blockIdx.x * C * C;
    tri_seen seen = {};
    load_packed<L, THREADS>(m, p.a + first);
    tri_sync<WARPS>(0); // A is there
    tri_invert_default<L, TYPE, WARPS, REPORT>(m, 0, seen);
    const bool finite = store_packed<L, THREADS>(p.t + first, m);
    if (REPORT)
        raise_report(p.report, seen, finite);
}

template <int C, int TYPE>
__global__ void __launch_bounds__(32 * ANY_WARPS<C>) any_kernel(struct fused_args p)
{
    constexpr int WARPS = ANY_WARPS<C>, THREADS = 32 * WARPS, QUADS = C / 4, ld = tri_ld(C);
    extern __shared__ float4 shared[];
    float *m = (float *)shared;
    const size_t first = (size_t)blockIdx.x * C * C;
    tri_seen seen = {};
    for (int k = threadIdx.x; k < C * QUADS; k += THREADS)
        if (k % QUADS * 4 < k / QUADS)
            *(float4 *)(m + k / QUADS * ld + k % QUADS * 4) = ((const float4 *)(p.a + first))[k];
    tri_invert_any<C, TYPE, WARPS>(m, m + C * ld, p.v, 0, seen);
    bool finite = true;
    for (int k = threadIdx.x; k < C * QUADS; k += THREADS) {
        const float4 x = *(const float4 *)(m + k / QUADS * ld + k % QUADS * 4);
        finite = finite && isfinite(x.x) && isfinite(x.y) && isfinite(x.z) && isfinite(x.w);
        ((float4 *)(p.t + first))[k] = x;
    }
    if (p.report)
        raise_report(p.report, seen, finite);
}

// |I - (I + A) T| of finished matrices, a block each: a thread has a column of T.
__global__ void residual_kernel(struct inverse_report *report, const float *a, const float *t, int c)
{
    const size_t first = (size_t)blockIdx.x * c * c;
    float most = 0.0f;
    for (int i = 1; i < c; i++)
        if ((int)threadIdx.x < i)
            most = fmaxf(most, tri_residual(a + first, c, t + first, c, i, threadIdx.x));
    tri_raise(&report->residual_max, most);
    if (threadIdx.x == 0)
        atomicAdd(&report->checked, 1u);
}

void cuda_tri_residual(struct dev *dev, const struct tri_inverse_args *a)
{
    residual_kernel<<<a->n, a->chunk, 0, cuda_of(dev)->stream>>>(a->report, a->a, a->t_out,
                                                                 a->chunk);
    LAUNCHED(dev, "tri_inverse residual");
}

// Launches with as much shared memory as the kernel asks for.
template <typename K>
static void launch(struct dev *dev, K kernel, int threads, int floats,
                   const struct tri_inverse_args *a)
{
    const int bytes = floats * (int)sizeof(float);
    const struct fused_args p = {a->t_out, a->a, a->inverse, a->report};
    if (!cuda_ok(dev,
                 cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                 "tri_inverse: shared memory"))
        return;
    kernel<<<a->n, threads, bytes, cuda_of(dev)->stream>>>(p);
    LAUNCHED(dev, "tri_inverse");
}

template <int C, int TYPE> static void fused(struct dev *dev, const struct tri_inverse_args *a)
{
    constexpr int IN_PLACE = tri_packed<C>::FLOATS, THREADS = 32 * DEFAULT_WARPS<C>;
    if constexpr (TYPE != INVERSE_INT8) {
        if (tri_is_default(a->inverse)) {
            if (a->report)
                launch(dev, default_kernel<C, TYPE, true>, THREADS, IN_PLACE, a);
            else
                launch(dev, default_kernel<C, TYPE, false>, THREADS, IN_PLACE, a);
            return;
        }
    }
    launch(dev, any_kernel<C, TYPE>, 32 * ANY_WARPS<C>, C * tri_ld(C) + tri_any_floats(C), a);
}

template <int C> static void fused_of_type(struct dev *dev, const struct tri_inverse_args *a)
{
    switch (a->inverse.type) {
    case INVERSE_FP32:
        return fused<C, INVERSE_FP32>(dev, a);
    case INVERSE_TF32:
        return fused<C, INVERSE_TF32>(dev, a);
    case INVERSE_FP16:
        return fused<C, INVERSE_FP16>(dev, a);
    case INVERSE_BF16:
        return fused<C, INVERSE_BF16>(dev, a);
    case INVERSE_INT8:
        return fused<C, INVERSE_INT8>(dev, a);
    }
}

static void tri_inverse_fused(struct dev *dev, const struct tri_inverse_args *a)
{
    switch (a->chunk) {
    case 16:
        return fused_of_type<16>(dev, a);
    case 32:
        return fused_of_type<32>(dev, a);
    case 64:
        return fused_of_type<64>(dev, a);
    default:
        return fused_of_type<128>(dev, a);
    }
}

void cuda_tri_inverse(struct dev *dev, const struct tri_inverse_args *a)
{
    char why[160];
    if (inverse_check(&a->inverse, a->chunk, why, sizeof why)) {
        cuda_fail(dev, "tri_inverse: %s", why);
        return;
    }
    if (a->n < 1)
        return;
    tri_inverse_fused(dev, a);
    if (a->report)
        cuda_tri_residual(dev, a);
}
