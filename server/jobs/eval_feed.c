// eval_feed.c - see eval_feed.h.
#include "eval_feed.h"

#include "device_sync.h"
#include "mem.h"
#include "stats.h"

struct eval eval_open(struct job_run *run, int sequences, int context)
{
    const struct job_node *node = job_run_node(run);
    const struct model_options *o = node->model_options;
    const int n_pages = node->memory->n_pages;
    const int most = o->batch_rows < o->batch_tokens ? o->batch_rows : o->batch_tokens;
    struct eval v = {.run = run,
                     .context = context < o->context_max ? context : o->context_max,
                     .piece = most >= INVERSE_CHUNK_MAX ? INVERSE_CHUNK_MAX
                              : most >= 64              ? 64
                                                        : 16,
                     .vocab = node->config->vocab_size,
                     .steps = -1};
    const int pages = (v.context + PAGE_TOKENS - 1) / PAGE_TOKENS;
    v.sequences = sequences < o->sequences_max ? sequences : o->sequences_max;
    v.sequences = v.sequences < EVAL_SEQUENCES_MAX ? v.sequences : EVAL_SEQUENCES_MAX;
    if (v.sequences > n_pages / pages)
        v.sequences = n_pages / pages;
    if (v.sequences < 1) { // a pool of less than one such context: as long as it goes
        v.sequences = 1;
        v.context = n_pages * PAGE_TOKENS;
    }
    return v;
}

static int rows_of(const struct eval_feed *f)
{
    if (f->last)
        return 1;
    return f->row_step && f->row_first < f->t ? (f->t - 1 - f->row_first) / f->row_step + 1 : 0;
}

int eval_rows(const struct eval_feed *feeds, int n)
{
    int rows = 0;
    for (int i = 0; i < n; i++)
        rows += rows_of(&feeds[i]);
    return rows;
}

// The arrays of a step while it is put together.
struct plan {
    int *ids, *rows, *pages;
    struct span *spans;
    struct step step;
};

static void add_feed(struct plan *p, const struct eval *v, const struct eval_feed *f)
{
    struct batch *b = &p->step.batch;
    CHECK(f->t >= 1 && f->pos0 + f->t <= v->context && f->seq < v->sequences);
    for (int i = 0; i < f->t; i++)
        p->ids[b->t + i] = f->ids[i];
    for (int i = 0; i < b->pages_max; i++)
        p->pages[b->n_spans * b->pages_max + i] = i * v->sequences + f->seq;
    p->spans[b->n_spans++] =
        (struct span){.t0 = b->t, .t = f->t, .pos0 = f->pos0, .slot = f->seq, .decode = f->decode};
    for (int i = f->row_first; !f->last && f->row_step && i < f->t; i += f->row_step)
        p->rows[p->step.n_rows++] = b->t + i;
    b->t += f->t;
    if (!f->decode)
        b->t_prefill = b->t;
}

static struct plan make_plan(const struct eval *v, const struct eval_step *s)
{
    const int rows = eval_rows(s->feeds, s->n);
    struct plan p = {.step.batch.pages_max = (v->context + PAGE_TOKENS - 1) / PAGE_TOKENS};
    int t = 0;
    for (int i = 0; i < s->n; i++)
        t += s->feeds[i].t;
    p.ids = mem_zero((size_t)t, sizeof *p.ids);
    p.rows = mem_zero((size_t)rows + 1, sizeof *p.rows);
    p.pages = mem_zero((size_t)s->n * (size_t)p.step.batch.pages_max, sizeof *p.pages);
    p.spans = mem_zero((size_t)s->n, sizeof *p.spans);
    for (int i = 0; i < s->n; i++)
        add_feed(&p, v, &s->feeds[i]);
    p.step.n_gemm_rows = p.step.n_rows;
    for (int i = 0; i < s->n; i++)
        if (s->feeds[i].last)
            p.rows[p.step.n_rows++] = p.spans[i].t0 + s->feeds[i].t - 1;
    p.step.ids = p.ids;
    p.step.rows = p.rows;
    p.step.batch.spans = p.step.batch.host_spans = p.spans;
    p.step.batch.pages = p.pages;
    return p;
}

static void free_plan(struct plan *p)
{
    mem_free(p->ids);
    mem_free(p->rows);
    mem_free(p->pages);
    mem_free(p->spans);
}

struct task {
    struct eval *v;
    struct eval_step *s;
    struct plan plan;
};

// Engine thread. Slots and pages are ours while no generation runs; what we left in them is still there
// if the engine has made no step since.
static bool is_quiet(const struct task *t)
{
    bool begins = true;
    for (int i = 0; i < t->s->n; i++)
        begins = begins && t->s->feeds[i].pos0 == 0;
    return stats_gauge_value(STATS_RUNNING) == 0 &&
           (begins || stats_counter_value(STATS_STEPS) == t->v->steps);
}

static int compute(const struct task *t, const struct ops *ops, struct dev *dev, struct model *m,
                   struct err *e)
{
    const struct eval_step *s = t->s;
    const struct plan *p = &t->plan;
    const int chunk = model_options(m)->chunk;
    const struct inverse served = model_options(m)->inverse;
    model_set_inverse(m, s->setting->chunk, s->setting->inverse);
    if (s->probe)
        model_set_ops(m, s->probe(s->probe_ud, ops));
    model_forward(m, &p->step);
    const int failed = device_sync(ops, dev, e);
    model_set_ops(m, ops);
    model_set_inverse(m, chunk, served);
    if (!failed && p->step.n_rows)
        ops->download(dev, s->logits, model_logits(m),
                      (size_t)p->step.n_rows * (size_t)t->v->vocab * sizeof(float));
    return failed;
}

static int run_step(void *ud, const struct ops *ops, struct dev *dev, struct model *m,
                    struct err *e)
{
    struct task *t = ud;
    t->s->disturbed = !is_quiet(t);
    if (t->s->disturbed)
        return 0;
    t->v->steps = stats_counter_value(STATS_STEPS);
    return compute(t, ops, dev, m, e);
}

int eval_run(struct eval *v, struct eval_step *s, struct err *e)
{
    if (job_run_cancelled(v->run))
        return err_set(e, ERR_CANCELLED, "stopped between two steps");
    struct task t = {v, s, make_plan(v, s)};
    const int failed = job_run_device(v->run, run_step, &t, NULL, e);
    free_plan(&t.plan);
    return failed;
}

int eval_run_on(const struct eval *v, struct eval_step *s, const struct ops *ops, struct dev *dev,
                struct model *m, struct err *e)
{
    struct eval copy = *v;
    struct task t = {&copy, s, make_plan(v, s)};
    const int failed = compute(&t, ops, dev, m, e);
    free_plan(&t.plan);
    return failed;
}
