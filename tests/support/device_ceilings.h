// device_ceilings.h - kernels/ceilings.h for programs that print: measured when first asked for, then known,
// with a line of output. One device a process. 1 where it cannot be measured.
#ifndef DEVICE_CEILINGS_H
#define DEVICE_CEILINGS_H

#include "ops.h"

double device_bandwidth(const struct ops *ops, struct dev *dev);
double device_rate(const struct ops *ops, struct dev *dev, enum dtype type);

#endif
