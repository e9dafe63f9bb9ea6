// check_buffers.c - buffers of a case: guarded device memory, typed elements, random fills.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check_buffers.h"

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static struct check_buf *declare(struct check_case *c, const char *name, enum dtype type, size_t n)
{
    size_t bytes = n * dtype_bytes(type);
    struct check_buf *b = must(calloc(1, sizeof *b));
    b->name = name;
    b->type = type;
    b->n = n;
    b->host = must(malloc(bytes ? bytes : 1));
    memset(b->host, 0xff, bytes);
    b->dev = (char *)must(c->ops->alloc(c->dev, bytes + 2 * CHECK_GUARD)) + CHECK_GUARD;
    b->next = c->bufs;
    c->bufs = b;
    return b;
}

struct check_buf *check_input(struct check_case *c, const char *name, enum dtype type, size_t n)
{
    return declare(c, name, type, n);
}

struct check_buf *check_output(struct check_case *c, const char *name, enum dtype type, size_t n,
                               struct check_limit limit)
{
    struct check_buf *b = declare(c, name, type, n);
    b->role = CHECK_OUTPUT;
    b->limit = limit;
    b->want = must(malloc((n ? n : 1) * sizeof *b->want));
    for (size_t i = 0; i < n; i++)
        b->want[i] = NAN;
    return b;
}

struct check_buf *check_in_out(struct check_case *c, const char *name, enum dtype type, size_t n,
                               struct check_limit limit)
{
    struct check_buf *b = check_output(c, name, type, n, limit);
    b->role = CHECK_IN_OUT;
    return b;
}

struct check_buf *check_work(struct check_case *c, const char *name, enum dtype type, size_t n)
{
    struct check_buf *b = declare(c, name, type, n);
    b->role = CHECK_WORK;
    return b;
}

void check_keep(struct check_buf *b)
{
    for (size_t i = 0; i < b->n; i++)
        b->want[i] = check_get(b, i);
}

void check_case_free(struct check_case *c)
{
    while (c->bufs) {
        struct check_buf *b = c->bufs;
        c->bufs = b->next;
        c->ops->release(c->dev, (char *)b->dev - CHECK_GUARD);
        free(b->host);
        free(b->want);
        free(b);
    }
    free(c->user);
    c->user = NULL;
}

void check_upload(struct check_case *c)
{
    for (struct check_buf *b = c->bufs; b; b = b->next) {
        size_t bytes = b->n * dtype_bytes(b->type), all = bytes + 2 * CHECK_GUARD;
        char *image = must(malloc(all));
        memset(image, 0xff, all);
        memcpy(image + CHECK_GUARD, b->host, bytes);
        c->ops->upload(c->dev, (char *)b->dev - CHECK_GUARD, image, all);
        free(image);
    }
}

void *check_download(struct check_case *c, const struct check_buf *b)
{
    size_t all = b->n * dtype_bytes(b->type) + 2 * CHECK_GUARD;
    char *image = must(malloc(all));
    c->ops->download(c->dev, image, (char *)b->dev - CHECK_GUARD, all);
    return image;
}

bool check_guards(const struct check_buf *b, const void *image)
{
    const unsigned char *p = image;
    size_t bytes = b->n * dtype_bytes(b->type);
    for (size_t i = 0; i < CHECK_GUARD; i++)
        if (p[i] != 0xff || p[CHECK_GUARD + bytes + i] != 0xff)
            return false;
    return true;
}

double check_uniform(struct check_case *c)
{
    // splitmix64: any seed will do, so the case's number is the seed.
    uint64_t z = (c->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

double check_normal(struct check_case *c)
{
    double radius = sqrt(-2 * log(1 - check_uniform(c)));
    return radius * cos(6.283185307179586 * check_uniform(c));
}

int check_below(struct check_case *c, int n)
{
    return (int)(check_uniform(c) * n);
}

void check_fill_normal(struct check_case *c, struct check_buf *b, double scale)
{
    for (size_t i = 0; i < b->n; i++)
        check_set(b, i, scale * check_normal(c));
}

void check_fill_uniform(struct check_case *c, struct check_buf *b, double low, double high)
{
    for (size_t i = 0; i < b->n; i++)
        check_set(b, i, low + (high - low) * check_uniform(c));
}

void check_poison(struct check_buf *b, size_t first, size_t n)
{
    size_t size = dtype_bytes(b->type);
    memset((char *)b->host + first * size, 0xff, n * size);
}

static uint32_t float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint16_t to_bf16(double value)
{
    uint32_t bits = float_bits((float)value);
    if (isnan(value))
        return 0xffff;
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static uint16_t to_f16(double value)
{
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double x = fabs(value);
    if (isnan(x))
        return 0xffff;
    if (x >= 65520)
        return sign | 0x7c00;
    if (x < 0x1p-14)
        return sign | (uint16_t)nearbyint(x * 0x1p24);
    int e;
    double m = frexp(x, &e); // x = m 2^e, m in [0.5, 1)
    return sign | (uint16_t)(((e + 14) << 10) + (int)nearbyint((m * 2 - 1) * 1024));
}

static double from_f16(uint16_t h)
{
    int e = (h >> 10) & 31, m = h & 1023;
    double x = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -x : x;
}

void check_set(struct check_buf *b, size_t i, double value)
{
    switch (b->type) {
    case DTYPE_F32:
        ((float *)b->host)[i] = (float)value;
        break;
    case DTYPE_F16:
        ((uint16_t *)b->host)[i] = to_f16(value);
        break;
    case DTYPE_BF16:
        ((uint16_t *)b->host)[i] = to_bf16(value);
        break;
    case DTYPE_INT8:
        ((int8_t *)b->host)[i] = (int8_t)fmax(-128, fmin(127, nearbyint(value)));
        break;
    case DTYPE_INT32:
        ((int32_t *)b->host)[i] = (int32_t)value;
        break;
    }
}

enum dtype check_act(const struct check_case *c)
{
    return c->ops->act(c->dev);
}

enum dtype check_type(const struct check_case *c, enum dtype type)
{
    return type == DTYPE_BF16 ? dtype_half(check_act(c)) : type;
}

double check_held(enum dtype type, double value)
{
    return type == DTYPE_F16 && fabs(value) > 65504 ? copysign(65504, value) : value;
}

void *check_act_at(const struct check_case *c, const void *p, size_t n)
{
    return (char *)(uintptr_t)p + n * dtype_bytes(check_act(c));
}

struct check_limit check_stored_limit(enum dtype type, struct check_limit limit)
{
    if (type == DTYPE_F32)
        return limit;
    const double half =
        type == DTYPE_F16 ? 0x1p-11 : 0x1p-8; // of a unit in the last place, at most
    return (struct check_limit){limit.abs + 1e-7, limit.rel + 1.1 * half, limit.nmse + half * half,
                                limit.why};
}

struct check_limit check_act_limit(const struct check_case *c, struct check_limit limit)
{
    return check_stored_limit(check_act(c), limit);
}

void check_set_span(struct check_buf *b, int at, const struct span *s)
{
    const int values[] = {s->t0, s->t, s->pos0, s->slot, s->decode, s->save_t, s->save_slot};
    _Static_assert(sizeof values == sizeof *s, "struct span is seven ints");
    for (int i = 0; i < CHECK_SPAN_INTS; i++)
        check_set(b, (size_t)(at * CHECK_SPAN_INTS + i), values[i]);
}

double check_load(const void *p, enum dtype type, size_t i)
{
    switch (type) {
    case DTYPE_F32:
        return ((const float *)p)[i];
    case DTYPE_F16:
        return from_f16(((const uint16_t *)p)[i]);
    case DTYPE_BF16:
        return bits_float((uint32_t)((const uint16_t *)p)[i] << 16);
    case DTYPE_INT8:
        return ((const int8_t *)p)[i];
    case DTYPE_INT32:
        return ((const int32_t *)p)[i];
    }
    return NAN;
}

double check_get(const struct check_buf *b, size_t i)
{
    return check_load(b->host, b->type, i);
}
