// tri_inverse_any.cu - the fused executor for every setting but the default: a block a matrix, all products
// on chip, in 16 x 16 tiles. Bound by reading shared memory and by barriers: a product is small, and the next
// one waits for it.
//
// 16,384 matrices of 64 x 64, NVIDIA H200, 2026-11-24, `ops_check inverse --device cuda`, ms:
//                     fp32   tf32   fp16   bf16   int8
//   substitution     1.04   1.36   1.18   1.78   2.54    (a thread a column: the sequential reference)
//   merge            1.18   1.15   1.11   1.11   1.73
//   neumann:64,4,16  1.94   1.71   1.49   1.49   2.70
//   neumann:64,3,8   1.45   1.31   1.15   1.15   2.01
//   neumann:16,3,8                                1.44
// All but the last two of int8 were faster before the products became one function (merge 0.50 in fp16, 0.90
// in fp32; int8's series 3.5 and 2.4): a setting that somebody serves would deserve its own.
#include "tri_inverse.cuh"

template <int C> constexpr int ANY_WARPS = C == 128 ? 8 : C == 64 ? 4 : C == 32 ? 2 : 1;

template <int C, int TYPE>
__global__ void __launch_bounds__(32 * ANY_WARPS<C>, 1) any_kernel(struct tri_kernel_args p)
{
    constexpr int WARPS = ANY_WARPS<C>, THREADS = 32 * WARPS, QUADS = C / 4, ld = tri_ld(C);
    extern __shared__ float4 shared[];
    float *m = (float *)shared;
    const size_t first = (size_t)blockIdx.x * C * C;
    tri_seen seen = {};
    for (int k = threadIdx.x; k < C * QUADS; k += THREADS)
        if (k % QUADS * 4 < k / QUADS)
            *(float4 *)(m + k / QUADS * ld + k % QUADS * 4) = ((const float4 *)(p.a + first))[k];
    tri_invert_any<C, TYPE, WARPS>(m, m + C * ld, p.v, seen);
    bool finite = true;
    for (int k = threadIdx.x; k < C * QUADS; k += THREADS) {
        const float4 x = *(const float4 *)(m + k / QUADS * ld + k % QUADS * 4);
        finite = finite && isfinite(x.x) && isfinite(x.y) && isfinite(x.z) && isfinite(x.w);
        ((float4 *)(p.t + first))[k] = x;
    }
    if (p.report)
        tri_raise_report(p.report, seen, finite);
}

template <int C, int TYPE> static void fused(struct dev *dev, const struct tri_inverse_args *a)
{
    tri_launch(dev, any_kernel<C, TYPE>, 32 * ANY_WARPS<C>, C * tri_ld(C) + tri_any_floats(C), a);
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

void cuda_tri_inverse_any(struct dev *dev, const struct tri_inverse_args *a)
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
