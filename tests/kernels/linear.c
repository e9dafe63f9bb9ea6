// linear.c - products with each type of weights in float64, on both paths; INT8 gives the same bits on
// both. Weights may begin at an address that is only aligned to their type.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_buffers.h"
#include "rows.h"

void linear_rival(const struct ops *ops, struct dev *dev); // linear_rival.c
void linear_table(const struct ops *ops, struct dev *dev); // linear_table.c

struct shape {
    enum dtype type;
    int t, t_gemm, rows, cols; // of the weight: outputs, inputs
    int cut;                   // rows of a part
    bool extreme;              // every product as large as int8 allows, a row's all of one sign
    bool aligned;              // W begins where memory does, so that a device's fast path takes it
};

static const struct shape SHAPES[] = {
    {DTYPE_F32, 1, 0, 1, 1, 1, false, false},
    {DTYPE_F32, 1, 1, 17, 96, 1, false, false},
    {DTYPE_F32, 65, 63, 40, 100, 7, false, false},
    {DTYPE_F32, 5, 0, 67, 384, 2, false, false},
    {DTYPE_F32, 130, 128, 96, 64, 50, false, false},
    {DTYPE_BF16, 1, 0, 1, 1, 1, false, false},
    {DTYPE_BF16, 1, 0, 384, 1024, 1, false, false},
    {DTYPE_BF16, 64, 64, 96, 64, 9, false, false},
    {DTYPE_BF16, 65, 64, 33, 127, 3, false, false},
    {DTYPE_BF16, 63, 63, 64, 384, 63, false, false},
    {DTYPE_BF16, 9, 0, 130, 1000, 4, false, false},
    {DTYPE_BF16, 194, 130, 48, 66, 65, false, false},
    {DTYPE_INT8, 1, 0, 1, 1, 1, false, false},
    {DTYPE_INT8, 1, 0, 70, 1000, 1, false, false},
    {DTYPE_INT8, 65, 33, 64, 384, 8, false, false},
    {DTYPE_INT8, 7, 0, 31, 129, 3, false, false},
    {DTYPE_INT8, 6, 3, 20, 4096, 1, true, false},
    {DTYPE_F32, 70, 64, 40, 96, 9, false, true},
    {DTYPE_BF16, 1, 0, 24, 64, 1, false, true},
    {DTYPE_BF16, 16, 0, 130, 1000, 1, false, true},
    {DTYPE_BF16, 64, 0, 72, 3584, 5, false, true},
    {DTYPE_BF16, 33, 0, 8, 4096, 32, false, true},
    {DTYPE_BF16, 70, 0, 328, 520, 11, false, true},
    {DTYPE_BF16, 300, 256, 64, 512, 37, false, true},
    {DTYPE_BF16, 40, 0, 16, 17408, 8, false, true},
    {DTYPE_BF16, 3, 0, 25000, 256, 1, false, true}, // many tiles a block
    {DTYPE_BF16, 6, 0, 17507, 2048, 2, false,
     true}, // pieces by boxes on a GPU of up to 136 multiprocessors
    // by clusters on a GPU: several tiles of 64 rows each, then k in phases; pieces of few rows go elsewhere
    {DTYPE_BF16, 64, 0, 4360, 192, 3, false, true},
    {DTYPE_BF16, 20, 0, 4360, 512, 1, false, true},
    {DTYPE_BF16, 12, 0, 200, 12288, 4, false, true},
    {DTYPE_INT8, 64, 0, 4360, 384, 5, false, true},
    {DTYPE_INT8, 30, 0, 72, 12288, 2, false, true},
    {DTYPE_INT8, 1, 0, 25000, 512, 1, false, true},
    {DTYPE_INT8, 2, 0, 50, 1008, 1, false, true},
    {DTYPE_INT8, 64, 0, 328, 1040, 5, false, true},
    {DTYPE_INT8, 70, 35, 40, 4096, 9, true, true},
    // shapes of small models, prompts cut as an engine cuts them: rows stand elsewhere in a tile
    {DTYPE_F32, 328, 328, 256, 256, 128, false, false},
    {DTYPE_F32, 200, 200, 512, 256, 61, false, false},
    {DTYPE_F32, 205, 200, 1200, 64, 64, false, false},
    {DTYPE_F32, 128, 128, 64, 768, 7, false, false},
    {DTYPE_BF16, 200, 200, 256, 512, 61, false, false},
    {DTYPE_INT8, 131, 100, 70, 520, 13, false, false},
    {DTYPE_F32, 530, 530, 40, 96, 256, false, false},
    {DTYPE_BF16, 530, 530, 40, 96, 64, false, false},
    {DTYPE_INT8, 530, 530, 40, 96, 256, false, false},
    // narrow or deep weights: a library's kernel, or its blocks of k, may differ with the rows of a call
    {DTYPE_F32, 530, 530, 4, 256, 61, false, false},
    {DTYPE_BF16, 530, 530, 4, 256, 61, false, false},
    {DTYPE_BF16, 300, 300, 24, 3584, 64, false, false},
    {DTYPE_BF16, 80, 80, 768, 2048, 16, false, false},
    {DTYPE_INT8, 300, 300, 24, 3584, 64, false, false},
    {DTYPE_BF16, 7, 0, 20, 4096, 3, true, true}, // beyond f16, see check_far
};

static const struct shape TIMED[] = {
    {DTYPE_BF16, 1, 0, 4096, 1024, 1, false, true},
    {DTYPE_BF16, 1, 0, 32768, 1024, 1, false, true},
    {DTYPE_BF16, 4, 0, 32768, 1024, 1, false, true},
    {DTYPE_BF16, 8, 0, 32768, 1024, 1, false, true},
    {DTYPE_BF16, 64, 64, 4096, 1024, 1, false, true},
    {DTYPE_BF16, 512, 512, 384, 1024, 1, false, true},
    {DTYPE_BF16, 512, 512, 4096, 1024, 1, false, true},
    {DTYPE_BF16, 512, 512, 1024, 4096, 1, false, true},
    {DTYPE_F32, 1, 0, 16384, 1024, 1, false, true},
    {DTYPE_F32, 8, 0, 16384, 1024, 1, false, true},
    {DTYPE_F32, 512, 512, 4096, 1024, 1, false, true},
    {DTYPE_INT8, 1, 0, 65536, 1024, 1, false, true},
    {DTYPE_INT8, 8, 0, 65536, 1024, 1, false, true},
    {DTYPE_INT8, 512, 512, 4096, 1024, 1, false, true},
};
enum { N = sizeof SHAPES / sizeof *SHAPES, N_TIMED = sizeof TIMED / sizeof *TIMED };

// Where W begins in its buffer.
static size_t shift(const struct shape *s)
{
    return s->aligned ? 0 : 1;
}

struct bufs {
    struct check_buf *x, *w, *scale, *y;
};

// What the kernel multiplies: x after the rounding that the weights' type asks for, as float64, and
// the scale of the row.
static double round_row(const struct check_buf *x, size_t row, const struct shape *s, double *out)
{
    const size_t n = (size_t)s->cols;
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf((float)check_get(x, row * n + i)));
    const float scale = most > 0 ? most / 127.0f : 1.0f;
    for (size_t i = 0; i < n; i++) {
        float v = (float)check_get(x, row * n + i);
        uint32_t bits;
        memcpy(&bits, &v, sizeof bits);
        bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000;
        if (s->type == DTYPE_BF16)
            memcpy(&v, &bits, sizeof v);
        out[i] = s->type == DTYPE_INT8 ? nearbyintf(v / scale) : v;
    }
    return s->type == DTYPE_INT8 ? scale : 1;
}

static void expect(struct bufs *b, const struct shape *s)
{
    const size_t n = (size_t)s->cols;
    double *x = malloc(n * sizeof *x), *w = malloc((size_t)s->rows * n * sizeof *w);
    if (!x || !w)
        abort();
    for (size_t i = 0; i < (size_t)s->rows * n; i++)
        w[i] = check_get(b->w, i + shift(s));
    for (int t = 0; t < s->t; t++) {
        const double scale = round_row(b->x, (size_t)t, s, x);
        for (int r = 0; r < s->rows; r++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++)
                sum += x[i] * w[(size_t)r * n + i];
            if (s->type == DTYPE_INT8)
                sum *= scale * check_get(b->scale, (size_t)r);
            b->y->want[t * s->rows + r] = sum;
        }
    }
    free(x);
    free(w);
}

static void fill(struct check_case *c, struct bufs *b, const struct shape *s)
{
    if (s->type == DTYPE_INT8) { // in either case so that y is of size 1
        check_fill_uniform(c, b->scale, 0.5 / 127 / sqrt(s->cols), 2.0 / 127 / sqrt(s->cols));
        check_fill_uniform(c, b->w, -127, 127);
    } else {
        check_fill_normal(c, b->w, 1 / sqrt(s->cols));
    }
    check_fill_normal(c, b->x, 1);
    for (size_t i = 0; i < b->w->n && s->extreme; i++)
        check_set(b->w, i, -128);
    for (size_t i = 0; i < b->x->n && s->extreme; i++)
        check_set(b->x, i, i / (size_t)s->cols % 2 ? -1 : 1);
}

static void make(struct check_case *c, int i)
{
    struct shape *s = malloc(sizeof *s);
    if (!s)
        abort();
    *s = i < N ? SHAPES[i] : TIMED[i - N];
    s->type = check_type(c, s->type);
    c->user = s;
    const size_t n = (size_t)s->rows * (size_t)s->cols, t = (size_t)s->t;
    const struct check_limit sums = rows_limit(
                                 3e-6 * fmax(1, s->cols / 4096.0),
                                 "sums of cols products of size 1/sqrt(cols) in float32"),
                             exact = {1e-12, 3e-7, 1e-13, "an exact sum, two float32 products"};
    struct bufs b = {.x = check_input(c, "x", check_act(c), t * (size_t)s->cols),
                     .w = check_input(c, "w", s->type, n + shift(s)),
                     .y = check_output(c, "y", check_act(c), t * (size_t)s->rows,
                                       check_act_limit(c, s->type == DTYPE_INT8 ? exact : sums))};
    if (s->type == DTYPE_INT8)
        b.scale = check_input(c, "scale", DTYPE_F32, (size_t)s->rows);
    fill(c, &b, s);
    check_poison(b.w, 0, shift(s));
    snprintf(c->name, sizeof c->name, "%s t=%d (matrix %d) rows=%d cols=%d%s%s",
             dtype_name(s->type), s->t, s->t_gemm, s->rows, s->cols, s->extreme ? " extreme" : "",
             s->aligned ? " aligned" : "");
    c->args.linear =
        (struct linear_args){.y = {b.y->dev},
                             .x = b.x->dev,
                             .w = {{.data = (char *)b.w->dev + shift(s) * dtype_bytes(s->type),
                                    .scale = b.scale ? b.scale->dev : NULL,
                                    .type = s->type,
                                    .rows = s->rows,
                                    .cols = s->cols}},
                             .n = 1,
                             .t = s->t,
                             .t_gemm = s->t_gemm};
    if (i < N) {
        expect(&b, s);
        return;
    }
    c->flops = 2.0 * (double)n * s->t;
    c->bytes = (double)n * (double)dtype_bytes(s->type) +
               (double)dtype_bytes(check_act(c)) * s->t * (s->rows + s->cols);
}

// Pieces of at most `cut` rows, none across the border of the two paths.
static bool part(struct check_case *c, int i)
{
    const struct shape *s = c->user;
    struct linear_args *a = &c->args.linear;
    int row = 0, end = 0;
    for (int k = 0; k <= i; k++) {
        row = end;
        end = row + s->cut;
        if (row < s->t_gemm && end > s->t_gemm)
            end = s->t_gemm;
        if (end > s->t)
            end = s->t;
    }
    a->x = check_act_at(c, a->x, (size_t)row * (size_t)s->cols);
    a->y[0] = check_act_at(c, a->y[0], (size_t)row * (size_t)s->rows);
    a->t = end - row;
    a->t_gemm = row < s->t_gemm ? a->t : 0;
    return row < s->t;
}

// A gate gives the bits of silu_mul of the matrix path's rows and then the product without one. far: gates
// beyond f16 and infinite ones.
static void check_gate(const struct ops *ops, struct dev *dev, enum dtype type, bool far)
{
    struct check_case c = {.ops = ops, .dev = dev, .random = 98};
    enum { T = 70, T_GEMM = 33, ROWS = 96, COLS = 1024 };
    const struct check_limit none = {0};
    type = check_type(&c, type);
    struct check_buf *gate = rows_act(&c, "gate", T * COLS, far ? 4e4 : 2), *x[2], *y[2];
    struct check_buf *w = check_input(&c, "w", type, ROWS * COLS);
    struct check_buf *scale = check_input(&c, "scale", DTYPE_F32, ROWS);
    for (int i = 0; i < 2; i++) {
        x[i] = check_work(&c, "x", check_act(&c), T * COLS);
        y[i] = check_output(&c, "y", check_act(&c), T * ROWS, none);
    }
    check_fill_normal(&c, x[0], 1);
    memcpy(x[1]->host, x[0]->host, T * COLS * dtype_bytes(check_act(&c)));
    check_fill_uniform(&c, w, far ? -1e-4 : -1, far ? 1e-4 : 1);
    if (type == DTYPE_INT8)
        check_fill_uniform(&c, w, -127, 127);
    check_fill_uniform(&c, scale, 0.001, 0.002);
    check_upload(&c);
    struct linear_args a = {.y = {y[0]->dev},
                            .x = x[0]->dev,
                            .w = {{w->dev, scale->dev, type, ROWS, COLS}},
                            .n = 1,
                            .t = T,
                            .t_gemm = T_GEMM,
                            .gate = gate->dev};
    ops->linear(dev, &a);
    ops->silu_mul(dev,
                  &(struct silu_mul_args){
                      .y = x[1]->dev, .gate = gate->dev, .up = x[1]->dev, .t = T_GEMM, .n = COLS});
    a.y[0] = y[1]->dev;
    a.x = x[1]->dev;
    a.gate = NULL;
    ops->linear(dev, &a);
    char *got[2];
    for (int i = 0; i < 2; i++)
        got[i] = check_download(&c, y[i]);
    check_true(
        !memcmp(got[0] + CHECK_GUARD, got[1] + CHECK_GUARD, T * ROWS * dtype_bytes(check_act(&c))),
        "linear: a gate differs from silu_mul before it (%s%s)", dtype_name(type),
        far ? ", far" : "");
    free(got[0]);
    free(got[1]);
    check_case_free(&c);
}

// A norm before and SwiGLU's product behind give the bits of rmsnorm, the products and silu_mul: outs of
// calls that do it all, and of the operations apart.
enum { FUSED_OUTS = 4 }; // y of gate, up and a third, sum

struct fused_shape {
    enum dtype type;
    int t, t_gemm, rows, cols;
    bool far; // sums and products beyond f16, some of what is added infinite
};

struct fused {
    struct fused_shape shape;
    struct check_buf *x, *add, *norm, *h, *w[2], *scale, *out[2][FUSED_OUTS];
};

static struct fused fused_bufs(struct check_case *c, const struct fused_shape *s)
{
    const struct check_limit none = {0};
    const double size = s->type == DTYPE_INT8 ? 127 : s->far ? 20 : 1;
    const size_t rows = (size_t)s->rows, cols = (size_t)s->cols, n = (size_t)s->t * cols,
                 n_out = (size_t)s->t * rows;
    struct fused f = {.shape = *s,
                      .x = rows_act(c, "x", n, 1),
                      .add = rows_act(c, "add", n, s->far ? 5e4 : 1),
                      .norm = rows_normal(c, "norm", cols, 0.5),
                      .h = check_work(c, "h", check_act(c), n),
                      .scale = check_input(c, "scale", DTYPE_F32, rows)};
    for (int i = 0; i < 2; i++) {
        f.w[i] = check_input(c, "w", s->type, rows * cols);
        check_fill_uniform(c, f.w[i], -size, size);
        for (int k = 0; k < FUSED_OUTS; k++)
            f.out[i][k] = check_output(c, "y", check_act(c), k < 3 ? n_out : n, none);
    }
    check_fill_uniform(c, f.scale, 0.001, 0.002);
    check_upload(c);
    return f;
}

// The calls that do it all, gate and up first, then with the third matrix and without the product.
static void do_together(const struct check_case *c, const struct fused *f, struct linear_args a)
{
    struct check_buf *const *y = f->out[0];
    a.norm = (struct linear_norm){f->norm->dev, f->add->dev, y[3]->dev, f->h->dev, 1e-6f};
    a.n = 2;
    a.glu = true;
    a.y[0] = y[0]->dev;
    a.y[1] = y[1]->dev;
    c->ops->linear(c->dev, &a);
    a.n = 3;
    a.glu = false;
    a.norm.sum = NULL;
    a.y[1] = f->out[1][0]->dev; // which do_apart writes again
    a.y[2] = y[2]->dev;
    c->ops->linear(c->dev, &a);
}

static void do_apart(const struct check_case *c, const struct fused *f, struct linear_args a)
{
    struct check_buf *const *y = f->out[1];
    const int rows = f->shape.rows;
    const size_t at = (size_t)a.t_gemm * (size_t)rows;
    c->ops->rmsnorm(c->dev, &(struct rmsnorm_args){f->h->dev, f->x->dev, f->add->dev, y[3]->dev,
                                                   f->norm->dev, a.t, f->shape.cols, 1e-6f});
    a.x = f->h->dev;
    a.n = 3;
    for (int k = 0; k < a.n; k++)
        a.y[k] = y[k]->dev;
    c->ops->linear(c->dev, &a);
    c->ops->silu_mul(c->dev, &(struct silu_mul_args){.y = check_act_at(c, y[1]->dev, at),
                                                     .gate = check_act_at(c, y[0]->dev, at),
                                                     .up = check_act_at(c, y[1]->dev, at),
                                                     .t = a.t - a.t_gemm,
                                                     .n = rows});
}

static void check_fused(const struct ops *ops, struct dev *dev, struct fused_shape s)
{
    struct check_case c = {.ops = ops, .dev = dev, .random = 96};
    s.type = check_type(&c, s.type);
    const struct fused f = fused_bufs(&c, &s);
    const struct weight gate = {f.w[0]->dev, f.scale->dev, s.type, s.rows, s.cols},
                        up = {f.w[1]->dev, f.scale->dev, s.type, s.rows, s.cols},
                        third = {f.w[0]->dev, f.scale->dev, s.type, s.rows - 16, s.cols};
    const struct linear_args a = {
        .x = f.x->dev, .w = {gate, up, third}, .t = s.t, .t_gemm = s.t_gemm};
    do_together(&c, &f, a);
    do_apart(&c, &f, a);
    for (int k = 0; k < FUSED_OUTS; k++) {
        char *got[2] = {check_download(&c, f.out[0][k]), check_download(&c, f.out[1][k])};
        check_true(
            !memcmp(got[0] + CHECK_GUARD, got[1] + CHECK_GUARD,
                    f.out[0][k]->n * dtype_bytes(check_act(&c))),
            "linear: norm and glu differ from doing them apart (%s, t=%d, matrix %d, %d x %d, "
            "y %d%s)",
            dtype_name(s.type), s.t, s.t_gemm, s.rows, s.cols, k, s.far ? ", far" : "");
        free(got[0]);
        free(got[1]);
    }
    check_case_free(&c);
}

// INT8: what is faster with many rows (on a device, the library or a kernel of our own: whichever its
// timing prefers) gives the bits of the path of few rows, tails of every tile included.
static void check_many_rows(const struct ops *ops, struct dev *dev)
{
    struct check_case c = {.ops = ops, .dev = dev, .random = 97};
    enum { T = 1803, ROWS = 1848, COLS = 528, PATHS = 2 };
    const struct check_limit none = {0};
    struct check_buf *x = rows_act(&c, "x", T * COLS, 1), *y[PATHS];
    struct check_buf *w = check_input(&c, "w", DTYPE_INT8, ROWS * COLS);
    struct check_buf *scale = check_input(&c, "scale", DTYPE_F32, ROWS);
    for (int i = 0; i < PATHS; i++)
        y[i] = check_output(&c, "y", check_act(&c), T * ROWS, none);
    check_fill_uniform(&c, w, -127, 127);
    check_fill_uniform(&c, scale, 0.001, 0.002);
    check_upload(&c);
    char *got[PATHS];
    for (int i = 0; i < PATHS; i++) {
        ops->linear(dev, &(struct linear_args){.y = {y[i]->dev},
                                               .x = x->dev,
                                               .w = {{w->dev, scale->dev, DTYPE_INT8, ROWS, COLS}},
                                               .n = 1,
                                               .t = T,
                                               .t_gemm = i ? T : 0});
        got[i] = check_download(&c, y[i]);
    }
    check_true(
        !memcmp(got[0] + CHECK_GUARD, got[1] + CHECK_GUARD, T * ROWS * dtype_bytes(check_act(&c))),
        "linear: int8 of many rows differs between the paths");
    for (int i = 0; i < PATHS; i++)
        free(got[i]);
    check_case_free(&c);
}

// Every third output is beyond f16: of the few-rows path it is f16's largest number, of the matrix path that or
// infinite. The others are exact.
static void check_far(const struct ops *ops, struct dev *dev, const int shape[4])
{
    struct check_case c = {.ops = ops, .dev = dev};
    const int t = shape[0], t_gemm = shape[1], rows = shape[2], cols = shape[3];
    const size_t n_x = (size_t)t * (size_t)cols, n_w = (size_t)rows * (size_t)cols;
    struct check_buf *x = check_input(&c, "x", DTYPE_F16, n_x);
    struct check_buf *w = check_input(&c, "w", DTYPE_F16, n_w);
    struct check_buf *y = check_work(&c, "y", DTYPE_F16, (size_t)t * (size_t)rows);
    for (size_t i = 0; i < n_x; i++)
        check_set(x, i, i / (size_t)cols % 2 ? -1 : 1);
    for (size_t i = 0; i < n_w; i++)
        check_set(w, i, i / (size_t)cols % 3 ? 0x1p-10 : -128);
    check_upload(&c);
    ops->linear(dev, &(struct linear_args){.y = {y->dev},
                                           .x = x->dev,
                                           .w = {{w->dev, NULL, DTYPE_F16, rows, cols}},
                                           .n = 1,
                                           .t = t,
                                           .t_gemm = t_gemm});
    char *image = check_download(&c, y);
    double got = 0, want = 0;
    int i = 0;
    for (bool right = true; i < t * rows && right; i += right) {
        const bool far = i % rows % 3 == 0;
        const double sign = i / rows % 2 ? -1 : 1;
        want = sign * (far ? -65504 : 0x1p-10 * cols);
        got = check_load(image + CHECK_GUARD, DTYPE_F16, (size_t)i);
        right = got == want || (far && i / rows < t_gemm && got == -sign * INFINITY);
    }
    check_true(i == t * rows,
               "linear: beyond f16, t=%d (matrix %d) rows=%d cols=%d: y[%d] is %g, want %g", t,
               t_gemm, rows, cols, i, got, want);
    free(image);
    check_case_free(&c);
}

// What a call does along with its products, far: with values beyond f16.
static void check_together(const struct ops *ops, struct dev *dev, bool far)
{
    static const enum dtype TYPES[] = {DTYPE_F32, DTYPE_BF16, DTYPE_INT8};
    static const int ROWS_OF[][2] = {{1, 0}, {2, 0}, {4, 1}, {70, 33}, {33, 33}}; // t, t_gemm
    check_gate(ops, dev, DTYPE_BF16, far);
    for (size_t i = 0; i < sizeof ROWS_OF / sizeof *ROWS_OF; i++)
        for (int k = 0; k < 3; k++)
            check_fused(
                ops, dev,
                (struct fused_shape){TYPES[k], ROWS_OF[i][0], ROWS_OF[i][1], 2416, 1024, far});
    check_fused(ops, dev,
                (struct fused_shape){DTYPE_BF16, 1, 0, 9008, 2048, far}); // by boxes, see SHAPES
}

// Each of a device's kernels at least once: see SHAPES.
static void check_all_far(const struct ops *ops, struct dev *dev)
{
    static const int FAR[][4] = {
        {1, 0, 24, 1024},    {3, 0, 25000, 1024},   {6, 0, 17507, 2048},  {16, 0, 130, 1000},
        {20, 0, 4360, 1024}, {64, 0, 4360, 1024},   {12, 0, 200, 12288},  {40, 0, 16, 17408},
        {70, 0, 328, 1040},  {9, 0, 33, 1027},      {300, 256, 64, 1024}, {65, 64, 33, 1027},
        {80, 80, 768, 2048}, {512, 512, 384, 1024},
    };
    for (size_t i = 0; i < sizeof FAR / sizeof *FAR; i++)
        check_far(ops, dev, FAR[i]);
    check_together(ops, dev, true);
}

// INT8: the two paths give the same bits. Several matrices over one x, and a wide result, give what
// each gives alone.
static void extra(const struct ops *ops, struct dev *dev)
{
    struct check_case c = {.ops = ops, .dev = dev, .random = 99};
    enum { T = 65, ROWS = 96, COLS = 1000, OUTS = 5 };
    const struct check_limit none = {0};
    struct check_buf *x = rows_act(&c, "x", T * COLS, 1), *y[OUTS];
    struct check_buf *w = check_input(&c, "w", DTYPE_INT8, ROWS * COLS);
    struct check_buf *scale = check_input(&c, "scale", DTYPE_F32, ROWS);
    for (int i = 0; i < OUTS; i++)
        y[i] = check_output(&c, "y", i < 4 ? check_act(&c) : DTYPE_F32, T * ROWS, none);
    check_fill_uniform(&c, w, -127, 127);
    check_fill_uniform(&c, scale, 0.001, 0.002);
    check_upload(&c);
    const struct weight all = {w->dev, scale->dev, DTYPE_INT8, ROWS, COLS},
                        few = {w->dev, scale->dev, DTYPE_INT8, 40, COLS};
    const struct linear_args args[] = {
        {.y = {y[0]->dev}, .x = x->dev, .w = {all}, .n = 1, .t = T, .t_gemm = 0},
        {.y = {y[1]->dev}, .x = x->dev, .w = {all}, .n = 1, .t = T, .t_gemm = T},
        {.y = {y[2]->dev, y[3]->dev}, .x = x->dev, .w = {all, few}, .n = 2, .t = T, .t_gemm = 3},
        {.y = {y[4]->dev}, .x = x->dev, .w = {all}, .n = 1, .t = T, .t_gemm = 3, .wide = true}};
    char *got[OUTS];
    for (int i = 0; i < 4; i++)
        ops->linear(dev, &args[i]);
    for (int i = 0; i < OUTS; i++)
        got[i] = (char *)check_download(&c, y[i]) + CHECK_GUARD;
    const size_t size = T * ROWS * dtype_bytes(check_act(&c));
    check_true(!memcmp(got[0], got[1], size), "linear: int8 differs between the paths");
    check_true(!memcmp(got[0], got[2], size), "linear: int8 differs beside another matrix");
    bool same = true, near = true;
    for (size_t i = 0; i < T; i++)
        for (size_t k = 0; k < 40; k++)
            same &= check_load(got[3], y[3]->type, i * 40 + k) ==
                    check_load(got[0], y[0]->type, i * ROWS + k);
    for (size_t i = 0; i < (size_t)T * ROWS; i++)
        near &= fabs(check_load(got[4], DTYPE_F32, i) - check_load(got[0], y[0]->type, i)) <=
                0x1p-8 * fabs(check_load(got[4], DTYPE_F32, i));
    check_true(same, "linear: the second matrix of a call differs from itself alone");
    check_true(near, "linear: a wide result is another");
    for (int i = 0; i < OUTS; i++)
        free(got[i] - CHECK_GUARD);
    check_case_free(&c);
    check_many_rows(ops, dev);
    check_gate(ops, dev, DTYPE_INT8, false);
    check_together(ops, dev, false);
    if (ops->act(dev) == DTYPE_F16)
        check_all_far(ops, dev);
}

static void figures(const struct ops *ops, struct dev *dev)
{
    if (ops == &ops_cpu)
        linear_rival(ops, dev);
    else
        linear_table(ops, dev);
}

const struct op_check check_linear = {.n_cases = N,
                                      .n_perf = N_TIMED,
                                      .make = make,
                                      .part = part,
                                      .extra = extra,
                                      .perf_extra = figures};
