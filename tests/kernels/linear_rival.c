// linear_rival.c - the matrix path beside oneDNN's own rate: one matmul primitive for all rows at once,
// weights in the layout it likes best (packing them is not timed). Printed by `ops_check perf linear`.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "dnnl_matmul.h"
#include "ops_check.h"

enum { ROWS = 512, RUNS = 41 };

struct rival {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct matmul matmul;
};

// Bytes that are an ordinary number in every type: 0.0115 in float32 and bf16, 60 in int8.
enum { FILL = 0x3c };

static void fill_memory(dnnl_memory_t m, dnnl_primitive_desc_t pd, dnnl_query_t which)
{
    void *p;
    if (dnnl_memory_get_data_handle(m, &p) == dnnl_success)
        memset(p, FILL, dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(pd, which, 0)));
}

static void free_rival(struct rival *r)
{
    matmul_free(&r->matmul);
    if (r->stream)
        dnnl_stream_destroy(r->stream);
    if (r->engine)
        dnnl_engine_destroy(r->engine);
    *r = (struct rival){0};
}

static bool make_rival(struct rival *r, enum dtype type, int n, int k)
{
    const struct matmul_ask ask = {.type = type, .t = ROWS, .n = n, .k = k, .packed = true};
    dnnl_primitive_desc_t pd = NULL;
    bool made =
        dnnl_engine_create(&r->engine, dnnl_cpu, 0) == dnnl_success &&
        dnnl_stream_create(&r->stream, r->engine, dnnl_stream_default_flags) == dnnl_success &&
        (pd = matmul_describe(r->engine, &ask)) &&
        matmul_make(&r->matmul, r->engine, pd, DNNL_MEMORY_ALLOCATE);
    if (made) {
        fill_memory(r->matmul.x, pd, dnnl_query_src_md);
        fill_memory(r->matmul.w, pd, dnnl_query_weights_md);
    }
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (!made)
        free_rival(r);
    return made;
}

static double time_rival(const struct rival *r, int threads)
{
    double start = ceiling_clock(threads);
    matmul_run(&r->matmul, r->stream);
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
