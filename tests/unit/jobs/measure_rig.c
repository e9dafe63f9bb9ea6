// measure_rig.c - see measure_rig.h.
#define _GNU_SOURCE
#include "measure_rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

static void load(struct measure_rig *r, const struct measure_options *o, const char *dir)
{
    struct err e = {0};
    const struct ops *ops = o->ops ? o->ops : &ops_cpu;
    const struct model_options m = {.dtype = DTYPE_F32,
                                    .context_max = o->context_max ? o->context_max : 1024,
                                    .batch_tokens = 512,
                                    .batch_rows = 136,
                                    .sequences_max = 4,
                                    .chunk = 64,
                                    .inverse = inverse_auto(64, INVERSE_FP32)};
    char why[256];
    r->dev = ops->open(&(struct dev_options){.threads = 1}, why, sizeof why);
    cr_assert(r->dev != NULL, "%s", why);
    struct model *model = model_load(dir, &m, ops, r->dev, &e);
    cr_assert(model != NULL, "%s", e.text);
    r->engine = engine_create(model, ops, r->dev, r->tokenizer,
                              &(struct engine_options){.queue_max = 100}, &e);
    cr_assert(r->engine != NULL, "%s", e.text);
}

void measure_open(struct measure_rig *r, const struct measure_options *o)
{
    static char dir[512];
    struct err e = {0};
    const char *name = o->model ? o->model : "dense_a";
    const bool bundled = !strcmp(name, "bundled");
    *r = (struct measure_rig){0};
    snprintf(dir, sizeof dir, "%s/%s/%s", TEST_SOURCE_DIR, bundled ? "models" : "tests/golden",
             name);
    if (bundled)
        r->tokenizer = tokenizer_load(dir, &e);
    load(r, o, dir);
    const struct jobs_options options = {
        .store = {.path = ":memory:", .bytes_max = 64 << 20, .jobs_max = 100, .keep_ms = 3600000},
        .queue_max = 10,
        .timeout_max_s = 1000,
        .lull_ms = 1000,
        .pause_ms = 1000};
    r->jobs = jobs_open(&options, &e);
    cr_assert(r->jobs != NULL, "%s", e.text);
    r->node = (struct job_node){.engine = r->engine,
                                .ops = o->ops ? o->ops : &ops_cpu,
                                .tokenizer = r->tokenizer,
                                .config = engine_config(r->engine),
                                .model_options = engine_model_options(r->engine),
                                .memory = engine_memory(r->engine),
                                .model_id = name,
                                .model_dir = dir,
                                .version = "1.2.3",
                                .commit = "abc",
                                .device = "a test's",
                                .host = "127.0.0.1",
                                .port = o->port,
                                .data_dir = TEST_SOURCE_DIR "/tests/data"};
    jobs_start(r->jobs, &r->node);
}

void measure_close(struct measure_rig *r)
{
    jobs_close(r->jobs);
    engine_destroy(r->engine);
    (r->node.ops)->close(r->dev);
    tokenizer_destroy(r->tokenizer);
}

static json_t *make_body(const char *type, const char *spec)
{
    json_error_t why;
    json_t *body = json_object(), *parsed = json_loads(spec, 0, &why);
    cr_assert(parsed != NULL, "%s: %s", spec, why.text);
    json_object_set_new(body, "type", json_string(type));
    json_object_set_new(body, "spec", parsed);
    return body;
}

void measure_submit(struct measure_rig *r, const char *type, const char *spec, struct job *job)
{
    struct err e = {0};
    struct job_request request;
    bool created;
    json_t *body = make_body(type, spec);
    cr_assert(job_request_read(&r->node, 1000, body, &request, &e) == 0, "%s", e.text);
    const struct job_submission s = {.request = &request};
    cr_assert(jobs_submit(r->jobs, &s, job, &created, &e) == 0, "%s", e.text);
    job_request_fini(&request);
    json_decref(body);
}

struct job measure_wait(struct measure_rig *r, const char *id)
{
    struct err e = {0};
    const int64_t begun_ns = clock_ns();
    for (;; usleep(2000)) {
        struct job job;
        cr_assert(jobs_get(r->jobs, id, &job, &e) == 0, "%s", e.text);
        if (job_is_final(job.status))
            return job;
        cr_assert(clock_ms_between(begun_ns, clock_ns()) < 300000, "it does not end");
        job_fini(&job);
    }
}

json_t *measure_run(struct measure_rig *r, const char *type, const char *spec)
{
    struct job submitted;
    struct err e = {0};
    measure_submit(r, type, spec, &submitted);
    struct job job = measure_wait(r, submitted.id);
    cr_assert(job.status == JOB_SUCCEEDED, "%s: %s", job_status_name(job.status),
              json_string_value(json_object_get(job.error, "message")));
    json_t *doc = jobs_result(r->jobs, submitted.id, &e);
    cr_assert(doc != NULL, "%s", e.text);
    job_fini(&job);
    job_fini(&submitted);
    return doc;
}

void measure_refuse(struct measure_rig *r, const char *type, const char *spec, const char *param)
{
    struct err e = {0};
    struct job_request request;
    json_t *body = make_body(type, spec);
    cr_assert(job_request_read(&r->node, 1000, body, &request, &e) != 0, "%s was taken", spec);
    cr_assert(!strcmp(e.param, param), "%s: param '%s', want '%s' (%s)", spec, e.param, param,
              e.text);
    cr_assert(strlen(e.text) > 10);
    json_decref(body);
}

json_t *measure_table(json_t *doc, const char *name)
{
    size_t i;
    json_t *table;
    json_array_foreach(json_object_get(doc, "tables"), i, table)
    {
        if (!strcmp(json_string_value(json_object_get(table, "name")), name))
            return table;
    }
    cr_assert_fail("no table %s", name);
    return NULL;
}

static int find_row(json_t *table, const char *first)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(table, "rows"), i, row)
    {
        if (!strcmp(json_string_value(json_array_get(row, 0)), first))
            return (int)i;
    }
    cr_assert_fail("no row %s", first);
    return -1;
}

json_t *measure_row(json_t *table, const char *first)
{
    return json_array_get(json_object_get(table, "rows"), (size_t)find_row(table, first));
}

const char *measure_state(json_t *table, const char *first)
{
    return json_string_value(
        json_array_get(json_object_get(table, "row_states"), (size_t)find_row(table, first)));
}

double measure_value(json_t *table, json_t *row, const char *column)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(table, "columns"), i, c)
    {
        if (!strcmp(json_string_value(json_object_get(c, "name")), column)) {
            const json_t *v = json_array_get(row, i);
            return json_is_number(v) ? json_number_value(v) : NAN;
        }
    }
    cr_assert_fail("no column %s", column);
    return NAN;
}
