// kernel_benchmark.c - the job type kernel_benchmark: operations of the seam by shape, method and type, warm
// and cold, each proven in the same run: a row whose results are wrong is a failed row, not a fast one.
//
// Every row is measured in several rounds through all rows, so that what changes slowly on a machine
// (clocks, neighbours, where memory lies) is inside the interval of every row.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench_run.h"
#include "clock.h"
#include "environment.h"
#include "kernel_rows.h"
#include "mem.h"
#include "spec_fields.h"

static const char *const CACHES[] = {"warm", "cold", NULL};
static const char *const TYPES[] = {"fp32", "tf32", "fp16", "bf16", "int8", NULL};
static const char *const WEIGHTS[] = {"f32", "bf16", "int8", NULL};
static const char *const STATES[] = {"f32", "bf16", NULL};
static const char *const EXECUTORS[] = {"fused", "cublas", NULL};

static const struct spec_field FIELDS[] = {
    {"ops", SPEC_STRS, "[\"gdn_inverse\"]", .items_max = 32, .choices = BENCH_OP_NAMES,
     .help = "operations; GET /v1/job-types has what each is"},
    {"shapes", SPEC_STRS, "[\"served\"]", .items_max = 6, .choices = BENCH_SHAPES,
     .help = "whose sizes: the served model's, or a Qwen3.5 size's"},
    {"tokens", SPEC_INTS, "[1024]", 1, 131072, 16,
     .help = "tokens of a prompt, or rows; products take up to 16 rows as generated tokens"},
    {"depths", SPEC_INTS, "[1024]", 0, 131072, 16,
     .help = "attention: tokens that stand before those that are timed"},
    {"batches", SPEC_INTS, "[1, 8]", 1, 256, 16, .help = "sequences that generate a token each"},
    {"chunks", SPEC_INTS, "[16, 32, 64, 128]", 16, 128, 4, .help = "delta rule: chunk sizes"},
    {"methods", SPEC_STRS, "[\"substitution\", \"merge\", \"auto\", \"paper\"]", 1, 40, 32,
     .help = "inversion: auto, paper, substitution, merge, neumann:BLOCK,ORDER,RESIDUAL"},
    {"types", SPEC_STRS, "[\"fp32\", \"fp16\", \"bf16\", \"int8\"]", .items_max = 5,
     .choices = TYPES, .help = "inversion: type of the operands"},
    {"executors", SPEC_STRS, "[\"fused\"]", .items_max = 2, .choices = EXECUTORS,
     .help = "inversion on a GPU: one kernel, or library products"},
    {"weights", SPEC_STRS, "[\"bf16\"]", .items_max = 3, .choices = WEIGHTS,
     .help =
         "types of weights (and of K and V, the embedding) where an operation has them; bf16 is "
         "f16 on a server with --dtype f16"},
    {"states", SPEC_STRS, "[\"f32\"]", .items_max = 2, .choices = STATES,
     .help = "gdn_decode: types of the recurrent states"},
    {"rhos", SPEC_NUMS, "[0.5]", 0, 1, 8, .help = "mean cosine of the keys: 0 random, 1 all equal"},
    {"caches", SPEC_STRS, "[\"warm\", \"cold\"]", .items_max = 2, .choices = CACHES,
     .help = "cold: the caches are flushed before every sample"},
    {"rounds", SPEC_INT, "3", 1, 20, .help = "times through all rows"},
    {"samples_min", SPEC_INT, "10", 1, 10000,
     .help = "least samples of a row, all rounds together"},
    {"samples_max", SPEC_INT, "1000", 1, 10000, .help = "most samples of a row"},
    {"seconds_min", SPEC_NUM, "0.05", 0, 60, .help = "least time that a row is sampled"},
    {"seconds_max", SPEC_NUM, "0.3", 0.001, 600, .help = "most time that a row is sampled"},
    {"noise_max", SPEC_NUM, "0.005", 0.0001, 1,
     .help = "a row is done when its relative deviation, or its median's error, is below this"},
};
enum { N_FIELDS = sizeof FIELDS / sizeof *FIELDS };

static json_t *schema(const struct job_node *node)
{
    (void)node;
    json_t *s = spec_schema(FIELDS, N_FIELDS), *ops = json_object();
    for (int i = 0; BENCH_OPS[i]; i++)
        json_object_set_new(ops, BENCH_OPS[i]->name, json_string(BENCH_OPS[i]->title));
    json_object_set_new(s, "operations", ops);
    return s;
}

static int check_chunks(const json_t *spec, struct err *e)
{
    for (int i = 0; i < spec_count(spec, "chunks"); i++) {
        const int chunk = spec_int_at(spec, "chunks", i);
        char param[64];
        snprintf(param, sizeof param, "spec.chunks[%d]", i);
        if (chunk & (chunk - 1))
            return err_field(e, ERR_BAD_REQUEST, param, "%s is %d; give 16, 32, 64 or 128", param,
                             chunk);
    }
    return 0;
}

// A method must suit one of the chunk sizes; where it suits none of them the sentence says why not.
static int check_methods(const json_t *spec, struct err *e)
{
    for (int i = 0; i < spec_count(spec, "methods"); i++) {
        bool suits = false;
        char why[200] = "", param[64];
        for (int k = 0; k < spec_count(spec, "chunks") && !suits; k++) {
            struct inverse v;
            suits = inverse_parse(&v, spec_str_at(spec, "methods", i), "fp32",
                                  spec_int_at(spec, "chunks", k), why, sizeof why) == 0;
        }
        snprintf(param, sizeof param, "spec.methods[%d]", i);
        if (!suits)
            return err_field(e, ERR_BAD_REQUEST, param, "%s: %s", param, why);
    }
    return 0;
}

static int check_executors(const struct job_node *node, const json_t *spec, struct err *e)
{
    for (int i = 0; i < spec_count(spec, "executors"); i++) {
        char param[64];
        snprintf(param, sizeof param, "spec.executors[%d]", i);
        if (!strcmp(spec_str_at(spec, "executors", i), "cublas") &&
            strcmp(node->ops->name, "cuda") != 0)
            return err_field(e, ERR_BAD_REQUEST, param,
                             "%s is cublas, which device '%s' has not; give fused", param,
                             node->ops->name);
    }
    return 0;
}

static json_t *expand(const struct job_node *node, json_t *spec, struct err *e)
{
    json_t *out = spec_expand(FIELDS, N_FIELDS, spec, e);
    struct kernel_rows rows = {0};
    if (!out)
        return NULL;
    if (check_chunks(out, e) || check_methods(out, e) || check_executors(node, out, e) ||
        kernel_rows_make(&rows, node, out, e)) {
        json_decref(out);
        out = NULL;
    }
    kernel_rows_free(&rows);
    return out;
}

static double estimate(const struct job_node *node, const json_t *expanded)
{
    struct kernel_rows rows = {0};
    struct err e;
    double seconds = 4; // the ceilings
    if (kernel_rows_make(&rows, node, expanded, &e))
        return seconds;
    for (int i = 0; i < rows.n; i++) // inputs are made and proven once a round and case
        seconds += spec_num(expanded, "seconds_max") +
                   (rows.row[i].first ? 0.05 + 1e-9 * rows.row[i].host_bytes * 4 : 0);
    kernel_rows_free(&rows);
    return seconds;
}

// --- the work -------------------------------------------------------------------------------

struct bench {
    struct job_run *run;
    const json_t *spec;
    struct kernel_rows rows;
    struct ceilings ceilings;
    struct bench_flush flush;
    enum dtype act;
    struct stat_rule rule; // of one row in one round
    int done;              // rows measured, over all rounds
};

static struct stat_rule make_rule(const json_t *spec)
{
    const int rounds = spec_int(spec, "rounds");
    return (struct stat_rule){.samples_min = (spec_int(spec, "samples_min") + rounds - 1) / rounds,
                              .samples_max = (spec_int(spec, "samples_max") + rounds - 1) / rounds,
                              .seconds_min = spec_num(spec, "seconds_min") / rounds,
                              .seconds_max = spec_num(spec, "seconds_max") / rounds,
                              .noise_max = spec_num(spec, "noise_max")};
}

static int cancelled(struct bench *b, struct err *e)
{
    if (!job_run_cancelled(b->run))
        return 0;
    return err_set(e, ERR_CANCELLED, "stopped after %d of %d measurements", b->done,
                   b->rows.n * spec_int(b->spec, "rounds"));
}

// One row in one round: samples until the rule is content.
static int measure_row(struct bench *b, struct bench_case *c, struct kernel_row *row, int round,
                       struct err *e)
{
    struct bench_sample s = {.reps = row->reps, .cold = row->cold};
    const int first = row->n;
    const int64_t begun_ns = clock_ns();
    enum stat_verdict verdict = STAT_GO_ON;
    double least_us = INFINITY;
    if (bench_case_sample(b->run, c, &b->flush, &s, e)) // warm-up, not kept
        return -1;
    while (verdict == STAT_GO_ON) {
        if (cancelled(b, e) || bench_case_sample(b->run, c, &b->flush, &s, e))
            return -1;
        const double seconds = clock_ms_between(begun_ns, clock_ns()) / 1e3;
        row->disturbed += s.disturbed;
        least_us = fmin(least_us, s.us);
        if (s.disturbed && seconds < b->rule.seconds_max)
            continue;
        const bool none = s.disturbed && row->n == first; // the fastest stands for all of them
        row->unquiet = row->unquiet || none;
        if (none || !s.disturbed)
            kernel_row_add(row, none ? least_us : s.us, round);
        verdict = stat_rule_ask(&b->rule, row->us + first, row->n - first, seconds);
    }
    row->noisy = row->noisy || verdict == STAT_NOISY;
    row->reps = s.reps;
    row->contended = s.contended > row->contended ? s.contended : row->contended;
    return 0;
}

// The rows of one case, from i on; returns the first row behind them, or -1.
static int measure_case(struct bench *b, int i, int round, struct err *e)
{
    struct kernel_row *first = &b->rows.row[i];
    struct bench_case c;
    int end = i + 1, failed = 0;
    while (end < b->rows.n && !b->rows.row[end].first)
        end++;
    bench_prepare(&c, first->op, &first->at, b->act);
    if (bench_case_place(b->run, &c, e)) {
        bench_fini(&c);
        if (e->code != ERR_TOO_LARGE && e->code != ERR_UNSUPPORTED)
            return -1;
        for (int k = i; k < end; k++)
            kernel_row_skip(&b->rows.row[k], e->text);
        return end;
    }
    c.op->judge(&c);
    for (int k = i; k < end && !failed; k++) {
        kernel_row_judged(&b->rows.row[k], &c);
        failed = measure_row(b, &c, &b->rows.row[k], round, e);
        b->done++;
        job_run_progress(b->run, b->done, (double)b->rows.n * spec_int(b->spec, "rounds"), "rows",
                         "measuring", b->rows.row[k].name);
        if (!failed && round + 1 == spec_int(b->spec, "rounds"))
            job_run_sample(b->run, kernel_row_sample(&b->rows.row[k]));
    }
    bench_case_release(b->run, &c);
    return failed ? -1 : end;
}

static int measure_all(struct bench *b, struct err *e)
{
    for (int round = 0; round < spec_int(b->spec, "rounds"); round++)
        for (int i = 0; i < b->rows.n;) {
            if (cancelled(b, e))
                return -1;
            i = measure_case(b, i, round, e);
            if (i < 0)
                return -1;
        }
    return 0;
}

static json_t *work(struct job_run *run, const json_t *expanded, struct err *e)
{
    const struct job_node *node = job_run_node(run);
    struct bench b = {.run = run, .spec = expanded, .rule = make_rule(expanded)};
    json_t *result = NULL, *environment = environment_collect(run, &b.ceilings, e);
    if (!environment)
        return NULL;
    if (kernel_rows_make(&b.rows, node, expanded, e) ||
        bench_flush_place(run, &b.flush, &b.act, e)) {
        json_decref(environment);
        goto out;
    }
    const int failed = measure_all(&b, e);
    environment_finish(node, environment);
    if (!failed || (e->code == ERR_CANCELLED && b.done > 0))
        result = kernel_rows_report(&b.rows, &b.ceilings, environment, failed != 0);
    else
        json_decref(environment);
    if (result && !failed && kernel_rows_artifact(&b.rows, run, e)) {
        json_decref(result);
        result = NULL;
    }
out:
    bench_flush_release(run, &b.flush);
    kernel_rows_free(&b.rows);
    return result;
}

const struct job_type kernel_benchmark_type = {
    .name = "kernel_benchmark",
    .title = "speed of the operations by shape, method and type, each proven in the same run",
    .schema = schema,
    .expand = expand,
    .estimate = estimate,
    .work = work,
    .exclusive = true,
};
