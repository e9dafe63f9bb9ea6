// fill_value.h - one number of `fill`, the same on every backend; included by C and by CUDA C++.
// Private to kernels/. Pure function: any thread.
#ifndef FILL_VALUE_H
#define FILL_VALUE_H

#include <stdint.h>

#ifdef __CUDACC__
#define FILL_INLINE static __host__ __device__ inline
#else
#define FILL_INLINE static inline
#endif

// mean + deviation * (sum of four uniform 16-bit numbers, centred and scaled to variance 1). Integers
// up to the last step, so the bits do not depend on anyone's logarithm. The hash is SplitMix64 (Steele,
// Lea, Flood 2014).
FILL_INLINE float fill_value(uint64_t seed, uint64_t i, float mean, float deviation)
{
    uint64_t z = seed + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    const int sum =
        (int)(z & 0xffff) + (int)(z >> 16 & 0xffff) + (int)(z >> 32 & 0xffff) + (int)(z >> 48);
    // A uniform 16-bit number has variance (2^32 - 1) / 12, four of them sqrt of a third: 37837.2.
    const float unit = (float)(2 * sum - 4 * 0xffff) * (float)(0.5 / 37837.226);
#ifdef __CUDA_ARCH__
    return __fadd_rn(mean, __fmul_rn(deviation, unit)); // nvcc would fuse them
#else
    return mean + deviation * unit;
#endif
}

#endif
