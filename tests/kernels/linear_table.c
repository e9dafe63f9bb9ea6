// linear_table.c - linear at the shapes of two models, both paths, on a device: microseconds, the rate,
// and how far from the floor (bytes over the ceiling of memory, multiply-adds over that of products).
// Printed by `ops_check perf linear`.
//
// Weights are swept: copies of a matrix follow each other until they are larger than any cache. The
// runs of one figure are recorded as a step and played, so that the host's launches do not count.
#include <math.h>
#include <stdio.h>

#include "device_ceilings.h"
#include "ops_check.h"

void linear_table(const struct ops *ops, struct dev *dev); // called from linear.c

enum {
    SWEEP_BYTES = 1 << 30,
    RUNS_MAX = 64,
    PLAYS = 5,
    T_MAX = 8192,
    ROWS_MAX = 248320,
    COLS_MAX = 12288
};

struct table_shape {
    const char *name;
    int rows, cols;
    bool head; // float32 logits, few rows, never int8
};

static const struct table_shape SHAPES[] = {
    {"9B gate, up", 24576, 4096, false},  {"9B down", 4096, 12288, false},
    {"9B in_proj", 12288, 4096, false},   {"9B out_proj", 4096, 4096, false},
    {"9B lm_head", 248320, 4096, true},   {"0.8B gate, up", 7168, 1024, false},
    {"0.8B down", 1024, 3584, false},     {"0.8B in_proj", 8192, 1024, false},
    {"0.8B out_proj", 1024, 2048, false}, {"0.8B lm_head", 248320, 1024, true},
};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

static const int FEW[] = {1, 8, 16, 64}, MANY[] = {16, 64, 512, 2048, 8192};

struct table {
    const struct ops *ops;
    struct dev *dev;
    char *w;
    float *scale;
    void *x, *y;
    int recorded; // figures so far, for the keys of steps
};

static void enqueue(const struct table *b, const struct table_shape *s, enum dtype type, int t,
                    bool matrix)
{
    const size_t size = (size_t)s->rows * (size_t)s->cols * dtype_bytes(type);
    const int copies = (int)(SWEEP_BYTES / size) > 1 ? (int)(SWEEP_BYTES / size) : 1;
    for (int i = 0; i < RUNS_MAX; i++)
        b->ops->linear(b->dev, &(struct linear_args){.y = {b->y},
                                                     .x = b->x,
                                                     .w = {{b->w + (size_t)(i % copies) * size,
                                                            b->scale, type, s->rows, s->cols}},
                                                     .n = 1,
                                                     .t = t,
                                                     .t_gemm = matrix ? t : 0,
                                                     .wide = s->head});
}

// Seconds of one product.
static double time_product(struct table *b, const struct table_shape *s, enum dtype type, int t,
                           bool matrix)
{
    const struct step_key key = {.t = t, .n_spans = ++b->recorded};
    double best = INFINITY;
    char why[256];
    for (int i = 0; i < PLAYS; i++) {
        const double start = ceiling_clock(2);
        if (!b->ops->step_begin(b->dev, &key)) {
            enqueue(b, s, type, t, matrix);
            b->ops->step_end(b->dev);
        }
        check_true(!b->ops->sync(b->dev, why, sizeof why), "linear: %s", why);
        if (i > 1) // the first ran as it is, the second was recorded
            best = fmin(best, ceiling_clock(2) - start);
    }
    return best / RUNS_MAX;
}

static void print_figure(struct table *b, const struct table_shape *s, enum dtype type, int t,
                         bool matrix)
{
    const double weights = (double)s->rows * s->cols, flops = 2 * weights * t;
    const double bytes = weights * (double)dtype_bytes(type) +
                         (double)t * (s->cols * 2.0 + s->rows * (s->head ? 4.0 : 2.0));
    const double memory = bytes / device_bandwidth(b->ops, b->dev);
    const double math = flops / device_rate(b->ops, b->dev, type);
    const double time = time_product(b, s, type, t, matrix), floor = fmax(memory, math);
    printf("%-14s %-5s t=%-5d %-6s %9.1f us %7.2f TB/s %8.1f TFLOP/s  floor %8.1f us (%s) %5.2fx\n",
           s->name, dtype_name(type), t, matrix ? "matrix" : "few", time * 1e6,
           bytes / time * 1e-12, flops / time * 1e-12, floor * 1e6,
           memory > math ? "memory" : "math", time / floor);
}

static void print_shape(struct table *b, const struct table_shape *s, enum dtype type)
{
    for (size_t i = 0; i < sizeof FEW / sizeof *FEW; i++)
        print_figure(b, s, type, FEW[i], false);
    for (size_t i = 0; i < sizeof MANY / sizeof *MANY && (!s->head || MANY[i] <= 64); i++)
        print_figure(b, s, type, MANY[i], true);
}

void linear_table(const struct ops *ops, struct dev *dev)
{
    const size_t act = dtype_bytes(ops->act(dev)), y_bytes = (size_t)T_MAX * 24576 * act;
    const size_t largest = (size_t)ROWS_MAX * 4096 * 2;
    const enum dtype half = dtype_half(ops->act(dev));
    struct table b = {.ops = ops,
                      .dev = dev,
                      .w = ops->alloc(dev, largest > SWEEP_BYTES ? largest : SWEEP_BYTES),
                      .scale = ops->alloc(dev, ROWS_MAX * sizeof(float)),
                      .x = ops->alloc(dev, (size_t)T_MAX * COLS_MAX * act),
                      .y = ops->alloc(dev, y_bytes)};
    if (check_true(b.w && b.scale && b.x && b.y, "linear: no memory for the table")) {
        ops->fill(dev, &(struct fill_args){b.w, half, largest / 2, 1, 0, 0.02f});
        ops->fill(dev, &(struct fill_args){b.scale, DTYPE_F32, ROWS_MAX, 2, 1e-3f, 0});
        ops->fill(dev, &(struct fill_args){b.x, ops->act(dev), (size_t)T_MAX * COLS_MAX, 3, 0, 1});
        for (int i = 0; i < N_SHAPES; i++) {
            print_shape(&b, &SHAPES[i], half);
            if (!SHAPES[i].head)
                print_shape(&b, &SHAPES[i], DTYPE_INT8);
        }
    }
    ops->release(dev, b.y);
    ops->release(dev, b.x);
    ops->release(dev, b.scale);
    ops->release(dev, b.w);
}
