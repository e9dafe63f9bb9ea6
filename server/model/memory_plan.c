// memory_plan.c - how much memory a model takes, before any of it is taken. The functions that place
// things in the slabs are run twice: once without memory, which gives the sums, once with it.
#define _GNU_SOURCE
#include <limits.h>

#include "qwen35_model.h"

enum { TOKENS_MAX = 1 << 17, SEQUENCES_MAX = 4096 };

void *slab_take(struct slab *s, size_t n, size_t bytes_each)
{
    size_t bytes = 0, used = 0;
    if (__builtin_mul_overflow(n, bytes_each, &bytes) ||
        __builtin_add_overflow(bytes, SLAB_ALIGN - 1, &bytes) ||
        __builtin_add_overflow(s->used, bytes &= ~(size_t)(SLAB_ALIGN - 1), &used)) {
        s->overflow = true;
        return NULL;
    }
    void *p = s->base ? s->base + s->used : NULL;
    s->used = used;
    return p;
}

int model_pages_max(const struct model *m)
{
    return (m->options.context_max + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

static int check_range(const char *name, int value, int max, struct err *e)
{
    if (value < 1 || value > max)
        return err_set(e, ERR_BAD_REQUEST, "%s is %d; give 1 to %d", name, value, max);
    return 0;
}

enum dtype model_act(enum dtype dtype)
{
    return dtype == DTYPE_F32 ? DTYPE_F32 : dtype_half(dtype);
}

static int check_options(struct model *m, struct err *e)
{
    struct model_options *o = &m->options;
    char why[256];
    int positions = m->config.max_position_embeddings;
    if (o->dtype == DTYPE_INT32)
        return err_set(e, ERR_BAD_REQUEST, "dtype is %s; give f32, bf16, f16 or int8",
                       dtype_name(o->dtype));
    if ((o->dtype == DTYPE_F16) != (m->ops->act(m->dev) == DTYPE_F16))
        return err_set(e, ERR_BAD_REQUEST,
                       "dtype is %s, but the device computes with activations of %s; f16 goes with "
                       "f16, which only a GPU has",
                       dtype_name(o->dtype), dtype_name(m->ops->act(m->dev)));
    if (o->state_dtype != DTYPE_F32 && o->state_dtype != DTYPE_BF16)
        return err_set(e, ERR_BAD_REQUEST, "state_dtype is %s; give f32 or bf16",
                       dtype_name(o->state_dtype));
    if (check_range("batch_tokens", o->batch_tokens, TOKENS_MAX, e) ||
        check_range("batch_rows", o->batch_rows, TOKENS_MAX, e) ||
        check_range("sequences_max", o->sequences_max, SEQUENCES_MAX, e))
        return -1;
    if (o->context_max < 0 || o->context_max > positions)
        return err_set(e, ERR_BAD_REQUEST,
                       "context_max is %d; this model's max_position_embeddings is %d",
                       o->context_max, positions);
    if (inverse_check(&o->inverse, o->chunk, why, sizeof why))
        return err_set(e, ERR_BAD_REQUEST, "inverse: %s", why);
    if (o->residual_every < 0)
        return err_set(e, ERR_BAD_REQUEST, "residual_every is %d; give 0 or more",
                       o->residual_every);
    return 0;
}

// A page of every attention layer.
static size_t page_bytes(const struct model *m)
{
    size_t token = (size_t)config_kv_width(&m->config) * dtype_bytes(m->kv_type) * 2;
    return token * PAGE_TOKENS * (size_t)config_attention_layers(&m->config);
}

// How many pages, and what context they allow; see kv_bytes in struct model_options.
static int plan_pages(struct model *m, size_t physical_bytes, struct err *e)
{
    struct model_options *o = &m->options;
    size_t each = page_bytes(m), budget = o->kv_bytes ? o->kv_bytes : physical_bytes / 4;
    bool free_context = o->context_max == 0;
    if (free_context)
        o->context_max = m->config.max_position_embeddings;
    size_t one = (size_t)model_pages_max(m), want = one * (size_t)o->sequences_max;
    size_t n = each ? budget / each : want;
    if (!o->kv_bytes && n > want)
        n = want;
    if (n > INT_MAX)
        n = INT_MAX;
    if (n < one && free_context && n > 0) {
        o->context_max = (int)n * PAGE_TOKENS;
        one = n;
    }
    if (n < one)
        return err_set(
            e, ERR_TOO_LARGE,
            "one sequence of context_max %d tokens needs %zu bytes of KV pages and %s %zu; "
            "lower context_max or raise kv_bytes",
            o->context_max, one * each,
            o->kv_bytes ? "kv_bytes is" : "a quarter of this machine's memory is", budget);
    m->memory.n_pages = (int)n;
    m->memory.n_slots = o->sequences_max;
    m->memory.kv_bytes_per_token = each / PAGE_TOKENS;
    o->kv_bytes = n * each;
    return 0;
}

static void place_caches(struct model *m)
{
    const struct config *c = &m->config;
    size_t slots = (size_t)m->memory.n_slots, pages = (size_t)m->memory.n_pages;
    size_t page = (size_t)config_kv_width(c) * PAGE_TOKENS * dtype_bytes(m->kv_type);
    size_t state = (size_t)config_value_width(c) * (size_t)c->linear_key_head_dim;
    size_t state_bytes = dtype_bytes(m->options.state_dtype);
    size_t columns = (size_t)config_conv_channels(c) * (CONV_WIDTH - 1);
    for (int i = 0; i < c->num_hidden_layers; i++) {
        struct layer *l = &m->layers[i];
        if (l->full_attention) {
            l->k_pages = slab_take(&m->kv, pages, page);
            l->v_pages = slab_take(&m->kv, pages, page);
        } else {
            l->state = slab_take(&m->state, slots, state * state_bytes);
            l->conv_state = slab_take(&m->state, slots, columns * sizeof(float));
        }
    }
}

static void *act(struct slab *s, size_t rows, int width, size_t bytes)
{
    return slab_take(s, rows, (size_t)width * bytes);
}

// The largest of three groups that start at the same place.
static void place_layer_scratch(struct slab *slab, struct scratch *s, const struct config *c,
                                size_t t, size_t bytes)
{
    struct slab attention = *slab, delta = *slab, mlp = *slab;
    int q = config_query_width(c), kv = config_kv_width(c), values = config_value_width(c);
    s->attention.qg = act(&attention, t, 2 * q, bytes);
    s->attention.k = act(&attention, t, kv, bytes);
    s->attention.v = act(&attention, t, kv, bytes);
    s->attention.q = act(&attention, t, q, bytes);
    s->attention.o = act(&attention, t, q, bytes);
    s->delta.qkv = act(&delta, t, config_conv_channels(c), bytes);
    s->delta.conv = act(&delta, t, config_conv_channels(c), bytes);
    s->delta.z = act(&delta, t, values, bytes);
    s->delta.o = act(&delta, t, values, bytes);
    s->delta.a = act(&delta, t, c->linear_num_value_heads, bytes);
    s->delta.b = act(&delta, t, c->linear_num_value_heads, bytes);
    s->mlp.gate = act(&mlp, t, c->intermediate_size, bytes);
    s->mlp.up = act(&mlp, t, c->intermediate_size, bytes);
    slab->used = attention.used > delta.used ? attention.used : delta.used;
    slab->used = slab->used > mlp.used ? slab->used : mlp.used;
    slab->overflow = attention.overflow || delta.overflow || mlp.overflow;
}

// Room for the most that a step can bring; see upload_step.
static void place_inputs(struct model *m)
{
    struct inputs *in = &m->inputs;
    const size_t spans = (size_t)m->options.sequences_max, before = m->step.used;
    in->device = slab_take(&m->step, (size_t)m->options.batch_tokens, sizeof(int));
    slab_take(&m->step, (size_t)m->options.batch_rows, sizeof(int));
    slab_take(&m->step, spans, sizeof(struct span));
    slab_take(&m->step, spans * (size_t)model_pages_max(m), sizeof(int));
    in->bytes = m->step.used - before;
}

static void place_scratch(struct model *m)
{
    const struct config *c = &m->config;
    struct scratch *s = &m->scratch;
    size_t t = (size_t)m->options.batch_tokens, n_rows = (size_t)m->options.batch_rows;
    size_t bytes = m->act_bytes;
    s->x = act(&m->step, t, c->hidden_size, bytes);
    s->x_next = act(&m->step, t, c->hidden_size, bytes);
    s->h = act(&m->step, t, c->hidden_size, bytes);
    s->y = act(&m->step, t, c->hidden_size, bytes);
    place_layer_scratch(&m->step, s, c, t, bytes);
    s->rows_x = act(&m->step, n_rows, c->hidden_size, bytes);
    s->rows_y = act(&m->step, n_rows, c->hidden_size, bytes);
    s->logits = slab_take(&m->step, n_rows, (size_t)c->vocab_size * sizeof(float));
    place_inputs(m);
    m->report = slab_take(&m->step, 1, sizeof *m->report);
}

void memory_place(struct model *m)
{
    struct slab *const slabs[] = {&m->weights, &m->kv, &m->state, &m->step};
    for (int i = 0; i < 4; i++) {
        slabs[i]->used = 0;
        slabs[i]->overflow = false;
    }
    weights_place(m);
    place_caches(m);
    place_scratch(m);
}

static double gib(size_t bytes)
{
    return (double)bytes / (1 << 30);
}

int memory_plan(struct model *m, size_t physical_bytes, struct err *e)
{
    struct model_memory *p = &m->memory;
    m->kv_type = model_act(m->options.dtype);
    if (check_options(m, e) || plan_pages(m, physical_bytes, e))
        return -1;
    memory_place(m);
    p->weights = m->weights.used;
    p->kv_pages = m->kv.used;
    p->state = m->state.used;
    p->scratch = m->step.used;
    p->state_bytes_per_sequence = p->state / (size_t)p->n_slots;
    size_t all = 0;
    bool overflow = m->weights.overflow || m->kv.overflow || m->state.overflow || m->step.overflow;
    const size_t parts[] = {p->weights, p->mapped, p->kv_pages, p->state, p->scratch};
    for (int i = 0; i < 5; i++)
        overflow |= __builtin_add_overflow(all, parts[i], &all);
    if (overflow)
        return err_set(e, ERR_TOO_LARGE, "the model's sizes overflow; is config.json right?");
    if (all > physical_bytes)
        return err_set(e, ERR_TOO_LARGE,
                       "the model needs %.2f GiB and this machine has %.2f: weights %.2f (and %.2f "
                       "mapped), KV pages %.2f, state %.2f, scratch %.2f; lower kv_bytes, "
                       "context_max, sequences_max or batch_tokens, or take dtype int8",
                       gib(all), gib(physical_bytes), gib(p->weights), gib(p->mapped),
                       gib(p->kv_pages), gib(p->state), gib(p->scratch));
    return 0;
}
