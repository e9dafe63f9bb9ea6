// device_ceilings.c - see device_ceilings.h.
#include "device_ceilings.h"

#include <stdio.h>

#include "ceilings.h"

double device_bandwidth(const struct ops *ops, struct dev *dev)
{
    static double known;
    char why[256];
    if (known > 0)
        return known;
    const double rate = ceiling_copy(ops, dev, why, sizeof why);
    known = rate > 0 ? rate : 1;
    printf("ceiling: a copy within device memory moves %.0f GB/s%s%s\n", known * 1e-9,
           *why ? ": " : "", why);
    return known;
}

double device_rate(const struct ops *ops, struct dev *dev, enum dtype type)
{
    static double known[DTYPE_INT32];
    char why[256];
    if (known[type] > 0)
        return known[type];
    const double rate = ceiling_product(ops, dev, type, why, sizeof why);
    known[type] = rate > 0 ? rate : 1;
    printf("ceiling: a large product in %s runs at %.1f T operations/s%s%s\n", dtype_name(type),
           known[type] * 1e-12, *why ? ": " : "", why);
    return known[type];
}
