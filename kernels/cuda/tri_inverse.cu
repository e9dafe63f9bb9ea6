// tri_inverse.cu - the fused executor: T = (I + A)^-1 of n matrices, one kernel, all products on chip.
//
// Bound by memory with the default setting: A's tiles up to the diagonal in, T out; with the arithmetic left
// out the kernel takes as long. A warp takes a matrix of up to 64 x 64, in 13 KB of shared memory, so that
// sixteen are under way on every SM: some load, some compute, some store. Every other setting, and int8,
// takes the general kernel of tri_inverse_any.cu, a block a matrix.
//
// 16,384 matrices of 64 x 64 (32,768 tokens of 32 heads), neumann:16,3,8, NVIDIA H200, 2026-11-24,
// `ops_check inverse --device cuda`: ms, and largest error of an entry of T.
//   fp32 0.120  1.2e-6      tf32 0.120  9e-4      fp16, bf16 0.118  9e-4, 7e-3
// Floor 0.103 (a copy's 4.2 TB/s), a copy of all of A 0.128; flash-linear-attention's solve_tril beside it
// 0.717 and 1.1e-7. fp32 in multiply-adds: 0.144 and 3.5e-7.
#include "tri_inverse.cuh"

#include <cmath>

template <int C> constexpr int DEFAULT_WARPS = C <= 64 ? 1 : 4;

// Matrices of one SM at a time, as shared memory allows; registers are cut to fit.
template <int C> constexpr int DEFAULT_BLOCKS = C == 64 ? 16 : C == 128 ? 5 : 1;

// a's tiles up to the diagonal, 16 bytes a thread; zeros where nothing of them is below the diagonal. What
// depends on the thread is computed once, all else is constant.
template <typename L, int THREADS>
__device__ __forceinline__ void load_folded(float *m, const float *a)
{
    constexpr int C = L::CHUNK, ROWS = THREADS < 64 ? THREADS / 4 : 16,
                  TILES = THREADS < 64 ? 1 : THREADS / 64; // side by side
    const int i = (int)threadIdx.x / 4 % 16, j = (int)threadIdx.x % 4 * 4;
    m += i * tri_ld(C) + j;
    a += i * C + j;
#pragma unroll
    for (int r = 0; r < C / 16; r++)
#pragma unroll
        for (int c = 0; c <= r; c++)
#pragma unroll
            for (int k = 0; k < 16; k += ROWS)
                if (TILES == 1 || (r + c) % TILES == (int)threadIdx.x / 64)
                    cp_async_16(shared_address(m + L::row_block(r) + 16 * c + k * tri_ld(C)),
                                a + (16 * r + k) * C + 16 * c, (c < r || j < i + k) ? 16 : 0);
    cp_async_wait_all();
}

// T from there, rows of 16-byte pieces, zero above the diagonal. False when an entry is not finite.
template <typename L, int THREADS>
__device__ __forceinline__ bool store_folded(float *t, const float *m)
{
    constexpr int C = L::CHUNK, QUADS = C / 4, ROWS = THREADS / QUADS;
    const int i = (int)threadIdx.x / QUADS, j = (int)threadIdx.x % QUADS * 4;
    bool finite = true;
    m += i * tri_ld(C) + j;
    t += i * C + j;
#pragma unroll
    for (int r = 0; r < C / 16; r++)
#pragma unroll
        for (int k = 0; k < 16; k += ROWS) {
            float4 x = {};
            if (j < 16 * (r + 1))
                x = *(const float4 *)(m + L::row_block(r) + k * tri_ld(C));
            finite = finite && isfinite(x.x) && isfinite(x.y) && isfinite(x.z) && isfinite(x.w);
            *(float4 *)(t + (16 * r + k) * C) = x;
        }
    return finite;
}

template <int C, int TYPE, bool REPORT>
__global__ void __launch_bounds__(32 * DEFAULT_WARPS<C>, REPORT ? 1 : DEFAULT_BLOCKS<C>)
    default_kernel(struct tri_kernel_args p)
{
    using L = tri_folded<C>;
    constexpr int WARPS = DEFAULT_WARPS<C>, THREADS = 32 * WARPS;
    extern __shared__ float4 shared[];
    float *m = (float *)shared;
    const size_t first = (size_t)blockIdx.x * C * C;
    tri_seen seen = {};
    load_folded<L, THREADS>(m, p.a + first);
    tri_sync<WARPS>(); // A is there
    tri_invert_default<L, TYPE, WARPS, REPORT>(m, seen);
    const bool finite = store_folded<L, THREADS>(p.t + first, m);
    if (REPORT)
        tri_raise_report(p.report, seen, finite);
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

// |I - (I + A) T| of finished matrices, a block each: a thread has a column of T.
__global__ void residual_kernel(struct inverse_report *report, const float *a, const float *t,
                                int c)
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

static void note_residual(struct dev *dev, const struct tri_inverse_args *a)
{
    residual_kernel<<<a->n, a->chunk, 0, cuda_of(dev)->stream>>>(a->report, a->a, a->t_out,
                                                                 a->chunk);
    LAUNCHED(dev, "tri_inverse residual");
}

template <int C, int TYPE> static void fused(struct dev *dev, const struct tri_inverse_args *a)
{
    constexpr int THREADS = 32 * DEFAULT_WARPS<C>, FLOATS = tri_folded<C>::FLOATS;
    if (a->report)
        tri_launch(dev, default_kernel<C, TYPE, true>, THREADS, FLOATS, a);
    else
        tri_launch(dev, default_kernel<C, TYPE, false>, THREADS, FLOATS, a);
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
        break; // has no instance of its own
    }
}

static void fused_default(struct dev *dev, const struct tri_inverse_args *a)
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
    if (a->inverse.executor == INVERSE_CUBLAS)
        cuda_tri_inverse_cublas(dev, a);
    else if (tri_is_default(a->inverse))
        fused_default(dev, a);
    else
        cuda_tri_inverse_any(dev, a);
    if (a->report)
        note_residual(dev, a);
}
