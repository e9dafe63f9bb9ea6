// quantize.cuh - one row's rounding to int8, shared by quantize and linear. Private to kernels/cuda.
#ifndef QUANTIZE_CUH
#define QUANTIZE_CUH

#include "pack.cuh"

// quantize for activations: what follows in the stream may start early, as after any kernel.
void quantize_rows(struct dev *dev, const struct quantize_args *a);

__device__ __forceinline__ float quantize_scale(float most)
{
    return most > 0 ? most / 127.0f : 1.0f;
}

__device__ __forceinline__ int8_t quantize_value(float x, float scale)
{
    float v = x / scale;
    v = v > -127.0f ? v : -127.0f; // NaN too, and what a tiny scale's rounding lets over
    v = v < 127.0f ? v : 127.0f;
    return (int8_t)__float2int_rn(v);
}

__device__ __forceinline__ uint2 quantize_pack(const pack &x, float scale)
{
    int8_t q[PACK];
#pragma unroll
    for (int j = 0; j < PACK; j++)
        q[j] = quantize_value(x.v[j], scale);
    uint2 raw;
    memcpy(&raw, q, sizeof raw);
    return raw;
}

#endif
