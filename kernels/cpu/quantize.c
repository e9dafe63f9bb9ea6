// quantize.c - rows to int8 with one symmetric scale a row; quantize_row.h has the maths.
#include "quantize_row.h"

enum { ROWS = 8 }; // that a thread does at a time

struct rows {
    const struct quantize_args *a;
    enum cpu_isa isa;
};

static void do_rows(void *ud, int i, int worker)
{
    (void)worker;
    const struct rows *r = ud;
    const int end = r->a->rows - i * ROWS < ROWS ? r->a->rows : (i + 1) * ROWS;
    for (int row = i * ROWS; row < end; row++) {
        if (r->isa == CPU_AVX512)
            quantize_row_avx512(r->a, (size_t)row);
        else if (r->isa == CPU_AVX2)
            quantize_row_avx2(r->a, (size_t)row);
        else
            quantize_row_body(r->a, (size_t)row);
    }
}

void cpu_quantize(struct dev *dev, const struct quantize_args *a)
{
    struct rows r = {a, cpu_of(dev)->isa};
    cpu_share(cpu_of(dev), (a->rows + ROWS - 1) / ROWS, do_rows, &r);
}
