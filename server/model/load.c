// load.c - from a directory to a model that is ready: files, plan, memory, weights. See qwen35.h.
#include "mem.h"
#include "qwen35_model.h"

static int allocate(struct model *m, struct err *e)
{
    const struct {
        const char *name;
        struct slab *slab;
    } parts[] = {{"weights", &m->weights},
                 {"KV pages", &m->kv},
                 {"state", &m->state},
                 {"scratch", &m->step}};
    for (int i = 0; i < 4; i++) {
        struct slab *s = parts[i].slab;
        if (s->used && !(s->base = m->ops->alloc(m->dev, s->used)))
            return err_set(e, ERR_TOO_LARGE,
                           "the device has no %zu bytes for the model's %s; see the memory plan",
                           s->used, parts[i].name);
    }
    memory_place(m);
    return 0;
}

// Nothing of the files is needed once every weight is a copy.
static void close_files(struct model *m)
{
    mem_free(m->bindings);
    m->bindings = NULL;
    m->n_bindings = 0;
    if (!m->memory.mapped)
        checkpoint_close(&m->checkpoint);
}

// Whole steps as large as the planner may ask for, all through page 0 and from nothing: the backend
// takes its scratch and makes its choices now. Afterwards no slot holds anything that is read again.
static void run_largest(struct model *m, int decode, int n_gemm_rows)
{
    const struct model_options *o = &m->options;
    int t = decode ? o->sequences_max : o->batch_tokens,
        rows = t < o->batch_rows ? t : o->batch_rows;
    int pages_max = model_pages_max(m), n = 0;
    int *ids = mem_zero((size_t)t, sizeof *ids), *at = mem_zero((size_t)rows, sizeof *at);
    int *pages = mem_zero((size_t)o->sequences_max * (size_t)pages_max, sizeof *pages);
    struct span *spans = mem_zero((size_t)o->sequences_max, sizeof *spans);
    struct step s = {.ids = ids, .rows = at, .n_rows = rows, .n_gemm_rows = n_gemm_rows ? rows : 0};
    for (; n < o->sequences_max && s.batch.t < t; n++) {
        int part = decode ? 1 : t - s.batch.t < o->context_max ? t - s.batch.t : o->context_max;
        spans[n] = (struct span){.t0 = s.batch.t, .t = part, .slot = n, .decode = decode};
        s.batch.t += part;
    }
    for (int i = 0; i < rows; i++)
        at[i] = i % s.batch.t;
    s.batch.spans = s.batch.host_spans = spans;
    s.batch.n_spans = n;
    s.batch.t_prefill = decode ? 0 : s.batch.t;
    s.batch.pages = pages;
    s.batch.pages_max = pages_max;
    model_forward(m, &s);
    mem_free(spans);
    mem_free(pages);
    mem_free(at);
    mem_free(ids);
}

static int warm_up(struct model *m, struct err *e)
{
    char why[256];
    run_largest(m, 0, 1);
    run_largest(m, 0, 0);
    run_largest(m, 1, 0);
    if (m->ops->sync(m->dev, why, sizeof why))
        return err_set(e, ERR_DEVICE, "the device failed in its first steps: %s", why);
    return 0;
}

struct model *model_load(const char *dir, const struct model_options *o, const struct ops *ops,
                         struct dev *dev, struct err *e)
{
    char why[256];
    struct model *m = mem_zero(1, sizeof *m);
    m->options = *o;
    m->ops = ops;
    m->dev = dev;
    m->act_bytes = dtype_bytes(ops->act(dev));
    if (checkpoint_open(&m->checkpoint, dir, e))
        goto failed;
    m->config = m->checkpoint.config;
    if (weights_bind(m, e) || memory_plan(m, ops->memory(dev), e) || allocate(m, e))
        goto failed;
    m->inputs.host = mem_resize(NULL, m->inputs.bytes, 1);
    weights_fill(m);
    if (ops->sync(dev, why, sizeof why)) {
        err_set(e, ERR_DEVICE, "the device failed while loading: %s", why);
        goto failed;
    }
    close_files(m);
    if (ops->warm_up && warm_up(m, e))
        goto failed;
    return m;
failed:
    model_destroy(m);
    return NULL;
}

void model_destroy(struct model *m)
{
    if (!m)
        return;
    struct slab *const slabs[] = {&m->weights, &m->kv, &m->state, &m->step};
    for (int i = 0; i < 4; i++)
        if (slabs[i]->base)
            m->ops->release(m->dev, slabs[i]->base);
    checkpoint_close(&m->checkpoint);
    mem_free(m->inputs.host);
    mem_free(m->bindings);
    mem_free(m->layers);
    mem_free(m);
}

const struct config *model_config(const struct model *m)
{
    return &m->config;
}

const struct model_options *model_options(const struct model *m)
{
    return &m->options;
}

const struct model_memory *model_memory(const struct model *m)
{
    return &m->memory;
}

void model_inverse_report(struct model *m, struct inverse_report *out)
{
    m->ops->download(m->dev, out, m->report, sizeof *out);
}

void model_set_inverse(struct model *m, int chunk, struct inverse inverse)
{
    char why[256];
    CHECK(!inverse_check(&inverse, chunk, why, sizeof why));
    m->options.chunk = chunk;
    m->options.inverse = inverse;
}

void model_set_ops(struct model *m, const struct ops *ops)
{
    m->ops = ops;
}
