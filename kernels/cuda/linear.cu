// linear.cu - y = x W^T: the rounding of x and the choice of who multiplies.
//
//   matrix path     cuBLASLt (linear_lt.cu)
//   few-rows path   linear_few.cu, linear_wide.cu: one order of sums for any number of rows
//   what those do not take, by the shape or place of W alone: linear_plain.cu
#include "linear_rows.cuh"
#include "quantize.cuh"

// x of the call in the types that its weights want; NULL where nobody does.
struct rounded_x {
    const int8_t *int8;
    const float *scale;
    const bf16 *bf16s;
    const float *floats;
};

template <typename to_t, typename from_t>
static __global__ void convert(to_t *y, const from_t *x, size_t n)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    if (i < n)
        y[i] = from_float<to_t>(to_float(x[i]));
}

// x = SiLU(gate) * x of rows t0 .. t - 1, in place.
static void apply_gate(struct dev *dev, const struct linear_args *a, int t0, int t)
{
    const size_t at = (size_t)t0 * (size_t)a->w[0].cols * dtype_bytes(cuda_of(dev)->act);
    const struct silu_mul_args args = {.y = (char *)a->x + at,
                                       .gate = (const char *)a->gate + at,
                                       .up = (const char *)a->x + at,
                                       .t = t - t0,
                                       .n = a->w[0].cols};
    if (t > t0)
        cuda_silu_mul(dev, &args);
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

// Rows of x to int8; those of the matrix path gated on the way where that can be.
static void round_int8(struct dev *dev, const struct linear_args *a, int8_t *q, float *scale)
{
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
            apply_gate(dev, a, 0, a->t_gemm);
            quantize_rows(dev, &args);
        }
        args.q += (size_t)a->t_gemm * cols;
        args.scale += a->t_gemm;
        args.x = (const char *)a->x + (size_t)a->t_gemm * cols * act_bytes;
        args.rows = a->t - a->t_gemm;
    }
    quantize_rows(dev, &args);
}

// False: no memory, kept for sync.
static bool round_x(struct dev *dev, const struct linear_args *a, struct rounded_x *x)
{
    const enum dtype act = cuda_of(dev)->act;
    const size_t t = (size_t)a->t, n = t * (size_t)a->w[0].cols;
    const bool int8 = has_type(a, DTYPE_INT8);
    const bool convert_bf16 = act == DTYPE_F32 && has_type(a, DTYPE_BF16);
    const bool convert_float = act == DTYPE_BF16 && has_type(a, DTYPE_F32);
    const size_t q_bytes = int8 ? (n + 255) / 256 * 256 : 0;
    const size_t s_bytes = int8 ? (t * sizeof(float) + 255) / 256 * 256 : 0;
    const size_t c_bytes = n * (convert_bf16 ? sizeof(bf16) : convert_float ? sizeof(float) : 0);
    char *p = NULL;
    if (q_bytes + c_bytes) {
        p = (char *)cuda_scratch(dev, CUDA_SLOT_LINEAR_X, q_bytes + s_bytes + c_bytes);
        if (!p)
            return false;
    }
    x->int8 = (int8_t *)p;
    x->scale = (float *)(p + q_bytes);
    x->bf16s = convert_bf16 ? (bf16 *)(p + q_bytes + s_bytes) : (const bf16 *)a->x;
    x->floats = convert_float ? (float *)(p + q_bytes + s_bytes) : (const float *)a->x;
    if (int8)
        round_int8(dev, a, (int8_t *)p, (float *)(p + q_bytes));
    if (convert_bf16)
        cuda_launch(dev, "linear", {blocks_for(n, 256), 256}, convert<bf16, float>,
                    (bf16 *)x->bf16s, (const float *)a->x, n);
    if (convert_float)
        cuda_launch(dev, "linear", {blocks_for(n, 256), 256}, convert<float, bf16>,
                    (float *)x->floats, (const bf16 *)a->x, n);
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
    p.x = p.w->type == DTYPE_INT8   ? (const void *)(x->int8 + at)
          : p.w->type == DTYPE_BF16 ? (const void *)(x->bf16s + at)
                                    : (const void *)(x->floats + at);
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

// Is the matrix one for linear_few and linear_wide? By its type, shape and place alone, so that all rows
// agree.
static bool streams(const struct linear_args *a, int i)
{
    const struct weight *w = &a->w[i];
    return w->type != DTYPE_F32 && (size_t)w->cols * dtype_bytes(w->type) % 16 == 0 &&
           pack_aligned(w->data) && pack_aligned(a->x) && w->cols <= FEW_COLS_MAX;
}

// How k is cut: by its length alone.
static void set_order(struct rows_args *a)
{
    for (int int8 = 0; int8 < 2; int8++) {
        const int blocks = row_blocks(a->k, int8), lines = (blocks + 1) / 2;
        int runs = (blocks + RUN_BLOCKS - 1) / RUN_BLOCKS;
        runs = runs > RUNS_MIN ? runs : RUNS_MIN;
        a->order[int8] = {blocks, runs, (lines + runs - 1) / runs * 2};
    }
}

// Rows t0 .. of the streaming matrices, those of one type or of both.
static struct rows_args rows_of(struct dev *dev, const struct linear_args *a, bool int8s,
                                bool bf16s)
{
    struct rows_args r = {};
    r.k = a->w[0].cols;
    r.y_float = a->wide || cuda_of(dev)->act == DTYPE_F32;
    for (int i = 0; i < a->n; i++) {
        const bool int8 = a->w[i].type == DTYPE_INT8;
        if (!streams(a, i) || !(int8 ? int8s : bf16s))
            continue;
        r.m[r.n++] = {
            (const char *)a->w[i].data, a->w[i].scale, a->y[i], a->w[i].rows, r.tiles, int8};
        r.tiles += (a->w[i].rows + TILE - 1) / TILE;
    }
    set_order(&r);
    return r;
}

// The rows r is for, moved to rows t0 .. of the call.
static void move_rows(struct rows_args *r, int t0, int t)
{
    r->t = t;
    for (int i = 0; i < r->n; i++)
        r->m[i].y = (char *)r->m[i].y + (size_t)t0 * (size_t)r->m[i].rows * (r->y_float ? 4 : 2);
}

static void few_rows(struct dev *dev, const struct linear_args *a, int t0, int each)
{
    const struct rows_args all = rows_of(dev, a, true, true);
    const size_t row = (size_t)all.k * dtype_bytes(cuda_of(dev)->act);
    for (int t = t0; t < a->t && all.n; t += each) {
        struct rows_args r = all;
        r.x = (const char *)a->x + (size_t)t * row;
        move_rows(&r, t, a->t - t < each ? a->t - t : each);
        linear_few(dev, &r);
    }
}

static void wide_rows(struct dev *dev, const struct linear_args *a, const struct rounded_x *x,
                      int t0)
{
    for (int int8 = 0; int8 < 2; int8++) {
        const struct rows_args all = rows_of(dev, a, int8, !int8);
        for (int t = t0; t < a->t && all.n; t += WIDE_ROWS) {
            struct rows_args r = all;
            const size_t at = (size_t)t * (size_t)r.k;
            r.x = int8 ? (const void *)(x->int8 + at) : (const void *)(x->bf16s + at);
            r.x_scale = int8 ? x->scale + t : NULL;
            move_rows(&r, t, a->t - t < WIDE_ROWS ? a->t - t : WIDE_ROWS);
            linear_wide(dev, &r);
        }
    }
}

void cuda_linear(struct dev *dev, const struct linear_args *a)
{
    const int rest = a->t - a->t_gemm, each = few_rows_max(a);
    const bool few = rest <= each;
    bool plain = false;
    for (int i = 0; i < a->n; i++)
        plain |= !streams(a, i);
    struct rounded_x x = {};
    if (a->gate && a->t > 0)
        apply_gate(dev, a, gates_while_rounding(dev, a) ? a->t_gemm : 0, a->t);
    if (a->t < 1 || ((a->t_gemm > 0 || !few || plain) && !round_x(dev, a, &x)))
        return;
    if (a->t_gemm > 0)
        matrix_path(dev, a, &x);
    if (rest < 1)
        return;
    for (int i = 0; i < a->n && plain; i++) {
        struct product p = product_of(dev, a, &x, i, a->t_gemm);
        p.t = rest;
        if (!streams(a, i))
            linear_plain(dev, &p);
    }
    if (few)
        few_rows(dev, a, a->t_gemm, each);
    else
        wide_rows(dev, a, &x, a->t_gemm);
}
