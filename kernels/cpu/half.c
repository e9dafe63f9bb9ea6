// half.c - rows between bf16 and float32, by the body for the processor's instructions.
#include "half.h"

void half_widen(enum cpu_isa isa, float *y, const void *x, size_t n)
{
    if (isa == CPU_AVX512)
        half_widen_avx512(y, x, n);
    else if (isa == CPU_AVX2)
        half_widen_avx2(y, x, n);
    else
        half_from_bf16(y, x, n);
}

void half_narrow(enum cpu_isa isa, uint16_t *y, const float *x, size_t n)
{
    if (isa == CPU_AVX512)
        half_narrow_avx512(y, x, n);
    else if (isa == CPU_AVX2)
        half_narrow_avx2(y, x, n);
    else
        half_to_bf16(y, x, n);
}
