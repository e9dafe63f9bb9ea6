// bench_inverse.c - gdn_inverse: (I + A)^-1 for every chunk and head of a prompt, alone, by every method
// and type. A comes from keys and gates as the delta rule makes it.
#include <math.h>
#include <string.h>

#include "bench.h"
#include "bench_inputs.h"
#include "mem.h"

enum { DISTINCT = 256, JUDGED = 48 }; // matrices that differ; those compared
enum { A, T };                        // buffers

static size_t count(const struct bench_case *c)
{
    return (size_t)c->at.shape.v_heads * (size_t)((c->at.tokens + c->at.chunk - 1) / c->at.chunk);
}

// Matrix i is chunk i / heads of head i % heads; beyond DISTINCT they begin again.
static void draw_matrices(struct bench_case *c)
{
    const int n = c->at.chunk, k_dim = c->at.shape.k_dim, heads = c->at.shape.v_heads;
    const size_t all = count(c), size = (size_t)n * (size_t)n;
    struct gates recorded = gates_open(c->at.data_dir);
    double *keys = mem_alloc((size_t)n * (size_t)k_dim * sizeof *keys);
    double *a = mem_alloc(size * sizeof *a);
    for (size_t i = 0; i < all && i < DISTINCT; i++) {
        struct delta_gate gates[INVERSE_CHUNK_MAX];
        for (int t = 0; t < n; t++)
            gates[t] = gates_at(&recorded, (int)i / heads * n + t, (int)i % heads);
        keys_draw(keys, n, k_dim, c->at.rho, &c->random);
        delta_matrix(a, keys, gates, n, k_dim);
        for (size_t k = 0; k < size; k++)
            bench_set(c, A, i * size + k, a[k]);
    }
    float *host = c->bufs[A].host;
    for (size_t i = DISTINCT; i < all; i++)
        memcpy(host + i * size, host + i % DISTINCT * size, size * sizeof *host);
    mem_free(keys);
    mem_free(a);
    gates_close(&recorded);
}

static void prepare(struct bench_case *c)
{
    const double n = (double)count(c), chunk = c->at.chunk;
    const size_t values = count(c) * (size_t)c->at.chunk * (size_t)c->at.chunk;
    bench_buf(c, BENCH_INPUT, DTYPE_F32, values);
    bench_buf(c, BENCH_OUTPUT, DTYPE_F32, values);
    draw_matrices(c);
    c->flops = n * chunk * chunk * chunk / 3; // what forward substitution needs
    c->bytes = 2 * sizeof(float) * n * chunk * chunk;
}

static void bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    c->args.tri_inverse = (struct tri_inverse_args){.t_out = bench_dev(c, T),
                                                    .a = bench_dev(c, A),
                                                    .n = (int)count(c),
                                                    .chunk = c->at.chunk,
                                                    .inverse = c->at.inverse};
}

static void run(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    ops->tri_inverse(dev, &c->args.tri_inverse);
}

static void judge(struct bench_case *c)
{
    const size_t size = (size_t)c->at.chunk * (size_t)c->at.chunk, all = count(c);
    double *a = mem_alloc(size * sizeof *a), *t = mem_alloc(size * sizeof *t);
    const size_t step = all > JUDGED ? all / JUDGED : 1;
    for (size_t i = 0; i < all; i += step) {
        for (size_t k = 0; k < size; k++)
            a[k] = bench_get(c, A, i * size + k);
        delta_invert(t, a, c->at.chunk);
        for (size_t k = 0; k < size; k++)
            bench_raise(c, fabs(bench_get(c, T, i * size + k) - t[k]));
    }
    c->limit = delta_T_limit(c->at.inverse.type);
    c->measure = "max |T - exact T|, entries at most 1";
    c->why = "some tens of roundings of the type";
    mem_free(a);
    mem_free(t);
}

const struct bench_op bench_gdn_inverse = {
    .name = "gdn_inverse",
    .title = "the inverse of I + A for every chunk and value head of a prompt, alone",
    .uses = BENCH_TOKENS | BENCH_CHUNK | BENCH_KEYS,
    .prepare = prepare,
    .bind = bind,
    .run = run,
    .judge = judge,
};
