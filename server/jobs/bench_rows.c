// bench_rows.c - the operations that go over rows once, bound by memory: convolution, norms, SwiGLU's middle,
// quantisation, embedding, gathering, filling.
#include <math.h>
#include <string.h>

#include "bench.h"
#include "sample_stats.h"

static const double EPS = 1e-6;

static size_t rows_of(const struct bench_case *c)
{
    return (size_t)c->at.tokens;
}

// Rows that are compared: 16 of them, the last one too.
static size_t judged_row(const struct bench_case *c, int i)
{
    return rows_of(c) - 1 - (size_t)i * (rows_of(c) - 1) / 15;
}

static void set_limit(struct bench_case *c, double f32, const char *measure)
{
    c->limit = f32 + 4 * bench_act_error(c);
    c->measure = measure;
    c->why = "float32 arithmetic; the activations' type";
}

static double act_bytes(const struct bench_case *c)
{
    return (double)dtype_bytes(c->act);
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static void raise_relative(struct bench_case *c, double got, double want)
{
    bench_raise(c, fabs(got - want) / (1 + fabs(want)));
}

static const char RELATIVE[] = "max |error| / (1 + |value|)";

// --- conv -----------------------------------------------------------------------------------

enum { CONV_X, CONV_W, CONV_STATE, CONV_SPANS, CONV_Y };

static size_t channels(const struct bench_case *c)
{
    const struct bench_shape *s = &c->at.shape;
    return (size_t)(2 * s->k_heads * s->k_dim + s->v_heads * s->v_dim);
}

static void conv_prepare(struct bench_case *c)
{
    const size_t t = rows_of(c), n = channels(c);
    c->at.depth = 0;
    bench_buf(c, BENCH_INPUT, c->act, t * n);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, n * CONV_WIDTH);
    bench_buf(c, BENCH_STATE, DTYPE_F32, (CONV_WIDTH - 1) * n);
    bench_spans(c, false);
    bench_buf(c, BENCH_OUTPUT, c->act, t * n);
    bench_normal(c, CONV_X, 1);
    bench_normal(c, CONV_W, 0.5);
    c->flops = 2.0 * CONV_WIDTH * (double)(t * n);
    c->bytes = 2 * act_bytes(c) * (double)(t * n);
}

static void conv_bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    c->args.conv = (struct conv_args){.y = bench_dev(c, CONV_Y),
                                      .x = bench_dev(c, CONV_X),
                                      .w = bench_dev(c, CONV_W),
                                      .state = bench_dev(c, CONV_STATE),
                                      .batch = bench_batch(c, CONV_SPANS),
                                      .channels = (int)channels(c)};
}

static void conv_judge(struct bench_case *c)
{
    const size_t n = channels(c);
    for (int r = 0; r < 16; r++) {
        const size_t t = judged_row(c, r);
        for (size_t ch = 0; ch < n; ch++) {
            double sum = 0;
            for (size_t j = 0; j < CONV_WIDTH; j++)
                if (t + j >= CONV_WIDTH - 1)
                    sum += bench_get(c, CONV_W, ch * CONV_WIDTH + j) *
                           bench_get(c, CONV_X, (t + j - (CONV_WIDTH - 1)) * n + ch);
            raise_relative(c, bench_get(c, CONV_Y, t * n + ch), silu(sum));
        }
    }
    set_limit(c, 2e-6, RELATIVE);
}

// --- rmsnorm --------------------------------------------------------------------------------

enum { NORM_X, NORM_W, NORM_Y };

static void rmsnorm_prepare(struct bench_case *c)
{
    const size_t n = rows_of(c) * (size_t)c->at.shape.hidden;
    bench_buf(c, BENCH_INPUT, c->act, n);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, (size_t)c->at.shape.hidden);
    bench_buf(c, BENCH_OUTPUT, c->act, n);
    bench_normal(c, NORM_X, 3);
    bench_normal(c, NORM_W, 0.3);
    c->flops = 4 * (double)n;
    c->bytes = 2 * act_bytes(c) * (double)n;
}

static void rmsnorm_bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    c->args.rmsnorm = (struct rmsnorm_args){.y = bench_dev(c, NORM_Y),
                                            .x = bench_dev(c, NORM_X),
                                            .w = bench_dev(c, NORM_W),
                                            .t = c->at.tokens,
                                            .n = c->at.shape.hidden,
                                            .eps = (float)EPS};
}

static void rmsnorm_judge(struct bench_case *c)
{
    const size_t n = (size_t)c->at.shape.hidden;
    for (int r = 0; r < 16; r++) {
        const size_t first = judged_row(c, r) * n;
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += pow(bench_get(c, NORM_X, first + i), 2);
        for (size_t i = 0; i < n; i++)
            raise_relative(c, bench_get(c, NORM_Y, first + i),
                           bench_get(c, NORM_X, first + i) / sqrt(sum / (double)n + EPS) *
                               (1 + bench_get(c, NORM_W, i)));
    }
    set_limit(c, 5e-6, RELATIVE);
}

// --- gated_norm -----------------------------------------------------------------------------

enum { GATED_O, GATED_Z, GATED_W, GATED_Y };

static void gated_norm_prepare(struct bench_case *c)
{
    const struct bench_shape *s = &c->at.shape;
    const size_t n = rows_of(c) * (size_t)(s->v_heads * s->v_dim);
    bench_buf(c, BENCH_INPUT, c->act, n);
    bench_buf(c, BENCH_INPUT, c->act, n);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, (size_t)s->v_dim);
    bench_buf(c, BENCH_OUTPUT, c->act, n);
    bench_normal(c, GATED_O, 1);
    bench_normal(c, GATED_Z, 1);
    bench_normal(c, GATED_W, 1);
    c->flops = 8 * (double)n;
    c->bytes = 3 * act_bytes(c) * (double)n;
}

static void gated_norm_bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    c->args.gated_norm = (struct gated_norm_args){.y = bench_dev(c, GATED_Y),
                                                  .o = bench_dev(c, GATED_O),
                                                  .z = bench_dev(c, GATED_Z),
                                                  .w = bench_dev(c, GATED_W),
                                                  .t = c->at.tokens,
                                                  .heads = c->at.shape.v_heads,
                                                  .dim = c->at.shape.v_dim,
                                                  .eps = (float)EPS};
}

static void gated_norm_judge(struct bench_case *c)
{
    const size_t dim = (size_t)c->at.shape.v_dim, heads = (size_t)c->at.shape.v_heads;
    for (int r = 0; r < 16; r++) {
        const size_t first = (judged_row(c, r) * heads + (size_t)r % heads) * dim;
        double sum = 0;
        for (size_t i = 0; i < dim; i++)
            sum += pow(bench_get(c, GATED_O, first + i), 2);
        for (size_t i = 0; i < dim; i++)
            raise_relative(c, bench_get(c, GATED_Y, first + i),
                           bench_get(c, GATED_O, first + i) / sqrt(sum / (double)dim + EPS) *
                               bench_get(c, GATED_W, i) * silu(bench_get(c, GATED_Z, first + i)));
    }
    set_limit(c, 5e-6, RELATIVE);
}

// --- silu_mul -------------------------------------------------------------------------------

enum { SILU_GATE, SILU_UP, SILU_Y };

static void silu_mul_prepare(struct bench_case *c)
{
    const size_t n = rows_of(c) * (size_t)c->at.shape.intermediate;
    bench_buf(c, BENCH_INPUT, c->act, n);
    bench_buf(c, BENCH_INPUT, c->act, n);
    bench_buf(c, BENCH_OUTPUT, c->act, n);
    bench_normal(c, SILU_GATE, 2);
    bench_normal(c, SILU_UP, 1);
    c->flops = 5 * (double)n;
    c->bytes = 3 * act_bytes(c) * (double)n;
}

static void silu_mul_bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    c->args.silu_mul = (struct silu_mul_args){.y = bench_dev(c, SILU_Y),
                                              .gate = bench_dev(c, SILU_GATE),
                                              .up = bench_dev(c, SILU_UP),
                                              .t = c->at.tokens,
                                              .n = c->at.shape.intermediate};
}

static void silu_mul_judge(struct bench_case *c)
{
    const size_t n = (size_t)c->at.shape.intermediate;
    for (int r = 0; r < 16; r++)
        for (size_t k = 0; k < n; k++) {
            const size_t i = judged_row(c, r) * n + k;
            raise_relative(c, bench_get(c, SILU_Y, i),
                           silu(bench_get(c, SILU_GATE, i)) * bench_get(c, SILU_UP, i));
        }
    set_limit(c, 2e-6, RELATIVE);
}

// --- quantize -------------------------------------------------------------------------------

enum { QUANTIZE_X, QUANTIZE_Q, QUANTIZE_SCALE };

static void quantize_prepare(struct bench_case *c)
{
    const size_t n = rows_of(c) * (size_t)c->at.shape.hidden;
    bench_buf(c, BENCH_INPUT, c->act, n);
    bench_buf(c, BENCH_OUTPUT, DTYPE_INT8, n);
    bench_buf(c, BENCH_OUTPUT, DTYPE_F32, rows_of(c));
    bench_normal(c, QUANTIZE_X, 1);
    c->flops = 3 * (double)n;
    c->bytes = (act_bytes(c) + 1) * (double)n;
}

static void quantize_bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    c->args.quantize = (struct quantize_args){.q = bench_dev(c, QUANTIZE_Q),
                                              .scale = bench_dev(c, QUANTIZE_SCALE),
                                              .x = bench_dev(c, QUANTIZE_X),
                                              .type = c->act,
                                              .rows = c->at.tokens,
                                              .cols = c->at.shape.hidden};
}

static void quantize_judge(struct bench_case *c)
{
    const size_t n = (size_t)c->at.shape.hidden;
    for (int r = 0; r < 16; r++) {
        const size_t row = judged_row(c, r), first = row * n;
        double most = 0;
        for (size_t i = 0; i < n; i++)
            most = fmax(most, fabs(bench_get(c, QUANTIZE_X, first + i)));
        const double scale = bench_get(c, QUANTIZE_SCALE, row), step = most / 127;
        for (size_t i = 0; i < n; i++)
            bench_raise(c, fabs(bench_get(c, QUANTIZE_X, first + i) -
                                bench_get(c, QUANTIZE_Q, first + i) * scale) /
                               step);
    }
    c->limit = 0.5001;
    c->measure = "max |x - q scale| in steps of max|x| / 127";
    c->why = "rounding to the nearest errs by half a step";
}

// --- convert --------------------------------------------------------------------------------

enum { CONVERT_X, CONVERT_Y };

static void convert_prepare(struct bench_case *c)
{
    const size_t n = rows_of(c) * (size_t)c->at.shape.hidden;
    const enum dtype half = dtype_half(c->act);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, n);
    bench_buf(c, BENCH_OUTPUT, half, n);
    bench_normal(c, CONVERT_X, 1);
    c->flops = (double)n;
    c->bytes = (double)(dtype_bytes(DTYPE_F32) + dtype_bytes(half)) * (double)n;
}

static void convert_bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    c->args.convert = (struct convert_args){.y = bench_dev(c, CONVERT_Y),
                                            .x = bench_dev(c, CONVERT_X),
                                            .to = c->bufs[CONVERT_Y].type,
                                            .from = DTYPE_F32,
                                            .n = c->bufs[CONVERT_X].n};
}

static void convert_judge(struct bench_case *c)
{
    const size_t n = (size_t)c->at.shape.hidden;
    for (int r = 0; r < 16; r++)
        for (size_t k = 0; k < n; k++) {
            const size_t i = judged_row(c, r) * n + k;
            raise_relative(c, bench_get(c, CONVERT_Y, i), bench_get(c, CONVERT_X, i));
        }
    c->limit = 2 * bench_type_error(c->bufs[CONVERT_Y].type);
    c->measure = RELATIVE;
    c->why = "one rounding to the type";
}

// --- embed and gather -----------------------------------------------------------------------

enum { ROW_IDS, ROW_X, ROW_Y };

// Rows of a table, drawn at random: each is copied as it is.
static void rows_prepare(struct bench_case *c, int table_rows, enum dtype type)
{
    const size_t n = (size_t)c->at.shape.hidden;
    bench_buf(c, BENCH_INPUT, DTYPE_INT32, rows_of(c));
    bench_buf(c, BENCH_INPUT, type, (size_t)table_rows * n);
    bench_buf(c, BENCH_OUTPUT, c->act, rows_of(c) * n);
    bench_normal(c, ROW_X, 1);
    for (size_t i = 0; i < rows_of(c); i++)
        bench_set(c, ROW_IDS, i, (int)(stat_uniform(&c->random) * table_rows));
    c->bytes = ((double)dtype_bytes(type) + act_bytes(c)) * (double)(rows_of(c) * n);
}

static void rows_judge(struct bench_case *c)
{
    const size_t n = (size_t)c->at.shape.hidden;
    for (int r = 0; r < 16; r++) {
        const size_t row = judged_row(c, r), from = (size_t)bench_get(c, ROW_IDS, row);
        for (size_t i = 0; i < n; i++)
            raise_relative(c, bench_get(c, ROW_Y, row * n + i), bench_get(c, ROW_X, from * n + i));
    }
    set_limit(c, 0, RELATIVE);
}

static void embed_prepare(struct bench_case *c)
{
    rows_prepare(c, c->at.shape.vocab, c->at.weights == DTYPE_F32 ? DTYPE_F32 : dtype_half(c->act));
}

static void embed_bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    c->args.embed = (struct embed_args){.y = bench_dev(c, ROW_Y),
                                        .ids = bench_dev(c, ROW_IDS),
                                        .table = {.data = bench_dev(c, ROW_X),
                                                  .type = c->bufs[ROW_X].type,
                                                  .rows = c->at.shape.vocab,
                                                  .cols = c->at.shape.hidden},
                                        .t = c->at.tokens};
}

static void gather_prepare(struct bench_case *c)
{
    rows_prepare(c, c->at.tokens, c->act);
}

static void gather_bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    c->args.gather = (struct gather_args){.y = bench_dev(c, ROW_Y),
                                          .x = bench_dev(c, ROW_X),
                                          .rows = bench_dev(c, ROW_IDS),
                                          .n_rows = c->at.tokens,
                                          .n = c->at.shape.hidden};
}

// --- fill -----------------------------------------------------------------------------------

static void fill_prepare(struct bench_case *c)
{
    const size_t n = rows_of(c) * (size_t)c->at.shape.hidden;
    bench_buf(c, BENCH_OUTPUT, c->act, n);
    c->flops = 10 * (double)n;
    c->bytes = act_bytes(c) * (double)n;
}

static void fill_bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    c->args.fill = (struct fill_args){.p = bench_dev(c, 0),
                                      .type = c->act,
                                      .n = c->bufs[0].n,
                                      .seed = 1,
                                      .mean = 1,
                                      .deviation = 2};
}

static void fill_judge(struct bench_case *c)
{
    double sum = 0, squares = 0, n = (double)c->bufs[0].n;
    for (size_t i = 0; i < c->bufs[0].n; i++) {
        const double v = bench_get(c, 0, i);
        sum += v;
        squares += v * v;
    }
    // In deviations of the mean of n draws.
    bench_raise(c, fabs(sum / n - 1) / 2 * sqrt(n));
    bench_raise(c, fabs(sqrt(squares / n - sum / n * (sum / n)) / 2 - 1) * sqrt(n));
    c->limit = 6;
    c->measure = "mean and deviation of the numbers, in standard errors";
    c->why = "six standard errors";
}

// --- the table ------------------------------------------------------------------------------

#define ROWS(op, what, uses_, judge_)                                                              \
    static void op##_run(struct bench_case *c, const struct ops *ops, struct dev *dev)             \
    {                                                                                              \
        ops->op(dev, &c->args.op);                                                                 \
    }                                                                                              \
    const struct bench_op bench_##op = {.name = #op,                                               \
                                        .title = what,                                             \
                                        .uses = uses_,                                             \
                                        .prepare = op##_prepare,                                   \
                                        .bind = op##_bind,                                         \
                                        .run = op##_run,                                           \
                                        .judge = judge_}
ROWS(conv, "causal convolution and SiLU of a prompt's q, k, v", BENCH_TOKENS, conv_judge);
ROWS(rmsnorm, "norm of rows of the residual stream", BENCH_TOKENS, rmsnorm_judge);
ROWS(gated_norm, "norm of each head of o, times SiLU(z)", BENCH_TOKENS, gated_norm_judge);
ROWS(silu_mul, "SiLU(gate) * up", BENCH_TOKENS, silu_mul_judge);
ROWS(quantize, "rows to int8 with a scale each", BENCH_TOKENS, quantize_judge);
ROWS(convert, "float32 to the server's 16-bit type", BENCH_TOKENS, convert_judge);
ROWS(embed, "rows of the embedding", BENCH_TOKENS | BENCH_WEIGHTS, rows_judge);
ROWS(gather, "rows that need logits", BENCH_TOKENS, rows_judge);
ROWS(fill, "random numbers into memory", BENCH_TOKENS, fill_judge);
