// rig.c - see rig.h.
#include "rig.h"

#include <math.h>
#include <stdio.h>

#include "checkpoint.h"
#include "mem.h"
#include "tally.h"

const struct ops *rig_ops = &ops_cpu;

bool rig_has_f16(void)
{
    return rig_ops->warm_up;
}

int rig_config(const char *dir, struct config *c)
{
    struct checkpoint *ck = mem_zero(1, sizeof *ck);
    struct err e;
    int rc = checkpoint_open(ck, dir, &e);
    if (rc)
        printf("%s\n", e.text);
    else
        *c = ck->config;
    checkpoint_close(ck);
    mem_free(ck);
    return rc;
}

static int open_device(struct rig *r, const struct rig_options *o)
{
    char why[256];
    r->dev = r->ops->open(
        &(struct dev_options){.threads = o->threads,
                              .act = r->ops->warm_up ? model_act(o->dtype) : DTYPE_F32},
        why, sizeof why);
    if (r->dev)
        return 0;
    printf("the device cannot be opened: %s\n", why);
    return -1;
}

int rig_open(struct rig *r, const char *dir, const struct rig_options *o, const struct ops *ops)
{
    struct err e;
    char why[256];
    *r = (struct rig){.ops = ops, .sequences = o->sequences};
    r->batch_tokens = o->batch_tokens ? o->batch_tokens
                      : tally_brief   ? RIG_BATCH_BRIEF // a device warms up with three such steps
                                      : RIG_BATCH_TOKENS;
    const int rows = r->batch_tokens < RIG_BATCH_TOKENS ? r->batch_tokens : RIG_BATCH_TOKENS;
    struct model_options mo = {.dtype = o->dtype,
                               .state_dtype = o->state,
                               .context_max = o->context,
                               .batch_tokens = r->batch_tokens,
                               .batch_rows = rows + RIG_SEQUENCES_MAX,
                               .kv_bytes = o->kv_bytes,
                               .sequences_max = o->sequences,
                               .chunk = o->chunk ? o->chunk : 64,
                               .residual_every = o->residuals};
    CHECK(o->sequences >= 1 && o->sequences <= RIG_SEQUENCES_MAX);
    if (inverse_parse(&mo.inverse, o->method ? o->method : "auto", o->type ? o->type : "fp32",
                      mo.chunk, why, sizeof why)) {
        printf("inverse: %s\n", why);
        return -1;
    }
    if (open_device(r, o))
        return -1;
    r->m = model_load(dir, &mo, ops, r->dev, &e);
    if (!r->m) {
        printf("%s\n", e.text);
        rig_close(r);
        return -1;
    }
    r->vocab = model_config(r->m)->vocab_size;
    rig_deal(r, o->sequences);
    r->logits = mem_zero((size_t)mo.batch_rows * (size_t)r->vocab, sizeof(float));
    return 0;
}

void rig_deal(struct rig *r, int n)
{
    int most = (model_options(r->m)->context_max + PAGE_TOKENS - 1) / PAGE_TOKENS;
    r->pages_max = model_memory(r->m)->n_pages / n;
    r->pages_max = r->pages_max < most ? r->pages_max : most;
    mem_free(r->pages);
    r->pages = mem_zero((size_t)n * (size_t)r->pages_max, sizeof(int));
    // Pages of the sequences alternate, so that none has neighbours of its own.
    for (int s = 0; s < n; s++)
        for (int i = 0; i < r->pages_max; i++)
            r->pages[s * r->pages_max + i] = i * n + s;
    rig_reset(r);
}

void rig_close(struct rig *r)
{
    model_destroy(r->m);
    r->ops->close(r->dev);
    mem_free(r->pages);
    mem_free(r->logits);
    *r = (struct rig){0};
}

void rig_reset(struct rig *r)
{
    for (int i = 0; i < r->sequences; i++)
        r->pos[i] = 0;
}

// The arrays of one step while it is put together.
struct plan {
    int *ids, *rows, *pages; // [tokens], [tokens + RIG_SEQUENCES_MAX]
    int seqs[RIG_SEQUENCES_MAX];
    struct span spans[RIG_SEQUENCES_MAX];
    struct step step;
};

static void add_feed(struct plan *p, struct rig *r, const struct feed *f)
{
    struct batch *b = &p->step.batch;
    CHECK(f->t >= 1 && b->t + f->t <= r->batch_tokens && b->n_spans < r->sequences);
    CHECK(!f->decode || f->t == 1);
    for (int i = 0; i < f->t; i++)
        p->ids[b->t + i] = f->ids[i];
    p->seqs[b->n_spans] = f->seq;
    p->spans[b->n_spans++] = (struct span){
        .t0 = b->t, .t = f->t, .pos0 = r->pos[f->seq], .slot = f->seq, .decode = f->decode};
    for (int i = 0; f->all && i < f->t; i++)
        p->rows[p->step.n_rows++] = b->t + i;
    b->t += f->t;
    if (!f->decode)
        b->t_prefill = b->t;
    r->pos[f->seq] += f->t;
}

// A table as wide as the longest sequence of the step needs, rounded up as the engine does.
static void add_pages(struct plan *p, const struct rig *r)
{
    struct batch *b = &p->step.batch;
    b->pages_max = 1;
    for (int i = 0; i < b->n_spans; i++)
        while (b->pages_max * PAGE_TOKENS < r->pos[p->seqs[i]])
            b->pages_max *= 2;
    b->pages_max = b->pages_max < r->pages_max ? b->pages_max : r->pages_max;
    p->pages = mem_zero((size_t)b->n_spans * (size_t)b->pages_max, sizeof(int));
    for (int i = 0; i < b->n_spans; i++)
        for (int k = 0; k < b->pages_max; k++)
            p->pages[i * b->pages_max + k] = r->pages[p->seqs[i] * r->pages_max + k];
    b->pages = p->pages;
}

int rig_enqueue(struct rig *r, const struct feed *feeds, int n)
{
    struct plan *p = mem_zero(1, sizeof *p);
    struct step *s = &p->step;
    size_t tokens = 0;
    for (int i = 0; i < n; i++)
        tokens += (size_t)feeds[i].t;
    p->ids = mem_zero(tokens, sizeof(int));
    p->rows = mem_zero(tokens + RIG_SEQUENCES_MAX, sizeof(int));
    for (int i = 0; i < n; i++)
        add_feed(p, r, &feeds[i]);
    s->n_gemm_rows = s->n_rows;
    for (int i = 0; i < n; i++)
        if (feeds[i].last)
            p->rows[s->n_rows++] = p->spans[i].t0 + feeds[i].t - 1;
    s->ids = p->ids;
    s->rows = p->rows;
    s->batch.spans = s->batch.host_spans = p->spans;
    add_pages(p, r);
    const int n_rows = s->n_rows;
    model_forward(r->m, s);
    mem_free(p->pages);
    mem_free(p->rows);
    mem_free(p->ids);
    mem_free(p);
    return n_rows;
}

void rig_wait(struct rig *r)
{
    char why[256];
    if (!r->ops->sync(r->dev, why, sizeof why))
        return;
    printf("%s\n", why);
    CHECK(!"the device failed");
}

const float *rig_step(struct rig *r, const struct feed *feeds, int n)
{
    const int rows = rig_enqueue(r, feeds, n);
    rig_wait(r);
    if (rows)
        r->ops->download(r->dev, r->logits, model_logits(r->m),
                         (size_t)rows * (size_t)r->vocab * sizeof(float));
    return r->logits;
}

const float *rig_prompt(struct rig *r, int seq, const int *ids, int n, int piece, double *logprobs)
{
    const float *logits = NULL;
    int rows = 0;
    for (int i = 0; i < n; i += piece) {
        int t = n - i < piece ? n - i : piece;
        const struct feed f = {
            .seq = seq, .ids = ids + i, .t = t, .all = logprobs != NULL, .last = i + t == n};
        logits = rig_step(r, &f, 1);
        rows = logprobs ? t : 0;
        for (int j = 0; j < rows && i + j + 1 < n; j++)
            logprobs[i + j + 1] =
                rig_logprob(logits + (size_t)j * (size_t)r->vocab, r->vocab, ids[i + j + 1]);
    }
    return logits + (size_t)rows * (size_t)r->vocab;
}

double rig_logprob(const float *logits, int vocab, int id)
{
    double max = logits[0], sum = 0;
    for (int i = 1; i < vocab; i++)
        max = logits[i] > max ? logits[i] : max;
    for (int i = 0; i < vocab; i++)
        sum += exp(logits[i] - max);
    return logits[id] - max - log(sum);
}

int rig_argmax(const float *logits, int vocab)
{
    int best = 0;
    for (int i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}
