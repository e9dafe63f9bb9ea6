// ceilings_device.c - what a device can do at most, through the seam: a large copy, a large product.
#include <stdio.h>

#include "ops_check.h"

enum { COPY_BYTES = 1 << 30, SIDE = 8192, RUNS = 5, PARTS = 3 };

static double best_of(double best, double t)
{
    return best == 0 || t < best ? t : best;
}

static void wait(const struct ops *ops, struct dev *dev)
{
    char why[256];
    check_true(!ops->sync(dev, why, sizeof why), "the ceiling: %s", why);
}

double ceiling_device_bandwidth(const struct ops *ops, struct dev *dev)
{
    static double known; // one device a process
    if (known > 0)
        return known;
    char *p = ops->alloc(dev, 2 * (size_t)COPY_BYTES);
    double best = 0;
    for (int part = 0; p && part < PARTS; part++) {
        ops->copy(dev, p, p + COPY_BYTES, COPY_BYTES);
        wait(ops, dev);
        const double t = ceiling_clock(2);
        for (int i = 0; i < RUNS; i++)
            ops->copy(dev, p, p + COPY_BYTES, COPY_BYTES);
        wait(ops, dev);
        best = best_of(best, (ceiling_clock(2) - t) / RUNS);
    }
    ops->release(dev, p);
    known = best > 0 ? 2.0 * COPY_BYTES / best : 1;
    printf("ceiling: a copy within device memory moves %.0f GB/s\n", known * 1e-9);
    return known;
}

double ceiling_device_flops(const struct ops *ops, struct dev *dev)
{
    static double known;
    const enum dtype type = ops->act(dev);
    const size_t n = (size_t)SIDE * SIDE, bytes = n * dtype_bytes(type);
    if (known > 0)
        return known;
    char *p = ops->alloc(dev, 3 * bytes);
    double best = 0;
    for (int i = 0; p && i < 2; i++)
        ops->fill(dev, &(struct fill_args){.p = p + (size_t)i * bytes,
                                           .type = type,
                                           .n = n,
                                           .seed = (uint64_t)i,
                                           .deviation = 1});
    const struct linear_args a = {.y = {p + 2 * bytes},
                                  .x = p,
                                  .w = {{p + bytes, NULL, type, SIDE, SIDE}},
                                  .n = 1,
                                  .t = SIDE,
                                  .t_gemm = SIDE};
    for (int part = 0; p && part < PARTS; part++) {
        ops->linear(dev, &a);
        wait(ops, dev);
        const double t = ceiling_clock(2);
        for (int i = 0; i < RUNS; i++)
            ops->linear(dev, &a);
        wait(ops, dev);
        best = best_of(best, (ceiling_clock(2) - t) / RUNS);
    }
    ops->release(dev, p);
    known = best > 0 ? 2.0 * (double)n * SIDE / best : 1;
    printf("ceiling: a product of %d x %d matrices in %s runs at %.1f TFLOP/s\n", SIDE, SIDE,
           dtype_name(type), known * 1e-12);
    return known;
}
