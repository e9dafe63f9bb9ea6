// quantize.c - one symmetric scale a row: exact, since every step is one correctly rounded operation. Among
// the cases are all bf16 values under each largest one there can be, but for its exponent, which scales all
// alike; smaller ones than those round to 0.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "rows.h"

// Of bf16: mantissas of an exponent, the bits of 1, how many exponents a row has.
enum { MANTISSAS = 128, ONE_BITS = 0x3f80, EXPONENTS = 12, EVERY_COLS = 2 * EXPONENTS * MANTISSAS };
#define EVERY (-1)

static const struct {
    enum dtype type;
    int rows, cols;
    double size; // EVERY: all values in place of normal ones
} SHAPES[] = {{DTYPE_F32, 1, 1, 1},
              {DTYPE_F32, 63, 65, 1},
              {DTYPE_F32, 2, 1024, 0},
              {DTYPE_F32, 4, 64, 1e-30},
              {DTYPE_BF16, 9, 384, 3},
              {DTYPE_BF16, 1, 17, 100},
              {DTYPE_F16, 5, 130, 10},
              {DTYPE_F16, 2, 64, 1e-6},
              {DTYPE_BF16, MANTISSAS, EVERY_COLS, EVERY},
              {DTYPE_F32, 512, 1024, 1},
              {DTYPE_BF16, 4096, 1024, 1}};
enum { N = 9, TIMED = 2 };

static float bf16_value(int bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float v;
    memcpy(&v, &wide, sizeof v);
    return v;
}

// Row m: of both signs, the magnitudes of EXPONENTS exponents up to 1 + m / MANTISSAS.
static void fill_every(struct check_buf *x)
{
    for (int m = 0; m < MANTISSAS; m++)
        for (int i = 0; i < EVERY_COLS; i++) {
            const float v = bf16_value(ONE_BITS + m - i / 2);
            check_set(x, (size_t)(m * EVERY_COLS + i), i % 2 ? -v : v);
        }
}

// float32 arithmetic as ops.h defines it; the only freedom, the order of a maximum, changes nothing.
static void expect_row(const struct check_buf *x, size_t row, int n, double *q, double *scale)
{
    float most = 0;
    for (int i = 0; i < n; i++)
        most = fmaxf(most, fabsf((float)check_get(x, row * (size_t)n + (size_t)i)));
    const float s = most > 0 ? most / 127.0f : 1.0f;
    for (int i = 0; i < n; i++)
        q[row * (size_t)n + (size_t)i] =
            nearbyintf((float)check_get(x, row * (size_t)n + (size_t)i) / s);
    scale[row] = s;
}

static void make(struct check_case *c, int i)
{
    const int rows = SHAPES[i].rows, cols = SHAPES[i].cols;
    const size_t all = (size_t)rows * (size_t)cols;
    const struct check_limit exact = {0, 0, 0, "each step rounds once"};
    struct check_buf *x = check_input(c, "x", SHAPES[i].type, all);
    struct check_buf *q = check_output(c, "q", DTYPE_INT8, all, exact);
    struct check_buf *scale = check_output(c, "scale", DTYPE_F32, (size_t)rows, exact);
    if (SHAPES[i].size == EVERY)
        fill_every(x);
    else
        check_fill_normal(c, x, SHAPES[i].size);
    for (int r = 0; r < rows; r++)
        expect_row(x, (size_t)r, cols, q->want, scale->want);
    snprintf(c->name, sizeof c->name, "%s rows=%d cols=%d size=%g", dtype_name(SHAPES[i].type),
             rows, cols, SHAPES[i].size);
    c->args.quantize =
        (struct quantize_args){q->dev, scale->dev, x->dev, SHAPES[i].type, rows, cols};
    c->bytes = i >= N ? (double)all * (double)(dtype_bytes(SHAPES[i].type) + 1) : 0;
}

static bool part(struct check_case *c, int i)
{
    struct quantize_args *a = &c->args.quantize;
    const size_t at = (size_t)i * (size_t)a->cols;
    const bool more = i < a->rows;
    a->q += at;
    a->scale += i;
    a->x = (const char *)a->x + at * dtype_bytes(a->type);
    a->rows = 1;
    return more;
}

const struct op_check check_quantize = {.n_cases = N, .n_perf = TIMED, .make = make, .part = part};
