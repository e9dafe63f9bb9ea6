// convert.h - numbers of a checkpoint, or of a device, from one type to another. Input needs no
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

// The same to f16. bf16's numbers keep all their bits from 2^-17 (7.6e-6) up, smaller ones become multiples of
// 2^-24. What is beyond 65504 becomes that; f16 stays as it is.
void convert_to_f16(uint16_t *out, const void *in, enum dtype type, size_t n);

#endif
