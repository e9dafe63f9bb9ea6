// ceilings.h - what a device can do at most, measured through the seam: a large copy, a large product.
// Figures are compared with them, so they are measured in the run that they stand beside.
// The device's thread; what is under way on the device ends first.
#ifndef CEILINGS_H
#define CEILINGS_H

#include "ops.h"

// Bytes a second, read and written, of a copy within the device's memory. 0 when there is no memory
// for it (why is "") or the device failed (why says how; ops.h, sync). Half a second.
double ceiling_copy(const struct ops *ops, struct dev *dev, char *why, size_t why_size);

// Operations a second, two a multiply-add, of a product of large square matrices: activations of the
// device's type, weights of type F32, BF16, F16 or INT8 (quantising the activations is within the time).
// Otherwise as above.
double ceiling_product(const struct ops *ops, struct dev *dev, enum dtype type, char *why,
                       size_t why_size);

#endif
