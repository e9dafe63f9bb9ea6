// bench_linear.c - the products with weights: an MLP's two first matrices, a delta-net layer's four, the
// output matrix. Up to FEW rows are generated tokens and take the few-rows path, more the matrix path.
#include <math.h>
#include <string.h>

#include "bench.h"
#include "half_value.h"
#include "mem.h"
#include "sample_stats.h"

enum { FEW = 16, ROWS = 5, COLS = 8 }; // results compared: rows of y, columns of every matrix

// Buffers: x, then for every matrix y, data, scale (INT8 only; else one value that is not used).
enum { X, FIRST, Y = 0, DATA, SCALE, EACH };

struct product {
    int n, rows[LINEAR_MAX];
    bool wide;
};

static int buf_of(int matrix, int part)
{
    return FIRST + matrix * EACH + part;
}

static struct product product_of(const struct bench_case *c)
{
    const struct bench_shape *s = &c->at.shape;
    const int values = s->v_heads * s->v_dim, keys = s->k_heads * s->k_dim;
    if (!strcmp(c->op->name, "linear_mlp"))
        return (struct product){2, {s->intermediate, s->intermediate}, false};
    if (!strcmp(c->op->name, "linear_head"))
        return (struct product){1, {s->vocab}, true};
    return (struct product){4, {2 * keys + values, values, s->v_heads, s->v_heads}, false};
}

static void make_weight(struct bench_case *c, int rows, int cols)
{
    const size_t n = (size_t)rows * (size_t)cols;
    const double deviation = 1 / sqrt(cols);
    const bool int8 = c->at.weights == DTYPE_INT8;
    const int data = int8 ? bench_buf(c, BENCH_INPUT, DTYPE_INT8, n)
                          : bench_filled(c, c->at.weights, n, deviation);
    const int scale = bench_buf(c, BENCH_INPUT, DTYPE_F32, int8 ? (size_t)rows : 1);
    int8_t *host = c->bufs[data].host;
    for (size_t i = 0; int8 && i < n; i += 8) {
        const uint64_t random = stat_random(&c->random);
        memcpy(host + i, &random, n - i < 8 ? n - i : 8);
    }
    for (size_t i = 0; int8 && i < n; i++) // symmetric: the quantisation never makes -128
        host[i] = host[i] == -128 ? -127 : host[i];
    for (int i = 0; int8 && i < rows; i++)
        bench_set(c, scale, (size_t)i, deviation / 64 * (1 + i % 3));
}

static void prepare(struct bench_case *c)
{
    const struct product p = product_of(c);
    const int cols = c->at.shape.hidden;
    const double t = c->at.tokens;
    const double act = (double)dtype_bytes(c->act), weight = (double)dtype_bytes(c->at.weights);
    bench_buf(c, BENCH_INPUT, c->act, (size_t)c->at.tokens * (size_t)cols);
    bench_normal(c, X, 1);
    c->bytes = act * t * cols;
    for (int i = 0; i < p.n; i++) {
        bench_buf(c, BENCH_OUTPUT, p.wide ? DTYPE_F32 : c->act,
                  (size_t)c->at.tokens * (size_t)p.rows[i]);
        make_weight(c, p.rows[i], cols);
        c->flops += 2 * t * p.rows[i] * cols;
        c->bytes += weight * p.rows[i] * cols + (p.wide ? 4 : act) * t * p.rows[i];
    }
}

static int sampled(int i, int of, int n)
{
    return (int)((int64_t)i * (n - 1) / (of > 1 ? of - 1 : 1));
}

// The rows of filled matrices that judge will want.
static void keep_rows(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    const struct product p = product_of(c);
    const size_t row = (size_t)c->at.shape.hidden * dtype_bytes(c->at.weights);
    char *kept = c->kept = mem_resize(c->kept, (size_t)p.n * COLS, row);
    for (int i = 0; i < p.n; i++)
        for (int k = 0; k < COLS; k++) {
            const char *data = bench_dev(c, buf_of(i, DATA));
            ops->download(dev, kept + (size_t)(i * COLS + k) * row,
                          data + (size_t)sampled(k, COLS, p.rows[i]) * row, row);
        }
}

static void bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    const struct product p = product_of(c);
    c->args.linear = (struct linear_args){.x = bench_dev(c, X),
                                          .n = p.n,
                                          .t = c->at.tokens,
                                          .t_gemm = c->at.tokens > FEW ? c->at.tokens : 0,
                                          .wide = p.wide};
    for (int i = 0; i < p.n; i++) {
        c->args.linear.y[i] = bench_dev(c, buf_of(i, Y));
        c->args.linear.w[i] = (struct weight){
            .data = bench_dev(c, buf_of(i, DATA)),
            .scale = c->at.weights == DTYPE_INT8 ? bench_dev(c, buf_of(i, SCALE)) : NULL,
            .type = c->at.weights,
            .rows = p.rows[i],
            .cols = c->at.shape.hidden};
    }
    keep_rows(c, ops, dev);
}

static void run(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    ops->linear(dev, &c->args.linear);
}

// The row of x as the product's type takes it; its scale.
static double load_x(const struct bench_case *c, int row, double *x)
{
    const int n = c->at.shape.hidden;
    const enum dtype type = c->at.weights;
    double most = 0;
    for (int i = 0; i < n; i++) {
        x[i] = bench_get(c, X, (size_t)row * (size_t)n + (size_t)i);
        most = fmax(most, fabs(x[i]));
        if (type == DTYPE_BF16 || type == DTYPE_F16)
            x[i] = (double)half_value(half_of_value((float)x[i], type), type);
    }
    if (type != DTYPE_INT8)
        return 1;
    const double scale = (double)(float)(most / 127);
    for (int i = 0; i < n; i++)
        x[i] = nearbyint(x[i] / scale);
    return scale;
}

static double weight_at(const struct bench_case *c, size_t i)
{
    if (c->at.weights == DTYPE_INT8)
        return ((const int8_t *)c->kept)[i];
    if (c->at.weights == DTYPE_F32)
        return (double)((const float *)c->kept)[i];
    return (double)half_value(((const uint16_t *)c->kept)[i], c->at.weights);
}

static void judge_sum(struct bench_case *c, int matrix, int row, int k, const double *x)
{
    const int n = c->at.shape.hidden;
    const struct product p = product_of(c);
    const int col = sampled(k, COLS, p.rows[matrix]);
    const size_t first = (size_t)(matrix * COLS + k) * (size_t)n;
    double sum = 0, size = 0;
    for (int i = 0; i < n; i++) {
        const double term = x[i] * weight_at(c, first + (size_t)i);
        sum += term;
        size += fabs(term);
    }
    double scale = x[n]; // behind the row: its scale
    if (c->at.weights == DTYPE_INT8)
        scale *= bench_get(c, buf_of(matrix, SCALE), (size_t)col);
    const double y =
        bench_get(c, buf_of(matrix, Y), (size_t)row * (size_t)p.rows[matrix] + (size_t)col);
    bench_raise(c, fabs(y - sum * scale) / (size * scale));
}

static void judge(struct bench_case *c)
{
    const struct product p = product_of(c);
    const int n = c->at.shape.hidden, rows = c->at.tokens < ROWS ? c->at.tokens : ROWS;
    double *x = mem_alloc(((size_t)n + 1) * sizeof *x);
    for (int r = 0; r < rows; r++) {
        const int row = sampled(r, rows, c->at.tokens);
        x[n] = load_x(c, row, x);
        for (int i = 0; i < p.n; i++)
            for (int k = 0; k < COLS; k++)
                judge_sum(c, i, row, k, x);
    }
    // Integer sums are exact, but an input half way between two integers may go either way.
    c->limit = (c->at.weights == DTYPE_INT8 ? 2e-4 : 1e-5) + (p.wide ? 0 : 2 * bench_act_error(c));
    c->measure = "max |error| / sum of |terms|";
    c->why = "float32 or int32 sums; y rounded to the activations' type";
    mem_free(x);
}

#define LINEAR(id, what)                                                                           \
    const struct bench_op bench_linear_##id = {.name = "linear_" #id,                              \
                                               .title = what,                                      \
                                               .uses = BENCH_TOKENS | BENCH_WEIGHTS,               \
                                               .prepare = prepare,                                 \
                                               .bind = bind,                                       \
                                               .run = run,                                         \
                                               .judge = judge}
LINEAR(mlp, "gate_proj and up_proj over the same rows");
LINEAR(qkv, "the four input projections of a delta-net layer");
LINEAR(head, "logits of every row");
