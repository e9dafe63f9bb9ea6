// serve_benchmark.c - the job type serve_benchmark: this server's own HTTP path under a load: steps of
// concurrency, or requests that come at random times at a rate. What a client would see.
#include <curl/curl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "environment.h"
#include "http_load.h"
#include "mem.h"
#include "result_doc.h"
#include "sample_stats.h"
#include "spec_fields.h"

enum { STEPS_MAX = 16, IN_FLIGHT_MAX = 256 };

static const struct spec_field LIMITS[] = {
    {"ttft_ms", SPEC_NUM, NULL, 0, 1e9, .help = "time to first token"},
    {"itl_ms", SPEC_NUM, NULL, 0, 1e9, .help = "mean time a token after the first"},
    {"e2e_ms", SPEC_NUM, NULL, 0, 1e9, .help = "whole answer"},
};

static const struct spec_field FIELDS[] = {
    {"concurrency", SPEC_INTS, "[1, 4]", 1, IN_FLIGHT_MAX, STEPS_MAX,
     .help = "a step each: as many requests are kept under way"},
    {"rates", SPEC_NUMS, NULL, 0.001, 10000, STEPS_MAX,
     .help = "a step each, after those: requests a second, coming at random (Poisson)"},
    {"requests", SPEC_INT, "16", 1, 10000, .help = "of a step"},
    {"prompt_min", SPEC_INT, "64", 1, 1 << 20, .help = "tokens of a prompt, evenly drawn"},
    {"prompt_max", SPEC_INT, "256", 1, 1 << 20, .help = "tokens of a prompt, evenly drawn"},
    {"output_min", SPEC_INT, "16", 1, 1 << 16, .help = "tokens of an answer, evenly drawn"},
    {"output_max", SPEC_INT, "32", 1, 1 << 16, .help = "tokens of an answer, evenly drawn"},
    {"shared_prefix", SPEC_INT, "0", 0, 1 << 20, .help = "tokens that all prompts begin with"},
    {"seconds_max", SPEC_NUM, "60", 1, 3600, .help = "of a step; what is left then is given up"},
    {"seed", SPEC_INT, "1", 0, 1 << 30, .help = "of lengths, times and ids"},
    {"limits", SPEC_OBJECT, "{}", .help = "what a request must keep to count as goodput",
     .fields = LIMITS, .n_fields = 3},
};
enum { N_FIELDS = sizeof FIELDS / sizeof *FIELDS };

static json_t *schema(const struct job_node *node)
{
    (void)node;
    return spec_schema(FIELDS, N_FIELDS);
}

static int check_lengths(const struct job_node *node, const json_t *spec, struct err *e)
{
    const int context = node->model_options->context_max;
    if (spec_int(spec, "prompt_min") > spec_int(spec, "prompt_max"))
        return err_field(e, ERR_BAD_REQUEST, "spec.prompt_min",
                         "spec.prompt_min is %d, more than spec.prompt_max, %d",
                         spec_int(spec, "prompt_min"), spec_int(spec, "prompt_max"));
    if (spec_int(spec, "output_min") > spec_int(spec, "output_max"))
        return err_field(e, ERR_BAD_REQUEST, "spec.output_min",
                         "spec.output_min is %d, more than spec.output_max, %d",
                         spec_int(spec, "output_min"), spec_int(spec, "output_max"));
    if (spec_int(spec, "prompt_max") + spec_int(spec, "output_max") > context)
        return err_field(e, ERR_BAD_REQUEST, "spec.prompt_max",
                         "spec.prompt_max and spec.output_max are %d together; the served context "
                         "holds %d",
                         spec_int(spec, "prompt_max") + spec_int(spec, "output_max"), context);
    return 0;
}

static json_t *expand(const struct job_node *node, json_t *spec, struct err *e)
{
    json_t *out = spec_expand(FIELDS, N_FIELDS, spec, e);
    if (out && check_lengths(node, out, e)) {
        json_decref(out);
        out = NULL;
    }
    // Rates alone were asked for.
    if (out && spec_count(out, "rates") && !json_object_get(spec, "concurrency"))
        json_object_set_new(out, "concurrency", json_null());
    return out;
}

static double estimate(const struct job_node *node, const json_t *expanded)
{
    const double rate = strcmp(node->ops->name, "cpu") ? 5e13 : 6e10;
    const double token = 2 * (double)node->memory->n_params / rate;
    const double tokens =
        (spec_int(expanded, "prompt_max") + spec_int(expanded, "prompt_min")) / 2.0 +
        2.0 * (spec_int(expanded, "output_max") + spec_int(expanded, "output_min"));
    const double step =
        fmin(spec_num(expanded, "seconds_max"), spec_int(expanded, "requests") * tokens * token);
    double seconds = 4 + spec_count(expanded, "concurrency") * step;
    for (int i = 0; i < spec_count(expanded, "rates"); i++)
        seconds +=
            fmin(spec_num(expanded, "seconds_max"),
                 fmax(step, spec_int(expanded, "requests") / spec_num_at(expanded, "rates", i)));
    return seconds;
}

// --- one step -------------------------------------------------------------------------------

struct trial {
    char name[48];
    struct load_request *requests;
    struct load_step load;
};

static int between(uint64_t *random, int low, int high)
{
    return low + (int)(stat_uniform(random) * (high - low + 1));
}

// rate 0: as soon as a place is free.
static void draw_requests(struct trial *s, const json_t *spec, double rate)
{
    uint64_t random = (uint64_t)spec_int(spec, "seed");
    double at_s = 0;
    for (int i = 0; i < s->load.n; i++) {
        s->requests[i] = (struct load_request){
            between(&random, spec_int(spec, "prompt_min"), spec_int(spec, "prompt_max")),
            between(&random, spec_int(spec, "output_min"), spec_int(spec, "output_max")), -1};
        if (rate > 0) {
            at_s += -log(1 - stat_uniform(&random)) / rate;
            s->requests[i].at_s = at_s;
        }
    }
}

static int run_step(struct job_run *run, const json_t *spec, int i, struct trial *s, struct err *e)
{
    const int steps = spec_count(spec, "concurrency");
    const double rate = i < steps ? 0 : spec_num_at(spec, "rates", i - steps);
    const int concurrency = i < steps ? spec_int_at(spec, "concurrency", i) : IN_FLIGHT_MAX;
    s->load = (struct load_step){
        .n = spec_int(spec, "requests"),
        .in_flight_max = concurrency,
        .shared_prefix = spec_int(spec, "shared_prefix"),
        .seconds_max = spec_num(spec, "seconds_max"),
        // Other prompts in every step: nothing of one is in a cache for the next.
        .seed = (uint64_t)spec_int(spec, "seed") * 1000 + (uint64_t)i};
    s->requests = mem_zero((size_t)s->load.n, sizeof *s->requests);
    s->load.answers = mem_zero((size_t)s->load.n, sizeof *s->load.answers);
    s->load.requests = s->requests;
    if (rate > 0)
        snprintf(s->name, sizeof s->name, "%g requests/s", rate);
    else
        snprintf(s->name, sizeof s->name, "%d at a time", concurrency);
    draw_requests(s, spec, rate);
    return load_run(run, &s->load, e);
}

static void free_step(struct trial *s)
{
    mem_free(s->requests);
    mem_free(s->load.answers);
    mem_free(s->load.gaps_ms);
}

// --- figures --------------------------------------------------------------------------------

static double tpot_of(const struct load_answer *a)
{
    return a->tokens > 1 ? (a->e2e_ms - a->ttft_ms) / (a->tokens - 1) : 0;
}

static bool keeps(const struct load_answer *a, const json_t *limits)
{
    const double ttft = spec_num(limits, "ttft_ms"), itl = spec_num(limits, "itl_ms");
    const double e2e = spec_num(limits, "e2e_ms");
    return a->done && !(a->ttft_ms > ttft) && !(tpot_of(a) > itl) && !(a->e2e_ms > e2e);
}

// p50, p90 and p99 of n numbers; what has too few samples is null.
static void add_percentiles(json_t *row, double *x, int n)
{
    static const double P[] = {0.5, 0.9, 0.99};
    stat_sort(x, n);
    for (size_t i = 0; i < sizeof P / sizeof *P; i++)
        json_array_append_new(row, n > 0 && n >= (i == 2 ? stat_quantile_samples(P[i]) : 1)
                                       ? doc_number(stat_quantile(x, n, P[i]))
                                       : json_null());
}

struct totals {
    int done, refused, failed, good, tokens, prompt;
};

static struct totals count(const struct trial *s, const json_t *limits)
{
    struct totals t = {0};
    for (int i = 0; i < s->load.n; i++) {
        const struct load_answer *a = &s->load.answers[i];
        t.done += a->done;
        t.refused += a->status == 429;
        t.failed += !a->done && a->status != 429;
        t.good += keeps(a, limits);
        t.tokens += a->done ? a->tokens : 0;
        t.prompt += a->done ? s->requests[i].prompt : 0;
    }
    return t;
}

static json_t *make_row(const struct trial *s, const json_t *limits)
{
    const struct totals t = count(s, limits);
    const double seconds = s->load.seconds;
    double *x = mem_alloc((size_t)s->load.n * sizeof *x);
    json_t *row = json_pack("[s, i, i, i, i, f, f, f, f, f]", s->name, s->load.n, t.done, t.refused,
                            t.failed, seconds, t.done / seconds, t.good / seconds,
                            t.prompt / seconds, t.tokens / seconds);
    for (int what = 0; what < 3; what++) {
        int n = 0;
        for (int i = 0; i < s->load.n; i++)
            if (s->load.answers[i].done)
                x[n++] = what == 0   ? s->load.answers[i].ttft_ms
                         : what == 1 ? s->load.answers[i].e2e_ms
                                     : tpot_of(&s->load.answers[i]);
        add_percentiles(row, x, n);
    }
    add_percentiles(row, s->load.gaps_ms, s->load.n_gaps);
    json_array_append_new(row, json_integer(s->load.n_gaps));
    json_array_append_new(row, s->load.events ? json_real((double)t.tokens / s->load.events)
                                              : json_null());
    mem_free(x);
    return row;
}

static void add_columns(json_t *t)
{
    static const char *const GROUPS[][3] = {{"ttft", "first token", "ms"},
                                            {"e2e", "whole answer", "ms"},
                                            {"tpot", "time a token", "ms"},
                                            {"itl", "between events", "ms"}};
    static const char *const P[] = {"p50", "p90", "p99"};
    table_text(t, "load", "load");
    table_number(t, "requests", "requests", NULL, 6);
    table_number(t, "done", "answered", NULL, 6);
    table_number(t, "refused", "refused (429)", NULL, 6);
    table_number(t, "failed", "failed or given up", NULL, 6);
    table_number(t, "seconds", "took", "s", 4);
    table_number(t, "requests_s", "answers", "1/s", 4);
    table_number(t, "goodput_s", "goodput", "1/s", 4);
    table_number(t, "prompt_s", "prompt", "tok/s", 4);
    table_number(t, "output_s", "output", "tok/s", 4);
    for (size_t g = 0; g < sizeof GROUPS / sizeof *GROUPS; g++)
        for (size_t p = 0; p < sizeof P / sizeof *P; p++) {
            char name[32], title[48];
            snprintf(name, sizeof name, "%s_%s", GROUPS[g][0], P[p]);
            snprintf(title, sizeof title, "%s %s", GROUPS[g][1], P[p]);
            table_number(t, name, title, GROUPS[g][2], 4);
        }
    table_number(t, "events", "gaps", NULL, 6);
    table_number(t, "tokens_event", "tokens an event", NULL, 4);
    table_note(t, "A p99 of fewer than 1000 samples is left out.");
}

static void plot_percentiles(json_t *doc, const char *name, const char *title, struct trial *steps,
                             int n)
{
    json_t *plot =
        doc_plot(doc, name, "line", title,
                 &(struct plot_axes){"share of requests", "%", "time", "ms", PLOT_LOG_Y});
    for (int i = 0; i < n; i++) {
        const struct load_step *s = &steps[i].load;
        double *x = mem_alloc((size_t)s->n * sizeof *x);
        int done = 0;
        for (int k = 0; k < s->n; k++)
            if (s->answers[k].done)
                x[done++] = !strcmp(name, "ttft") ? s->answers[k].ttft_ms : s->answers[k].e2e_ms;
        stat_sort(x, done);
        for (int p = 0; p <= 100 && done > 0; p += 5)
            plot_point(plot_series(plot, steps[i].name), p, stat_quantile(x, done, p / 100.0));
        mem_free(x);
    }
}

static json_t *make_result(struct trial *steps, int n, const json_t *spec, json_t *environment)
{
    const json_t *limits = json_object_get(spec, "limits");
    json_t *doc = doc_create("serve_benchmark", "Serve benchmark", environment);
    json_t *t = doc_table(doc, "steps", "Load steps");
    add_columns(t);
    for (int i = 0; i < n; i++) {
        const struct totals sum = count(&steps[i], limits);
        table_row(t, sum.failed ? "failed" : "ok", make_row(&steps[i], limits));
        doc_summary(doc,
                    "%s: %d of %d answered in %.3g s, %.4g tok/s out, goodput %.3g requests/s.",
                    steps[i].name, sum.done, steps[i].load.n, steps[i].load.seconds,
                    sum.tokens / steps[i].load.seconds, sum.good / steps[i].load.seconds);
    }
    plot_percentiles(doc, "ttft", "Time to first token", steps, n);
    plot_percentiles(doc, "e2e", "Time to the whole answer", steps, n);
    doc_note(doc,
             "As a client on this machine sees it, over HTTP with streaming. First token: from "
             "the request (with a rate: from when it was to come, however long it waited to be "
             "sent) to the first event with a token. Time a token: (whole answer - first token) "
             "/ (tokens - 1). Between events: gaps of the stream; an event may carry more than "
             "one token. Goodput: answers that keep the given limits.");
    doc_note(doc, "Prompts are random ids that no other prompt of the job begins with, but for the "
                  "shared beginning; the load generator uses the same processors as the server.");
    return doc;
}

static json_t *work(struct job_run *run, const json_t *expanded, struct err *e)
{
    const struct job_node *node = job_run_node(run);
    const int n = spec_count(expanded, "concurrency") + spec_count(expanded, "rates");
    struct ceilings ceilings;
    json_t *result = NULL, *environment = environment_collect(run, &ceilings, e);
    if (!environment)
        return NULL;
    struct trial *steps = mem_zero((size_t)n, sizeof *steps);
    int failed = 0, measured = 0;
    curl_global_init(CURL_GLOBAL_NOTHING);
    for (; measured < n && !failed; measured += !failed) {
        failed = run_step(run, expanded, measured, &steps[measured], e);
        if (!failed)
            job_run_sample(
                run, json_pack("{s:s, s:f, s:i}", "load", steps[measured].name, "seconds",
                               steps[measured].load.seconds, "answered",
                               count(&steps[measured], json_object_get(expanded, "limits")).done));
    }
    environment_finish(node, environment);
    if (!failed || (e->code == ERR_CANCELLED && measured > 0))
        result = make_result(steps, measured, expanded, environment);
    else
        json_decref(environment);
    if (result && failed)
        doc_partial(result);
    for (int i = 0; i < n; i++)
        free_step(&steps[i]);
    mem_free(steps);
    curl_global_cleanup();
    return result;
}

const struct job_type serve_benchmark_type = {
    .name = "serve_benchmark",
    .title = "this server's own HTTP path under load",
    .schema = schema,
    .expand = expand,
    .estimate = estimate,
    .work = work,
    .exclusive = false,
};
