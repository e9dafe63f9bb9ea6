// device_ceilings.c - see device_ceilings.h.
#define _GNU_SOURCE
#include "device_ceilings.h"

#include <stdio.h>
#include <time.h>

enum { COPY_BYTES = 1 << 30, SIDE = 8192, RUNS = 5, PARTS = 3 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Seconds of one of RUNS calls and one wait; the best of PARTS. 0 when the device fails.
static double best_time(const struct ops *ops, struct dev *dev, void (*call)(void *ud), void *ud)
{
    char why[256];
    double best = 0;
    for (int part = -1; part < PARTS; part++) { // the first is not counted
        const double begin = seconds();
        for (int i = 0; i < RUNS; i++)
            call(ud);
        if (ops->sync(dev, why, sizeof why)) {
            printf("ceiling: %s\n", why);
            return 0;
        }
        const double t = (seconds() - begin) / RUNS;
        if (part >= 0 && (best == 0 || t < best))
            best = t;
    }
    return best;
}

struct work {
    const struct ops *ops;
    struct dev *dev;
    char *p;
    struct linear_args linear;
};

static void copy(void *ud)
{
    const struct work *w = ud;
    w->ops->copy(w->dev, w->p, w->p + COPY_BYTES, COPY_BYTES);
}

static void multiply(void *ud)
{
    const struct work *w = ud;
    w->ops->linear(w->dev, &w->linear);
}

double device_bandwidth(const struct ops *ops, struct dev *dev)
{
    static double known;
    if (known > 0)
        return known;
    struct work w = {.ops = ops, .dev = dev, .p = ops->alloc(dev, 2 * (size_t)COPY_BYTES)};
    const double t = w.p ? best_time(ops, dev, copy, &w) : 0;
    if (w.p)
        ops->release(dev, w.p);
    known = t > 0 ? 2.0 * COPY_BYTES / t : 1;
    printf("ceiling: a copy within device memory moves %.0f GB/s\n", known * 1e-9);
    return known;
}

// x, y of the activations' type and a weight, all of SIDE x SIDE.
static double measure_rate(const struct ops *ops, struct dev *dev, enum dtype type)
{
    const size_t n = (size_t)SIDE * SIDE, act = n * dtype_bytes(ops->act(dev));
    const size_t scale = SIDE * sizeof(float), stage = n * sizeof(float);
    struct work w = {.ops = ops, .dev = dev};
    w.p = ops->alloc(dev, 2 * act + scale + 2 * stage);
    if (!w.p)
        return 0;
    char *x = w.p, *y = x + act, *weight = y + act, *scales = weight + stage,
         *wide = scales + scale;
    ops->fill(
        dev, &(struct fill_args){.p = x, .type = ops->act(dev), .n = n, .seed = 1, .deviation = 1});
    ops->fill(dev, &(struct fill_args){.p = type == DTYPE_INT8 ? wide : weight,
                                       .type = type == DTYPE_INT8 ? DTYPE_F32 : type,
                                       .n = n,
                                       .seed = 2,
                                       .deviation = 1});
    if (type == DTYPE_INT8)
        ops->quantize(dev, &(struct quantize_args){.q = (int8_t *)weight,
                                                   .scale = (float *)(void *)scales,
                                                   .x = wide,
                                                   .type = DTYPE_F32,
                                                   .rows = SIDE,
                                                   .cols = SIDE});
    w.linear =
        (struct linear_args){.y = {y},
                             .x = x,
                             .w = {{weight, (const float *)(const void *)scales, type, SIDE, SIDE}},
                             .n = 1,
                             .t = SIDE,
                             .t_gemm = SIDE};
    const double t = best_time(ops, dev, multiply, &w);
    ops->release(dev, w.p);
    return t > 0 ? 2.0 * (double)n * SIDE / t : 0;
}

double device_rate(const struct ops *ops, struct dev *dev, enum dtype type)
{
    static double known[DTYPE_INT32];
    if (known[type] > 0)
        return known[type];
    const double rate = measure_rate(ops, dev, type);
    known[type] = rate > 0 ? rate : 1;
    printf("ceiling: a product of %d x %d in %s runs at %.1f T operations/s\n", SIDE, SIDE,
           dtype_name(type), known[type] * 1e-12);
    return known[type];
}
