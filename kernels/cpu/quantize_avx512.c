// quantize_avx512.c - rows to int8 for AVX-512.
#include "quantize_row.h"

void quantize_row_avx512(const struct quantize_args *a, size_t row)
{
    quantize_row_body(a, row);
}
