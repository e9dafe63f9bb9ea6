// half_value.h - one number of 16 bits to float32 and back, for every file of C that has to.
// Pure functions: any thread. CUDA has its own; ops_check compares the two.
#ifndef HALF_VALUE_H
#define HALF_VALUE_H

#include <stdint.h>
#include <string.h>

#include "ops.h"

static inline float half_float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t half_bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float half_bf16_value(uint16_t h)
{
    return half_float_of((uint32_t)h << 16);
}

// Round to nearest, ties to even; NaN stays NaN.
static inline uint16_t half_bf16(float f)
{
    const uint32_t bits = half_bits_of(f);
    if ((bits & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

static inline float half_f16_value(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31;
    const uint32_t mantissa = h & 0x3FF;
    if (exponent == 31)
        return half_float_of(sign | 0x7F800000 | mantissa << 13);
    if (exponent)
        return half_float_of(sign | (exponent + 112) << 23 | mantissa << 13);
    const float tiny = (float)mantissa * 0x1p-24f;
    return sign ? -tiny : tiny;
}

// The same rounding; beyond the largest number is that number. Without a branch, so that a loop of it is done
// several at a time.
static inline uint16_t half_f16(float f)
{
    const uint32_t bits = half_bits_of(f), magnitude = bits & 0x7FFFFFFF,
                   sign = bits >> 16 & 0x8000;
    const float tiny =
        half_float_of(magnitude) + 0.5f; // whose last place is 2^-24, as a subnormal's
    uint32_t h = (magnitude - (112u << 23) + 0xFFF + (magnitude >> 13 & 1)) >> 13;
    h = magnitude < 113u << 23 ? half_bits_of(tiny) - 0x3F000000 : h;
    h = magnitude >= 0x477FF000 ? 0x7BFF : h; // 65520: would round to an infinity
    h = magnitude > 0x7F800000 ? 0x7E00 : h;
    return (uint16_t)(sign | h);
}

// Of either type, BF16 or F16.
static inline float half_value(uint16_t h, enum dtype type)
{
    return type == DTYPE_F16 ? half_f16_value(h) : half_bf16_value(h);
}

static inline uint16_t half_of_value(float f, enum dtype type)
{
    return type == DTYPE_F16 ? half_f16(f) : half_bf16(f);
}

#endif
