// linear.h - the parts of cpu_linear. Private to kernels/cpu and its tests.
#ifndef LINEAR_H
#define LINEAR_H

#include "cpu.h"

// Weight rows that a thread does at a time.
enum { LINEAR_STRIP = 64 };

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

// The matrix path by oneDNN: y [tile, w.rows] from x [tile, w.cols] in the same form as above; y is
// float32, or int32 for INT8. false when this type is not oneDNN's on this processor or it has no
// primitive of its AVX-512 kind for the shape: linear_matrix does the work. A failure while running is
// kept for sync().
bool linear_tile(struct dev *dev, void *y, const void *x, const struct weight *w, int tile);

// Where a kernel of oneDNN's adds rows alike in tiles of one height on one thread alone (AMX, bf16), the matrix
// path is blocks of LINEAR_BLOCK_ROWS of x and LINEAR_BLOCK_COLS rows of W, dealt to the threads. Is it so
// for w, and are its blocks ready?
enum { LINEAR_BLOCK_ROWS = 64, LINEAR_BLOCK_COLS = 512 };
bool linear_blocks(struct dev *dev, const struct weight *w);

// y [LINEAR_BLOCK_ROWS, the block's columns] from x [LINEAR_BLOCK_ROWS, w.cols] and W's rows from col0 on. Inside
// cpu_share, after linear_blocks; a failure is kept for sync().
void linear_block(struct dev *dev, int worker, float *y, const void *x, const struct weight *w,
                  int col0);

// y [n] int32 sums of a row to float32 in the same bytes: sum * (x_scale * w_scale[j]).
void linear_scale_avx512(float *y, int n, float x_scale, const float *w_scale);

// The matrix path of our own, where oneDNN's will not do: its float32 product for AVX2 adds a row's
// values in another order when the row stands elsewhere in the tile, its int8 product saturates there,
// and it has none for bf16.
enum { LINEAR_GROUP = 6, LINEAR_PANEL = LINEAR_STRIP * 256 };

// Words of a packed row of k values: a float32 each, or two int16.
static inline size_t linear_words(enum dtype type, int k)
{
    return type == DTYPE_INT8 ? ((size_t)k + 1) / 2 : (size_t)k;
}

// x [rows, k] in the form of linear_rows, to be packed: words [group][words][LINEAR_GROUP], rows beyond
// the last one zero.
struct linear_x {
    const void *x;
    enum dtype type;
    int rows, k;
    bool round; // F32 that is to be rounded to bf16 values
};

struct linear_matrix {
    float *y;           // [.., w.rows]
    const float *x;     // packed
    const float *scale; // [..], INT8
    struct weight w;
    float *panel;   // [LINEAR_PANEL], 64-aligned, the thread's own
    int row0, rows; // of x to do; row0 a multiple of LINEAR_GROUP
    int col0, cols; // the weight's rows to do, at most LINEAR_STRIP
};

void linear_pack_avx2(float *to, const struct linear_x *x, int group); // one group, to its place
void linear_matrix_avx2(const struct linear_matrix *m);

#endif
