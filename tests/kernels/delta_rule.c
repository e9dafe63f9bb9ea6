// delta_rule.c - the gated delta rule against the recurrence in float64, one token after another.
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_buffers.h"
#include "key_draws.h"
#include "ops_check.h"

void delta_rule_shapes(const struct ops *ops, struct dev *dev); // delta_rule_shapes.c

enum { SPANS_MAX = 4, SLOTS = 8, SAVED_MAX = 2, CUTS_MAX = 16 };

struct shape {
    const char *name;
    int k_heads, v_heads, k_dim, v_dim, chunk;
    struct {
        int t, pos0, decode;
    } spans[SPANS_MAX]; // until t = 0
    enum gate_kind gates;
    double rho; // mean cosine of the keys
    const char *method, *type;
    double error; // largest |difference| of o and of the state: see LIMITS below
};

// Values are of size 1, so outputs and states are too; sums have at most 256 terms of float32, and
// chunks hand the state on. Types with fewer bits add what the inverse loses (tri_inverse.c). CUDA's merges
// for fp32 keep 22 bits of 24, which 128 equal keys add up: 5.2e-6 on an H200.
#define FP32_ERROR 5e-6
#define SPLIT_ERROR 1e-5
#define TF32_ERROR 4e-3
#define BF16_ERROR 4e-2
#define F16_ERROR 1e-2
#define INT8_ERROR 4e-3

static const struct shape SHAPES[] = {
    {"T=1", 2, 2, 32, 32, 64, {{1, 0, 0}}, GATES_RECORDED, 0.3, "auto", "fp32", FP32_ERROR},
    {"T=63", 2, 2, 32, 48, 64, {{63, 0, 0}}, GATES_RECORDED, 0.3, "auto", "fp32", FP32_ERROR},
    {"T=64", 2, 4, 128, 128, 64, {{64, 0, 0}}, GATES_RECORDED, 0.5, "auto", "fp32", FP32_ERROR},
    {"T=65 from a state",
     1,
     3,
     64,
     32,
     64,
     {{65, 64, 0}},
     GATES_RECORDED,
     0.5,
     "auto",
     "fp32",
     FP32_ERROR},
    {"T=127", 2, 8, 32, 32, 64, {{127, 0, 0}}, GATES_RECORDED, 0.8, "auto", "fp32", FP32_ERROR},
    {"T=200", 4, 4, 48, 16, 64, {{200, 128, 0}}, GATES_RECORDED, 0.2, "auto", "fp32", FP32_ERROR},
    {"four spans",
     2,
     4,
     128,
     128,
     64,
     {{70, 0, 0}, {130, 64, 0}, {1, 17, 1}, {1, 0, 1}},
     GATES_RECORDED,
     0.3,
     "auto",
     "fp32",
     FP32_ERROR},
    {"decode",
     2,
     6,
     256,
     240,
     64,
     {{1, 5, 1}, {1, 900, 1}, {1, 1, 1}},
     GATES_RECORDED,
     0.3,
     "auto",
     "fp32",
     FP32_ERROR},
    {"wide heads", 1, 2, 256, 256, 128, {{300, 0, 0}}, GATES_SLOW, 0.3, "auto", "fp32", FP32_ERROR},
    {"g=-12", 2, 2, 64, 64, 64, {{150, 64, 0}}, GATES_12, 0.5, "auto", "fp32", FP32_ERROR},
    {"g=-20", 2, 2, 64, 64, 64, {{150, 64, 0}}, GATES_20, 1, "auto", "fp32", FP32_ERROR},
    {"strong, then weak",
     2,
     2,
     64,
     64,
     64,
     {{150, 0, 0}},
     GATES_MIXED,
     0.5,
     "auto",
     "fp32",
     FP32_ERROR},
    {"far gates", 2, 4, 64, 64, 64, {{150, 0, 0}}, GATES_FAR, 0.5, "auto", "fp32", FP32_ERROR},
    {"far gates", 2, 4, 128, 128, 64, {{150, 9, 0}}, GATES_FAR, 0.5, "auto", "fp32", FP32_ERROR},
    {"equal keys", 2, 2, 128, 64, 64, {{200, 0, 0}}, GATES_SLOW, 1, "auto", "fp32", FP32_ERROR},
    {"equal keys", 2, 2, 64, 64, 16, {{70, 16, 0}}, GATES_SLOW, 1, "auto", "fp32", FP32_ERROR},
    {"equal keys", 2, 2, 64, 64, 32, {{70, 32, 0}}, GATES_SLOW, 1, "auto", "fp32", FP32_ERROR},
    {"equal keys", 2, 2, 64, 64, 128, {{260, 0, 0}}, GATES_SLOW, 1, "auto", "fp32", SPLIT_ERROR},
    {"method",
     1,
     2,
     64,
     64,
     64,
     {{100, 0, 0}},
     GATES_SLOW,
     0.5,
     "substitution",
     "fp32",
     FP32_ERROR},
    {"method", 1, 2, 64, 64, 64, {{100, 0, 0}}, GATES_SLOW, 0.5, "merge", "fp32", FP32_ERROR},
    {"method",
     1,
     2,
     64,
     64,
     64,
     {{100, 0, 0}},
     GATES_SLOW,
     0.5,
     "neumann:64,4,16",
     "fp32",
     FP32_ERROR},
    {"method", 1, 2, 64, 64, 64, {{100, 0, 0}}, GATES_SLOW, 0.5, "auto", "tf32", TF32_ERROR},
    {"method", 1, 2, 64, 64, 64, {{100, 0, 0}}, GATES_SLOW, 0.5, "auto", "fp16", TF32_ERROR},
    {"method", 1, 2, 64, 64, 64, {{100, 0, 0}}, GATES_SLOW, 0.5, "auto", "bf16", BF16_ERROR},
    {"method", 1, 2, 64, 64, 64, {{100, 0, 0}}, GATES_SLOW, 0.5, "auto", "int8", INT8_ERROR},
    {"prefill",
     16,
     16,
     128,
     128,
     64,
     {{512, 0, 0}},
     GATES_RECORDED,
     0.3,
     "auto",
     "fp32",
     FP32_ERROR},
    {"prefill",
     16,
     16,
     128,
     128,
     64,
     {{512, 0, 0}},
     GATES_RECORDED,
     0.3,
     "substitution",
     "fp32",
     FP32_ERROR},
    {"prefill",
     8,
     16,
     128,
     128,
     64,
     {{512, 0, 0}},
     GATES_RECORDED,
     0.3,
     "auto",
     "fp32",
     FP32_ERROR},
    {"decode",
     16,
     16,
     128,
     128,
     64,
     {{1, 9, 1}, {1, 8, 1}, {1, 7, 1}, {1, 6, 1}},
     GATES_RECORDED,
     0.3,
     "auto",
     "fp32",
     FP32_ERROR},
};

// With a state of bf16, which every span rounds when it stores it.
static const struct shape ROUNDED[] = {
    {"T=1", 2, 2, 32, 32, 64, {{1, 3, 0}}, GATES_RECORDED, 0.3, "auto", "fp32", FP32_ERROR},
    {"T=200", 4, 4, 48, 16, 64, {{200, 128, 0}}, GATES_SLOW, 0.8, "auto", "fp32", FP32_ERROR},
    {"four spans",
     2,
     4,
     128,
     128,
     64,
     {{70, 0, 0}, {130, 64, 0}, {1, 17, 1}, {1, 0, 1}},
     GATES_RECORDED,
     0.3,
     "auto",
     "fp32",
     FP32_ERROR},
    {"decode",
     2,
     6,
     256,
     240,
     64,
     {{1, 5, 1}, {1, 900, 1}, {1, 0, 1}},
     GATES_RECORDED,
     0.3,
     "auto",
     "fp32",
     FP32_ERROR},
    {"decode",
     16,
     16,
     128,
     128,
     64,
     {{1, 9, 1}, {1, 8, 1}, {1, 7, 1}, {1, 6, 1}},
     GATES_RECORDED,
     0.3,
     "auto",
     "fp32",
     FP32_ERROR},
};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES, N_ROUNDED = sizeof ROUNDED / sizeof *ROUNDED };

struct user {
    struct shape shape;
    const struct check_buf *cuts;
    int n_cuts;
};

static int count_spans(const struct shape *s)
{
    int n = 0;
    while (n < SPANS_MAX && s->spans[n].t)
        n++;
    return n;
}

static int count_tokens(const struct shape *s)
{
    int t = 0;
    for (int i = 0; i < count_spans(s); i++)
        t += s->spans[i].t;
    return t;
}

// The i-th span of the step without its first row. The first two prefill spans save their states after
// their last whole chunk, in the first slots.
static struct span span_of(const struct shape *s, int i)
{
    struct span span = {.t = s->spans[i].t,
                        .pos0 = s->spans[i].pos0,
                        .slot = SLOTS - 1 - i,
                        .decode = s->spans[i].decode};
    if (!span.decode && i < SAVED_MAX) {
        span.save_t = span.t / s->chunk * s->chunk;
        span.save_slot = i;
    }
    return span;
}

// The spans of the step, and the same work cut at multiples of the chunk, one piece at a time; spans with
// a bf16 state stay whole, since a cut would round it. Slots are taken from the end, so that the first
// that nothing is saved in stay poisoned.
static void fill_spans(struct check_case *c, const struct shape *s, struct user *u)
{
    struct delta_rule_args *a = &c->args.delta_rule;
    const int piece = a->state_type == DTYPE_F32 ? s->chunk : INT_MAX;
    struct check_buf *spans = check_input(c, "spans", DTYPE_INT32, CHECK_SPAN_INTS * SPANS_MAX);
    struct check_buf *cuts = check_input(c, "cuts", DTYPE_INT32, CHECK_SPAN_INTS * CUTS_MAX);
    int t0 = 0;
    for (int i = 0; i < count_spans(s); i++) {
        struct span span = span_of(s, i);
        span.t0 = t0;
        check_set_span(spans, i, &span);
        for (int done = 0; done < span.t;) {
            struct span cut = span;
            cut.t0 += done;
            cut.pos0 += done;
            cut.t = span.t - done < piece ? span.t - done : piece;
            if (cut.t < span.t)
                cut.save_t = done + cut.t == span.save_t ? cut.t : 0;
            check_set_span(cuts, u->n_cuts++, &cut);
            done += cut.t;
        }
        t0 += span.t;
    }
    u->cuts = cuts;
    a->batch = (struct batch){
        .spans = spans->dev, .host_spans = spans->host, .n_spans = count_spans(s), .t = t0};
}

struct inputs {
    struct check_buf *qkv, *a, *b, *A_log, *dt_bias, *state, *o;
};

static void fill_inputs(struct check_case *c, const struct shape *s, struct inputs *in)
{
    const size_t t = (size_t)count_tokens(s), heads = (size_t)s->v_heads;
    const int width = 2 * s->k_heads * s->k_dim + s->v_heads * s->v_dim;
    in->qkv = check_input(c, "qkv", check_act(c), t * (size_t)width);
    in->a = check_input(c, "a", check_act(c), t * heads);
    in->b = check_input(c, "b", check_act(c), t * heads);
    in->A_log = check_input(c, "A_log", DTYPE_F32, heads);
    in->dt_bias = check_input(c, "dt_bias", DTYPE_F32, heads);
    check_fill_normal(c, in->qkv, 1);
    double *key = calloc((size_t)s->k_dim, sizeof *key),
           *common = calloc((size_t)s->k_dim, sizeof *key);
    if (!key || !common)
        abort();
    for (int h = 0; h < s->k_heads; h++) {
        keys_common(c, common, s->k_dim);
        for (int row = 0; row < (int)t; row++) {
            keys_draw(c, key, common, s->k_dim, s->rho);
            for (int i = 0; i < s->k_dim; i++) // of any length: the rule normalises
                check_set(in->qkv,
                          (size_t)row * (size_t)width + (size_t)((s->k_heads + h) * s->k_dim + i),
                          3 * key[i]);
        }
    }
    free(key);
    free(common);
    for (int h = 0; h < s->v_heads; h++) {
        check_set(in->A_log, (size_t)h, 0.5 * h - 1);
        check_set(in->dt_bias, (size_t)h, 0.25 * h);
        for (int row = 0; row < (int)t; row++) {
            const struct gate gate = gate_of(s->gates, row, h);
            const double soft = -gate.g / exp(0.5 * h - 1);
            check_set(in->a, (size_t)row * heads + (size_t)h,
                      (soft > 20 ? soft : log(expm1(fmax(soft, 1e-12)))) - 0.25 * h);
            check_set(in->b, (size_t)row * heads + (size_t)h, log(gate.beta / (1 - gate.beta)));
        }
    }
}

// What one token of one head reads and writes, in float64.
struct token {
    double q[256], k[256], v[256], o[256], g, beta;
};

static void load_vector(const struct check_buf *qkv, size_t at, int n, double *x, double scale)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        x[i] = check_get(qkv, at + (size_t)i);
        sum += x[i] * x[i];
    }
    for (int i = 0; i < n && scale > 0; i++)
        x[i] *= scale / sqrt(sum + 1e-6);
}

static void load_token(const struct inputs *in, const struct shape *s, int row, int h,
                       struct token *t)
{
    const int k_head = h / (s->v_heads / s->k_heads);
    const int width = 2 * s->k_heads * s->k_dim + s->v_heads * s->v_dim;
    const size_t at = (size_t)row * (size_t)width,
                 gate = (size_t)row * (size_t)s->v_heads + (size_t)h;
    load_vector(in->qkv, at + (size_t)(k_head * s->k_dim), s->k_dim, t->q, 1 / sqrt(s->k_dim));
    load_vector(in->qkv, at + (size_t)((s->k_heads + k_head) * s->k_dim), s->k_dim, t->k, 1);
    load_vector(in->qkv, at + (size_t)(2 * s->k_heads * s->k_dim + h * s->v_dim), s->v_dim, t->v,
                0);
    const double x = check_get(in->a, gate) + check_get(in->dt_bias, (size_t)h);
    t->g = -exp(check_get(in->A_log, (size_t)h)) * (x > 20 ? x : log1p(exp(x)));
    t->beta = 1 / (1 + exp(-check_get(in->b, gate)));
}

static void advance(double *state, struct token *t, int k_dim, int v_dim)
{
    double u[256] = {0};
    memset(t->o, 0, sizeof t->o);
    for (int i = 0; i < k_dim; i++)
        for (int j = 0; j < v_dim; j++) {
            state[i * v_dim + j] *= exp(t->g);
            u[j] += state[i * v_dim + j] * t->k[i];
        }
    for (int j = 0; j < v_dim; j++)
        u[j] = t->beta * (t->v[j] - u[j]);
    for (int i = 0; i < k_dim; i++)
        for (int j = 0; j < v_dim; j++) {
            state[i * v_dim + j] += t->k[i] * u[j];
            t->o[j] += state[i * v_dim + j] * t->q[i];
        }
}

// Fills in->o->want and in->state->want for one head of one span.
static void expect_head(const struct inputs *in, const struct shape *s, const struct span *span,
                        int h)
{
    const size_t size = (size_t)s->k_dim * (size_t)s->v_dim;
    double *state = in->state->want + ((size_t)span->slot * (size_t)s->v_heads + (size_t)h) * size;
    struct token t;
    if (span->pos0 == 0)
        memset(state, 0, size * sizeof *state);
    for (int i = 0; i < span->t; i++) {
        const size_t at =
            ((size_t)(span->t0 + i) * (size_t)s->v_heads + (size_t)h) * (size_t)s->v_dim;
        load_token(in, s, span->t0 + i, h, &t);
        advance(state, &t, s->k_dim, s->v_dim);
        memcpy(in->o->want + at, t.o, (size_t)s->v_dim * sizeof *t.o);
        if (i + 1 == span->save_t)
            memcpy(in->state->want +
                       ((size_t)span->save_slot * (size_t)s->v_heads + (size_t)h) * size,
                   state, size * sizeof *state);
    }
}

static void declare_results(struct check_case *c, const struct shape *s, struct inputs *in)
{
    struct check_limit limit = {s->error, s->error, s->error * s->error,
                                "float32 sums, and the inverse's type"};
    if (check_act(c) == DTYPE_BF16)
        limit = (struct check_limit){s->error + BF16_ERROR, s->error + BF16_ERROR / 2, 3e-4,
                                     "operands of 8 bits in every product of a chunk"};
    if (check_act(c) == DTYPE_F16)
        limit = (struct check_limit){s->error + F16_ERROR, s->error + F16_ERROR / 2, 2e-5,
                                     "operands of 11 bits in every product of a chunk"};
    const enum dtype type = c->args.delta_rule.state_type;
    const size_t head = (size_t)s->k_dim * (size_t)s->v_dim, slot = (size_t)s->v_heads * head;
    in->o = check_output(c, "o", check_act(c), (size_t)(count_tokens(s) * s->v_heads * s->v_dim),
                         limit);
    in->state = check_in_out(c, "state", type, SLOTS * slot, check_stored_limit(type, limit));
    check_fill_normal(c, in->state, 0.3);
    for (int i = 0; i < SLOTS; i++) {
        const int n = SLOTS - 1 - i; // the span that uses this slot
        if (n >= count_spans(s) || s->spans[n].pos0 == 0)
            check_poison(in->state, (size_t)i * slot, slot);
    }
    check_keep(in->state);
}

static void expect_results(const struct shape *s, const struct inputs *in)
{
    int t0 = 0;
    for (int i = 0; i < count_spans(s); i++) {
        struct span span = span_of(s, i);
        span.t0 = t0;
        for (int h = 0; h < s->v_heads; h++)
            expect_head(in, s, &span, h);
        t0 += span.t;
    }
}

// Decode is bound by the states, prefill by the seven products of each chunk (and the inverse is on
// top of what is needed); spec: 2 * (2 C C k + 2 C C v + 3 C k v) for a chunk and head.
static void count_work(struct check_case *c, const struct shape *s)
{
    double chunk = s->chunk, k = s->k_dim, v = s->v_dim, heads = s->v_heads;
    const double state = 2.0 * (double)dtype_bytes(c->args.delta_rule.state_type) * k * v * heads,
                 row = 4 * (2 * s->k_heads * k + 2 * heads * v);
    for (int i = 0; i < count_spans(s); i++) {
        const double t = s->spans[i].t;
        c->bytes += state + t * row;
        if (s->spans[i].decode)
            c->flops += t * heads * 8 * k * v;
        else
            c->flops += ceil(t / chunk) * heads * 2 * chunk * (2 * chunk * (k + v) + 3 * k * v);
    }
}

// The case without what is expected of it.
static struct inputs lay_out(struct check_case *c, const struct shape *s, enum dtype state)
{
    struct user *u = calloc(1, sizeof *u);
    struct inputs in = {0};
    char why[200], name[60];
    if (!u)
        abort();
    u->shape = *s;
    c->user = u;
    struct delta_rule_args *a = &c->args.delta_rule;
    *a = (struct delta_rule_args){.k_heads = s->k_heads,
                                  .v_heads = s->v_heads,
                                  .k_dim = s->k_dim,
                                  .v_dim = s->v_dim,
                                  .state_type = state,
                                  .chunk = s->chunk};
    check_true(!inverse_parse(&a->inverse, s->method, s->type, s->chunk, why, sizeof why),
               "delta_rule: %s", why);
    snprintf(c->name, sizeof c->name, "%s %d/%d heads %dx%d chunk %d rho %g %s state %s", s->name,
             s->k_heads, s->v_heads, s->k_dim, s->v_dim, s->chunk, s->rho,
             inverse_name(&a->inverse, name, sizeof name), dtype_name(state));
    fill_spans(c, s, u);
    fill_inputs(c, s, &in);
    declare_results(c, s, &in);
    a->qkv = in.qkv->dev;
    a->a = in.a->dev;
    a->b = in.b->dev;
    a->A_log = in.A_log->dev;
    a->dt_bias = in.dt_bias->dev;
    a->state = in.state->dev;
    a->o = in.o->dev;
    return in;
}

static void make_shape(struct check_case *c, const struct shape *s, enum dtype state)
{
    const struct inputs in = lay_out(c, s, state);
    expect_results(s, &in);
    if (s->k_heads >= 8)
        count_work(c, s);
}

static void make(struct check_case *c, int i)
{
    if (i < N_SHAPES)
        make_shape(c, &SHAPES[i], DTYPE_F32);
    else
        make_shape(c, &ROUNDED[i - N_SHAPES], DTYPE_BF16);
}

static bool part(struct check_case *c, int i)
{
    const struct user *u = c->user;
    c->args.delta_rule.batch.spans = (const struct span *)u->cuts->dev + i;
    c->args.delta_rule.batch.host_spans = (const struct span *)u->cuts->host + i;
    c->args.delta_rule.batch.n_spans = 1;
    return i < u->n_cuts;
}

// Bad arguments and what comes out of sync() for them; nothing is computed.
static void check_refusals(const struct ops *ops, struct dev *dev)
{
    struct check_case c = {.ops = ops, .dev = dev, .random = 1};
    char why[256] = "";
    make_shape(&c, &SHAPES[0], DTYPE_F32);
    struct delta_rule_args a = c.args.delta_rule;
    a.k_dim = 24;
    ops->delta_rule(dev, &a);
    check_true(ops->sync(dev, why, sizeof why) && strstr(why, "k_dim 24"), "delta_rule: '%s'", why);
    a = c.args.delta_rule;
    a.chunk = 48;
    ops->delta_rule(dev, &a);
    check_true(ops->sync(dev, why, sizeof why) && strstr(why, "chunk 48"), "delta_rule: '%s'", why);
    a = c.args.delta_rule;
    a.state_type = DTYPE_F16;
    ops->delta_rule(dev, &a);
    check_true(ops->sync(dev, why, sizeof why) && strstr(why, "state_type f16"), "delta_rule: '%s'",
               why);
    check_true(!ops->sync(dev, why, sizeof why), "delta_rule: a failure was reported twice");
    check_case_free(&c);
}

// Every report_every-th chunk of each head is looked at, and the report adds up over calls.
static void check_sampling(const struct ops *ops, struct dev *dev)
{
    static const struct shape SHAPE = {
        "report", 2, 4, 32, 32, 16, {{16 * 12, 0, 0}}, GATES_SLOW, 1, "auto", "fp32", FP32_ERROR};
    struct check_case c = {.ops = ops, .dev = dev, .random = 1};
    make_shape(&c, &SHAPE, DTYPE_F32);
    struct check_buf *b = check_output(&c, "report", DTYPE_INT32, 4, (struct check_limit){0});
    struct inverse_report report;
    memset(b->host, 0, sizeof report);
    c.args.delta_rule.report = b->dev;
    static const int EVERY[] = {1, 3, 0}, WANT[] = {48, 64, 64};
    check_upload(&c);
    for (int i = 0; i < 3; i++) {
        c.args.delta_rule.report_every = EVERY[i];
        ops->delta_rule(dev, &c.args.delta_rule);
        ops->download(dev, &report, b->dev, sizeof report);
        check_true((int)report.checked == WANT[i] && report.nonfinite == 0,
                   "delta_rule: %u chunks checked with report_every %d, want %d", report.checked,
                   EVERY[i], WANT[i]);
    }
    check_true(report.residual_max > 0 && report.residual_max < 1e-5, "delta_rule: residual %g",
               report.residual_max);
    check_case_free(&c);
}

// A bf16 state is rounded at the end of its span and nowhere before, wherever a device pauses inside a long
// one: on a GPU that depends on the number of spans, and these are as many as make it differ between a
// step of both and one of the first alone, in either type of activations.
static void check_company(const struct ops *ops, struct dev *dev)
{
    static const struct shape SHAPE = {
        "company",      17,  34,     128,    128,       64, {{2600, 64, 0}, {40, 0, 0}},
        GATES_RECORDED, 0.3, "auto", "fp32", FP32_ERROR};
    struct check_case c = {.ops = ops, .dev = dev, .random = 1};
    const struct inputs in = lay_out(&c, &SHAPE, DTYPE_BF16);
    const size_t slot = sizeof(uint16_t) * 34 * 128 * 128, last = (SLOTS - 1) * slot;
    char *image[2], why[256];
    for (int alone = 0; alone < 2; alone++) {
        c.args.delta_rule.batch.n_spans = alone ? 1 : 2;
        check_upload(&c);
        ops->delta_rule(dev, &c.args.delta_rule);
        image[alone] = check_download(&c, in.state);
    }
    check_true(!ops->sync(dev, why, sizeof why), "delta_rule: %s", why);
    check_true(!memcmp(image[0] + CHECK_GUARD, image[1] + CHECK_GUARD, slot) &&
                   !memcmp(image[0] + CHECK_GUARD + last, image[1] + CHECK_GUARD + last, slot),
               "delta_rule: a bf16 state depends on the step's other spans");
    free(image[0]);
    free(image[1]);
    check_case_free(&c);
}

static void extra(const struct ops *ops, struct dev *dev)
{
    check_refusals(ops, dev);
    check_sampling(ops, dev);
    check_company(ops, dev);
}

static double largest_error(struct check_case *c, const char *name)
{
    double worst = 0;
    for (struct check_buf *b = c->bufs; b; b = b->next) {
        if (strcmp(b->name, name))
            continue;
        void *image = check_download(c, b);
        for (size_t i = 0; i < b->n; i++) {
            const double d = fabs(check_load((char *)image + CHECK_GUARD, b->type, i) - b->want[i]);
            if (!isnan(b->want[i]) && !(d <= worst)) // NaN stays
                worst = d;
        }
        free(image);
    }
    return worst;
}

void delta_rule_table(const struct ops *ops, struct dev *dev)
{
    static const char *const METHODS[] = {"substitution", "merge", "auto", "paper"};
    static const char *const TYPES[] = {"fp32", "tf32", "fp16", "bf16", "int8"};
    static const double RHOS[] = {0, 0.3, 0.8, 1};
    static const enum gate_kind GATES[] = {GATES_RECORDED, GATES_SLOW};
    printf(
        "\nLargest |error| of the delta rule's o and final state: 200 tokens, 2 heads of 64 x 64,\n"
        "values of size 1, chunk 64; by mean cosine of the keys, recorded and slow gates.\n\n%-24s",
        "");
    for (int i = 0; i < 8; i++)
        printf("  %s %-8g", i % 2 ? "slow" : "rec.", RHOS[i / 2]);
    printf("\n");
    for (int i = 0; i < 20; i++) {
        struct inverse v;
        char name[60], why[200];
        struct shape s = {
            "table",      2, 2, 64, 64, 64, {{200, 0, 0}}, GATES_SLOW, 0, METHODS[i / 5],
            TYPES[i % 5], 1};
        if (!inverse_parse(&v, s.method, s.type, s.chunk, why, sizeof why))
            printf("%-24s", inverse_name(&v, name, sizeof name));
        for (int k = 0; k < 8; k++) {
            struct check_case c = {.ops = ops, .dev = dev, .random = (uint64_t)k + 1};
            s.rho = RHOS[k / 2];
            s.gates = GATES[k % 2];
            make_shape(&c, &s, DTYPE_F32);
            check_upload(&c);
            ops->delta_rule(dev, &c.args.delta_rule);
            printf(" %.0e %.0e ", largest_error(&c, "o"), largest_error(&c, "state"));
            check_case_free(&c);
        }
        printf("\n");
    }
}

const struct op_check check_delta_rule = {.n_cases = N_SHAPES + N_ROUNDED,
                                          .make = make,
                                          .part = part,
                                          .extra = extra,
                                          .perf_extra = delta_rule_shapes};
