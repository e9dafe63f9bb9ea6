// attention_avx2.c - the online softmax compiled for AVX2.
#include "attention_soften.h"

void attention_soften_avx2(const struct attention_row *r)
{
    soften_row(r);
}
