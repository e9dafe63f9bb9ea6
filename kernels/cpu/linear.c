// linear.c - y = x W^T: the choice of a path, the rounding of x, the scales of INT8.
// Bound by: multiply-adds in the matrix path (rows below t_gemm), the bytes of W in the few-rows path
// (the rest).
//
// The matrix path is oneDNN's with AVX-512 (linear_dnnl.c; BF16 and INT8 only where the processor has
// products for them, BF16 by blocks where it has AMX), our own with AVX2 (linear_matrix_avx2.c), and the
// few-rows path without either.
//
// Row independence: a row's sums are in one order per path (linear.h), so its bits depend on the path
// only. INT8 sums are exact, so there both paths give equal bits.
#include "linear.h"

#include <stdint.h>
#include <string.h>

#include "half.h"

enum { SLOT_X, SLOT_SCALE, SLOT_TILE, SLOT_PANELS }; // scratch

// One matrix of the call.
struct product {
    float *y;           // [t, w->rows]
    const float *raw;   // [t, w->cols], x as it was given
    const uint8_t *x;   // [t, w->cols], rounded; of BF16 only rows that matrix_rounds does not take
    const float *scale; // [t] of x; INT8 only
    const struct weight *w;
    int t, t_gemm;
};

static int divide_up(int a, int b)
{
    return (a + b - 1) / b;
}

enum { ROUND_ROWS = 8 }; // that a thread does at a time

struct rounding {
    enum cpu_isa isa;
    uint16_t *y;
    const float *x;
    size_t cols;
    int rows;
};

static void round_rows(void *ud, int i, int worker)
{
    (void)worker;
    const struct rounding *r = ud;
    const int row = i * ROUND_ROWS, left = r->rows - row;
    const size_t at = (size_t)row * r->cols;
    const size_t n = (size_t)(left < ROUND_ROWS ? left : ROUND_ROWS) * r->cols;
    half_narrow(r->isa, r->y + at, r->x + at, n);
}

// Does the matrix path round x itself, while packing it? (oneDNN's is never taken there, see linear_dnnl.c.)
static bool matrix_rounds(const struct cpu *cpu, enum dtype type)
{
    return type == DTYPE_BF16 && cpu->isa == CPU_AVX2;
}

// x rounded to what a type of weights asks for into p->x and p->scale. False: no memory.
static bool round_x(struct dev *dev, struct product *p)
{
    struct cpu *cpu = cpu_of(dev);
    const size_t cols = (size_t)p->w->cols, n = (size_t)p->t * cols;
    p->x = (const uint8_t *)p->raw;
    p->scale = NULL;
    if (p->w->type == DTYPE_F32)
        return true;
    if (p->w->type == DTYPE_BF16) {
        const int first = matrix_rounds(cpu, p->w->type) ? p->t_gemm : 0;
        uint16_t *x = cpu_scratch(dev, SLOT_X, n * sizeof *x);
        struct rounding r = {.isa = cpu->isa, .cols = cols, .rows = p->t - first};
        if (!x)
            return false;
        p->x = (const uint8_t *)x;
        r.x = p->raw + (size_t)first * cols;
        r.y = x + (size_t)first * cols;
        cpu_share(cpu, divide_up(r.rows, ROUND_ROWS), round_rows, &r);
        return true;
    }
    int8_t *x = cpu_scratch(dev, SLOT_X, n);
    float *s = cpu_scratch(dev, SLOT_SCALE, (size_t)p->t * sizeof *s);
    if (!x || !s)
        return false;
    cpu_quantize(
        dev,
        &(struct quantize_args){
            .q = x, .scale = s, .x = p->raw, .type = DTYPE_F32, .rows = p->t, .cols = p->w->cols});
    p->x = (const uint8_t *)x;
    p->scale = s;
    return true;
}

// The matrix path by oneDNN multiplies tiles of these many rows, the largest that fit first (a call
// copies the weights once, so large ones are faster); what is less than the smallest is padded with
// zeros. The kernels taken give a row the same bits in each (tests/kernels/linear.c cuts the same rows
// differently), so a row's sums do not depend on how many rows a step holds.
static int tile_for(int rows)
{
    return rows >= 512 ? 512 : rows >= 256 ? 256 : rows >= 64 ? 64 : 16;
}

// y = sums * scales, in place.
struct scaling {
    float *y;
    const float *x_scale;
    const struct weight *w;
    int rows;
};

static void scale_rows(void *ud, int i, int worker)
{
    (void)worker;
    const struct scaling *s = ud;
    const int n = s->w->rows;
    for (int r = i * ROUND_ROWS; r < s->rows && r < (i + 1) * ROUND_ROWS; r++)
        linear_scale_avx512(s->y + (size_t)r * (size_t)n, n, s->x_scale[r], s->w->scale);
}

// One tile of rows, at most what is left of the matrix path's; fewer rows than the smallest tile go
// through zero-padded scratch. Returns the rows done, 0 when oneDNN does not take them, -1 without
// memory (kept for sync).
static int do_tile(struct dev *dev, const struct product *p, int row)
{
    const int left = p->t_gemm - row, tile = tile_for(left), rows = left < tile ? left : tile;
    const size_t k = (size_t)p->w->cols * dtype_bytes(p->w->type), n = (size_t)p->w->rows;
    const uint8_t *from = p->x + (size_t)row * k;
    float *y = p->y + (size_t)row * n;
    if (rows == tile) {
        if (!linear_tile(dev, y, from, p->w, tile))
            return 0;
    } else {
        const size_t x_bytes = ((size_t)tile * k + 63) / 64 * 64;
        uint8_t *padded = cpu_scratch(dev, SLOT_TILE, x_bytes + (size_t)tile * n * sizeof *y);
        if (!padded)
            return -1;
        memcpy(padded, from, (size_t)rows * k);
        memset(padded + (size_t)rows * k, 0, (size_t)(tile - rows) * k);
        if (!linear_tile(dev, padded + x_bytes, padded, p->w, tile))
            return 0;
        memcpy(y, padded + x_bytes, (size_t)rows * n * sizeof *y);
    }
    if (p->scale)
        cpu_share(cpu_of(dev), divide_up(rows, ROUND_ROWS), scale_rows,
                  &(struct scaling){.y = y, .x_scale = p->scale + row, .w = p->w, .rows = rows});
    return rows;
}

// The matrix path by blocks, each a thread's. One with fewer rows of x than a block is padded with zeros.
struct blocks {
    struct dev *dev;
    const struct product *p;
    int tiles;       // of x's rows
    uint8_t *places; // a worker: a block's sums, and x where it is padded
    size_t each;
};

enum { BLOCK_BYTES = LINEAR_BLOCK_ROWS * LINEAR_BLOCK_COLS * sizeof(float) };

static void do_block(void *ud, int i, int worker)
{
    const struct blocks *b = ud;
    const struct product *p = b->p;
    const int row = i % b->tiles * LINEAR_BLOCK_ROWS, col0 = i / b->tiles * LINEAR_BLOCK_COLS;
    const int left = p->t_gemm - row, rows = left < LINEAR_BLOCK_ROWS ? left : LINEAR_BLOCK_ROWS;
    const int right = p->w->rows - col0,
              cols = right < LINEAR_BLOCK_COLS ? right : LINEAR_BLOCK_COLS;
    const size_t n = (size_t)p->w->rows, k = (size_t)p->w->cols * dtype_bytes(p->w->type);
    uint8_t *place = b->places + (size_t)worker * b->each, *padded = place + BLOCK_BYTES;
    const uint8_t *x = p->x + (size_t)row * k;
    float *sums = (float *)(void *)place;
    if (rows < LINEAR_BLOCK_ROWS) {
        memcpy(padded, x, (size_t)rows * k);
        memset(padded + (size_t)rows * k, 0, (size_t)(LINEAR_BLOCK_ROWS - rows) * k);
        x = padded;
    }
    linear_block(b->dev, worker, sums, x, p->w, col0);
    for (int r = 0; r < rows; r++)
        memcpy(p->y + (size_t)(row + r) * n + col0, sums + (size_t)r * (size_t)cols,
               (size_t)cols * sizeof *sums);
}

static void do_blocks(struct dev *dev, const struct product *p)
{
    const size_t k = (size_t)p->w->cols * dtype_bytes(p->w->type);
    struct blocks b = {.dev = dev,
                       .p = p,
                       .tiles = divide_up(p->t_gemm, LINEAR_BLOCK_ROWS),
                       .each = BLOCK_BYTES + LINEAR_BLOCK_ROWS * k};
    b.places = cpu_scratch(dev, SLOT_TILE, (size_t)cpu_of(dev)->threads * b.each);
    if (b.places)
        cpu_share(cpu_of(dev), b.tiles * divide_up(p->w->rows, LINEAR_BLOCK_COLS), do_block, &b);
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

enum {
    STRIP = LINEAR_STRIP,
    SHARED_BYTES = 1 << 17
}; // fewer are done before a helper has looked up

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
static void do_rows(struct dev *dev, const struct product *p, int row)
{
    struct cpu *cpu = cpu_of(dev);
    const size_t size = dtype_bytes(p->w->type), cols = (size_t)p->w->cols;
    struct strips s = {.cpu = cpu,
                       .rows = {.y = p->y + (size_t)row * (size_t)p->w->rows,
                                .x = p->x + (size_t)row * cols * size,
                                .scale = p->scale ? p->scale + row : NULL,
                                .w = *p->w,
                                .ldy = p->w->rows,
                                .rows = p->t - row}};
    const int n = (p->w->rows + STRIP - 1) / STRIP;
    if ((size_t)p->w->rows * cols * size >= SHARED_BYTES)
        cpu_share(cpu, n, do_strip, &s);
    else
        for (int i = 0; i < n; i++)
            do_strip(&s, i, 0);
}

// The matrix path of our own: x is packed once, then pieces of y are dealt to the threads.
struct pieces {
    struct linear_x x;
    float *packed, *panels; // panels: one a thread
    struct linear_matrix matrix;
    int strips, rows; // of a piece
};

enum { PACK_GROUPS = 4 }; // groups of x packed at a time

static void pack_x(void *ud, int i, int worker)
{
    (void)worker;
    const struct pieces *p = ud;
    const int first = i * PACK_GROUPS, row = first * LINEAR_GROUP;
    for (int g = 0; g < PACK_GROUPS && row + g * LINEAR_GROUP < p->x.rows; g++)
        linear_pack_avx2(p->packed, &p->x, first + g);
}

static void do_piece(void *ud, int i, int worker)
{
    const struct pieces *p = ud;
    struct linear_matrix m = p->matrix;
    m.panel = p->panels + (size_t)worker * LINEAR_PANEL;
    m.col0 = i % p->strips * LINEAR_STRIP;
    m.cols = m.w.rows - m.col0 < LINEAR_STRIP ? m.w.rows - m.col0 : LINEAR_STRIP;
    m.row0 = i / p->strips * p->rows;
    m.rows = p->x.rows - m.row0 < p->rows ? p->x.rows - m.row0 : p->rows;
    linear_matrix_avx2(&m);
}

// Rows row .. t_gemm - 1. Pieces are strips of W, of all rows when that gives every thread a few: a
// piece packs its weights anew.
static void do_matrix(struct dev *dev, const struct product *p, int row)
{
    enum { PIECES = 4, ROWS = 32 * LINEAR_GROUP };
    struct cpu *cpu = cpu_of(dev);
    const size_t k = (size_t)p->w->cols, words = linear_words(p->w->type, p->w->cols);
    const int rows = p->t_gemm - row, groups = divide_up(rows, LINEAR_GROUP);
    const int strips = divide_up(p->w->rows, LINEAR_STRIP);
    float *packed =
        cpu_scratch(dev, SLOT_TILE, (size_t)groups * LINEAR_GROUP * words * sizeof *packed);
    float *panels =
        cpu_scratch(dev, SLOT_PANELS, (size_t)cpu->threads * LINEAR_PANEL * sizeof *panels);
    if (!packed || !panels)
        return;
    const bool round = matrix_rounds(cpu, p->w->type);
    const void *x = p->x + (size_t)row * k * dtype_bytes(p->w->type);
    struct pieces pieces = {.x = {.x = round ? p->raw + (size_t)row * k : x,
                                  .type = round ? DTYPE_F32 : p->w->type,
                                  .rows = rows,
                                  .k = p->w->cols,
                                  .round = round},
                            .packed = packed,
                            .panels = panels,
                            .matrix = {.y = p->y + (size_t)row * (size_t)p->w->rows,
                                       .x = packed,
                                       .scale = p->scale ? p->scale + row : NULL,
                                       .w = *p->w},
                            .strips = strips,
                            .rows = strips >= PIECES * cpu->threads ? rows : ROWS};
    cpu_share(cpu, divide_up(groups, PACK_GROUPS), pack_x, &pieces);
    cpu_share(cpu, strips * divide_up(rows, pieces.rows), do_piece, &pieces);
}

static void multiply(struct dev *dev, const struct product *p)
{
    int row = 0, done = 1;
    if (p->t_gemm > 0 && linear_blocks(dev, p->w)) {
        do_blocks(dev, p);
        row = p->t_gemm;
    }
    for (; row < p->t_gemm && done > 0; row += done > 0 ? done : 0)
        done = do_tile(dev, p, row);
    if (done < 0)
        return;
    if (row < p->t_gemm && cpu_of(dev)->isa >= CPU_AVX2) {
        do_matrix(dev, p, row);
        row = p->t_gemm;
    }
    if (row < p->t)
        do_rows(dev, p, row);
}

// up = SiLU(gate) * up of rows first .. end - 1.
static void apply_gate(struct dev *dev, const void *gate, const void *up, int cols, int first,
                       int end)
{
    const size_t at = (size_t)first * (size_t)cols;
    cpu_silu_mul(dev, &(struct silu_mul_args){.y = (float *)(uintptr_t)up + at,
                                              .gate = (const float *)gate + at,
                                              .up = (const float *)up + at,
                                              .t = end - first,
                                              .n = cols});
}

void cpu_linear(struct dev *dev, const struct linear_args *a)
{
    struct product p = {.raw = a->norm.w ? a->norm.h : a->x, .t = a->t, .t_gemm = a->t_gemm};
    if (a->norm.w)
        cpu_rmsnorm(dev, &(struct rmsnorm_args){.y = a->norm.h,
                                                .x = a->x,
                                                .add = a->norm.add,
                                                .sum = a->norm.sum,
                                                .w = a->norm.w,
                                                .t = a->t,
                                                .n = a->w[0].cols,
                                                .eps = a->norm.eps});
    if (a->gate)
        apply_gate(dev, a->gate, p.raw, a->w[0].cols, 0, a->t_gemm);
    for (int i = 0; i < a->n; i++) {
        p.y = a->y[i];
        p.w = &a->w[i];
        const bool rounded = i > 0 && a->w[i].type == a->w[i - 1].type;
        if (!rounded && !round_x(dev, &p))
            return;
        multiply(dev, &p);
    }
    if (a->glu)
        apply_gate(dev, a->y[0], a->y[1], a->w[1].rows, a->t_gemm, a->t);
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
