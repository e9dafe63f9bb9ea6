// Tests of server/jobs/jobs.c and job_run.c: taking in, running, stopping, being told.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "job_rig.h"
#include "mem.h"

static struct rig r;

static void setup(void)
{
    rig_open(&r);
}

static void teardown(void)
{
    rig_close(&r);
}

TestSuite(jobs, .init = setup, .fini = teardown);

static int submit(const char *body, const char *key, struct job *job, bool *created, struct err *e)
{
    struct job_request request;
    const struct job_node node = {0};
    json_t *v = json_loads(body, 0, NULL);
    cr_assert(job_request_read(&node, 1000, v, &request, e) == 0, "%s", e->text);
    char *text = job_dump(v);
    const struct job_submission s = {.request = &request, .key = key, .text = text};
    // Before jobs_start the node is empty: its strings are not looked at by these tests.
    int failed = jobs_submit(r.jobs, &s, job, created, e);
    job_request_fini(&request);
    json_decref(v);
    mem_free(text);
    return failed;
}

#define SELF_TEST "{\"type\":\"self_test\"}"

Test(jobs, nothing_runs_without_a_node)
{
    struct err e = {0};
    cr_assert(!jobs_node(r.jobs, &e) && e.code == ERR_LOADING);
    rig_start(&r);
    cr_assert(jobs_node(r.jobs, &e) != NULL);
}

Test(jobs, one_runs_to_its_end)
{
    struct err e = {0};
    struct job job;
    rig_start(&r);
    const char *id = rig_submit(&r, 0.1);
    rig_end(&r, id, JOB_SUCCEEDED);
    cr_assert(jobs_get(r.jobs, id, &job, &e) == 0);
    cr_assert(job.started_ms >= job.created_ms && job.finished_ms >= job.started_ms + 90);
    cr_assert_str_eq(json_string_value(job.verdict), "pass");
    cr_assert(!job.error && job.usage);
    job_fini(&job);
    json_t *result = jobs_result(r.jobs, id, &e);
    cr_assert(result && !json_object_get(result, "partial"));
    json_decref(result);
}

Test(jobs, the_queue_has_an_end)
{
    struct err e = {0};
    struct job job;
    bool created;
    rig_start(&r);
    const char *running = rig_submit(&r, 100);
    while (store_queued(jobs_store(r.jobs)))
        usleep(1000);
    for (int i = 0; i < 3; i++)
        rig_submit(&r, 0);
    cr_assert(submit(SELF_TEST, NULL, &job, &created, &e) == -1 && e.code == ERR_BUSY);
    cr_assert(jobs_cancel(r.jobs, running, &job, &e) == 0);
    job_fini(&job);
    rig_end(&r, running, JOB_CANCELLED);
}

Test(jobs, keys_stand_for_one_request)
{
    struct err e = {0};
    struct job a, b;
    bool created;
    rig_start(&r);
    cr_assert(submit(SELF_TEST, "k", &a, &created, &e) == 0 && created);
    cr_assert(submit(SELF_TEST, "k", &b, &created, &e) == 0 && !created);
    cr_assert_str_eq(a.id, b.id);
    job_fini(&b);
    cr_assert(submit("{\"type\":\"self_test\",\"priority\":1}", "k", &b, &created, &e) == -1);
    cr_assert(e.code == ERR_KEY_REUSED && strstr(e.text, a.id));
    cr_assert(submit(SELF_TEST, "l", &b, &created, &e) == 0 && created);
    job_fini(&a);
    job_fini(&b);
}

// Wait until a job has measured something.
static void await_progress(const char *id)
{
    struct err e = {0};
    for (bool begun = false; !begun; usleep(1000)) {
        struct job job;
        cr_assert(jobs_get(r.jobs, id, &job, &e) == 0 && !job_is_final(job.status));
        begun = json_number_value(json_object_get(job.progress, "done")) > 0;
        job_fini(&job);
    }
}

// A running job stops within a sample, a queued one at once, and what each has left stays.
Test(jobs, cancelling)
{
    struct err e = {0};
    struct job job;
    rig_start(&r);
    const char *running = rig_submit(&r, 100), *queued = rig_submit(&r, 100);
    cr_assert(!jobs_result(r.jobs, queued, &e) && e.code == ERR_NOT_FINISHED);
    cr_assert(jobs_cancel(r.jobs, queued, &job, &e) == 0 && job.status == JOB_CANCELLED);
    cr_assert(job.cancelled_ms > 0 && job.started_ms == 0);
    job_fini(&job);
    await_progress(running);
    cr_assert(jobs_cancel(r.jobs, running, &job, &e) == 0);
    cr_assert(job.status == JOB_CANCELLING || job.status == JOB_CANCELLED);
    job_fini(&job);
    rig_end(&r, running, JOB_CANCELLED);
    cr_assert(jobs_cancel(r.jobs, running, &job, &e) == 0 && job.status == JOB_CANCELLED);
    job_fini(&job);
    json_t *result = jobs_result(r.jobs, running, &e);
    cr_assert(json_is_true(json_object_get(result, "partial")));
    const json_t *table = json_array_get(json_object_get(result, "tables"), 0);
    cr_assert(json_array_size(json_object_get(table, "rows")) > 0);
    cr_assert(json_array_size(json_array_get(json_object_get(table, "rows"), 0)) ==
              json_array_size(json_object_get(table, "columns")));
    json_decref(result);
    cr_assert(jobs_cancel(r.jobs, "job_none", &job, &e) == -1 && e.code == ERR_NOT_FOUND);
}

Test(jobs, deleting)
{
    struct err e = {0};
    struct job job;
    bool removed;
    rig_start(&r);
    const char *running = rig_submit(&r, 100), *queued = rig_submit(&r, 100);
    while (store_queued(jobs_store(r.jobs)) > 1)
        usleep(1000);
    cr_assert(jobs_delete(r.jobs, queued, &removed, &e) == 0 && removed);
    cr_assert(jobs_get(r.jobs, queued, &job, &e) == -1 && e.code == ERR_NOT_FOUND);
    cr_assert(jobs_delete(r.jobs, running, &removed, &e) == 0 && !removed);
    rig_end(&r, running, JOB_CANCELLED);
    cr_assert(jobs_delete(r.jobs, running, &removed, &e) == 0 && removed);
    cr_assert(jobs_delete(r.jobs, running, &removed, &e) == -1 && e.code == ERR_NOT_FOUND);
}

static void count(void *ud)
{
    atomic_fetch_add((atomic_int *)ud, 1);
}

Test(jobs, watches_hear_of_their_job_alone)
{
    atomic_int mine = 0, other = 0;
    rig_start(&r);
    const char *id = rig_submit(&r, 0.3), *later = rig_submit(&r, 0.05);
    struct jobs_watch a = {.wake = count, .ud = &mine}, b = {.wake = count, .ud = &other};
    snprintf(a.id, sizeof a.id, "%s", later);
    snprintf(b.id, sizeof b.id, "job_none");
    jobs_watch(r.jobs, &a);
    jobs_watch(r.jobs, &b);
    rig_end(&r, id, JOB_SUCCEEDED);
    rig_end(&r, later, JOB_SUCCEEDED);
    jobs_unwatch(r.jobs, &a);
    jobs_unwatch(r.jobs, &b);
    cr_assert(atomic_load(&mine) > 6, "%d", atomic_load(&mine));
    cr_assert(atomic_load(&other) == 0);
}

Test(jobs, stopping_fails_the_running_one_and_keeps_the_queue)
{
    struct err e = {0};
    struct job job;
    bool created;
    rig_start(&r);
    const char *running = rig_submit(&r, 100);
    while (store_queued(jobs_store(r.jobs)))
        usleep(1000);
    const char *queued = rig_submit(&r, 0);
    jobs_stop(r.jobs);
    rig_end(&r, running, JOB_FAILED);
    cr_assert(submit(SELF_TEST, NULL, &job, &created, &e) == -1 && e.code == ERR_SHUTTING_DOWN);
    rig_reopen(&r);
    cr_assert(jobs_get(r.jobs, running, &job, &e) == 0 && job.status == JOB_FAILED);
    cr_assert_str_eq(json_string_value(json_object_get(job.error, "code")), "server_restarted");
    job_fini(&job);
    cr_assert(jobs_get(r.jobs, queued, &job, &e) == 0 && job.status == JOB_QUEUED);
    job_fini(&job);
}

Test(jobs, ids_grow)
{
    char before[JOB_ID_BYTES] = "", id[JOB_ID_BYTES];
    for (int i = 0; i < 2000; i++) {
        job_make_id(id);
        cr_assert(job_id_is_valid(id) && strlen(id) == 30 && strcmp(before, id) < 0);
        memcpy(before, id, sizeof before);
    }
    cr_assert(!job_id_is_valid("") && !job_id_is_valid("job_") && !job_id_is_valid("job_1"));
    id[10] = 'u';
    cr_assert(!job_id_is_valid(id));
}

Test(jobs, text_that_is_not_utf8)
{
    json_t *v = job_text("a\xFF\xC3");
    cr_assert_str_eq(json_string_value(v), "a\xEF\xBF\xBD\xEF\xBF\xBD");
    json_decref(v);
}
