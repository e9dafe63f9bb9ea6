// half.h - bf16 and float16 to float32 and back, for every file of the backend. bf16 data comes from
// mapped files and may lie at odd addresses, so rows are read by bytes.
#ifndef HALF_H
#define HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"

static inline float half_bf16_value(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

// Round to nearest, ties to even; NaN stays NaN.
static inline uint16_t half_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// n bf16 values at any address to float32.
static inline void half_from_bf16(float *y, const void *x, size_t n)
{
    const uint8_t *p = x;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof h);
        y[i] = half_bf16_value(h);
    }
}

static inline void half_to_bf16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = half_bf16(x[i]);
}

// The two compiled for an instruction set, for what is bound by them.
void half_widen(enum cpu_isa isa, float *y, const void *x, size_t n);
void half_widen_avx2(float *y, const void *x, size_t n);
void half_widen_avx512(float *y, const void *x, size_t n);
void half_narrow(enum cpu_isa isa, uint16_t *y, const float *x, size_t n);
void half_narrow_avx2(uint16_t *y, const float *x, size_t n);
void half_narrow_avx512(uint16_t *y, const float *x, size_t n);

static inline float half_f16_value(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 0x3FF;
    uint32_t bits;
    float f;
    if (exponent == 31)
        bits = sign | 0x7F800000 | mantissa << 13;
    else if (exponent)
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    else {
        f = (float)mantissa * 0x1p-24f;
        return sign ? -f : f;
    }
    memcpy(&f, &bits, sizeof f);
    return f;
}

#endif
