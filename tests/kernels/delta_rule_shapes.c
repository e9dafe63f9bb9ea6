// delta_rule_shapes.c - prefill of one layer's rule at the shapes of the Qwen3.5 family, with the floor
// of each. Printed by `ops_check perf delta_rule` on a device; tests/gpu/delta_rule_rival.py puts another
// implementation's time beside it.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "device_ceilings.h"
#include "ops_check.h"

enum { DIM = 128, CHUNK = 64, HEADS_MAX = 64, SPANS_MAX = 8, BATCHES = 5 };

static const struct {
    int k_heads, v_heads;
} HEADS[] = {{16, 16}, {16, 32}, {16, 48}, {16, 64}, {2, 8}};

static const struct {
    int t, n; // tokens of a sequence, sequences
} STEPS[] = {{2048, 1},   {4096, 1}, {8192, 1}, {16384, 1}, {32768, 1},
             {131072, 1}, {2048, 4}, {8192, 4}, {1024, 8}};

struct work {
    const struct ops *ops;
    struct dev *dev;
    struct delta_rule_args a;
    struct span host[SPANS_MAX];
    void *taken[9];
    int n_taken;
};

static void *take(struct work *w, size_t bytes)
{
    void *p = w->ops->alloc(w->dev, bytes);
    w->taken[w->n_taken++] = p;
    return p;
}

static void *take_normal(struct work *w, enum dtype type, size_t n)
{
    void *p = take(w, n * dtype_bytes(type));
    if (p)
        w->ops->fill(
            w->dev,
            &(struct fill_args){
                .p = p, .type = type, .n = n, .seed = (uint64_t)w->n_taken, .deviation = 1});
    return p;
}

static void lay_out_spans(struct work *w, int t, int n)
{
    struct span *spans = take(w, sizeof w->host);
    for (int i = 0; i < n; i++)
        w->host[i] = (struct span){.t0 = i * t, .t = t, .slot = i};
    if (spans)
        w->ops->upload(w->dev, spans, w->host, sizeof w->host);
    w->a.batch = (struct batch){
        .spans = spans, .host_spans = w->host, .n_spans = n, .t = t * n, .t_prefill = t * n};
}

static bool set_up(struct work *w, int k_heads, int v_heads, int t, int n)
{
    const enum dtype act = w->ops->act(w->dev);
    const size_t rows = (size_t)t * (size_t)n, heads = (size_t)v_heads;
    const size_t width = (size_t)(2 * k_heads + v_heads) * DIM;
    w->a = (struct delta_rule_args){.k_heads = k_heads,
                                    .v_heads = v_heads,
                                    .k_dim = DIM,
                                    .v_dim = DIM,
                                    .chunk = CHUNK,
                                    .inverse = inverse_auto(CHUNK, INVERSE_FP16)};
    lay_out_spans(w, t, n);
    w->a.qkv = take_normal(w, act, rows * width);
    w->a.a = take_normal(w, act, rows * heads);
    w->a.b = take_normal(w, act, rows * heads);
    w->a.A_log = take_normal(w, DTYPE_F32, heads);
    w->a.dt_bias = take_normal(w, DTYPE_F32, heads);
    w->a.o = take(w, rows * heads * DIM * dtype_bytes(act));
    w->a.state = take(w, (size_t)n * heads * DIM * DIM * sizeof(float));
    for (int i = 0; i < w->n_taken; i++)
        if (!w->taken[i])
            return false;
    return true;
}

static void release(struct work *w)
{
    for (int i = 0; i < w->n_taken; i++)
        w->ops->release(w->dev, w->taken[i]);
}

// Seconds of `runs` steps one after another.
static double time_runs(struct work *w, int runs)
{
    char why[256];
    const double start = ceiling_clock(2); // of the wall
    for (int i = 0; i < runs; i++)
        w->ops->delta_rule(w->dev, &w->a);
    check_true(!w->ops->sync(w->dev, why, sizeof why), "delta_rule: %s", why);
    return ceiling_clock(2) - start;
}

static double time_step(struct work *w)
{
    time_runs(w, 2);
    const int runs = (int)(0.02 / (time_runs(w, 3) / 3)) + 1;
    double best = INFINITY; // the median would be of other programs' making
    for (int i = 0; i < BATCHES; i++)
        best = fmin(best, time_runs(w, runs) / runs);
    return best;
}

static void print_shape(const struct ops *ops, struct dev *dev, const int heads[2],
                        const int step[2])
{
    struct work w = {.ops = ops, .dev = dev};
    const double t = (double)step[0] * step[1], k = heads[0], v = heads[1];
    const double bytes = t * (2 * DIM * 2 * (k + v) + 4 * v);
    const double flops = t / CHUNK * v * 2 * CHUNK * (4 * CHUNK * DIM + 3 * DIM * DIM);
    if (set_up(&w, heads[0], heads[1], step[0], step[1])) {
        const double s = time_step(&w);
        const double memory = bytes / device_bandwidth(ops, dev);
        const double math = flops / device_rate(ops, dev, ops->act(dev));
        printf("delta_rule shape %d/%d %dx%d %.4f ms floor %.4f ms (%s) %.2fx\n", heads[0],
               heads[1], step[0], step[1], s * 1e3, fmax(memory, math) * 1e3,
               memory > math ? "memory" : "math", s / fmax(memory, math));
    } else {
        printf("delta_rule shape %d/%d %dx%d does not fit this device\n", heads[0], heads[1],
               step[0], step[1]);
    }
    release(&w);
}

void delta_rule_shapes(const struct ops *ops, struct dev *dev)
{
    if (ops == &ops_cpu || ops->act(dev) == DTYPE_F32)
        return;
    for (size_t h = 0; h < sizeof HEADS / sizeof *HEADS; h++)
        for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++)
            print_shape(ops, dev, (const int[2]){HEADS[h].k_heads, HEADS[h].v_heads},
                        (const int[2]){STEPS[i].t, STEPS[i].n});
}
