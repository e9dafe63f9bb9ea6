// job_rig.c - see job_rig.h.
#define _GNU_SOURCE
#include "job_rig.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

void rig_open(struct rig *r)
{
    struct err e = {0};
    *r = (struct rig){.folder = "/tmp/deltaserve-unit-jobs-XXXXXX"};
    cr_assert(mkdtemp(r->folder) != NULL);
    snprintf(r->path, sizeof r->path, "%s/jobs.sqlite", r->folder);
    r->options = (struct jobs_options){
        .store = {.path = r->path, .bytes_max = 64 << 20, .jobs_max = 100, .keep_ms = 3600000},
        .queue_max = 3,
        .timeout_max_s = 1000,
        .lull_ms = 1000,
        .pause_ms = 1000};
    r->jobs = jobs_open(&r->options, &e);
    cr_assert(r->jobs != NULL, "%s", e.text);
}

void rig_start(struct rig *r)
{
    char why[256];
    struct err e = {0};
    const struct model_options o = {.dtype = DTYPE_F32,
                                    .context_max = 256,
                                    .batch_tokens = 256,
                                    .batch_rows = 256,
                                    .sequences_max = 2,
                                    .chunk = 64,
                                    .inverse = inverse_auto(64, INVERSE_FP32)};
    r->dev = ops_cpu.open(&(struct dev_options){.threads = 1}, why, sizeof why);
    cr_assert(r->dev != NULL, "%s", why);
    struct model *m = model_load(TEST_SOURCE_DIR "/tests/golden/dense_a", &o, &ops_cpu, r->dev, &e);
    cr_assert(m != NULL, "%s", e.text);
    r->engine =
        engine_create(m, &ops_cpu, r->dev, NULL, &(struct engine_options){.queue_max = 10}, &e);
    cr_assert(r->engine != NULL, "%s", e.text);
    const struct job_node node = {.engine = r->engine,
                                  .ops = &ops_cpu,
                                  .config = engine_config(r->engine),
                                  .model_options = engine_model_options(r->engine),
                                  .memory = engine_memory(r->engine),
                                  .model_id = "dense_a",
                                  .model_dir = TEST_SOURCE_DIR "/tests/golden/dense_a",
                                  .version = "1.2.3",
                                  .commit = "abc",
                                  .device = "a test's"};
    jobs_start(r->jobs, &node);
}

void rig_reopen(struct rig *r)
{
    struct err e = {0};
    jobs_close(r->jobs);
    r->jobs = jobs_open(&r->options, &e);
    cr_assert(r->jobs != NULL, "%s", e.text);
}

void rig_close(struct rig *r)
{
    jobs_close(r->jobs);
    if (r->engine) {
        engine_destroy(r->engine);
        ops_cpu.close(r->dev);
    }
    char wal[128];
    snprintf(wal, sizeof wal, "%s-wal", r->path);
    unlink(wal);
    unlink(r->path);
    cr_assert(rmdir(r->folder) == 0, "the store left other files");
}

const char *rig_submit(struct rig *r, double seconds)
{
    static char ids[16][JOB_ID_BYTES];
    static int n;
    struct job_request request;
    struct job job;
    bool created;
    struct err e = {0};
    json_t *body = json_pack("{s:s, s:{s:f}}", "type", "self_test", "spec", "seconds", seconds);
    const struct job_node none = {0};
    cr_assert(job_request_read(&none, 1000, body, &request, &e) == 0, "%s", e.text);
    request.type = job_type_find("self_test");
    const struct job_submission s = {.request = &request};
    cr_assert(jobs_submit(r->jobs, &s, &job, &created, &e) == 0, "%s", e.text);
    cr_assert(created);
    snprintf(ids[n % 16], JOB_ID_BYTES, "%s", job.id);
    job_fini(&job);
    job_request_fini(&request);
    json_decref(body);
    return ids[n++ % 16];
}

void rig_end(struct rig *r, const char *id, enum job_status status)
{
    struct err e = {0};
    int64_t begun_ns = clock_ns();
    for (bool over = false; !over; usleep(2000)) {
        struct job job;
        cr_assert(jobs_get(r->jobs, id, &job, &e) == 0, "%s", e.text);
        over = job_is_final(job.status);
        cr_assert(!over || job.status == status, "%s is %s", id, job_status_name(job.status));
        cr_assert(clock_ms_between(begun_ns, clock_ns()) < 300000, "%s",
                  job_status_name(job.status));
        job_fini(&job);
    }
}

struct job rig_new_job(const char *type)
{
    struct job j = {.status = JOB_QUEUED,
                    .timeout_s = 10,
                    .created_ms = job_now_ms(),
                    .spec = json_pack("{s:i}", "n", 1)};
    job_make_id(j.id);
    snprintf(j.type, sizeof j.type, "%s", type);
    return j;
}
