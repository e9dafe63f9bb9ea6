// ceilings.c - see ceilings.h.
#define _GNU_SOURCE
#include "ceilings.h"

#include <time.h>

// What is tried first; halved while memory is short. Calls that are timed together; the best of PARTS.
enum { COPY_BYTES = 1 << 30, COPY_BYTES_MIN = 1 << 22, SIDE = 8192, SIDE_MIN = 1024 };
enum { RUNS = 5, PARTS = 3 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// What is timed, and the memory that it works on.
struct work {
    const struct ops *ops;
    struct dev *dev;
    char *p;
    size_t bytes;
    struct linear_args linear;
};

// Seconds of one of RUNS calls and one wait. 0 when the device fails.
static double best_time(const struct work *w, void (*call)(const struct work *w), char *why,
                        size_t why_size)
{
    double best = 0;
    for (int part = -1; part < PARTS; part++) { // the first is not counted
        const double begin = seconds();
        for (int i = 0; i < RUNS; i++)
            call(w);
        if (w->ops->sync(w->dev, why, why_size))
            return 0;
        const double t = (seconds() - begin) / RUNS;
        if (part >= 0 && (best == 0 || t < best))
            best = t;
    }
    return best;
}

static void copy(const struct work *w)
{
    w->ops->copy(w->dev, w->p, w->p + w->bytes, w->bytes);
}

static void multiply(const struct work *w)
{
    w->ops->linear(w->dev, &w->linear);
}

double ceiling_copy(const struct ops *ops, struct dev *dev, char *why, size_t why_size)
{
    struct work w = {.ops = ops, .dev = dev, .bytes = COPY_BYTES};
    *why = '\0';
    while (!(w.p = ops->alloc(dev, 2 * w.bytes)))
        if ((w.bytes /= 2) < COPY_BYTES_MIN)
            return 0;
    const double t = best_time(&w, copy, why, why_size);
    ops->release(dev, w.p);
    return t > 0 ? 2.0 * (double)w.bytes / t : 0;
}

// x, y of the activations' type, a weight, its scales and the wide numbers it was made of.
static void fill_product(struct work *w, enum dtype type, int side)
{
    const struct ops *ops = w->ops;
    const size_t n = (size_t)side * (size_t)side, act = n * dtype_bytes(ops->act(w->dev));
    char *x = w->p, *y = x + act, *weight = y + act, *wide = weight + n * sizeof(float);
    float *scales = (float *)(void *)(wide + n * sizeof(float));
    const bool int8 = type == DTYPE_INT8;
    ops->fill(w->dev, &(struct fill_args){
                          .p = x, .type = ops->act(w->dev), .n = n, .seed = 1, .deviation = 1});
    ops->fill(w->dev, &(struct fill_args){.p = int8 ? wide : weight,
                                          .type = int8 ? DTYPE_F32 : type,
                                          .n = n,
                                          .seed = 2,
                                          .deviation = 1});
    if (int8)
        ops->quantize(w->dev, &(struct quantize_args){.q = (int8_t *)weight,
                                                      .scale = scales,
                                                      .x = wide,
                                                      .type = DTYPE_F32,
                                                      .rows = side,
                                                      .cols = side});
    w->linear = (struct linear_args){.y = {y},
                                     .x = x,
                                     .w = {{weight, scales, type, side, side}},
                                     .n = 1,
                                     .t = side,
                                     .t_gemm = side};
}

static size_t product_bytes(const struct work *w, int side)
{
    const size_t n = (size_t)side * (size_t)side;
    return n * (2 * dtype_bytes(w->ops->act(w->dev)) + 2 * sizeof(float)) +
           (size_t)side * sizeof(float);
}

double ceiling_product(const struct ops *ops, struct dev *dev, enum dtype type, char *why,
                       size_t why_size)
{
    struct work w = {.ops = ops, .dev = dev};
    int side = SIDE;
    *why = '\0';
    while (!(w.p = ops->alloc(dev, product_bytes(&w, side))))
        if ((side /= 2) < SIDE_MIN)
            return 0;
    fill_product(&w, type, side);
    const double t = best_time(&w, multiply, why, why_size);
    ops->release(dev, w.p);
    return t > 0 ? 2.0 * (double)side * (double)side * (double)side / t : 0;
}
