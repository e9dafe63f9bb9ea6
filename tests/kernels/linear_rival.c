// linear_rival.c - the matrix path beside oneDNN's own rate: one matmul primitive for all rows at once,
// weights in the layout it likes best (packing them is not timed). Printed by `ops_check perf linear`.
#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "ops_check.h"

enum { ROWS = 512, RUNS = 41 };

struct rival {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, w, y;
};

static dnnl_data_type_t type_of(enum dtype type)
{
    return type == DTYPE_F32 ? dnnl_f32 : type == DTYPE_BF16 ? dnnl_bf16 : dnnl_s8;
}

// Bytes that are an ordinary number in every type: 0.0115 in float32 and bf16, 60 in int8.
enum { FILL = 0x3c };

static void fill_memory(dnnl_memory_t m)
{
    const dnnl_memory_desc_t *md;
    void *p;
    if (dnnl_memory_get_memory_desc(m, &md) == dnnl_success &&
        dnnl_memory_get_data_handle(m, &p) == dnnl_success)
        memset(p, FILL, dnnl_memory_desc_get_size(md));
}

// x and y as they lie, w as oneDNN chooses.
static bool make_rival(struct rival *r, enum dtype type, int n, int k)
{
    dnnl_memory_desc_t x, w, y;
    dnnl_matmul_desc_t op;
    dnnl_primitive_desc_t pd;
    const dnnl_dims_t xs = {ROWS, k}, ws = {k, n}, ys = {ROWS, n};
    const dnnl_data_type_t out = type == DTYPE_INT8 ? dnnl_s32 : dnnl_f32;
    if (dnnl_engine_create(&r->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&r->stream, r->engine, dnnl_stream_default_flags) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&x, 2, xs, type_of(type), dnnl_ab) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&w, 2, ws, type_of(type), dnnl_format_tag_any) !=
            dnnl_success ||
        dnnl_memory_desc_init_by_tag(&y, 2, ys, out, dnnl_ab) != dnnl_success ||
        dnnl_matmul_desc_init(&op, &x, &w, NULL, &y) != dnnl_success ||
        dnnl_primitive_desc_create(&pd, &op, NULL, r->engine, NULL) != dnnl_success)
        return false;
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    bool made =
        dnnl_primitive_create(&r->primitive, pd) == dnnl_success &&
        dnnl_memory_create(&r->x, &x, r->engine, DNNL_MEMORY_ALLOCATE) == dnnl_success &&
        dnnl_memory_create(&r->w, packed, r->engine, DNNL_MEMORY_ALLOCATE) == dnnl_success &&
        dnnl_memory_create(&r->y, &y, r->engine, DNNL_MEMORY_ALLOCATE) == dnnl_success;
    dnnl_primitive_desc_destroy(pd);
    if (made) {
        fill_memory(r->x);
        fill_memory(r->w);
    }
    return made;
}

static void free_rival(struct rival *r)
{
    dnnl_memory_destroy(r->x);
    dnnl_memory_destroy(r->w);
    dnnl_memory_destroy(r->y);
    dnnl_primitive_destroy(r->primitive);
    dnnl_stream_destroy(r->stream);
    dnnl_engine_destroy(r->engine);
}

static double time_rival(const struct rival *r, int threads)
{
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, r->x}, {DNNL_ARG_WEIGHTS, r->w}, {DNNL_ARG_DST, r->y}};
    double start = ceiling_clock(threads);
    dnnl_primitive_execute(r->primitive, r->stream, 3, args);
    dnnl_stream_wait(r->stream);
    return ceiling_clock(threads) - start;
}

struct timed {
    double ours, theirs;
};

// Best of RUNS each, taken in turns so that both see the same machine.
static struct timed time_both(const struct ops *ops, struct dev *dev, const struct linear_args *a,
                              const struct rival *r)
{
    const int threads = cpu_of(dev)->threads;
    struct timed best = {1e9, 1e9};
    for (int i = 0; i < RUNS; i++) {
        double start = ceiling_clock(threads);
        ops->linear(dev, a);
        const double ours = ceiling_clock(threads) - start, theirs = time_rival(r, threads);
        best.ours = ours < best.ours ? ours : best.ours;
        best.theirs = theirs < best.theirs ? theirs : best.theirs;
    }
    return best;
}

// A processor without a bf16 product of oneDNN's is held against its float32 product.
static void compare(const struct ops *ops, struct dev *dev, enum dtype type, int n, int k)
{
    struct rival r = {0};
    enum dtype other = type;
    if (!make_rival(&r, other, n, k) && !make_rival(&r, other = DTYPE_F32, n, k)) {
        printf("oneDNN alone does not take %s here\n", dtype_name(type));
        return;
    }
    float *x = ops->alloc(dev, (size_t)ROWS * (size_t)k * sizeof *x);
    float *y = ops->alloc(dev, (size_t)ROWS * (size_t)n * sizeof *y);
    float *scale = ops->alloc(dev, (size_t)n * sizeof *scale);
    void *w = ops->alloc(dev, (size_t)n * (size_t)k * dtype_bytes(type));
    if (!x || !y || !scale || !w)
        abort();
    memset(x, FILL, (size_t)ROWS * (size_t)k * sizeof *x);
    memset(w, FILL, (size_t)n * (size_t)k * dtype_bytes(type));
    const struct linear_args a = {
        .y = {y}, .x = x, .w = {{w, scale, type, n, k}}, .n = 1, .t = ROWS, .t_gemm = ROWS};
    const struct timed t = time_both(ops, dev, &a, &r);
    const double flops = 2.0 * ROWS * n * k;
    printf("linear       %-4s t=%d rows=%d cols=%d: %8.2f GFLOP/s, oneDNN alone in %s %8.2f, ratio "
           "%.2f\n",
           dtype_name(type), ROWS, n, k, flops / t.ours * 1e-9, dtype_name(other),
           flops / t.theirs * 1e-9, t.theirs / t.ours);
    free_rival(&r);
    ops->release(dev, x);
    ops->release(dev, y);
    ops->release(dev, scale);
    ops->release(dev, w);
}

void linear_rival(const struct ops *ops, struct dev *dev)
{
#ifdef _OPENMP
    omp_set_num_threads(cpu_of(dev)->threads); // oneDNN asks OpenMP
#endif
    static const enum dtype TYPES[] = {DTYPE_F32, DTYPE_BF16, DTYPE_INT8};
    static const int SHAPES[][2] = {{1024, 384}, {4096, 1024}, {1024, 4096}};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            compare(ops, dev, TYPES[i], SHAPES[j][0], SHAPES[j][1]);
}
