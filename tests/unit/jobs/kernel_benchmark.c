// kernel_benchmark.c - the job on a small model: every operation is right, a wrong kernel is a failed row, a
// slow one is slower by the criterion of compare.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "clock.h"
#include "compare.h"
#include "kernel_rows.h"
#include "measure_rig.h"

static struct ops table; // around ops_cpu, with one operation changed

static void wrong_inverse(struct dev *dev, const struct tri_inverse_args *a)
{
    ops_cpu.tri_inverse(dev, a);
    a->t_out[(size_t)a->chunk * (size_t)a->chunk - (size_t)a->chunk] += 0.01F; // one entry of one
}

static double slow_by; // share of the time that is added

// Spins for what the operation took times slow_by.
static void slow_norm(struct dev *dev, const struct rmsnorm_args *a)
{
    const int64_t begun_ns = clock_ns();
    ops_cpu.rmsnorm(dev, a);
    const int64_t took_ns = clock_ns() - begun_ns;
    while ((double)(clock_ns() - begun_ns) < (1 + slow_by) * (double)took_ns)
        ;
}

Test(kernel_benchmark, every_operation_is_right)
{
    struct measure_rig r;
    struct buf spec = {0};
    measure_open(&r, &(struct measure_options){0});
    buf_str(&spec, "{\"ops\": [");
    for (int i = 0; BENCH_OP_NAMES[i]; i++)
        buf_format(&spec, "%s\"%s\"", i ? ", " : "", BENCH_OP_NAMES[i]);
    buf_str(&spec, "], \"tokens\": [5, 70], \"depths\": [0, 100], \"batches\": [1, 3], \"chunks\": "
                   "[16, 64], \"methods\": \"auto\", \"types\": [\"fp32\", \"int8\"], \"weights\": "
                   "[\"f32\", \"bf16\", \"int8\"], \"rounds\": 1, \"seconds_max\": 0.002, "
                   "\"samples_min\": 2, \"seconds_min\": 0}");
    json_t *doc = measure_run(&r, "kernel_benchmark", spec.data);
    json_t *t = measure_table(doc, "rows"), *row;
    size_t i;
    cr_assert(json_array_size(json_object_get(t, "rows")) > 100);
    json_array_foreach(json_object_get(t, "rows"), i, row)
    {
        const char *name = json_string_value(json_array_get(row, 0));
        cr_assert(!strcmp(measure_state(t, name), "ok"), "%s: error %g, limit %g", name,
                  measure_value(t, row, "error"), measure_value(t, row, "limit"));
        cr_assert(measure_value(t, row, "median_us") > 0 && measure_value(t, row, "share") > 0);
        cr_assert(measure_value(t, row, "best_us") > 0 &&
                  measure_value(t, row, "best_us") <= measure_value(t, row, "p10_us") &&
                  measure_value(t, row, "best_us") <= measure_value(t, row, "again_us"));
        cr_assert(measure_value(t, row, "low_us") <= measure_value(t, row, "median_us") &&
                  measure_value(t, row, "high_us") >= measure_value(t, row, "median_us"));
    }
    json_decref(doc);
    buf_fini(&spec);
    measure_close(&r);
}

// "bf16" is the 16-bit type that the server computes with.
Test(kernel_benchmark, weights_of_a_server_with_f16)
{
    struct measure_rig r;
    struct kernel_rows rows = {0};
    struct err e = {0};
    json_t *spec = json_pack("{s:s, s:i, s:[s, s, s]}", "ops", "linear_mlp", "tokens", 5, "weights",
                             "f32", "bf16", "int8");
    measure_open(&r, &(struct measure_options){0});
    struct model_options options = *r.node.model_options;
    struct job_node node = r.node;
    options.dtype = DTYPE_F16;
    node.model_options = &options;
    json_t *expanded = job_type_find("kernel_benchmark")->expand(&node, spec, &e);
    cr_assert(expanded != NULL, "%s", e.text);
    cr_assert(kernel_rows_make(&rows, &node, expanded, &e) == 0, "%s", e.text);
    int n[DTYPE_INT32] = {0};
    for (int i = 0; i < rows.n; i++) {
        const enum dtype type = rows.row[i].at.weights;
        n[type]++;
        cr_assert(strstr(rows.row[i].name, dtype_name(type)) != NULL, "%s", rows.row[i].name);
    }
    cr_assert(n[DTYPE_F16] == n[DTYPE_F32] && n[DTYPE_F16] == n[DTYPE_INT8] && n[DTYPE_F16] > 0);
    cr_assert(n[DTYPE_BF16] == 0);
    kernel_rows_free(&rows);
    json_decref(expanded);
    json_decref(spec);
    measure_close(&r);
}

static const char INVERSE[] =
    "{\"tokens\": 256, \"chunks\": 64, \"methods\": [\"auto\", \"paper\"], "
    "\"types\": \"fp32\", \"rounds\": 1, \"seconds_max\": 0.01}";

Test(kernel_benchmark, the_literal_setting_is_a_failed_row)
{
    struct measure_rig r;
    measure_open(&r, &(struct measure_options){0});
    json_t *doc = measure_run(&r, "kernel_benchmark", INVERSE), *t = measure_table(doc, "rows");
    const char literal[] = "gdn_inverse served T=256 C=64 neumann:64,3,8/fp32 rho=0.5 warm";
    const char sound[] = "gdn_inverse served T=256 C=64 neumann:16,3,8/fp32 rho=0.5 cold";
    cr_assert(!strcmp(measure_state(t, literal), "failed"));
    cr_assert(measure_value(t, measure_row(t, literal), "error") > 0.1);
    cr_assert(!strcmp(measure_state(t, sound), "ok"));
    json_decref(doc);
    measure_close(&r);
}

Test(kernel_benchmark, a_wrong_kernel_is_a_failed_row)
{
    struct measure_rig r;
    table = ops_cpu;
    table.tri_inverse = wrong_inverse;
    measure_open(&r, &(struct measure_options){.ops = &table});
    json_t *doc = measure_run(&r, "kernel_benchmark", INVERSE), *t = measure_table(doc, "rows");
    const char sound[] = "gdn_inverse served T=256 C=64 neumann:16,3,8/fp32 rho=0.5 warm";
    cr_assert(!strcmp(measure_state(t, sound), "failed"));
    cr_assert(fabs(measure_value(t, measure_row(t, sound), "error") - 0.01) < 1e-3);
    json_decref(doc);
    measure_close(&r);
}

static const char *verdict_of(json_t *a, json_t *b)
{
    struct err e = {0};
    json_t *doc =
        compare_results(a, b, &(struct compare_options){"a", "b", COMPARE_TOLERANCE, NULL}, &e);
    cr_assert(doc != NULL, "%s", e.text);
    const bool slower = !strcmp(json_string_value(json_object_get(doc, "verdict")), "fail");
    json_decref(doc);
    return slower ? "slower" : "not slower";
}

// Half as slow again must be seen whatever else runs on the machine; the report's own table of the five
// per cent case needs a quiet one.
Test(kernel_benchmark, a_slow_kernel_is_called_slower)
{
    static const char SPEC[] = "{\"ops\": \"rmsnorm\", \"tokens\": 512, \"caches\": \"warm\", "
                               "\"rounds\": 3, \"seconds_min\": 0.1, \"seconds_max\": 0.3}";
    struct measure_rig r;
    table = ops_cpu;
    table.rmsnorm = slow_norm;
    measure_open(&r, &(struct measure_options){.ops = &table});
    bool seen = false;
    for (int tries = 0; tries < 5 && !seen; tries++) {
        slow_by = 0;
        json_t *fast = measure_run(&r, "kernel_benchmark", SPEC);
        slow_by = 1;
        json_t *slow = measure_run(&r, "kernel_benchmark", SPEC);
        seen = !strcmp(verdict_of(fast, slow), "slower");
        json_decref(fast);
        json_decref(slow);
    }
    cr_assert(seen);
    measure_close(&r);
}

// By the statistics alone: samples of a machine with 1 % noise and 0.5 % between rounds.
static json_t *made_result(double scale, uint64_t seed)
{
    double us[60];
    int round[60];
    uint64_t random = seed;
    double drift[3];
    for (int i = 0; i < 3; i++)
        drift[i] = 1 + 0.005 * stat_normal(&random);
    for (int i = 0; i < 60; i++) {
        round[i] = i / 20;
        us[i] = 100 * scale * drift[round[i]] * (1 + 0.01 * stat_normal(&random));
    }
    struct kernel_row row = {.op = BENCH_OPS[0],
                             .name = "row",
                             .us = us,
                             .round = round,
                             .n = 60,
                             .limit = 1,
                             .bytes = 1,
                             .flops = 1,
                             .judged = true,
                             .measure = "m",
                             .why = "w"};
    const struct kernel_rows rows = {.row = &row, .n = 1};
    return kernel_rows_report(&rows, &(struct ceilings){1e9, 1e9}, json_object(), false);
}

Test(kernel_benchmark, five_per_cent_are_seen_and_equal_kernels_are_not)
{
    int seen = 0, wrong = 0;
    for (uint64_t i = 0; i < 20; i++) {
        json_t *a = made_result(1, 2 * i), *same = made_result(1, 2 * i + 1);
        json_t *slow = made_result(1.05, 1000 + i);
        seen += !strcmp(verdict_of(a, slow), "slower");
        wrong += !strcmp(verdict_of(a, same), "slower");
        json_decref(a);
        json_decref(same);
        json_decref(slow);
    }
    cr_assert(seen >= 19 && wrong == 0, "%d of 20 seen, %d wrong", seen, wrong);
}

// A cancel takes effect within a sample and gives all memory back (the sanitizer's build sees leaks).
Test(kernel_benchmark, a_cancel_ends_it_and_keeps_what_there_is)
{
    struct measure_rig r;
    struct job job;
    struct err e = {0};
    measure_open(&r, &(struct measure_options){0});
    measure_submit(&r, "kernel_benchmark", "{\"seconds_max\": 2, \"rounds\": 1}", &job);
    const int64_t begun_ns = clock_ns();
    for (bool started = false; !started;) {
        struct job now;
        cr_assert(jobs_get(r.jobs, job.id, &now, &e) == 0);
        started = json_number_value(json_object_get(now.progress, "done")) >= 2;
        job_fini(&now);
        cr_assert(clock_ms_between(begun_ns, clock_ns()) < 120000);
    }
    struct job cancelled;
    char id[JOB_ID_BYTES];
    snprintf(id, sizeof id, "%s", job.id);
    job_fini(&job);
    cr_assert(jobs_cancel(r.jobs, id, &cancelled, &e) == 0);
    job_fini(&cancelled);
    const int64_t asked_ns = clock_ns();
    struct job end = measure_wait(&r, id);
    cr_assert(end.status == JOB_CANCELLED, "%s", job_status_name(end.status));
    cr_assert(clock_ms_between(asked_ns, clock_ns()) < 10000);
    json_t *doc = jobs_result(r.jobs, id, &e);
    cr_assert(doc && json_is_true(json_object_get(doc, "partial")));
    cr_assert(measure_table(doc, "rows") != NULL);
    json_decref(doc);
    job_fini(&end);
    measure_close(&r);
}
