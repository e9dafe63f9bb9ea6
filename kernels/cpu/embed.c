// embed.c - rows of the embedding table. Bound by: memory, one row a token.
#include <string.h>

#include "cpu.h"
#include "half.h"

void cpu_embed(struct dev *dev, const struct embed_args *a)
{
    (void)dev;
    const size_t n = (size_t)a->table.cols;
    for (int i = 0; i < a->t; i++) {
        float *y = (float *)a->y + (size_t)i * n;
        size_t at = (size_t)a->ids[i] * n;
        if (a->table.type == DTYPE_F32)
            memcpy(y, (const float *)a->table.data + at, n * sizeof *y);
        else
            half_from_bf16(y, (const uint8_t *)a->table.data + 2 * at, n);
    }
}
