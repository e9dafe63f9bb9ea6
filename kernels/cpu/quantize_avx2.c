// quantize_avx2.c - rows to int8 for AVX2.
#include "quantize_row.h"

void quantize_row_avx2(const struct quantize_args *a, size_t row)
{
    quantize_row_body(a, row);
}
