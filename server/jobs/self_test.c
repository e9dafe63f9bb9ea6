// self_test.c - the job type self_test: operations of the engine's own table, on its own device, against
// their definitions in float64, for as long as asked. It says whether this node computes what it
// should, and it is the shortest example of how a job type is written.
//
// Only operations whose arguments name their types are here, so the same code holds for every device
// and every type of activations.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "clock.h"
#include "job.h"
#include "job_type.h"
#include "json.h"
#include "mem.h"

enum {
    CHUNK = 64,      // of tri_inverse
    MATRICES = 8,    //
    KEY_DIM = 64,    // of the keys that A is made of
    ROWS = 32,       // of quantize
    COLS = 512,      //
    VOCAB = 1024,    // of logprobs
    LOGITS_ROWS = 4, //
    TOP_N = 5,
    KEPT_MAX = 4096, // samples of one case that are told and kept; the rest only count
    SECONDS_MAX = 3600,
};

// One draw: what it found and how long the operation took.
struct draw {
    const struct test_case *test;
    uint64_t random;
    double error, us;
};

struct test_case {
    const char *op, *setting;
    double limit; // of error, with its reason beside the table
    int (*run)(struct draw *d, const struct ops *ops, struct dev *dev, struct err *e);
};

// --- helpers --------------------------------------------------------------------------------

// splitmix64, as a number in [-1, 1).
static double uniform(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)(int64_t)(z ^ (z >> 31)) * 0x1p-63;
}

static int out_of_memory(struct err *e)
{
    return err_set(e, ERR_TOO_LARGE, "device memory is out; start the server with less kv-bytes");
}

static int sync_device(const struct ops *ops, struct dev *dev, struct err *e)
{
    char why[256];
    return ops->sync(dev, why, sizeof why) ? err_set(e, ERR_DEVICE, "%s", why) : 0;
}

static void raise_to(double *most, double v)
{
    if (!(v <= *most)) // NaN too
        *most = isnan(v) ? INFINITY : v;
}

// --- tri_inverse ----------------------------------------------------------------------------

// A[t][s] = beta_t (k_t . k_s) exp(-(t - s) / 16) for unit keys, as the delta rule makes it.
static void draw_matrix(uint64_t *random, float *a)
{
    static double keys[CHUNK][KEY_DIM];
    for (int t = 0; t < CHUNK; t++) {
        double norm = 0, beta = 0.5 + 0.5 * uniform(random);
        for (int i = 0; i < KEY_DIM; i++) {
            keys[t][i] = uniform(random) + 0.3; // a mean, so that keys look alike as real ones do
            norm += keys[t][i] * keys[t][i];
        }
        for (int i = 0; i < KEY_DIM; i++)
            keys[t][i] /= sqrt(norm);
        for (int s = 0; s < CHUNK; s++) {
            double dot = 0;
            for (int i = 0; i < KEY_DIM && s < t; i++)
                dot += keys[t][i] * keys[s][i];
            a[t * CHUNK + s] = (float)(beta * dot * exp((s - t) / 16.0));
        }
    }
}

// Row by row in float64: T[t] = e_t - A[t] T.
static double inverse_error(const float *a, const float *t_out)
{
    static double T[CHUNK][CHUNK];
    double most = 0;
    for (int t = 0; t < CHUNK; t++) {
        for (int s = 0; s < CHUNK; s++) {
            double sum = t == s;
            for (int i = s; i < t; i++)
                sum -= (double)a[t * CHUNK + i] * T[i][s];
            T[t][s] = sum;
            raise_to(&most, fabs((double)t_out[t * CHUNK + s] - sum));
        }
    }
    return most;
}

static int run_inverse(struct draw *d, const struct ops *ops, struct dev *dev, struct err *e)
{
    const size_t n = (size_t)MATRICES * CHUNK * CHUNK, bytes = n * sizeof(float);
    struct tri_inverse_args args = {.n = MATRICES, .chunk = CHUNK};
    char why[256], method[64];
    snprintf(method, sizeof method, "%s", d->test->setting);
    char *slash = strchr(method, '/');
    CHECK(slash != NULL);
    *slash = '\0';
    CHECK(inverse_parse(&args.inverse, method, slash + 1, CHUNK, why, sizeof why) == 0);
    float *a = mem_alloc(bytes), *t = mem_alloc(bytes);
    for (int i = 0; i < MATRICES; i++)
        draw_matrix(&d->random, a + i * CHUNK * CHUNK);
    float *device_a = ops->alloc(dev, bytes), *device_t = ops->alloc(dev, bytes);
    int failed = device_a && device_t ? 0 : out_of_memory(e);
    if (!failed) {
        ops->upload(dev, device_a, a, bytes);
        args.a = device_a;
        args.t_out = device_t;
        int64_t begun_ns = clock_ns();
        ops->tri_inverse(dev, &args);
        failed = sync_device(ops, dev, e);
        d->us = clock_ms_between(begun_ns, clock_ns()) * 1e3;
    }
    if (!failed) {
        ops->download(dev, t, device_t, bytes);
        for (int i = 0; i < MATRICES; i++)
            raise_to(&d->error, inverse_error(a + i * CHUNK * CHUNK, t + i * CHUNK * CHUNK));
    }
    ops->release(dev, device_a);
    ops->release(dev, device_t);
    mem_free(a);
    mem_free(t);
    return failed;
}

// --- quantize -------------------------------------------------------------------------------

// |x - q scale| in steps of the scale that the definition gives.
static double quantize_error(const float *x, const int8_t *q, float scale)
{
    double most = 0, error = 0;
    for (int i = 0; i < COLS; i++)
        raise_to(&most, fabs((double)x[i]));
    const double step = most / 127;
    for (int i = 0; i < COLS; i++)
        raise_to(&error, fabs((double)x[i] - q[i] * (double)scale) / step);
    return error;
}

static int run_quantize(struct draw *d, const struct ops *ops, struct dev *dev, struct err *e)
{
    static float x[ROWS * COLS], scale[ROWS];
    static int8_t q[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++)
        x[i] = (float)(uniform(&d->random) * (i / COLS + 1));
    float *device_x = ops->alloc(dev, sizeof x), *device_scale = ops->alloc(dev, sizeof scale);
    int8_t *device_q = ops->alloc(dev, sizeof q);
    int failed = device_x && device_scale && device_q ? 0 : out_of_memory(e);
    if (!failed) {
        ops->upload(dev, device_x, x, sizeof x);
        const struct quantize_args args = {.q = device_q,
                                           .scale = device_scale,
                                           .x = device_x,
                                           .type = DTYPE_F32,
                                           .rows = ROWS,
                                           .cols = COLS};
        int64_t begun_ns = clock_ns();
        ops->quantize(dev, &args);
        failed = sync_device(ops, dev, e);
        d->us = clock_ms_between(begun_ns, clock_ns()) * 1e3;
    }
    if (!failed) {
        ops->download(dev, q, device_q, sizeof q);
        ops->download(dev, scale, device_scale, sizeof scale);
        for (int row = 0; row < ROWS; row++)
            raise_to(&d->error, quantize_error(x + row * COLS, q + row * COLS, scale[row]));
    }
    ops->release(dev, device_x);
    ops->release(dev, device_scale);
    ops->release(dev, device_q);
    return failed;
}

// --- logprobs -------------------------------------------------------------------------------

struct logprobs_case {
    float logits[LOGITS_ROWS * VOCAB], logprob[LOGITS_ROWS], top[LOGITS_ROWS * TOP_N];
    int ids[LOGITS_ROWS], top_ids[LOGITS_ROWS * TOP_N];
};

static double logprobs_error(const struct logprobs_case *c, int row)
{
    const float *logits = c->logits + row * VOCAB;
    double sum = 0, most = 0;
    for (int i = 0; i < VOCAB; i++)
        sum += exp((double)logits[i]);
    raise_to(&most, fabs((double)c->logprob[row] - ((double)logits[c->ids[row]] - log(sum))));
    for (int k = 0; k < TOP_N; k++) {
        const int id = c->top_ids[row * TOP_N + k];
        if (id < 0 || id >= VOCAB)
            return INFINITY;
        int better = 0;
        for (int i = 0; i < VOCAB; i++)
            better += logits[i] > logits[id] || (logits[i] == logits[id] && i < id);
        if (better != k)
            return INFINITY;
        raise_to(&most, fabs((double)c->top[row * TOP_N + k] - ((double)logits[id] - log(sum))));
    }
    return most;
}

static int run_logprobs(struct draw *d, const struct ops *ops, struct dev *dev, struct err *e)
{
    static struct logprobs_case c;
    for (int i = 0; i < LOGITS_ROWS * VOCAB; i++)
        c.logits[i] = (float)(8 * uniform(&d->random));
    for (int i = 0; i < LOGITS_ROWS; i++)
        c.ids[i] = (int)((uniform(&d->random) + 1) / 2 * (VOCAB - 1));
    struct logprobs_case *device = ops->alloc(dev, sizeof c);
    if (!device)
        return out_of_memory(e);
    ops->upload(dev, device, &c, sizeof c);
    const struct logprobs_args args = {.logprob = device->logprob,
                                       .top_ids = device->top_ids,
                                       .top_logprob = device->top,
                                       .logits = device->logits,
                                       .ids = device->ids,
                                       .n = LOGITS_ROWS,
                                       .vocab = VOCAB,
                                       .n_tokens = VOCAB,
                                       .top_n = TOP_N};
    int64_t begun_ns = clock_ns();
    ops->logprobs(dev, &args);
    int failed = sync_device(ops, dev, e);
    d->us = clock_ms_between(begun_ns, clock_ns()) * 1e3;
    if (!failed) {
        ops->download(dev, &c, device, sizeof c);
        for (int row = 0; row < LOGITS_ROWS; row++)
            raise_to(&d->error, logprobs_error(&c, row));
    }
    ops->release(dev, device);
    return failed;
}

// --- the job --------------------------------------------------------------------------------

// Limits. The exact inverses err by a few float32 roundings of entries below 1 (3e-7 seen over the
// stress cases of tests/kernels); int8 keeps 2^-14 a product and errs by at most 1.5e-3. A rounding to
// the nearest step errs by half of one and a little for the division. A logprob sums 1024 terms.
static const struct test_case TESTS[] = {
    {"tri_inverse", "substitution/fp32", 1e-5, run_inverse},
    {"tri_inverse", "merge/fp32", 1e-5, run_inverse},
    {"tri_inverse", "auto/fp32", 1e-5, run_inverse},
    {"tri_inverse", "auto/int8", 4e-3, run_inverse},
    {"quantize", "f32 to int8", 0.5001, run_quantize},
    {"logprobs", "f32", 1e-4, run_logprobs},
};
enum { N_TESTS = sizeof TESTS / sizeof *TESTS };

struct tally {
    int n, n_kept;
    double error;
    double us[KEPT_MAX];
};

static json_t *schema(const struct job_node *node)
{
    (void)node;
    return json_pack("{s:s, s:s, s:b, s:{s:{s:s, s:f, s:i, s:f, s:s}}}", "$schema",
                     "https://json-schema.org/draft/2020-12/schema", "type", "object",
                     "additionalProperties", 0, "properties", "seconds", "type", "number",
                     "minimum", 0.0, "maximum", SECONDS_MAX, "default", 2.0, "description",
                     "how long to go on; every test runs at least once");
}

static json_t *expand(const struct job_node *node, json_t *spec, struct err *e)
{
    static const struct json_field FIELDS[] = {
        {"seconds", JSON_KIND_NUM, 0, 0, SECONDS_MAX, 2, false},
    };
    double seconds;
    const char *key;
    json_t *value;
    (void)node;
    json_object_foreach(spec, key, value)
    {
        if (strcmp(key, "seconds")) {
            char param[96];
            snprintf(param, sizeof param, "spec.%.80s", key);
            err_field(e, ERR_BAD_REQUEST, param, "self_test has no %.100s; it has: seconds", key);
            return NULL;
        }
    }
    if (json_read(FIELDS, 1, spec, "spec", &seconds, e))
        return NULL;
    return json_pack("{s:f}", "seconds", seconds);
}

static double estimate(const struct job_node *node, const json_t *expanded)
{
    (void)node;
    return json_number_value(json_object_get(expanded, "seconds"));
}

// Engine thread.
static int run_draw(void *ud, const struct ops *ops, struct dev *dev, struct model *m,
                    struct err *e)
{
    struct draw *d = ud;
    (void)m;
    return d->test->run(d, ops, dev, e);
}

// lines: every sample so far, one JSON object a line.
static int take_sample(struct job_run *run, int i, struct tally *t, struct buf *lines,
                       struct err *e)
{
    struct draw d = {.test = &TESTS[i], .random = (uint64_t)t->n * N_TESTS + (uint64_t)i};
    if (job_run_device(run, run_draw, &d, NULL, e))
        return -1;
    raise_to(&t->error, d.error);
    if (t->n++ >= KEPT_MAX)
        return 0;
    t->us[t->n_kept++] = d.us;
    json_t *sample = json_pack("{s:s, s:s, s:i, s:f, s:f, s:b}", "op", d.test->op, "setting",
                               d.test->setting, "sample", t->n, "error", fmin(d.error, 1e300), "us",
                               d.us, "pass", d.error <= d.test->limit);
    job_write(lines, sample);
    buf_str(lines, "\n");
    job_run_sample(run, sample);
    return 0;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static json_t *column(const char *name, const char *title, const char *unit, int digits)
{
    json_t *c = json_pack("{s:s, s:s, s:s*, s:s}", "name", name, "title", title, "unit", unit,
                          "kind", digits ? "number" : "text");
    if (digits)
        json_object_set_new(c, "digits", json_integer(digits));
    return c;
}

// Median with its 95 % interval by order statistics: the ranks n / 2 +- 1.96 sqrt(n) / 2.
struct median {
    double value, low, high;
};

static struct median find_median(struct tally *t)
{
    const int n = t->n_kept;
    const double reach = 0.98 * sqrt(n);
    qsort(t->us, (size_t)n, sizeof *t->us, by_size);
    return (struct median){.value = t->us[n / 2],
                           .low = t->us[(int)fmax(floor(n / 2.0 - reach), 0)],
                           .high = t->us[(int)fmin(ceil(n / 2.0 + reach), n - 1)]};
}

static json_t *make_columns(void)
{
    return json_pack("[o, o, o, o, o, o, o, o]", column("op", "operation", NULL, 0),
                     column("setting", "setting", NULL, 0), column("samples", "samples", NULL, 6),
                     column("error", "largest error", NULL, 3), column("limit", "limit", NULL, 3),
                     column("median_us", "median", "us", 4),
                     column("ci_low_us", "95 % from", "us", 4),
                     column("ci_high_us", "95 % to", "us", 4));
}

static json_t *make_table(struct tally *tallies)
{
    json_t *rows = json_array(), *states = json_array();
    for (int i = 0; i < N_TESTS; i++) {
        struct tally *t = &tallies[i];
        struct median m = find_median(t);
        json_array_append_new(rows, json_pack("[s, s, i, f, f, f, f, f]", TESTS[i].op,
                                              TESTS[i].setting, t->n, fmin(t->error, 1e300),
                                              TESTS[i].limit, m.value, m.low, m.high));
        json_array_append_new(states, json_string(t->error <= TESTS[i].limit ? "ok" : "failed"));
    }
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", "rows", "title",
                     "operations against their definitions", "columns", make_columns(), "rows",
                     rows, "row_states", states);
}

static json_t *make_result(struct job_run *run, struct tally *tallies)
{
    const struct job_node *node = job_run_node(run);
    json_t *checks = json_array();
    int n_failed = 0;
    for (int i = 0; i < N_TESTS; i++) {
        bool pass = tallies[i].error <= TESTS[i].limit;
        n_failed += !pass;
        json_array_append_new(checks,
                              json_pack("{s:o, s:f, s:f, s:b}", "name",
                                        json_sprintf("%s %s", TESTS[i].op, TESTS[i].setting),
                                        "value", fmin(tallies[i].error, 1e300), "limit",
                                        TESTS[i].limit, "pass", pass));
    }
    return json_pack(
        "{s:s, s:s, s:s, s:[o], s:s, s:o, s:{s:s, s:s, s:s, s:s}, s:[o], s:[], s:[s]}", "schema",
        "deltaserve.result/1", "type", "self_test", "title", "Self test", "summary",
        json_sprintf("%d of %d operations agree with their definitions on %s.", N_TESTS - n_failed,
                     N_TESTS, node->device),
        "verdict", n_failed ? "fail" : "pass", "checks", checks, "environment", "version",
        node->version, "commit", node->commit, "model", node->model_id, "device", node->device,
        "tables", make_table(tallies), "plots", "notes",
        "error: tri_inverse max|T - T of float64 substitution|; quantize in steps of the row's "
        "scale; logprobs in nats");
}

static json_t *work(struct job_run *run, const json_t *expanded, struct err *e)
{
    const double seconds = json_number_value(json_object_get(expanded, "seconds"));
    const int64_t begun_ns = clock_ns();
    struct tally *tallies = mem_zero(N_TESTS, sizeof *tallies);
    struct buf lines = {0};
    json_t *result = NULL;
    double passed = 0;
    for (int i = 0; i < N_TESTS || passed < seconds; i++) {
        if (job_run_cancelled(run)) {
            err_set(e, ERR_CANCELLED, "stopped after %d samples", i);
            goto out;
        }
        if (take_sample(run, i % N_TESTS, &tallies[i % N_TESTS], &lines, e))
            goto out;
        passed = clock_ms_between(begun_ns, clock_ns()) / 1e3;
        job_run_progress(run, fmin(passed, seconds), seconds, "seconds", "testing",
                         TESTS[i % N_TESTS].op);
    }
    if (job_run_artifact(run, "samples.jsonl", "application/x-ndjson", lines.data, lines.n, e) == 0)
        result = make_result(run, tallies);
out:
    buf_fini(&lines);
    mem_free(tallies);
    return result;
}

const struct job_type self_test_type = {
    .name = "self_test",
    .title = "operations of this node's device against their definitions",
    .schema = schema,
    .expand = expand,
    .estimate = estimate,
    .work = work,
    .exclusive = false,
};
