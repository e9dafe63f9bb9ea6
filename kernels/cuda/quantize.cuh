// quantize.cuh - one row's rounding to int8, shared by quantize and linear. Private to kernels/cuda.
#ifndef QUANTIZE_CUH
#define QUANTIZE_CUH

#include "pack.cuh"

// quantize for activations: what follows in the stream may start early, as after any kernel.
void quantize_rows(struct dev *dev, const struct quantize_args *a);

// The same of SiLU(gate) * x rounded to bf16, the bytes of silu_mul and then quantize. a->type is BF16.
// False: the rows do not fit packs or a block's shared memory, and nothing was done.
bool quantize_gated_rows(struct dev *dev, const struct quantize_args *a, const void *gate);

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

// What makes values of one row; the same bytes as the division. Multiplying by the inverse is off by
// less than 1e-4, which matters only that near to a half; there, and where the inverse is not a number
// to multiply by, the division decides.
struct quantizer {
    float scale, inverse;

    __device__ explicit quantizer(float s)
        : scale(s), inverse(s > 1e-30f && s < 1e30f ? 1.0f / s : NAN)
    {
    }
    __device__ int8_t value(float x) const
    {
        const float v = x * inverse, whole = rintf(v);
        if (fabsf(fabsf(v - whole) - 0.5f) >= 1e-4f)
            return (int8_t)(int)whole;
        return quantize_divide(x, scale);
    }
    __device__ uint2 values(const pack &x) const
    {
        int8_t q[PACK];
#pragma unroll
        for (int j = 0; j < PACK; j++)
            q[j] = value(x.v[j]);
        uint2 raw;
        memcpy(&raw, q, sizeof raw);
        return raw;
    }
};

#endif
