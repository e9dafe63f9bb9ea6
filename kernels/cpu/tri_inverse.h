// tri_inverse.h - the inverse of one matrix in scratch, as tri_inverse and delta_rule share it.
#ifndef TRI_INVERSE_H
#define TRI_INVERSE_H

#include "cpu.h"

// Floats of scratch that tri_invert() needs for matrices up to chunk x chunk; a multiple of 16.
size_t tri_invert_scratch(int chunk);

struct tri_invert {
    float *t;       // [n, n] out: (I + A)^-1, zero above the diagonal
    const float *a; // [n, n]; zero on and above the diagonal; not t
    int n;          // 16, 32, 64 or 128
    enum cpu_isa isa;
    struct inverse inverse;        // checked against n; a wider block than n counts as n
    float *scratch;                // [tri_invert_scratch(n)], 64-aligned
    struct inverse_report *report; // NULL, or raised by this matrix
};

// One thread, no allocation. What comes out depends on the members above report and on nothing else.
void tri_invert(const struct tri_invert *v);

// Raises to by what from has seen.
void inverse_report_merge(struct inverse_report *to, const struct inverse_report *from);

#endif
