// quantize.cuh - one row's rounding to int8, shared by quantize and linear. Private to kernels/cuda.
#ifndef QUANTIZE_CUH
#define QUANTIZE_CUH

#include <type_traits>

#include "pack.cuh"

// quantize for activations: what follows in the stream may start early, as after any kernel.
void quantize_rows(struct dev *dev, const struct quantize_args *a);

// The same of SiLU(gate) * x rounded to bf16, the bytes of silu_mul and then quantize. a->type is BF16.
// False: the rows do not fit packs or a block's shared memory, and nothing was done.
bool quantize_gated_rows(struct dev *dev, const struct quantize_args *a, const void *gate);

// rmsnorm.cu: y of a norm to int8, the bytes of rmsnorm and then quantize. a->y: NULL where nobody wants y itself.
// False: the rows do not fit, and nothing was done.
bool rmsnorm_rows_int8(struct dev *dev, const struct rmsnorm_args *a, int8_t *q, float *scale);

__device__ __forceinline__ float quantize_scale(float most)
{
    return most > 0 ? most / 127.0f : 1.0f;
}

__device__ __forceinline__ int8_t quantize_divide(float x, float scale)
{
    float v = x / scale;
    v = v > -127.0f ? v : -127.0f; // NaN too, and what a tiny scale's rounding lets over
    v = v < 127.0f ? v : 127.0f;
    return (int8_t)__float2int_rn(v);
}

// Eight values by division. Not inlined: what it is for is rare.
static __device__ __noinline__ uint2 quantize_divide_pack(const pack x, float scale)
{
    int8_t q[PACK];
#pragma unroll
    for (int j = 0; j < PACK; j++)
        q[j] = quantize_divide(x.v[j], scale);
    uint2 raw;
    memcpy(&raw, q, sizeof raw);
    return raw;
}

// What makes values of one row; the same bytes as the division, by sums and products alone, which are
// faster than conversions and reciprocals. Adding 1.5 * 2^23 rounds the quotient, the whole number then
// stands in the lowest bits. Where the inverse is not a number to multiply by, the division itself is
// used.
//   float: the quotient's first guess is mended twice by what remains of x, which makes it the division's
//   (Markstein 1990).
//   bf16: x times the inverse and what the inverse lacks, rounded once. x has eight bits, so its quotient is
//   half a whole number, or farther from one than that errs; tests/kernels/quantize.c has all of them. Every
//   block of linear_few rounds its row for itself, and 12288 values took 2.6 us more than bf16 wants with
//   the float form (by marks in a played step). With this, raw_largest and attention's changes of the day a
//   9B step takes 3.057 and 3.062 ms at depth 2,048 and 8,192, where delta_decode's changes alone gave 3.128
//   and 3.154 on another card (without any 3.21 and 3.23 on both). NVIDIA H200, 2026-12-01.
template <typename x_t> struct quantizer {
    static constexpr float TO_WHOLE = 12582912.0f;
    float scale, inverse, lacks;

    __device__ explicit quantizer(float s)
        : scale(s), inverse(1.0f / s), lacks(fmaf(-inverse, s, 1.0f) * inverse)
    {
    }
    __device__ bool divides() const
    {
        return !(scale > 1e-30f && scale < 1e30f);
    }
    __device__ float quotient(float x) const
    {
        if constexpr (std::is_same_v<x_t, bf16>)
            return fmaf(x, inverse, x * lacks);
        float v = x * inverse;
        v = fmaf(fmaf(-v, scale, x), inverse, v);
        return fmaf(fmaf(-v, scale, x), inverse, v);
    }
    // In the lowest byte.
    __device__ uint32_t low_byte(float x) const
    {
        return __float_as_uint(fmaxf(quotient(x), -127.0f) + TO_WHOLE); // NaN is -127
    }
    __device__ int8_t value(float x) const
    {
        return divides() ? quantize_divide(x, scale) : (int8_t)low_byte(x);
    }
    __device__ uint2 values(const pack &x) const
    {
        if (divides())
            return quantize_divide_pack(x, scale);
        uint32_t q[PACK];
#pragma unroll
        for (int j = 0; j < PACK; j++)
            q[j] = low_byte(x.v[j]);
        return {four_bytes(q), four_bytes(q + 4)};
    }
    static __device__ uint32_t four_bytes(const uint32_t *q)
    {
        return __byte_perm(__byte_perm(q[0], q[1], 0x0040), __byte_perm(q[2], q[3], 0x0040),
                           0x5410);
    }
};

#endif
