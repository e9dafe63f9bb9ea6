// smallgemm.h - float32 products of matrices that fit in cache, as the delta rule needs them: one
// thread, row-major, no packing.
//
// Every entry of c is one sum in the order of k, whatever the shape and the triangle flags are, so a
// row has the same bits whichever rows stand beside it (the bits differ between instruction sets).
#ifndef SMALLGEMM_H
#define SMALLGEMM_H

#include <stdbool.h>

#include "cpu.h"

// c = keep * c + a b, or keep * c - a b. c [m, n], a [m, k], b [k, n]; c overlaps neither a nor b.
struct smallgemm {
    float *c;
    const float *a, *b;
    int ldc, lda, ldb; // floats from row to row
    int m, n, k;       // n a multiple of 16, at most 256
    float keep;        // 0: c is not read
    bool negative;
    bool a_lower; // a is zero above its diagonal; those zeros may be skipped
    bool c_lower; // c is wanted on and below its diagonal; above it, anything or nothing is stored
};

void smallgemm(enum cpu_isa isa, const struct smallgemm *g);

// One body for each instruction set; smallgemm() picks.
void smallgemm_base(const struct smallgemm *g);
void smallgemm_avx2(const struct smallgemm *g);
void smallgemm_avx512(const struct smallgemm *g);

#endif
