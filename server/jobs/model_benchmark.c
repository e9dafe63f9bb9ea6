// model_benchmark.c - the job type model_benchmark: prompts and generated tokens by context depth and batch,
// through the engine as any client goes, without HTTP. Time to first token, speeds, memory.
//
// The job thread takes each token as the engine lets it out and notes the time. Speeds of generation count
// the tokens of the time in which every sequence of the batch generates.
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "environment.h"
#include "mem.h"
#include "model_work.h"
#include "result_doc.h"
#include "sample_stats.h"
#include "spec_fields.h"

enum { BATCH_MAX = 256, TAIL = 8 };

static const struct spec_field FIELDS[] = {
    {"depths", SPEC_INTS, "[128, 512, 2048, 8192]", 1, 1 << 20, 16,
     .help = "tokens of the prompt; combinations that do not fit the server are left out"},
    {"batches", SPEC_INTS, "[1, 4]", 1, BATCH_MAX, 16, .help = "sequences at a time"},
    {"generate", SPEC_INT, "32", 2, 4096, .help = "tokens that each sequence generates"},
    {"repetitions", SPEC_INT, "3", 1, 100,
     .help = "of each depth and batch, in rounds through all"},
};
enum { N_FIELDS = sizeof FIELDS / sizeof *FIELDS };

static json_t *schema(const struct job_node *node)
{
    (void)node;
    return spec_schema(FIELDS, N_FIELDS);
}

// Tokens that a sequence may generate while the others' prompts are still read, and a few more.
static int most_tokens(const struct job_node *node, const json_t *spec, int depth, int batch)
{
    const int steps = batch * (depth / node->model_options->batch_tokens + 1);
    return spec_int(spec, "generate") + steps + TAIL;
}

// Does it fit the served context, slots and pages?
static bool fits(const struct job_node *node, const json_t *spec, int depth, int batch)
{
    const struct model_options *o = node->model_options;
    const int all = depth + most_tokens(node, spec, depth, batch);
    const double pages = ceil((double)all / PAGE_TOKENS) * batch;
    return batch <= o->sequences_max && all <= o->context_max && pages <= node->memory->n_pages;
}

// Whether entry i of one list fits with any of the other.
static bool fits_any(const struct job_node *node, const json_t *spec, const char *list, int i)
{
    const bool depths = !strcmp(list, "depths");
    const char *other = depths ? "batches" : "depths";
    for (int k = 0; k < spec_count(spec, other); k++)
        if (fits(node, spec, spec_int_at(spec, "depths", depths ? i : k),
                 spec_int_at(spec, "batches", depths ? k : i)))
            return true;
    return false;
}

// Drops from a list of defaults what does not fit; refuses what was asked for.
static int fit_list(const struct job_node *node, json_t *out, const char *list, bool asked,
                    struct err *e)
{
    json_t *fitting = json_array();
    for (int i = 0; i < spec_count(out, list); i++) {
        char param[64];
        if (fits_any(node, out, list, i)) {
            json_array_append_new(fitting, json_integer(spec_int_at(out, list, i)));
            continue;
        }
        snprintf(param, sizeof param, "spec.%s[%d]", list, i);
        if (asked) {
            json_decref(fitting);
            return err_field(e, ERR_BAD_REQUEST, param,
                             "%s is %d, which with what is generated fits this server in no "
                             "combination: it has %d slots, a context of %d tokens and %d pages of "
                             "%d; ask for less",
                             param, spec_int_at(out, list, i), node->model_options->sequences_max,
                             node->model_options->context_max, node->memory->n_pages, PAGE_TOKENS);
        }
    }
    const bool none = json_array_size(fitting) == 0;
    json_object_set_new(out, list, fitting);
    return none ? err_field(e, ERR_BAD_REQUEST, "spec.generate",
                            "spec.generate is %d: no default of spec.%s fits this server with it",
                            spec_int(out, "generate"), list)
                : 0;
}

static json_t *expand(const struct job_node *node, json_t *spec, struct err *e)
{
    json_t *out = spec_expand(FIELDS, N_FIELDS, spec, e);
    const bool depths = json_object_get(spec, "depths") != NULL;
    const bool batches = json_object_get(spec, "batches") != NULL;
    // What was asked for is judged first, while the other list still holds all its defaults.
    const char *first = batches && !depths ? "batches" : "depths";
    const char *second = batches && !depths ? "depths" : "batches";
    if (out && (fit_list(node, out, first, depths || batches, e) ||
                fit_list(node, out, second, depths && batches, e))) {
        json_decref(out);
        out = NULL;
    }
    return out;
}

static double estimate(const struct job_node *node, const json_t *expanded)
{
    const double rate = strcmp(node->ops->name, "cpu") ? 5e13 : 6e10;
    const double token = 2 * (double)node->memory->n_params / rate;
    double seconds = 4;
    for (int i = 0; i < spec_count(expanded, "depths"); i++)
        for (int k = 0; k < spec_count(expanded, "batches"); k++) {
            const int depth = spec_int_at(expanded, "depths", i);
            const int batch = spec_int_at(expanded, "batches", k);
            if (fits(node, expanded, depth, batch))
                seconds += spec_int(expanded, "repetitions") * batch * token *
                           (depth + 4.0 * most_tokens(node, expanded, depth, batch));
        }
    return seconds;
}

// --- one run of a batch ---------------------------------------------------------------------

struct signal {
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool woken;
};

struct sequence {
    struct gen *gen;
    struct gen_cursor cursor;
    struct gen_status status;
    int64_t *token_ns; // when each token was made
    int n;
    bool submitted;
};

struct batch_run {
    struct job_run *run;
    struct signal signal;
    struct sequence *sequences;
    int *prompt, depth, batch, most, wanted;
};

// Engine thread.
static void wake(void *ud)
{
    struct signal *s = ud;
    pthread_mutex_lock(&s->lock);
    s->woken = true;
    pthread_cond_signal(&s->change);
    pthread_mutex_unlock(&s->lock);
}

static void wait_for_change(struct signal *s)
{
    enum { MOST_NS = 50000000 };
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += MOST_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&s->lock);
    if (!s->woken)
        pthread_cond_timedwait(&s->change, &s->lock, &until);
    s->woken = false;
    pthread_mutex_unlock(&s->lock);
}

static int start(struct batch_run *b, struct err *e)
{
    const struct job_node *node = job_run_node(b->run);
    for (int i = 0; i < b->batch; i++) {
        struct sequence *s = &b->sequences[i];
        const struct gen_params p = {.prompt = b->prompt + i * b->depth,
                                     .n_prompt = b->depth,
                                     .max_tokens = b->most,
                                     .sampling = {.top_p = 1, .repetition = 1},
                                     .ignore_eos = true,
                                     .logprobs = -1,
                                     .background = true};
        s->token_ns = mem_zero((size_t)b->most + 1, sizeof *s->token_ns);
        s->gen = gen_create(&p, wake, &b->signal);
        if (gen_submit(node->engine, s->gen, e))
            return -1;
        s->submitted = true;
    }
    return 0;
}

static void take_tokens(struct sequence *s, int most)
{
    enum { READ = 16 };
    struct gen_token tokens[READ];
    int n;
    do {
        n = gen_read(s->gen, &s->cursor, NULL, tokens, READ, &s->status);
        for (int i = 0; i < n && s->n < most; i++)
            s->token_ns[s->n++] = tokens[i].made_ns;
    } while (n == READ);
}

// Until every sequence has generated what is wanted since the last of them began.
static int follow(struct batch_run *b, struct err *e)
{
    for (;;) {
        int64_t all_ns = 0; // when the last sequence began
        bool begun = true, enough = true;
        for (int i = 0; i < b->batch; i++) {
            struct sequence *s = &b->sequences[i];
            take_tokens(s, b->most);
            if (s->status.state == GEN_FAILED) {
                *e = s->status.err;
                return -1;
            }
            begun = begun && s->n > 0;
            all_ns = begun && s->token_ns[0] > all_ns ? s->token_ns[0] : all_ns;
        }
        for (int i = 0; i < b->batch && begun; i++) {
            const struct sequence *s = &b->sequences[i];
            int since = 0;
            for (int k = 0; k < s->n; k++)
                since += s->token_ns[k] >= all_ns;
            enough = enough && (since >= b->wanted || s->status.state == GEN_DONE);
        }
        if (begun && enough)
            return 0;
        if (job_run_cancelled(b->run))
            return err_set(e, ERR_CANCELLED, "stopped while a batch was generated");
        wait_for_change(&b->signal);
    }
}

// The prompts are borrowed until every generation has ended.
static void finish(struct batch_run *b)
{
    for (int i = 0; i < b->batch; i++) {
        struct sequence *s = &b->sequences[i];
        if (!s->gen)
            continue;
        gen_cancel(s->gen);
        while (s->submitted && s->status.state < GEN_DONE) {
            take_tokens(s, b->most);
            if (s->status.state < GEN_DONE)
                wait_for_change(&b->signal);
        }
        gen_release(s->gen, NULL, NULL);
        mem_free(s->token_ns);
    }
}

// --- figures --------------------------------------------------------------------------------

enum { RUNS_MAX = 100 };

struct cell {
    int depth, batch, runs;
    double first_ms[RUNS_MAX]; // median over the batch of: started to first token
    double prefill_s[RUNS_MAX], decode_s[RUNS_MAX]; // tokens a second
    double step_ms[RUNS_MAX], step_p99_ms[RUNS_MAX];
};

static void take_figures(const struct batch_run *b, struct cell *c)
{
    int64_t begin_ns = INT64_MAX, all_ns = 0, end_ns = INT64_MAX;
    double firsts[BATCH_MAX];
    int gaps = 0, tokens = 0;
    double *gap = mem_alloc((size_t)b->batch * (size_t)(b->most + 1) * sizeof *gap);
    for (int i = 0; i < b->batch; i++) {
        const struct sequence *s = &b->sequences[i];
        const int64_t last_ns = s->token_ns[s->n - 1];
        firsts[i] = clock_ms_between(s->status.started_ns, s->status.first_ns);
        begin_ns = s->status.started_ns < begin_ns ? s->status.started_ns : begin_ns;
        all_ns = s->status.first_ns > all_ns ? s->status.first_ns : all_ns;
        end_ns = last_ns < end_ns ? last_ns : end_ns;
    }
    for (int i = 0; i < b->batch; i++) {
        const struct sequence *s = &b->sequences[i];
        for (int k = 1; k < s->n; k++) {
            if (s->token_ns[k - 1] < all_ns || s->token_ns[k] > end_ns)
                continue;
            tokens++;
            gap[gaps++] = clock_ms_between(s->token_ns[k - 1], s->token_ns[k]);
        }
    }
    const int r = c->runs++;
    stat_sort(firsts, b->batch);
    c->first_ms[r] = stat_quantile(firsts, b->batch, 0.5);
    c->prefill_s[r] = 1e3 * b->depth * b->batch / clock_ms_between(begin_ns, all_ns);
    c->decode_s[r] = c->step_ms[r] = c->step_p99_ms[r] = NAN;
    if (gaps > 0) {
        stat_sort(gap, gaps);
        c->step_ms[r] = stat_quantile(gap, gaps, 0.5);
        c->step_p99_ms[r] =
            gaps >= stat_quantile_samples(0.99) ? stat_quantile(gap, gaps, 0.99) : NAN;
        double sum = 0;
        for (int i = 0; i < gaps; i++)
            sum += gap[i];
        c->decode_s[r] = 1e3 * tokens / (sum / b->batch);
    }
    mem_free(gap);
}

static int run_cell(struct job_run *run, const json_t *spec, struct cell *c, struct err *e)
{
    const struct job_node *node = job_run_node(run);
    struct batch_run b = {.run = run,
                          .signal = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false},
                          .depth = c->depth,
                          .batch = c->batch,
                          .most = most_tokens(node, spec, c->depth, c->batch),
                          .wanted = spec_int(spec, "generate")};
    uint64_t random = (uint64_t)c->runs + 1; // other prompts each time: nothing is cached
    b.sequences = mem_zero((size_t)c->batch, sizeof *b.sequences);
    b.prompt = mem_alloc((size_t)c->batch * (size_t)c->depth * sizeof *b.prompt);
    for (int i = 0; i < c->batch * c->depth; i++)
        b.prompt[i] = (int)(stat_uniform(&random) * node->config->vocab_size);
    const int failed = start(&b, e) || follow(&b, e);
    if (!failed)
        take_figures(&b, c);
    finish(&b);
    mem_free(b.sequences);
    mem_free(b.prompt);
    return failed ? -1 : 0;
}

// --- the document ---------------------------------------------------------------------------

static double median_of(const double *x, int n)
{
    double sorted[RUNS_MAX];
    memcpy(sorted, x, (size_t)n * sizeof *x);
    stat_sort(sorted, n);
    return n ? stat_quantile(sorted, n, 0.5) : NAN;
}

static void add_speeds(json_t *doc, const struct cell *cells, int n, const struct job_node *node,
                       const struct ceilings *ceilings)
{
    json_t *t = doc_table(doc, "speeds", "Speed by depth and batch");
    const struct model_work w = model_work_of(node->config, node->model_options, node->memory);
    json_t *prefill = doc_plot(doc, "prefill", "line", "Prompt tokens a second",
                               &(struct plot_axes){"prompt", "tokens", "speed", "tok/s", PLOT_LOG});
    json_t *decode = doc_plot(doc, "decode", "line", "Generated tokens a second",
                              &(struct plot_axes){"depth", "tokens", "speed", "tok/s", PLOT_LOG});
    table_text(t, "row", "row");
    table_hide(t);
    table_number(t, "depth", "depth", "tokens", 6);
    table_number(t, "batch", "sequences", NULL, 6);
    table_number(t, "first_ms", "first token", "ms", 4);
    table_number(t, "prefill_s", "prompt", "tok/s", 4);
    table_number(t, "prefill_share", "of the floor", "%", 3);
    table_number(t, "decode_s", "generation", "tok/s", 4);
    table_number(t, "decode_low", "95 % low", "tok/s", 4);
    table_number(t, "decode_high", "95 % high", "tok/s", 4);
    table_number(t, "decode_share", "of the floor", "%", 3);
    table_number(t, "step_ms", "between tokens", "ms", 4);
    table_number(t, "step_p99_ms", "p99", "ms", 4);
    table_number(t, "runs", "runs", NULL, 6);
    table_comparable(t, &(struct table_compare){(const char *const[]){"depth", "batch", NULL},
                                                "decode_s", "decode_low", "decode_high", false});
    for (int i = 0; i < n; i++) {
        const struct cell *c = &cells[i];
        double flops, bytes;
        char series[32];
        if (c->runs == 0)
            continue;
        model_work_prefill(&w, c->depth, node->model_options->batch_tokens, &flops, &bytes);
        const double least =
            c->batch * fmax(flops / ceilings->flops_s, bytes / ceilings->copy_bytes_s);
        const double prompt_s = median_of(c->prefill_s, c->runs);
        model_work_decode(&w, c->depth, c->batch, &flops, &bytes);
        const double step = fmax(flops / ceilings->flops_s, bytes / ceilings->copy_bytes_s);
        const double decode_s = median_of(c->decode_s, c->runs);
        const struct stat_interval range = stat_median_interval(c->decode_s, NULL, c->runs, 1);
        table_row(t, "ok",
                  json_pack("[o, i, i, o, o, o, o, o, o, o, o, o, i]",
                            json_sprintf("depth %d batch %d", c->depth, c->batch), c->depth,
                            c->batch, doc_number(median_of(c->first_ms, c->runs)),
                            doc_number(prompt_s),
                            doc_number(100 * least * prompt_s / (c->depth * c->batch)),
                            doc_number(decode_s), doc_number(range.low), doc_number(range.high),
                            doc_number(100 * step * decode_s / c->batch),
                            doc_number(median_of(c->step_ms, c->runs)),
                            doc_number(median_of(c->step_p99_ms, c->runs)), c->runs));
        snprintf(series, sizeof series, "batch %d", c->batch);
        plot_point(plot_series(prefill, series), c->depth, prompt_s);
        plot_range(plot_series(decode, series), c->depth, decode_s, range.low, range.high);
    }
}

static void add_memory(json_t *doc, const struct cell *cells, int n, const struct job_node *node)
{
    const struct model_memory *p = node->memory;
    json_t *t = doc_table(doc, "memory", "Memory of a sequence by depth");
    table_number(t, "depth", "depth", "tokens", 6);
    table_number(t, "state_mb", "recurrent state", "MB", 4);
    table_number(t, "kv_mb", "keys and values", "MB", 4);
    for (int i = 0; i < n; i++)
        if (i == 0 || cells[i].depth != cells[i - 1].depth)
            table_row(t, "ok",
                      json_pack("[i, f, f]", cells[i].depth,
                                (double)p->state_bytes_per_sequence / 1e6,
                                (double)p->kv_bytes_per_token * cells[i].depth / 1e6));
    char note[200];
    snprintf(note, sizeof note,
             "Weights %.1f MB (%.1f of them mapped from the file), scratch %.1f MB, pages %.1f MB, "
             "states %.1f MB.",
             (double)(p->weights + p->mapped) / 1e6, (double)p->mapped / 1e6,
             (double)p->scratch / 1e6, (double)p->kv_pages / 1e6, (double)p->state / 1e6);
    table_note(t, note);
}

static json_t *make_result(const struct cell *cells, int n, const struct job_node *node,
                           const struct ceilings *ceilings, json_t *environment)
{
    json_t *doc = doc_create("model_benchmark", "Model benchmark", environment);
    add_speeds(doc, cells, n, node, ceilings);
    add_memory(doc, cells, n, node);
    for (int i = 0; i < n; i++)
        if (cells[i].runs)
            doc_summary(doc,
                        "Depth %d, batch %d: first token %.5g ms, prompt %.4g tok/s, "
                        "generation %.4g tok/s.",
                        cells[i].depth, cells[i].batch, median_of(cells[i].first_ms, cells[i].runs),
                        median_of(cells[i].prefill_s, cells[i].runs),
                        median_of(cells[i].decode_s, cells[i].runs));
    doc_note(doc,
             "Through the engine, greedy, without HTTP. First token: from the sequence's first "
             "step to its first token, median of the batch. Prompt: all tokens of the batch by "
             "the time from the first step to the last first token. Generation: tokens of the "
             "time in which every sequence generates; the first tokens are left out.");
    doc_note(doc,
             "Of the floor: the larger of operations / multiply-add rate and bytes / copy "
             "bandwidth, by the time. A step reads all weights once, and of every sequence its "
             "states and its keys and values.");
    return doc;
}

static int measure(struct job_run *run, const json_t *spec, struct cell *cells, int n,
                   struct err *e)
{
    const int rounds = spec_int(spec, "repetitions");
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < n; i++) {
            char what[48];
            struct cell *c = &cells[i];
            snprintf(what, sizeof what, "depth %d batch %d", c->depth, c->batch);
            job_run_progress(run, (double)r * n + i, (double)rounds * n, "runs", "measuring", what);
            if (job_run_cancelled(run))
                return err_set(e, ERR_CANCELLED, "stopped after %d runs", r * n + i);
            if (run_cell(run, spec, c, e))
                return -1;
            const int k = c->runs - 1;
            job_run_sample(run, json_pack("{s:s, s:i, s:f, s:o, s:o}", "row", what, "run", r + 1,
                                          "first_ms", c->first_ms[k], "prefill_s",
                                          doc_number(c->prefill_s[k]), "decode_s",
                                          doc_number(c->decode_s[k])));
        }
    return 0;
}

static json_t *work(struct job_run *run, const json_t *expanded, struct err *e)
{
    const struct job_node *node = job_run_node(run);
    struct ceilings ceilings;
    json_t *environment = environment_collect(run, &ceilings, e), *result = NULL;
    const int depths = spec_count(expanded, "depths"), batches = spec_count(expanded, "batches");
    struct cell *cells = mem_zero((size_t)(depths * batches), sizeof *cells);
    int n = 0;
    for (int i = 0; i < depths * batches; i++) {
        const int depth = spec_int_at(expanded, "depths", i / batches);
        const int batch = spec_int_at(expanded, "batches", i % batches);
        if (fits(node, expanded, depth, batch))
            cells[n++] = (struct cell){.depth = depth, .batch = batch};
    }
    const int failed = !environment || measure(run, expanded, cells, n, e);
    if (environment)
        environment_finish(node, environment);
    if (environment && (!failed || (e->code == ERR_CANCELLED && cells[0].runs)))
        result = make_result(cells, n, node, &ceilings, environment);
    else
        json_decref(environment);
    if (result && failed)
        doc_partial(result);
    mem_free(cells);
    return result;
}

const struct job_type model_benchmark_type = {
    .name = "model_benchmark",
    .title = "prompts and generation of the served model by context depth and batch",
    .schema = schema,
    .expand = expand,
    .estimate = estimate,
    .work = work,
    .exclusive = false,
};
