// device_ceilings.h - what a device can do at most, measured through the seam: a large copy, a large
// product. One device a process; measured when first asked for, then known. 1 where it cannot.
#ifndef DEVICE_CEILINGS_H
#define DEVICE_CEILINGS_H

#include "ops.h"

// Bytes a second, read and written, of a copy within the device's memory.
double device_bandwidth(const struct ops *ops, struct dev *dev);

// Operations a second, two a multiply-add, of a square product with weights of that type.
double device_rate(const struct ops *ops, struct dev *dev, enum dtype type);

#endif
