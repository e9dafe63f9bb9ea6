// expf.h - exp in float32 in a form that compilers vectorise: no call, no branch.
// Error: at most 2 units in the last place of the result over [-87, 88] (tests/kernels checks it);
// below -87 the result is 0, above 88 it is exp(88).
#ifndef EXPF_H
#define EXPF_H

#include <stdint.h>
#include <string.h>

static inline float expf_fast(float x)
{
    const float low = -87.0f, high = 88.0f, round = 12582912.0f; // 1.5 * 2^23
    float c = x < low ? low : x;
    c = c > high ? high : c;
    // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two parts so that n ln 2 is exact
    const float shifted = c * 1.44269504f + round, n = shifted - round;
    const float r = (c - n * 0.693145751953125f) - n * 1.428606765330187e-6f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (int32_t)(((uint32_t)bits + 127u) << 23);
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x < low ? 0.0f : p * scale;
}

#endif
