// batcher.c - see batcher.h.
#include "batcher.h"

#include <limits.h>
#include <string.h>

#include "clock.h"
#include "mem.h"
#include "pages.h"
#include "sampler.h"
#include "slots.h"
#include "stats.h"

// The residual check's figures are read this often; reading them waits for the device.
enum { REPORT_STEPS = 64 };

struct batcher {
    struct batcher_parts parts;
    const struct config *config;
    int end_ids[MODEL_EOS_MAX + 2], n_end_ids; // what stops every gen that does not ignore_eos
    struct plan_limits limits;
    int n_max;       // gens that may run
    int context_max; // tokens of one sequence
    int n_tokens;    // ids below it have a token
    int pages_max;   // pages of one sequence
    struct pages *pages;
    struct slots *slots;
    struct sampler *sampler;
    int *page_tables; // [n_max, pages_max], by slot

    struct gen **running; // [n_max], in order of admission
    _Atomic int n_running;
    uint64_t n_steps;
    unsigned nonfinite_seen;

    // One step; filled by build_step.
    struct plan_seq *seqs;     // [n_max]
    struct plan_piece *pieces; // [n_max]
    int n_pieces;
    struct span *spans;         // [n_max]
    int *ids;                   // [limits.tokens]
    int *step_pages;            // [n_max, pages_max]
    int *rows;                  // [limits.rows]
    struct sampler_row *wanted; // [limits.rows]
    struct step step;
    struct sampler_step sampling;
};

static void set_gauges(const struct batcher *b)
{
    stats_set(STATS_RUNNING, b->n_running);
    stats_set(STATS_KV_PAGES, pages_count(b->pages));
    stats_set(STATS_KV_PAGES_USED, pages_count(b->pages) - pages_free(b->pages));
    stats_set(STATS_SLOTS, slots_count(b->slots));
    stats_set(STATS_SLOTS_USED, slots_count(b->slots) - slots_free(b->slots));
}

static void alloc_step(struct batcher *b)
{
    size_t n = (size_t)b->n_max, tables = n * (size_t)b->pages_max;
    b->running = mem_zero(n, sizeof(struct gen *));
    b->seqs = mem_zero(n, sizeof *b->seqs);
    b->pieces = mem_zero(n, sizeof *b->pieces);
    b->spans = mem_zero(n, sizeof *b->spans);
    b->ids = mem_zero((size_t)b->limits.tokens, sizeof *b->ids);
    b->page_tables = mem_zero(tables, sizeof *b->page_tables);
    b->step_pages = mem_zero(tables, sizeof *b->step_pages);
    b->rows = mem_zero((size_t)b->limits.rows, sizeof *b->rows);
    b->wanted = mem_zero((size_t)b->limits.rows, sizeof *b->wanted);
}

// The checkpoint's end ids, and the family's two end tokens by name: some checkpoints ship without
// generation_config.json, and their config.json names only one.
static void find_end_ids(struct batcher *b)
{
    static const char *const NAMES[] = {"<|im_end|>", "<|endoftext|>"};
    for (int i = 0; i < b->config->n_eos; i++)
        b->end_ids[b->n_end_ids++] = b->config->eos[i];
    for (int i = 0; i < 2 && b->parts.tokenizer; i++) {
        int id = tokenizer_find(b->parts.tokenizer, NAMES[i]);
        if (id >= 0)
            b->end_ids[b->n_end_ids++] = id;
    }
}

// n_tokens: ids >= n_tokens have no token.
static struct sampler_limits sampler_limits(const struct model *m, int n_tokens)
{
    return (struct sampler_limits){.rows_max = model_options(m)->batch_rows,
                                   .sampled_max = model_memory(m)->n_slots,
                                   .vocab = model_config(m)->vocab_size,
                                   .n_tokens = n_tokens,
                                   .history_max = (size_t)model_memory(m)->n_pages * PAGE_TOKENS};
}

size_t batcher_sampler_bytes(const struct model *m)
{
    const struct sampler_limits limits = sampler_limits(m, model_config(m)->vocab_size);
    return sampler_bytes(&limits);
}

struct batcher *batcher_create(const struct batcher_parts *parts, struct err *e)
{
    const struct model_options *o = model_options(parts->model);
    const struct model_memory *memory = model_memory(parts->model);
    const struct config *config = model_config(parts->model);
    const struct plan_limits limits = {o->batch_tokens, o->batch_rows, o->chunk};
    if (plan_check(&limits, memory->n_slots, e) != 0)
        return NULL;
    int64_t pool_tokens = (int64_t)memory->n_pages * PAGE_TOKENS;
    if (pool_tokens > INT_MAX) {
        err_set(e, ERR_BAD_REQUEST, "the KV pool holds %lld tokens, more than %d: lower kv_bytes",
                (long long)pool_tokens, INT_MAX);
        return NULL;
    }
    struct batcher *b = mem_zero(1, sizeof *b);
    *b = (struct batcher){
        .parts = *parts,
        .config = config,
        .limits = limits,
        .n_max = memory->n_slots,
        .context_max = o->context_max,
        .n_tokens = config->vocab_size,
        .pages_max = pages_for(o->context_max),
        .pages = pages_create(memory->n_pages),
        .slots = slots_create(memory->n_slots),
    };
    if (parts->tokenizer && tokenizer_count(parts->tokenizer) < b->n_tokens)
        b->n_tokens = tokenizer_count(parts->tokenizer);
    find_end_ids(b);
    alloc_step(b);
    const struct sampler_limits sampler = sampler_limits(parts->model, b->n_tokens);
    b->sampler = sampler_create(parts->ops, parts->dev, &sampler, e);
    if (!b->sampler) {
        batcher_destroy(b);
        return NULL;
    }
    parts->ops->warm(parts->dev, true);
    set_gauges(b);
    return b;
}

void batcher_destroy(struct batcher *b)
{
    if (!b)
        return;
    CHECK(b->n_running == 0);
    sampler_destroy(b->sampler);
    pages_destroy(b->pages);
    slots_destroy(b->slots);
    mem_free(b->page_tables);
    mem_free(b->running);
    mem_free(b->seqs);
    mem_free(b->pieces);
    mem_free(b->spans);
    mem_free(b->ids);
    mem_free(b->step_pages);
    mem_free(b->rows);
    mem_free(b->wanted);
    mem_free(b);
}

static int check_ids(const struct batcher *b, const char *param, const int *ids, int n,
                     struct err *e)
{
    for (int i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= b->n_tokens)
            return err_field(e, ERR_BAD_REQUEST, param,
                             "%s holds the id %d (at place %d); ids of this model are 0 to %d",
                             param, ids[i], i, b->n_tokens - 1);
    return 0;
}

int batcher_check(const struct batcher *b, const struct gen_params *p, struct err *e)
{
    if (p->n_prompt < 1)
        return err_field(e, ERR_BAD_REQUEST, "prompt",
                         "the prompt has no tokens; send at least one");
    if (p->max_tokens < 0)
        return err_field(e, ERR_BAD_REQUEST, "max_tokens", "max_tokens is %d; send 0 or more",
                         p->max_tokens);
    int64_t n = (int64_t)p->n_prompt + p->max_tokens;
    if (n > b->context_max)
        return err_field(e, ERR_CONTEXT_LENGTH, "max_tokens",
                         "the prompt has %d tokens and max_tokens is %d, together %lld; the "
                         "context holds %d: shorten the prompt or lower max_tokens",
                         p->n_prompt, p->max_tokens, (long long)n, b->context_max);
    if (pages_for(n) > pages_count(b->pages))
        return err_field(e, ERR_CONTEXT_LENGTH, "max_tokens",
                         "the prompt has %d tokens and max_tokens is %d, together %d KV pages of "
                         "%d tokens; this server has %d: shorten the prompt or lower max_tokens "
                         "(or start the server with more kv-bytes)",
                         p->n_prompt, p->max_tokens, pages_for(n), PAGE_TOKENS,
                         pages_count(b->pages));
    if (check_ids(b, "prompt", p->prompt, p->n_prompt, e) != 0)
        return -1;
    return check_ids(b, "logit_bias", p->bias_ids, p->n_bias, e);
}

int batcher_running(const struct batcher *b)
{
    return b->n_running;
}

enum plan_wait batcher_admit(struct batcher *b, struct gen *g)
{
    int n_pages = pages_for((int64_t)g->params.n_prompt + g->params.max_tokens);
    enum plan_wait wait = plan_admit(n_pages, pages_free(b->pages), slots_free(b->slots));
    if (wait != PLAN_ADMIT)
        return wait;
    g->slot = slots_take(b->slots, g->ticket);
    g->pages = b->page_tables + (size_t)g->slot * (size_t)b->pages_max;
    g->n_pages = n_pages;
    CHECK(pages_take(b->pages, g->ticket, n_pages, g->pages));
    g->served = b->n_steps;
    b->running[b->n_running] = g;
    b->n_running++;
    int64_t now = clock_ns();
    stats_observe(STATS_QUEUE, clock_ms_between(g->status.submitted_ns, now) / 1e3);
    set_gauges(b);
    trace_line(b->parts.trace, "gen=%llu admitted prompt=%d max=%d pages=%d slot=%d waited_ms=%.1f",
               (unsigned long long)g->ticket, g->params.n_prompt, g->params.max_tokens, n_pages,
               g->slot, clock_ms_between(g->status.submitted_ns, now));
    gen_begin(g, b->parts.tokenizer, now);
    return PLAN_ADMIT;
}

// Count an end. Before the gen itself ends: who sees the end must see the figures too.
static void count_end(struct batcher *b, const struct gen *g, const struct err *e)
{
    double ms = clock_ms_between(g->status.submitted_ns, clock_ns());
    const char *how = "failed";
    if (!e) {
        how = g->finish == GEN_FINISH_STOP ? "finished reason=stop" : "finished reason=length";
        stats_add(g->finish == GEN_FINISH_STOP ? STATS_REQUESTS_STOP : STATS_REQUESTS_LENGTH, 1);
        stats_observe(STATS_E2E, ms / 1e3);
    } else if (e->code == ERR_CANCELLED) {
        how = "cancelled";
        stats_add(STATS_REQUESTS_CANCELLED, 1);
    } else {
        stats_add(STATS_REQUESTS_FAILED, 1);
    }
    trace_line(b->parts.trace, "gen=%llu %s prompt=%d/%d output=%d ms=%.1f",
               (unsigned long long)g->ticket, how, g->n_done, g->params.n_prompt,
               g->status.n_output, ms);
}

// Take gen i off the batch and end it: done, or failed with e. All memory is given back and all
// figures are right before the first reader can know.
static void retire(struct batcher *b, int i, const struct err *e)
{
    struct gen *g = b->running[i];
    int after = b->n_running - i - 1;
    memmove(&b->running[i], &b->running[i + 1], (size_t)after * sizeof(struct gen *));
    pages_give(b->pages, g->ticket, g->n_pages, g->pages);
    slots_give(b->slots, g->ticket, g->slot);
    b->n_running--;
    set_gauges(b);
    count_end(b, g, e);
    if (e)
        gen_fail(g, e);
    else
        gen_end(g);
}

void batcher_refuse(struct batcher *b, struct gen *g, const struct err *why)
{
    count_end(b, g, why);
    gen_fail(g, why);
}

void batcher_drop_cancelled(struct batcher *b)
{
    struct err e;
    err_set(&e, ERR_CANCELLED, "the client left");
    for (int i = b->n_running - 1; i >= 0; i--)
        if (atomic_load(&b->running[i]->cancelled))
            retire(b, i, &e);
}

void batcher_fail(struct batcher *b, const struct err *why)
{
    while (b->n_running > 0)
        retire(b, b->n_running - 1, why);
}

static bool generates(const struct gen *g)
{
    return g->n_done == g->params.n_prompt;
}

// Ids, positions and pages of piece k, whose first token is row t0 of the step.
static void add_span(struct batcher *b, int k, int t0)
{
    const struct plan_piece *p = &b->pieces[k];
    const struct gen *g = b->running[p->seq];
    struct span *span = &b->spans[k];
    *span = (struct span){.t0 = t0, .t = p->t, .pos0 = g->n_done, .slot = g->slot};
    if (generates(g)) {
        int newest = g->status.n_output - 1;
        span->decode = 1;
        span->pos0 = g->params.n_prompt + newest;
        b->ids[t0] = g->tokens[newest].id;
    } else {
        memcpy(b->ids + t0, g->params.prompt + g->n_done, (size_t)p->t * sizeof *b->ids);
    }
}

// The pages that the step's spans reach, in a table as wide as the longest of them needs, rounded up to
// a power of two: a device that records steps then records few.
static void add_pages(struct batcher *b, struct batch *batch)
{
    batch->pages = b->step_pages;
    for (int k = 0; k < b->n_pieces; k++) {
        int n = pages_for((int64_t)b->spans[k].pos0 + b->spans[k].t);
        while (batch->pages_max < n)
            batch->pages_max = batch->pages_max ? 2 * batch->pages_max : 1;
    }
    if (batch->pages_max > b->pages_max)
        batch->pages_max = b->pages_max;
    for (int k = 0; k < b->n_pieces; k++) {
        int n = pages_for((int64_t)b->spans[k].pos0 + b->spans[k].t);
        memcpy(b->step_pages + (size_t)k * (size_t)batch->pages_max,
               b->running[b->pieces[k].seq]->pages, (size_t)n * sizeof *b->step_pages);
    }
}

static void add_row(struct batcher *b, struct gen *g, int row, int target)
{
    b->rows[b->step.n_rows] = row;
    b->wanted[b->step.n_rows++] = (struct sampler_row){.gen = g, .target = target};
}

// Rows of the prompt's own logprobs: each token but the last predicts the next one.
static void add_prompt_rows(struct batcher *b, int k)
{
    const struct span *span = &b->spans[k];
    struct gen *g = b->running[b->pieces[k].seq];
    if (span->decode || !gen_wants_prompt(g))
        return;
    for (int i = 0; i < span->t && span->pos0 + i + 1 < g->params.n_prompt; i++)
        add_row(b, g, span->t0 + i, span->pos0 + i + 1);
}

// The row of the next output token, if piece k leads to one.
static void add_sampled_row(struct batcher *b, int k, bool logprobs)
{
    const struct span *span = &b->spans[k];
    struct gen *g = b->running[b->pieces[k].seq];
    bool last = span->decode || span->pos0 + span->t == g->params.n_prompt;
    if (last && g->params.max_tokens > 0 && (g->params.logprobs >= 0) == logprobs)
        add_row(b, g, span->t0 + span->t - 1, 0);
}

// Rows of logits in the order that sampler.h wants them.
static void build_rows(struct batcher *b)
{
    struct sampler_step *s = &b->sampling;
    for (int k = 0; k < b->n_pieces; k++)
        add_prompt_rows(b, k);
    s->n_prompt = b->step.n_gemm_rows = b->step.n_rows;
    for (int k = 0; k < b->n_pieces; k++)
        add_sampled_row(b, k, true);
    s->n_logprobs = b->step.n_rows - s->n_prompt;
    for (int k = 0; k < b->n_pieces; k++)
        add_sampled_row(b, k, false);
    s->n_plain = b->step.n_rows - s->n_prompt - s->n_logprobs;
    s->rows = b->wanted;
}

static void build_step(struct batcher *b)
{
    for (int i = 0; i < b->n_running; i++) {
        const struct gen *g = b->running[i];
        b->seqs[i] = (struct plan_seq){.served = g->served,
                                       .n_prompt = g->params.n_prompt,
                                       .n_done = g->n_done,
                                       .prompt_rows = gen_wants_prompt(g)};
    }
    b->n_pieces = plan_step(b->seqs, b->n_running, &b->limits, b->pieces);
    struct batch batch = {.spans = b->spans, .host_spans = b->spans, .n_spans = b->n_pieces};
    for (int k = 0; k < b->n_pieces; k++) {
        add_span(b, k, batch.t);
        batch.t += b->pieces[k].t;
        if (!b->spans[k].decode)
            batch.t_prefill = batch.t;
    }
    add_pages(b, &batch);
    b->step = (struct step){.ids = b->ids, .batch = batch, .rows = b->rows};
    build_rows(b);
}

static void trace_step(struct batcher *b)
{
    static const char *const CUTS[] = {
        [PLAN_WHOLE] = "none", [PLAN_TOKENS] = "tokens", [PLAN_ROWS] = "rows"};
    struct trace *trace = b->parts.trace;
    if (!trace_on(trace))
        return;
    unsigned long long step = b->n_steps;
    int k = 0;
    for (int i = 0; i < b->n_running; i++) {
        const struct gen *g = b->running[i];
        const struct plan_piece *p = &b->pieces[k];
        if (generates(g))
            continue;
        if (k < b->n_pieces && p->seq == i) {
            trace_line(trace, "step=%llu gen=%llu prefill=%d from=%d of=%d cut=%s", step,
                       (unsigned long long)g->ticket, p->t, g->n_done, g->params.n_prompt,
                       CUTS[p->cut]);
            k++;
        } else {
            trace_line(trace, "step=%llu gen=%llu waits for=tokens", step,
                       (unsigned long long)g->ticket);
        }
    }
    trace_line(trace, "step=%llu tokens=%d decode=%d rows=%d prompt_rows=%d", step, b->step.batch.t,
               b->n_pieces - k, b->step.n_rows, b->step.n_gemm_rows);
}

static bool ends(const struct batcher *b, const struct gen_params *p, int id)
{
    for (int i = 0; i < p->n_stop_ids; i++)
        if (p->stop_ids[i] == id)
            return true;
    for (int i = 0; i < b->n_end_ids && !p->ignore_eos; i++)
        if (b->end_ids[i] == id)
            return true;
    return false;
}

static void push_token(struct batcher *b, struct gen *g, const struct gen_draw *d, int64_t now)
{
    const struct gen_status *s = &g->status;
    stats_add(STATS_GENERATION_TOKENS, 1);
    if (s->n_output == 0) {
        stats_observe(STATS_TTFT, clock_ms_between(s->submitted_ns, now) / 1e3);
        stats_observe(STATS_PREFILL, clock_ms_between(s->started_ns, now) / 1e3);
    } else {
        stats_observe(STATS_ITL, clock_ms_between(s->last_ns, now) / 1e3);
    }
    gen_push(g, d, ends(b, &g->params, d->id), now);
}

// Hand a step's results to the gens, and end those that are complete.
static void apply_step(struct batcher *b)
{
    int64_t now = clock_ns();
    for (int k = 0; k < b->n_pieces; k++) {
        struct gen *g = b->running[b->pieces[k].seq];
        g->served = b->n_steps;
        g->n_done += b->spans[k].decode ? 0 : b->pieces[k].t;
    }
    stats_add(STATS_PROMPT_TOKENS, b->step.batch.t_prefill);
    for (int i = 0; i < b->step.n_rows; i++) {
        struct gen_draw d = sampler_draw(b->sampler, i);
        if (i < b->sampling.n_prompt)
            gen_push_prompt(b->wanted[i].gen, b->wanted[i].target, &d);
        else
            push_token(b, b->wanted[i].gen, &d, now);
    }
    for (int i = b->n_running - 1; i >= 0; i--) {
        struct gen *g = b->running[i];
        if (generates(g) && g->params.max_tokens == 0)
            g->finish = GEN_FINISH_LENGTH;
        if (g->finish != GEN_FINISH_NONE)
            retire(b, i, NULL);
    }
}

// The residual check's figures, now and then and when the work is done.
static void read_report(struct batcher *b)
{
    if (!model_options(b->parts.model)->residual_every ||
        (b->n_running > 0 && b->n_steps % REPORT_STEPS != 0))
        return;
    struct inverse_report report;
    model_inverse_report(b->parts.model, &report);
    stats_add(STATS_INVERSE_NONFINITE, (int64_t)(report.nonfinite - b->nonfinite_seen));
    b->nonfinite_seen = report.nonfinite;
    if (report.residual_max < 1e9f) // more, inf or NaN: the counter above tells
        stats_max(STATS_INVERSE_RESIDUAL_PPB, (int64_t)((double)report.residual_max * 1e9));
}

void batcher_tell(struct batcher *b)
{
    for (int i = 0; i < b->n_running; i++)
        gen_tell(b->running[i]);
}

int batcher_step(struct batcher *b, struct err *e)
{
    CHECK(b->n_running > 0);
    int64_t start = clock_ns();
    b->n_steps++;
    build_step(b);
    trace_step(b);
    model_forward(b->parts.model, &b->step);
    b->sampling.logits = model_logits(b->parts.model);
    sampler_begin(b->sampler, &b->sampling);
    batcher_tell(b); // of the step before, while the device is at this one
    if (sampler_end(b->sampler, &b->sampling, e) != 0)
        return -1;
    stats_add(STATS_STEPS, 1);
    stats_add(STATS_STEP_US, (clock_ns() - start) / 1000);
    apply_step(b);
    if (!b->parts.ops->async)
        batcher_tell(b);
    read_report(b);
    return 0;
}

// Who owns the n places, as ranges: "0-3 gen 5, 4-9 free".
static void dump_owners(FILE *f, const char *what, int n, uint64_t (*owner)(const void *, int),
                        const void *of)
{
    fprintf(f, "%s:", what);
    for (int i = 0, end; i < n; i = end) {
        uint64_t who = owner(of, i);
        for (end = i + 1; end < n && owner(of, end) == who;)
            end++;
        fprintf(f, " %d-%d ", i, end - 1);
        if (who)
            fprintf(f, "gen %llu%s", (unsigned long long)who, end < n ? "," : "");
        else
            fprintf(f, "free%s", end < n ? "," : "");
    }
    fputc('\n', f);
}

static uint64_t page_owner(const void *pages, int i)
{
    return pages_owner(pages, i);
}

static uint64_t slot_owner(const void *slots, int i)
{
    return slots_owner(slots, i);
}

void batcher_dump(const struct batcher *b, FILE *f)
{
    fprintf(f, "engine: step=%llu running=%d of %d pages_free=%d of %d slots_free=%d of %d\n",
            (unsigned long long)b->n_steps, b->n_running, b->n_max, pages_free(b->pages),
            pages_count(b->pages), slots_free(b->slots), slots_count(b->slots));
    for (int i = 0; i < b->n_running; i++) {
        const struct gen *g = b->running[i];
        fprintf(f, "gen %llu: %s prompt=%d/%d output=%d/%d pages=%d slot=%d age_ms=%.0f%s\n",
                (unsigned long long)g->ticket, generates(g) ? "decode" : "prefill", g->n_done,
                g->params.n_prompt, g->status.n_output, g->params.max_tokens, g->n_pages, g->slot,
                clock_ms_between(g->status.submitted_ns, clock_ns()),
                atomic_load(&g->cancelled) ? " cancelled" : "");
    }
    dump_owners(f, "pages", pages_count(b->pages), page_owner, b->pages);
    dump_owners(f, "slots", slots_count(b->slots), slot_owner, b->slots);
}
