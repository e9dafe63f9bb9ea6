// linear.h - the parts of cpu_linear. Private to kernels/cpu and its tests.
#ifndef LINEAR_H
#define LINEAR_H

#include "cpu.h"

// The matrix path always multiplies LINEAR_TILE rows (the last tile padded with zeros), so that a
// row's sums do not depend on how many rows a step holds.
enum { LINEAR_TILE = 64 };

// x [rows, k] for the few-rows path, in the form its kernels read: float32, bf16, or int8 with
// scales. Every y[row][col] is one sum in the order of k, whatever `rows` is.
struct linear_rows {
    float *y;           // [rows, ldy]
    const void *x;      // [rows, k] float32, uint16_t bf16 or int8_t by w.type
    const float *scale; // [rows], INT8
    struct weight w;
    int ldy, rows;
    int col0, cols; // the weight's rows to do
};

void linear_rows_base(const struct linear_rows *r);
void linear_rows_avx2(const struct linear_rows *r);
void linear_rows_avx512(const struct linear_rows *r);     // INT8 needs VNNI, BF16 widens
void linear_rows_avx512bf16(const struct linear_rows *r); // BF16 by vdpbf16ps

// The matrix path by oneDNN: y [LINEAR_TILE, w.rows] from x [LINEAR_TILE, w.cols] in the same form as
// above; y is float32, or int32 for INT8. false when oneDNN failed (kept for sync) or does not take
// this type on this processor (nothing kept; the few-rows path does the work).
bool linear_tile(struct dev *dev, void *y, const void *x, const struct weight *w);

#endif
