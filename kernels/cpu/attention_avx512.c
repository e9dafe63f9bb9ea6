// attention_avx512.c - the online softmax compiled for AVX-512.
#include "attention_soften.h"

void attention_soften_avx512(const struct attention_row *r)
{
    soften_row(r);
}
