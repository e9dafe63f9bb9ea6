// weights.c - which tensors a model has and what becomes of them: used from the mapped file, or rounded,
// upcast or quantized into the weight slab. One list of bindings serves the plan and the loading.
#include <stdint.h>
#include <stdio.h>

#include "convert.h"
#include "dummy.h"
#include "mem.h"
#include "qwen35_model.h"

enum {
    BINDINGS_PER_LAYER = 16, // at most: two norms, nine of the delta net, three of the MLP
    BINDINGS_TOP = 3,
    STAGE_VALUES = 1 << 20, // converted on the host at a time
    BYTES_BETWEEN_TOUCHES = 4096,
};

// A first failure is kept and every later call does nothing, so that the lists below stay lists.
struct binder {
    struct model *m;
    int layer; // -1: not a layer's
    struct err *e;
    bool failed;
};

// Large matrices take the options' type; fine ones (few values, or not a product) are never int8.
enum grain { LARGE, FINE };

static enum dtype matrix_type(const struct model *m, enum grain grain)
{
    enum dtype type = m->options.dtype;
    return type == DTYPE_INT8 && grain == FINE ? DTYPE_BF16 : type;
}

// Can the device read the tensor where the file has it?
static bool can_borrow(const struct model *m, const struct tensor *t, enum dtype type)
{
    return t->data && type == DTYPE_BF16 && t->dtype == DTYPE_BF16 &&
           (uintptr_t)t->data % sizeof(uint16_t) == 0 &&
           m->ops->borrow(m->dev, t->data, t->bytes) != NULL;
}

static void bind_tensor(struct model *m, const struct tensor *t, struct binding binding)
{
    binding.from = t;
    binding.borrowed = binding.matrix && can_borrow(m, t, binding.type);
    m->bindings[m->n_bindings++] = binding;
    m->memory.n_params += (int64_t)binding.rows * binding.cols;
}

static const struct tensor *take(struct binder *b, const char *name, int rows, int cols)
{
    char full[128];
    const struct tensor *t = NULL;
    if (b->layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "layers.%d.%s", b->layer, name);
    if (!b->failed)
        t = checkpoint_take(&b->m->checkpoint, full, rows, cols, b->e);
    b->failed = !t;
    return t;
}

static void matrix(struct binder *b, const char *name, int rows, int cols, struct weight *w,
                   enum grain grain)
{
    const struct tensor *t = take(b, name, rows, cols);
    if (t)
        bind_tensor(b->m, t,
                    (struct binding){
                        .matrix = w, .type = matrix_type(b->m, grain), .rows = rows, .cols = cols});
}

// cols 0: one dimension.
static void vector(struct binder *b, const char *name, int rows, int cols, const float **v)
{
    const struct tensor *t = take(b, name, rows, cols);
    if (t)
        bind_tensor(b->m, t,
                    (struct binding){
                        .vector = v, .type = DTYPE_F32, .rows = rows, .cols = cols ? cols : 1});
}

static void bind_attention(struct binder *b, struct attention_weights *w)
{
    const struct config *c = &b->m->config;
    int h = c->hidden_size, q = config_query_width(c), kv = config_kv_width(c);
    matrix(b, "self_attn.q_proj.weight", 2 * q, h, &w->q_proj, LARGE);
    matrix(b, "self_attn.k_proj.weight", kv, h, &w->k_proj, LARGE);
    matrix(b, "self_attn.v_proj.weight", kv, h, &w->v_proj, LARGE);
    matrix(b, "self_attn.o_proj.weight", h, q, &w->o_proj, LARGE);
    vector(b, "self_attn.q_norm.weight", c->head_dim, 0, &w->q_norm);
    vector(b, "self_attn.k_norm.weight", c->head_dim, 0, &w->k_norm);
}

static void bind_delta(struct binder *b, struct delta_weights *w)
{
    const struct config *c = &b->m->config;
    int h = c->hidden_size, heads = c->linear_num_value_heads;
    int channels = config_conv_channels(c), values = config_value_width(c);
    matrix(b, "linear_attn.in_proj_qkv.weight", channels, h, &w->in_proj_qkv, LARGE);
    matrix(b, "linear_attn.in_proj_z.weight", values, h, &w->in_proj_z, LARGE);
    // a and b steer decay and step size through exp: a rounding error there lasts the whole context.
    matrix(b, "linear_attn.in_proj_b.weight", heads, h, &w->in_proj_b, FINE);
    matrix(b, "linear_attn.in_proj_a.weight", heads, h, &w->in_proj_a, FINE);
    matrix(b, "linear_attn.out_proj.weight", h, values, &w->out_proj, LARGE);
    vector(b, "linear_attn.conv1d.weight", channels, CONV_WIDTH, &w->conv1d);
    vector(b, "linear_attn.A_log", heads, 0, &w->A_log);
    vector(b, "linear_attn.dt_bias", heads, 0, &w->dt_bias);
    vector(b, "linear_attn.norm.weight", c->linear_value_head_dim, 0, &w->norm);
}

static void bind_mlp(struct binder *b, struct mlp_weights *w)
{
    int h = b->m->config.hidden_size, inner = b->m->config.intermediate_size;
    matrix(b, "mlp.gate_proj.weight", inner, h, &w->gate_proj, LARGE);
    matrix(b, "mlp.up_proj.weight", inner, h, &w->up_proj, LARGE);
    matrix(b, "mlp.down_proj.weight", h, inner, &w->down_proj, LARGE);
}

// A matrix of its own, or embed_tokens again: weights_place copies that then.
static int bind_head(struct model *m, struct err *e)
{
    const struct tensor *t = NULL;
    int rows = m->config.vocab_size, cols = m->config.hidden_size;
    if (checkpoint_take_head(&m->checkpoint, rows, cols, &t, e))
        return -1;
    if (t && !m->config.tie_word_embeddings)
        bind_tensor(
            m, t,
            (struct binding){
                .matrix = &m->lm_head, .type = matrix_type(m, FINE), .rows = rows, .cols = cols});
    else
        m->config.tie_word_embeddings = true;
    return 0;
}

int weights_bind(struct model *m, struct err *e)
{
    struct binder b = {.m = m, .layer = -1, .e = e};
    const struct config *c = &m->config;
    int n = c->num_hidden_layers;
    m->bindings = mem_zero((size_t)n * BINDINGS_PER_LAYER + BINDINGS_TOP, sizeof *m->bindings);
    m->layers = mem_zero((size_t)n, sizeof *m->layers);
    matrix(&b, "embed_tokens.weight", c->vocab_size, c->hidden_size, &m->embed_tokens, FINE);
    vector(&b, "norm.weight", c->hidden_size, 0, &m->norm);
    for (b.layer = 0; b.layer < n; b.layer++) {
        struct layer *l = &m->layers[b.layer];
        l->full_attention = c->full_attention[b.layer];
        vector(&b, "input_layernorm.weight", c->hidden_size, 0, &l->input_layernorm);
        vector(&b, "post_attention_layernorm.weight", c->hidden_size, 0,
               &l->post_attention_layernorm);
        if (l->full_attention)
            bind_attention(&b, &l->attention);
        else
            bind_delta(&b, &l->delta);
        bind_mlp(&b, &l->mlp);
    }
    if (b.failed || bind_head(m, e))
        return -1;
    return checkpoint_check_unused(&m->checkpoint, e);
}

void weights_place(struct model *m)
{
    m->memory.mapped = 0;
    for (int i = 0; i < m->n_bindings; i++) {
        struct binding *b = &m->bindings[i];
        size_t rows = (size_t)b->rows, cols = (size_t)b->cols;
        void *scale = b->type == DTYPE_INT8 ? slab_take(&m->weights, rows, sizeof(float)) : NULL;
        const void *data = NULL;
        if (b->borrowed) {
            data = m->ops->borrow(m->dev, b->from->data, b->from->bytes);
            m->memory.mapped += b->from->bytes;
        } else {
            data = slab_take(&m->weights, rows, cols * dtype_bytes(b->type));
        }
        if (b->vector)
            *b->vector = data;
        else
            *b->matrix = (struct weight){
                .data = data, .scale = scale, .type = b->type, .rows = b->rows, .cols = b->cols};
    }
    if (m->config.tie_word_embeddings)
        m->lm_head = m->embed_tokens;
}

// Read one byte of every page now, so that the first request does not wait for the disk.
static void touch(const struct tensor *t)
{
    const volatile unsigned char *p = t->data;
    for (size_t i = 0; i < t->bytes; i += BYTES_BETWEEN_TOUCHES)
        (void)p[i];
}

// The rows of a large matrix that fit in the step's slab as float32; nothing uses it while loading.
static int stage_rows(const struct model *m, int cols, size_t values_max)
{
    size_t room = m->step.used / sizeof(float);
    int rows = (int)((room < values_max ? room : values_max) / (size_t)cols);
    CHECK(rows >= 1);
    return rows;
}

static void quantize(struct model *m, const struct binding *b, int row, int rows)
{
    size_t cols = (size_t)b->cols;
    m->ops->quantize(m->dev, &(struct quantize_args){
                                 .q = (int8_t *)(uintptr_t)b->matrix->data + (size_t)row * cols,
                                 .scale = (float *)(uintptr_t)b->matrix->scale + row,
                                 .x = m->step.base,
                                 .type = DTYPE_F32,
                                 .rows = rows,
                                 .cols = b->cols});
}

// Weights of a model that has only a shape: made where they will lie.
static void make_up(struct model *m, const struct binding *b, uint64_t seed)
{
    const struct dummy_values v = dummy_values(b->from->name, b->cols);
    struct fill_args a = {.type = b->type, .seed = seed, .mean = v.mean, .deviation = v.deviation};
    if (b->type != DTYPE_INT8) {
        a.p = (void *)(uintptr_t)(b->vector ? *b->vector : b->matrix->data);
        a.n = (size_t)b->rows * (size_t)b->cols;
        m->ops->fill(m->dev, &a);
        return;
    }
    int rows_max = stage_rows(m, b->cols, SIZE_MAX);
    a.p = m->step.base;
    a.type = DTYPE_F32;
    for (int r = 0; r < b->rows; r += rows_max, a.seed += m->n_bindings) {
        int rows = b->rows - r < rows_max ? b->rows - r : rows_max;
        a.n = (size_t)rows * (size_t)b->cols;
        m->ops->fill(m->dev, &a);
        quantize(m, b, r, rows);
    }
}

// Float32 rows go through the step's slab, which nothing uses while loading, into quantize.
static void fill_int8(struct model *m, const struct binding *b, float *stage)
{
    const char *from = b->from->data;
    size_t cols = (size_t)b->cols, row_bytes = cols * dtype_bytes(b->from->dtype);
    int rows_max = stage_rows(m, b->cols, STAGE_VALUES);
    for (int r = 0; r < b->rows; r += rows_max) {
        int rows = b->rows - r < rows_max ? b->rows - r : rows_max;
        size_t n = (size_t)rows * cols;
        convert_to_f32(stage, from + (size_t)r * row_bytes, (enum dtype)b->from->dtype, n);
        m->ops->upload(m->dev, m->step.base, stage, n * sizeof *stage);
        quantize(m, b, r, rows);
    }
}

static void fill_float(struct model *m, const struct binding *b, float *stage)
{
    enum dtype type = (enum dtype)b->from->dtype;
    const char *from = b->from->data;
    char *to = (char *)(uintptr_t)(b->vector ? *b->vector : b->matrix->data);
    size_t n = (size_t)b->rows * (size_t)b->cols;
    if (type == b->type) { // as the file has it
        m->ops->upload(m->dev, to, from, n * dtype_bytes(type));
        return;
    }
    for (size_t i = 0; i < n; i += STAGE_VALUES) {
        size_t part = n - i < STAGE_VALUES ? n - i : STAGE_VALUES;
        if (b->type == DTYPE_BF16)
            convert_to_bf16((uint16_t *)(void *)stage, from + i * dtype_bytes(type), type, part);
        else if (b->type == DTYPE_F16)
            convert_to_f16((uint16_t *)(void *)stage, from + i * dtype_bytes(type), type, part);
        else
            convert_to_f32(stage, from + i * dtype_bytes(type), type, part);
        m->ops->upload(m->dev, to + i * dtype_bytes(b->type), stage, part * dtype_bytes(b->type));
    }
}

void weights_fill(struct model *m)
{
    size_t done = 0, all = 0;
    float *stage = mem_alloc(STAGE_VALUES * sizeof *stage);
    for (int i = 0; i < m->n_bindings; i++)
        all += m->bindings[i].from->bytes;
    for (int i = 0; i < m->n_bindings; i++) {
        const struct binding *b = &m->bindings[i];
        if (!b->from->data)
            make_up(m, b, (uint64_t)i);
        else if (b->borrowed)
            touch(b->from);
        else if (b->type == DTYPE_INT8)
            fill_int8(m, b, stage);
        else
            fill_float(m, b, stage);
        done += b->from->bytes;
        if (m->options.progress)
            m->options.progress(m->options.progress_ud, done, all);
    }
    mem_free(stage);
}
