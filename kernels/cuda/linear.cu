// linear.cu - y = x W^T: the rounding of x and the choice of who multiplies.
//
//   matrix path     cuBLASLt (linear_lt.cu)
//   few-rows path   linear_few.cu, linear_cluster.cu, linear_wide.cu: one order of sums for any number of rows
//   what those do not take, by the shape or place of W alone: linear_plain.cu
#include "linear_rows.cuh"
#include "quantize.cuh"

// x of the call in the types that its weights want; NULL where nobody does.
struct rounded_x {
    const int8_t *int8;
    const float *scale;
    const void *halves; // of the device's 16-bit type
    const float *floats;
};

// up = SiLU(gate) * up of rows first .. end - 1.
static void apply_gate(struct dev *dev, const void *gate, const void *up, int cols, int first,
                       int end)
{
    const size_t at = (size_t)first * (size_t)cols * dtype_bytes(cuda_of(dev)->act);
    const struct silu_mul_args args = {.y = (char *)up + at,
                                       .gate = (const char *)gate + at,
                                       .up = (const char *)up + at,
                                       .t = end - first,
                                       .n = cols};
    cuda_silu_mul(dev, &args);
}

// Are the weights of types that go with the device's activations? See struct weight.
static bool check_types(struct dev *dev, const struct linear_args *a)
{
    for (int i = 0; i < a->n; i++) {
        const enum dtype type = a->w[i].type;
        if (type == DTYPE_F32 || type == DTYPE_INT8 || type == cuda_half(dev))
            continue;
        cuda_fail(dev, "linear: weights of %s with activations of %s; f16 goes with f16",
                  dtype_name(type), dtype_name(cuda_of(dev)->act));
        return false;
    }
    return true;
}

static bool has_type(const struct linear_args *a, enum dtype type)
{
    for (int i = 0; i < a->n; i++)
        if (a->w[i].type == type)
            return true;
    return false;
}

// May the gate of the matrix path's rows wait for their rounding? When nothing but int8 reads them.
static bool gates_while_rounding(struct dev *dev, const struct linear_args *a)
{
    return a->gate && cuda_of(dev)->act == DTYPE_BF16 && !has_type(a, DTYPE_BF16) &&
           !has_type(a, DTYPE_F32);
}

// Rows of x to int8, by way of a norm where there is one; those of the matrix path gated on the way where that can
// be.
static void round_int8(struct dev *dev, const struct linear_args *a,
                       const struct rmsnorm_args *norm, int8_t *q, float *scale)
{
    if (norm->w && rmsnorm_rows_int8(dev, norm, q, scale))
        return;
    if (norm->w) {
        struct rmsnorm_args apart = *norm;
        apart.y = (void *)a->x;
        cuda_rmsnorm(dev, &apart);
    }
    const size_t cols = (size_t)a->w[0].cols, act_bytes = dtype_bytes(cuda_of(dev)->act);
    struct quantize_args args = {.q = q,
                                 .scale = scale,
                                 .x = a->x,
                                 .type = cuda_of(dev)->act,
                                 .rows = a->t,
                                 .cols = a->w[0].cols};
    if (gates_while_rounding(dev, a)) {
        args.rows = a->t_gemm;
        if (!quantize_gated_rows(dev, &args, a->gate)) {
            apply_gate(dev, a->gate, a->x, a->w[0].cols, 0, a->t_gemm);
            quantize_rows(dev, &args);
        }
        args.q += (size_t)a->t_gemm * cols;
        args.scale += a->t_gemm;
        args.x = (const char *)a->x + (size_t)a->t_gemm * cols * act_bytes;
        args.rows = a->t - a->t_gemm;
    }
    quantize_rows(dev, &args);
}

// norm: what makes a->x, or nothing (w is NULL), see take_norm. False: no memory, kept for sync.
static bool round_x(struct dev *dev, const struct linear_args *a, const struct rmsnorm_args *norm,
                    struct rounded_x *x)
{
    const enum dtype act = cuda_of(dev)->act;
    const size_t t = (size_t)a->t, n = t * (size_t)a->w[0].cols;
    const bool int8 = has_type(a, DTYPE_INT8);
    const bool convert_half = act == DTYPE_F32 && has_type(a, DTYPE_BF16);
    const bool convert_float = act != DTYPE_F32 && has_type(a, DTYPE_F32);
    const size_t q_bytes = int8 ? (n + 255) / 256 * 256 : 0;
    const size_t s_bytes = int8 ? (t * sizeof(float) + 255) / 256 * 256 : 0;
    const size_t c_bytes = n * (convert_half ? sizeof(bf16) : convert_float ? sizeof(float) : 0);
    char *p = NULL;
    if (q_bytes + c_bytes) {
        p = (char *)cuda_scratch(dev, CUDA_SLOT_LINEAR_X, q_bytes + s_bytes + c_bytes);
        if (!p)
            return false;
    }
    x->int8 = (int8_t *)p;
    x->scale = (float *)(p + q_bytes);
    x->halves = convert_half ? p + q_bytes + s_bytes : a->x;
    x->floats = convert_float ? (float *)(p + q_bytes + s_bytes) : (const float *)a->x;
    if (int8)
        round_int8(dev, a, norm, (int8_t *)p, (float *)(p + q_bytes));
    const struct convert_args args = {.y = p + q_bytes + s_bytes,
                                      .x = a->x,
                                      .to = convert_half ? DTYPE_BF16 : DTYPE_F32,
                                      .from = act,
                                      .n = n};
    if (c_bytes)
        convert_values(dev, &args);
    return true;
}

// Rows t0 .. t0 + t - 1 of y = x W[i]^T.
static struct product product_of(struct dev *dev, const struct linear_args *a,
                                 const struct rounded_x *x, int i, int t0)
{
    struct product p = {};
    p.w = &a->w[i];
    p.y_type = a->wide ? DTYPE_F32 : cuda_of(dev)->act;
    p.y = (char *)a->y[i] + (size_t)t0 * (size_t)p.w->rows * dtype_bytes(p.y_type);
    const size_t at = (size_t)t0 * (size_t)p.w->cols;
    p.x = p.w->type == DTYPE_INT8  ? (const void *)(x->int8 + at)
          : p.w->type == DTYPE_F32 ? (const void *)(x->floats + at)
                                   : (const void *)((const uint16_t *)x->halves + at);
    p.x_scale = p.w->type == DTYPE_INT8 ? x->scale + t0 : NULL;
    return p;
}

static void matrix_path(struct dev *dev, const struct linear_args *a, const struct rounded_x *x)
{
    for (int i = 0; i < a->n; i++) {
        struct product p = product_of(dev, a, x, i, 0);
        p.t = a->t_gemm;
        if (!linear_lt(dev, &p))
            linear_plain(dev, &p);
    }
}

// Is the matrix one for the few-rows path? By its type, shape and place alone, so that all rows
// agree.
static bool streams(const struct linear_args *a, int i)
{
    const struct weight *w = &a->w[i];
    return w->type != DTYPE_F32 && (size_t)w->cols * dtype_bytes(w->type) % 16 == 0 &&
           pack_aligned(w->data) && pack_aligned(a->x) && w->cols <= FEW_COLS_MAX;
}

// The call's streaming matrices, those of one type or of both.
static struct rows_args rows_of(struct dev *dev, const struct linear_args *a, bool int8s,
                                bool halves)
{
    struct rows_args r = {};
    r.k = a->w[0].cols;
    r.y_type = a->wide ? DTYPE_F32 : cuda_of(dev)->act;
    for (int i = 0; i < a->n; i++) {
        const bool int8 = a->w[i].type == DTYPE_INT8;
        if (!streams(a, i) || !(int8 ? int8s : halves))
            continue;
        r.m[r.n++] = {
            (const char *)a->w[i].data, a->w[i].scale, a->y[i], a->w[i].rows, r.tiles, int8};
        r.tiles += (a->w[i].rows + TILE - 1) / TILE;
    }
    for (int int8 = 0; int8 < 2; int8++) // by its length alone
        r.order[int8] = rows_order_of(row_blocks(r.k, int8), RUN_BLOCKS);
    return r;
}

// The rows r is for, moved to rows t0 .. of the call.
static void move_rows(struct rows_args *r, int t0, int t)
{
    r->t = t;
    for (int i = 0; i < r->n; i++)
        r->m[i].y = (char *)r->m[i].y + (size_t)t0 * (size_t)r->m[i].rows * dtype_bytes(r->y_type);
}

// Rows t_gemm .. of the call, `each` at a time.
static void few_rows(struct dev *dev, const struct linear_args *a, int each)
{
    struct rows_args all = rows_of(dev, a, true, true);
    const size_t row = (size_t)all.k * dtype_bytes(cuda_of(dev)->act);
    all.pair = a->glu;
    all.norm = {a->norm.w, a->norm.add, a->norm.sum, a->norm.eps};
    for (int t = a->t_gemm; t < a->t && all.n; t += each) {
        struct rows_args r = all;
        r.x = (const char *)a->x + (size_t)t * row;
        move_rows(&r, t, a->t - t < each ? a->t - t : each);
        linear_few(dev, &r);
    }
}

static void wide_rows(struct dev *dev, const struct linear_args *a, const struct rounded_x *x,
                      int t0)
{
    // All rows beside linear_wide.cu's ring are 100 KB: too much for a block on sm_89 and sm_120.
    const int each = cuda_of(dev)->sm_shared < 128 << 10 ? WIDE_ROWS / 2 : WIDE_ROWS;
    for (int int8 = 0; int8 < 2; int8++) {
        const struct rows_args all = rows_of(dev, a, int8, !int8);
        for (int t = t0; t < a->t && all.n; t += each) {
            struct rows_args r = all;
            const size_t at = (size_t)t * (size_t)r.k;
            r.x = int8 ? (const void *)(x->int8 + at)
                       : (const void *)((const uint16_t *)x->halves + at);
            r.x_scale = int8 ? x->scale + t : NULL;
            move_rows(&r, t, a->t - t < each ? a->t - t : each);
            if (!linear_cluster(dev, &r))
                linear_wide(dev, &r);
        }
    }
}

static bool all_stream(const struct linear_args *a)
{
    for (int i = 0; i < a->n; i++)
        if (!streams(a, i))
            return false;
    return true;
}

// Is the call's norm one that linear_few takes along?
static bool norms_itself(struct dev *dev, const struct linear_args *a)
{
    struct rows_args r = rows_of(dev, a, true, true);
    r.t = a->t;
    r.norm.add = a->norm.add;
    return a->t_gemm == 0 && a->t <= few_rows_max(dev, a) && all_stream(a) && few_norms(dev, &r) &&
           pack_aligned(a->norm.add) && pack_aligned(a->norm.sum) && pack_aligned(a->norm.w);
}

// Rows t_gemm .. of the call.
static void rows_path(struct dev *dev, const struct linear_args *a, const struct rounded_x *x)
{
    const int rest = a->t - a->t_gemm, each = few_rows_max(dev, a);
    for (int i = 0; i < a->n; i++) {
        if (streams(a, i))
            continue;
        struct product p = product_of(dev, a, x, i, a->t_gemm);
        p.t = rest;
        linear_plain(dev, &p);
    }
    if (rest <= each)
        few_rows(dev, a, each);
    else
        wide_rows(dev, a, x, a->t_gemm);
}

static bool are_few(struct dev *dev, const struct linear_args *a)
{
    return a->t - a->t_gemm <= few_rows_max(dev, a);
}

// Are rows of x rounded before they are multiplied? linear_few rounds its own.
static bool rounds(struct dev *dev, const struct linear_args *a)
{
    return a->t_gemm > 0 || !are_few(dev, a) || !all_stream(a);
}

// The call's norm becomes an operation of its own, which leaves x in h; where x is rounded to int8 it waits for that
// and is done along with it, and then leaves no more in h than others read.
static struct rmsnorm_args take_norm(struct dev *dev, struct linear_args *a)
{
    struct rmsnorm_args norm = {a->norm.h, a->x, a->norm.add,  a->norm.sum,
                                a->norm.w, a->t, a->w[0].cols, a->norm.eps};
    a->x = a->norm.h;
    a->norm = {};
    if (!rounds(dev, a) || !has_type(a, DTYPE_INT8)) {
        cuda_rmsnorm(dev, &norm);
        return {};
    }
    const bool own = are_few(dev, a) && a->t_gemm < a->t;
    if (!own && !has_type(a, DTYPE_F32) && !has_type(a, cuda_half(dev)))
        norm.y = NULL;
    return norm;
}

static void multiply(struct dev *dev, const struct linear_args *a, const struct rmsnorm_args *norm)
{
    struct rounded_x x = {};
    if (a->gate && !gates_while_rounding(dev, a))
        apply_gate(dev, a->gate, a->x, a->w[0].cols, 0, a->t_gemm);
    if (rounds(dev, a) && !round_x(dev, a, norm, &x))
        return;
    if (a->t_gemm > 0)
        matrix_path(dev, a, &x);
    if (a->t_gemm < a->t)
        rows_path(dev, a, &x);
}

void cuda_linear(struct dev *dev, const struct linear_args *args)
{
    struct linear_args a = *args;
    struct rmsnorm_args norm = {};
    if (a.t < 1 || !check_types(dev, &a))
        return;
    if (a.norm.w && !norms_itself(dev, &a))
        norm = take_norm(dev, &a);
    // linear_few makes SwiGLU's product itself.
    const bool glu = a.glu && !(all_stream(&a) && are_few(dev, &a));
    a.glu = a.glu && !glu;
    multiply(dev, &a, &norm);
    if (glu && a.t_gemm < a.t)
        apply_gate(dev, a.y[0], a.y[1], a.w[1].rows, a.t_gemm, a.t);
}
