// inverse_round.h - the number formats of the inversion: operands rounded as a tensor core would take
// them, and the product of int8 planes. Values stay in float32 containers throughout.
#ifndef INVERSE_ROUND_H
#define INVERSE_ROUND_H

#include <stddef.h>
#include <stdint.h>

#include "smallgemm.h"

// x[i] to the nearest value of the format, ties to even. fp16 overflows to infinity. FP32 and INT8
// are left as they are.
void inverse_round(float *x, size_t n, enum inverse_type type);

// int8: fixed point of 16 bits, value = q / 2^14, |q| <= 32639, held as two int8 planes,
// q = 256 high + low. The scale is known beforehand: with the blocks and masks used here every entry
// is at most 1 in size, so a range of 1.99 is never left unless the method itself is unsound.
// Why two planes: with one plane for all matrices T errs by up to 6e-2 (7 bits, and A's own rounding is
// carried through), with two for T but one for A by 1.4e-2, with two for all by 1.5e-3, as fp16 does.
enum { INVERSE_INT8_SHIFT = 14, INVERSE_INT8_MAX = 127 * 256 + 127 };

struct inverse_planes {
    int8_t *high, *low; // [rows, ld]
    int ld;
};

// Splits x [rows, cols] into planes. Returns how many entries left the range (they are clamped; NaN
// counts and becomes 0).
int inverse_split(struct inverse_planes p, const float *x, int ldx, int rows, int cols);

// g as smallgemm() says (keep 0 or 1), but in integers: four products of int8 planes, each summed in
// int32 without loss, put together and rounded once back to 2^-14; with keep the sum with
// c is rounded again. Returns how many entries left the range (they are clamped).
int inverse_product_int8(const struct smallgemm *g, struct inverse_planes a,
                         struct inverse_planes b);

#endif
