// convert.c - see convert.h.
#include "convert.h"

#include <math.h>
#include <string.h>

#include "err.h"

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float f16_value(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
    if (exponent == 31) // inf, NaN
        return float_of(sign | 0x7F800000 | fraction << 13);
    if (exponent)
        return float_of(sign | (exponent + 112) << 23 | fraction << 13);
    float tiny = ldexpf((float)fraction, -24); // zero and the subnormal numbers
    return sign ? -tiny : tiny;
}

static float value_at(const unsigned char *in, enum dtype type, size_t i)
{
    uint16_t half;
    float f;
    if (type == DTYPE_F32) {
        memcpy(&f, in + i * sizeof f, sizeof f);
        return f;
    }
    memcpy(&half, in + i * sizeof half, sizeof half);
    return type == DTYPE_BF16 ? float_of((uint32_t)half << 16) : f16_value(half);
}

static uint16_t round_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (isnan(f))
        return (uint16_t)(bits >> 16 | 0x40); // stays a NaN whatever the lower half was
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void convert_to_f32(float *out, const void *in, enum dtype type, size_t n)
{
    CHECK(type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16);
    for (size_t i = 0; i < n; i++)
        out[i] = value_at(in, type, i);
}

void convert_to_bf16(uint16_t *out, const void *in, enum dtype type, size_t n)
{
    CHECK(type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16);
    if (type == DTYPE_BF16) {
        memcpy(out, in, n * sizeof *out);
        return;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = round_bf16(value_at(in, type, i));
}
