// convert.h - numbers of a checkpoint from one type to another. Private to the room. Input needs no
// alignment: a file may put a tensor anywhere. Pure functions: any thread.
#ifndef CONVERT_H
#define CONVERT_H

#include <stddef.h>
#include <stdint.h>

#include "ops.h"

// n values of type (F32, F16, BF16) at in; exact.
void convert_to_f32(float *out, const void *in, enum dtype type, size_t n);

// As above, rounded to the nearest bf16, ties to even.
void convert_to_bf16(uint16_t *out, const void *in, enum dtype type, size_t n);

#endif
