// half.h - rows of bf16 to float32 and back, for every file of the backend. bf16 data comes from
// mapped files and may lie at odd addresses, so rows are read by bytes.
#ifndef HALF_H
#define HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"
#include "half_value.h"

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

#endif
