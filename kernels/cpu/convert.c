// convert.c - numbers from one float type to another, by way of float32.
// Bound by: memory where the types are BF16 and F32; F16 costs instructions.
#include "cpu.h"
#include "half.h"

enum { BLOCK = 256, EACH = 64 }; // values at a time, blocks of a task

struct conversion {
    const struct convert_args *a;
    enum cpu_isa isa;
};

static void widen(enum cpu_isa isa, float *y, const void *x, enum dtype type, size_t n)
{
    if (type == DTYPE_F32)
        memcpy(y, x, n * sizeof *y);
    else if (type == DTYPE_BF16)
        half_widen(isa, y, x, n);
    else
        for (size_t i = 0; i < n; i++)
            y[i] = half_f16_value(((const uint16_t *)x)[i]);
}

// x has BLOCK values, of which y gets n.
static void narrow(enum cpu_isa isa, void *y, const float *x, enum dtype type, size_t n)
{
    uint16_t halves[BLOCK];
    if (type == DTYPE_F32) {
        memcpy(y, x, n * sizeof *x);
    } else if (type == DTYPE_BF16) {
        half_narrow(isa, y, x, n);
    } else {
        for (int i = 0; i < BLOCK; i++) // a loop of a length that is known is made of vectors
            halves[i] = half_f16(x[i]);
        memcpy(y, halves, n * sizeof *halves);
    }
}

static void do_blocks(void *ud, int task, int worker)
{
    (void)worker;
    const struct conversion *c = ud;
    const struct convert_args *a = c->a;
    const size_t first = (size_t)task * EACH * BLOCK, rest = a->n - first;
    const size_t n = rest < EACH * BLOCK ? rest : EACH * BLOCK;
    for (size_t i = 0; i < n; i += BLOCK) {
        float x[BLOCK] = {0};
        const size_t at = first + i, part = n - i < BLOCK ? n - i : BLOCK;
        widen(c->isa, x, (const char *)a->x + at * dtype_bytes(a->from), a->from, part);
        narrow(c->isa, (char *)a->y + at * dtype_bytes(a->to), x, a->to, part);
    }
}

void cpu_convert(struct dev *dev, const struct convert_args *a)
{
    struct conversion c = {a, cpu_of(dev)->isa};
    const size_t each = EACH * BLOCK;
    cpu_share(cpu_of(dev), (int)((a->n + each - 1) / each), do_blocks, &c);
}
