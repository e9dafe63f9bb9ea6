// linear.c - y = x W^T: the choice of a path, the rounding of x, the scales of INT8.
// Bound by: multiply-adds in the matrix path (rows below t_gemm, oneDNN), the bytes of W in the
// few-rows path (the rest).
//
// Row independence: a row's sums are in one order per path (linear.h), so its bits depend on the path
// only. INT8 sums are exact, so there both paths give equal bits.
#include "linear.h"

#include <string.h>

#include "half.h"

enum { SLOT_X, SLOT_SCALE, SLOT_TILE }; // scratch

// x rounded to what the weights' type asks for, all rows, with room for a padded last tile.
static const void *round_x(struct dev *dev, const struct linear_args *a, const float **scale)
{
    const size_t cols = (size_t)a->w.cols, n = (size_t)a->t * cols;
    *scale = NULL;
    if (a->w.type == DTYPE_F32)
        return a->x;
    if (a->w.type == DTYPE_BF16) {
        uint16_t *x = cpu_scratch(dev, SLOT_X, n * sizeof *x);
        const int threads = cpu_of(dev)->threads;
        (void)threads; // without OpenMP
#pragma omp parallel for num_threads(threads) if (a->t > 8) schedule(static)
        for (int t = 0; t < (x ? a->t : 0); t++)
            half_to_bf16(x + (size_t)t * cols, (const float *)a->x + (size_t)t * cols, cols);
        return x;
    }
    int8_t *x = cpu_scratch(dev, SLOT_X, n);
    float *s = cpu_scratch(dev, SLOT_SCALE, (size_t)a->t * sizeof *s);
    if (!x || !s)
        return NULL;
    cpu_quantize(
        dev,
        &(struct quantize_args){
            .q = x, .scale = s, .x = a->x, .type = DTYPE_F32, .rows = a->t, .cols = a->w.cols});
    *scale = s;
    return x;
}

static int tile_for(int rows)
{
    int tile = LINEAR_TILE;
    while (tile > rows && tile > LINEAR_TILE_MIN)
        tile /= 4;
    return tile;
}

// y = sums * scales, in place: int32 becomes float32 in the same four bytes.
static void apply_scales(const struct cpu *cpu, float *y, const float *x_scale,
                         const struct weight *w, int rows)
{
    const int threads = cpu->threads, n = w->rows;
    (void)threads; // without OpenMP
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int r = 0; r < rows; r++) {
        float *row = y + (size_t)r * (size_t)n;
        for (int j = 0; j < n; j++) {
            int32_t sum;
            memcpy(&sum, &row[j], sizeof sum);
            row[j] = (float)sum * (x_scale[r] * w->scale[j]);
        }
    }
}

// One tile of rows, at most what is left of the matrix path's; fewer rows than the smallest tile go
// through zero-padded scratch. Returns the rows done, 0 when oneDNN does not take them, -1 without
// memory (kept for sync).
static int do_tile(struct dev *dev, const struct linear_args *a, const uint8_t *x, int row,
                   const float *scale)
{
    const int left = a->t_gemm - row, tile = tile_for(left), rows = left < tile ? left : tile;
    const size_t k = (size_t)a->w.cols * dtype_bytes(a->w.type), n = (size_t)a->w.rows;
    const uint8_t *from = x + (size_t)row * k;
    float *y = (float *)a->y + (size_t)row * n;
    if (rows == tile) {
        if (!linear_tile(dev, y, from, &a->w, tile))
            return 0;
    } else {
        const size_t x_bytes = ((size_t)tile * k + 63) / 64 * 64;
        uint8_t *padded = cpu_scratch(dev, SLOT_TILE, x_bytes + (size_t)tile * n * sizeof *y);
        if (!padded)
            return -1;
        memcpy(padded, from, (size_t)rows * k);
        memset(padded + (size_t)rows * k, 0, (size_t)(tile - rows) * k);
        if (!linear_tile(dev, padded + x_bytes, padded, &a->w, tile))
            return 0;
        memcpy(y, padded + x_bytes, (size_t)rows * n * sizeof *y);
    }
    if (scale)
        apply_scales(cpu_of(dev), y, scale + row, &a->w, rows);
    return rows;
}

static void few_rows(const struct cpu *cpu, const struct linear_rows *r)
{
    if (cpu->isa == CPU_AVX512 && r->w.type == DTYPE_BF16 && cpu->bf16)
        linear_rows_avx512bf16(r);
    else if (cpu->isa == CPU_AVX512 && (r->w.type != DTYPE_INT8 || cpu->vnni))
        linear_rows_avx512(r);
    else if (cpu->isa >= CPU_AVX2)
        linear_rows_avx2(r);
    else
        linear_rows_base(r);
}

// The rows after the matrix path's; the weight's rows are dealt to the threads in strips.
struct strips {
    const struct cpu *cpu;
    struct linear_rows rows; // col0 and cols are the strip's
};

enum { STRIP = 64, SHARED_BYTES = 1 << 17 }; // fewer bytes are done before a helper has looked up

static void do_strip(void *ud, int i, int worker)
{
    (void)worker;
    const struct strips *s = ud;
    struct linear_rows r = s->rows;
    r.col0 = i * STRIP;
    r.cols = r.w.rows - r.col0 < STRIP ? r.w.rows - r.col0 : STRIP;
    few_rows(s->cpu, &r);
}

// Rows row .. t - 1.
static void do_rows(struct dev *dev, const struct linear_args *a, const uint8_t *x, int row,
                    const float *scale)
{
    struct cpu *cpu = cpu_of(dev);
    const size_t size = dtype_bytes(a->w.type), cols = (size_t)a->w.cols;
    struct strips s = {.cpu = cpu,
                       .rows = {.y = (float *)a->y + (size_t)row * (size_t)a->w.rows,
                                .x = x + (size_t)row * cols * size,
                                .scale = scale ? scale + row : NULL,
                                .w = a->w,
                                .ldy = a->w.rows,
                                .rows = a->t - row}};
    const int n = (a->w.rows + STRIP - 1) / STRIP;
    if ((size_t)a->w.rows * cols * size >= SHARED_BYTES)
        cpu_share(cpu, n, do_strip, &s);
    else
        for (int i = 0; i < n; i++)
            do_strip(&s, i, 0);
}

void cpu_linear(struct dev *dev, const struct linear_args *a)
{
    const float *scale = NULL;
    const uint8_t *x = round_x(dev, a, &scale);
    if (!x)
        return;
    int row = 0, done = 1;
    for (; row < a->t_gemm && done > 0; row += done > 0 ? done : 0)
        done = do_tile(dev, a, x, row, scale);
    if (row < a->t && done >= 0)
        do_rows(dev, a, x, row, scale);
}

// The definition: one sum a value, in the order of k.
void linear_rows_base(const struct linear_rows *r)
{
    const size_t k = (size_t)r->w.cols;
    for (int i = 0; i < r->rows; i++)
        for (int j = r->col0; j < r->col0 + r->cols; j++) {
            float *y = &r->y[(size_t)i * (size_t)r->ldy + (size_t)j];
            const size_t x0 = (size_t)i * k, w0 = (size_t)j * k;
            float sum = 0;
            int32_t exact = 0;
            for (size_t n = 0; n < k; n++) {
                if (r->w.type == DTYPE_F32) {
                    sum += ((const float *)r->x)[x0 + n] * ((const float *)r->w.data)[w0 + n];
                } else if (r->w.type == DTYPE_BF16) {
                    float w;
                    half_from_bf16(&w, (const uint8_t *)r->w.data + 2 * (w0 + n), 1);
                    sum += half_bf16_value(((const uint16_t *)r->x)[x0 + n]) * w;
                } else {
                    exact += ((const int8_t *)r->x)[x0 + n] * ((const int8_t *)r->w.data)[w0 + n];
                }
            }
            *y = r->w.type == DTYPE_INT8 ? (float)exact * (r->scale[i] * r->w.scale[j]) : sum;
        }
}
