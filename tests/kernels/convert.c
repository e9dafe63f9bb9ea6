// convert.c - numbers from type to type: the nearest that there is, the even one of two, subnormals and what is
// beyond a type's range included; at addresses that suit the types and no more.
#include <math.h>
#include <stdio.h>

#include "ops_check.h"

static const struct {
    enum dtype from, to;
    size_t n;
    double size;
} SHAPES[] = {{DTYPE_BF16, DTYPE_F32, 4097, 1},   {DTYPE_F16, DTYPE_F32, 1000, 1},
              {DTYPE_F32, DTYPE_BF16, 4097, 1},   {DTYPE_F16, DTYPE_BF16, 513, 1},
              {DTYPE_F32, DTYPE_F16, 70001, 1},   {DTYPE_F32, DTYPE_F16, 5000, 1e-6},
              {DTYPE_F32, DTYPE_F16, 5000, 5e4},  {DTYPE_BF16, DTYPE_F16, 70001, 1e-3},
              {DTYPE_BF16, DTYPE_F16, 1, 1},      {DTYPE_BF16, DTYPE_F16, 255, 5e4},
              {DTYPE_BF16, DTYPE_F16, 1 << 24, 1}};
enum { N = 10, TIMED = 1 };

// The nearest number of the type, by its own step at x.
static double nearest(enum dtype type, double x)
{
    const int bits = type == DTYPE_F16 ? 11 : 8, least = type == DTYPE_F16 ? -24 : -133;
    int exponent;
    if (type == DTYPE_F32 || x == 0)
        return x;
    frexp(x, &exponent); // |x| in [2^(e-1), 2^e)
    const int step = exponent - bits > least ? exponent - bits : least;
    return check_held(type, ldexp(nearbyint(ldexp(x, -step)), step));
}

static void make(struct check_case *c, int i)
{
    const enum dtype from = SHAPES[i].from, to = SHAPES[i].to;
    const size_t n = SHAPES[i].n;
    const struct check_limit exact = {0, 0, 0, "one rounding"};
    struct check_buf *x = check_input(c, "x", from, n + 1), *y = check_output(c, "y", to, n, exact);
    check_fill_normal(c, x, SHAPES[i].size);
    check_poison(x, 0, 1);
    for (size_t k = 0; k < n; k++)
        y->want[k] = nearest(to, check_get(x, k + 1));
    snprintf(c->name, sizeof c->name, "%s to %s n=%zu size=%g", dtype_name(from), dtype_name(to), n,
             SHAPES[i].size);
    c->args.convert =
        (struct convert_args){y->dev, (const char *)x->dev + dtype_bytes(from), to, from, n};
    c->bytes = i >= N ? (double)n * (double)(dtype_bytes(from) + dtype_bytes(to)) : 0;
}

// A third of the numbers each.
static bool part(struct check_case *c, int i)
{
    struct convert_args *a = &c->args.convert;
    const size_t each = (a->n + 2) / 3, at = (size_t)i * each;
    if (at >= a->n)
        return false;
    a->y = (char *)a->y + at * dtype_bytes(a->to);
    a->x = (const char *)a->x + at * dtype_bytes(a->from);
    a->n = a->n - at < each ? a->n - at : each;
    return true;
}

const struct op_check check_convert = {.n_cases = N, .n_perf = TIMED, .make = make, .part = part};
