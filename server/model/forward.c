// forward.c - one step through the model: the loop over layers. Prefill and decode are the same call
// with other numbers. Source: Qwen3_5TextModel.
#include <string.h>

#include "qwen35_model.h"

// A step that breaks a limit is the planner's bug, never a client's.
static void check_step(const struct model *m, const struct step *s)
{
    const struct batch *b = &s->batch;
    CHECK(b->t >= 1 && b->t <= m->options.batch_tokens && b->t_prefill <= b->t);
    CHECK(b->n_spans >= 1 && b->n_spans <= m->options.sequences_max);
    CHECK(b->pages_max >= 1 && b->pages_max <= model_pages_max(m));
    CHECK(s->n_rows >= 0 && s->n_rows <= m->options.batch_rows && s->n_gemm_rows <= s->n_rows);
    for (int i = 0; i < b->t; i++)
        CHECK(s->ids[i] >= 0 && s->ids[i] < m->config.vocab_size);
    for (int i = 0; i < s->n_rows; i++)
        CHECK(s->rows[i] >= 0 && s->rows[i] < b->t);
    int t = 0;
    for (int i = 0; i < b->n_spans; t += b->spans[i++].t) {
        const struct span *span = &b->spans[i];
        CHECK(span->t >= 1 && span->t0 == t);
        CHECK(span->t <= (span->decode ? b->t : b->t_prefill) - t);
        CHECK(!span->decode || t >= b->t_prefill);
        CHECK(span->slot >= 0 && span->slot < m->memory.n_slots);
        CHECK(span->pos0 >= 0 && span->pos0 <= m->options.context_max - span->t);
        int n_pages = (span->pos0 + span->t + PAGE_TOKENS - 1) / PAGE_TOKENS;
        CHECK(n_pages <= b->pages_max);
        for (int j = 0; j < n_pages; j++) {
            int page = b->pages[(size_t)i * (size_t)b->pages_max + (size_t)j];
            CHECK(page >= 0 && page < m->memory.n_pages);
        }
    }
    CHECK(t == b->t);
}

// The next of the step's arrays, `used` bytes behind the first: where it will be in device memory.
static void *stage(struct inputs *in, size_t *used, const void *array, size_t bytes)
{
    enum { ALIGN = 16 };
    CHECK(bytes <= in->bytes - *used);
    if (bytes) // n_rows may be 0 and rows NULL
        memcpy(in->host + *used, array, bytes);
    void *place = in->device + *used;
    *used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return place;
}

// The step's arrays to device memory by one copy: each costs a generated token microseconds. They lie where the
// numbers that a recorded step has for its key put them.
static struct batch upload_step(struct model *m, const struct step *s)
{
    struct inputs *in = &m->inputs;
    struct batch b = s->batch;
    size_t spans = (size_t)b.n_spans, used = 0;
    in->ids = stage(in, &used, s->ids, (size_t)b.t * sizeof(int));
    in->rows = stage(in, &used, s->rows, (size_t)s->n_rows * sizeof(int));
    b.host_spans = s->batch.spans;
    b.spans = stage(in, &used, s->batch.spans, spans * sizeof(struct span));
    b.pages = stage(in, &used, s->batch.pages, spans * (size_t)b.pages_max * sizeof(int));
    m->ops->upload(m->dev, in->device, in->host, used);
    return b;
}

// The norm ahead of a part of a layer, over x and what the part before left to be added to it.
static struct linear_norm norm_of(const struct model *m, const float *w, const void *add)
{
    const struct scratch *s = &m->scratch;
    return (struct linear_norm){
        .w = w, .add = add, .sum = s->x_next, .h = s->h, .eps = m->config.rms_norm_eps};
}

static void take_sum(struct scratch *s)
{
    void *x = s->x;
    s->x = s->x_next;
    s->x_next = x;
}

// Are the rows that are wanted all of them, in their order?
static bool wants_all(const struct step *s)
{
    for (int i = 0; i < s->n_rows; i++)
        if (s->rows[i] != i)
            return false;
    return s->n_rows == s->batch.t;
}

static void *pick_rows(struct model *m, void *y, const void *x, int n_rows)
{
    m->ops->gather(
        m->dev,
        &(struct gather_args){
            .y = y, .x = x, .rows = m->inputs.rows, .n_rows = n_rows, .n = m->config.hidden_size});
    return y;
}

// Norm and head of the rows that are wanted; the last layer's y is not in x yet.
static void head(struct model *m, const struct step *s)
{
    struct scratch *p = &m->scratch;
    const bool all = wants_all(s);
    const void *x = all ? p->x : pick_rows(m, p->rows_x, p->x, s->n_rows);
    const void *y = all ? p->y : pick_rows(m, p->rows_y, p->y, s->n_rows);
    const struct linear_norm norm = {
        .w = m->norm, .add = y, .h = p->rows_x, .eps = m->config.rms_norm_eps};
    m->ops->linear(m->dev, &(struct linear_args){.y = {p->logits},
                                                 .x = x,
                                                 .norm = norm,
                                                 .w = {m->lm_head},
                                                 .n = 1,
                                                 .t = s->n_rows,
                                                 .t_gemm = s->n_gemm_rows,
                                                 .wide = true});
}

static void layers(struct model *m, const struct batch *b)
{
    struct scratch *p = &m->scratch;
    m->ops->embed(
        m->dev,
        &(struct embed_args){.y = p->x, .ids = m->inputs.ids, .table = m->embed_tokens, .t = b->t});
    const void *add = NULL; // what the part before left to be added to x
    for (int i = 0; i < m->config.num_hidden_layers; i++, add = p->y) {
        const struct layer *layer = &m->layers[i];
        struct linear_norm norm = norm_of(m, layer->input_layernorm, add);
        if (layer->full_attention)
            layer_attention(m, layer, b, &norm);
        else
            layer_delta(m, layer, b, &norm);
        take_sum(p);
        norm = norm_of(m, layer->post_attention_layernorm, p->y);
        layer_mlp(m, layer, b, &norm);
        take_sum(p); // twice a layer: a recorded step finds x where it was
    }
}

void model_forward(struct model *m, const struct step *s)
{
    check_step(m, s);
    const struct batch b = upload_step(m, s);
    // Generated tokens alone make the same launches again and again; prompts differ too much.
    const bool generates =
        b.t_prefill == 0 && s->n_gemm_rows == 0 && (s->n_rows < b.t || wants_all(s));
    const struct step_key key = {b.t, b.n_spans, b.pages_max, s->n_rows};
    if (generates && m->ops->step_begin(m->dev, &key))
        return;
    layers(m, &b);
    if (s->n_rows)
        head(m, s);
    if (generates)
        m->ops->step_end(m->dev);
}

float *model_logits(struct model *m)
{
    return m->scratch.logits;
}
