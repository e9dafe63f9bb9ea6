// weights.c - which tensors a model has and what becomes of them: used from the mapped file, or rounded,
// upcast or quantized into the weight slab. One list of bindings serves the plan and the loading.
#include <stdint.h>
#include <stdio.h>

#include "dummy.h"
#include "mem.h"
#include "qwen35_model.h"
#include "read_ahead.h"

enum {
    BINDINGS_PER_LAYER = 16, // at most: two norms, nine of the delta net, three of the MLP
    BINDINGS_TOP = 3,
    STAGE_BYTES = 16 << 20, // that go to the device before it makes something of them
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

struct loading {
    struct model *m;
    struct read_ahead *reader;
    size_t done, all; // bytes of the file
};

static void pass(struct loading *l, size_t bytes)
{
    l->done += bytes;
    read_ahead_passed(l->reader, l->done);
    if (l->m->options.progress)
        l->m->options.progress(l->m->options.progress_ud, l->done, l->all);
}

// Read one byte of every page now, so that the first request does not wait for the disk.
static void touch(struct loading *l, const struct tensor *t)
{
    const volatile unsigned char *p = t->data;
    for (size_t i = 0, n; i < t->bytes; i += n) {
        n = t->bytes - i < STAGE_BYTES ? t->bytes - i : STAGE_BYTES;
        for (size_t k = 0; k < n; k += BYTES_BETWEEN_TOUCHES)
            (void)p[i + k];
        pass(l, n);
    }
}

// What of n things of so many bytes each fits in the step's slab, which nothing uses while loading.
static size_t stage_room(const struct model *m, size_t each, size_t bytes_max)
{
    const size_t room = m->step.used < bytes_max ? m->step.used : bytes_max;
    CHECK(room >= each);
    return room / each;
}

static void *place_of(const struct binding *b)
{
    return (void *)(uintptr_t)(b->vector ? *b->vector : b->matrix->data);
}

// Rows `row` .. of a tensor, in the slab as values of type, to what the binding wants of them.
static void from_slab(struct model *m, const struct binding *b, enum dtype type, size_t row,
                      size_t rows)
{
    const size_t cols = (size_t)b->cols;
    char *to = place_of(b);
    if (b->type == DTYPE_INT8)
        m->ops->quantize(
            m->dev, &(struct quantize_args){.q = (int8_t *)to + row * cols,
                                            .scale = (float *)(uintptr_t)b->matrix->scale + row,
                                            .x = m->step.base,
                                            .type = type,
                                            .rows = (int)rows,
                                            .cols = b->cols});
    else
        m->ops->convert(m->dev, &(struct convert_args){.y = to + row * cols * dtype_bytes(b->type),
                                                       .x = m->step.base,
                                                       .to = b->type,
                                                       .from = type,
                                                       .n = rows * cols});
}

// Weights of a model that has only a shape: made where they will lie; int8 from float32 values in the slab, and f16
// from bf16 ones, which is what published checkpoints have.
static void make_up(struct model *m, const struct binding *b, uint64_t seed)
{
    const struct dummy_values v = dummy_values(b->from->name, b->cols);
    struct fill_args a = {.type = b->type, .seed = seed, .mean = v.mean, .deviation = v.deviation};
    if (b->type != DTYPE_INT8 && b->type != DTYPE_F16) {
        a.p = place_of(b);
        a.n = (size_t)b->rows * (size_t)b->cols;
        m->ops->fill(m->dev, &a);
        return;
    }
    a.p = m->step.base;
    a.type = b->type == DTYPE_INT8 ? DTYPE_F32 : DTYPE_BF16;
    const size_t rows_max = stage_room(m, (size_t)b->cols * dtype_bytes(a.type), SIZE_MAX);
    for (size_t r = 0, rows; r < (size_t)b->rows; r += rows, a.seed += (uint64_t)m->n_bindings) {
        rows = (size_t)b->rows - r < rows_max ? (size_t)b->rows - r : rows_max;
        a.n = rows * (size_t)b->cols;
        m->ops->fill(m->dev, &a);
        from_slab(m, b, a.type, r, rows);
    }
}

// Rows go to the device as the file has them; what has another type there takes the way through the slab.
static void fill(struct loading *l, const struct binding *b)
{
    struct model *m = l->m;
    const enum dtype type = (enum dtype)b->from->dtype;
    const size_t row_bytes = (size_t)b->cols * dtype_bytes(type), all = (size_t)b->rows;
    const size_t rows_max = stage_room(m, row_bytes, STAGE_BYTES);
    const char *from = b->from->data;
    for (size_t r = 0, rows; r < all; r += rows) {
        const size_t at = r * row_bytes;
        rows = all - r < rows_max ? all - r : rows_max;
        m->ops->upload(m->dev, type == b->type ? (char *)place_of(b) + at : m->step.base, from + at,
                       rows * row_bytes);
        if (type != b->type)
            from_slab(m, b, type, r, rows);
        pass(l, rows * row_bytes);
    }
}

// Reads ahead of weights_fill, in its order.
static struct read_ahead *read_bindings(const struct model *m)
{
    struct read_ahead_part *parts = mem_alloc((size_t)m->n_bindings * sizeof *parts);
    for (int i = 0; i < m->n_bindings; i++) // of a made-up model: nothing
        parts[i] = (struct read_ahead_part){
            m->bindings[i].from->data, m->bindings[i].from->data ? m->bindings[i].from->bytes : 0};
    struct read_ahead *reader = read_ahead_start(parts, m->n_bindings);
    mem_free(parts);
    return reader;
}

void weights_fill(struct model *m)
{
    struct loading l = {.m = m, .reader = read_bindings(m)};
    for (int i = 0; i < m->n_bindings; i++)
        l.all += m->bindings[i].from->bytes;
    for (int i = 0; i < m->n_bindings; i++) {
        const struct binding *b = &m->bindings[i];
        if (b->borrowed) {
            touch(&l, b->from);
        } else if (b->from->data) {
            fill(&l, b);
        } else {
            make_up(m, b, (uint64_t)i);
            pass(&l, b->from->bytes);
        }
    }
    read_ahead_stop(l.reader);
}
