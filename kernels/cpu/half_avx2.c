// half_avx2.c - bf16 to float32 as vectors of eight.
#include "half.h"

// The blocks make the loop ask for memory ahead of where it reads.
void half_widen_avx2(float *y, const void *x, size_t n)
{
    enum { BLOCK = 128, AHEAD = 2048 };
    const char *p = x;
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        for (size_t line = 0; line < BLOCK * 2; line += 64)
            __builtin_prefetch(p + 2 * i + line + AHEAD);
        half_from_bf16(y + i, p + 2 * i, BLOCK);
    }
    half_from_bf16(y + i, p + 2 * i, n - i);
}

void half_narrow_avx2(uint16_t *y, const float *x, size_t n)
{
    half_to_bf16(y, x, n);
}
