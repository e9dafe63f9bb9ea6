// logits.h - a row of logits: NaN counts as -inf, and the largest value without a branch an entry.
// Private to sample.c and logprobs.c.
#ifndef LOGITS_H
#define LOGITS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

// Also turns -0 into 0, so that equal values have equal bits.
static inline float vocab_clean(float x)
{
    return x != x ? -INFINITY : x + 0.0f;
}

// Bit patterns as integers in the order of the values, for cleaned x.
static inline int32_t vocab_order(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits < 0 ? bits ^ 0x7FFFFFFF : bits;
}

// Largest of n >= 1 values, cleaned. Compared as integers, which compilers vectorise.
static inline float vocab_largest(const float *x, int n)
{
    int32_t most = INT32_MIN;
    for (int i = 0; i < n; i++) {
        const int32_t order = vocab_order(vocab_clean(x[i]));
        most = order > most ? order : most;
    }
    most = most < 0 ? most ^ 0x7FFFFFFF : most;
    float y;
    memcpy(&y, &most, sizeof y);
    return y;
}

#endif
