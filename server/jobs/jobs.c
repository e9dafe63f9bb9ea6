// jobs.c - see jobs.h: the queue, the job thread, how a job ends.
#define _GNU_SOURCE
#include "jobs.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "job_run.h"
#include "log.h"
#include "mem.h"
#include "partial.h"
#include "stats.h"

enum {
    RETAIN_MS = 60000, // between two looks at what is kept no longer
    RETRY_MS = 1000,   // between two tries to store how a job ended
    RESULT_BYTES_MAX = 16 << 20,
};

// --- being told -----------------------------------------------------------------------------

void jobs_notify(struct jobs *j, const char *id)
{
    for (struct jobs_watch *w = j->watches; w; w = w->next)
        if (!id || !strcmp(w->id, id))
            w->wake(w->ud);
}

void jobs_watch(struct jobs *j, struct jobs_watch *w)
{
    pthread_mutex_lock(&j->lock);
    w->next = j->watches;
    j->watches = w;
    pthread_mutex_unlock(&j->lock);
}

void jobs_unwatch(struct jobs *j, struct jobs_watch *w)
{
    pthread_mutex_lock(&j->lock);
    struct jobs_watch **at = &j->watches;
    while (*at && *at != w)
        at = &(*at)->next;
    CHECK(*at != NULL);
    *at = w->next;
    pthread_mutex_unlock(&j->lock);
}

// --- how a job ends -------------------------------------------------------------------------

static void set_error(struct job *job, const char *code, const char *text, const char *param)
{
    json_decref(job->error);
    job->error = job_error(code, text, param);
}

static void fail_with(struct job *job, const struct err *e)
{
    job->status = JOB_FAILED;
    set_error(job, err_slug(e->code) ? err_slug(e->code) : "bad_request", e->text, e->param);
}

// What became of it: result (or NULL) and e are what the work left. Lock held.
static void decide(struct job_run *run, const json_t *result, const struct err *e)
{
    struct job *job = &run->job;
    char text[96];
    bool whole = result && !json_is_true(json_object_get(result, "partial"));
    job->finished_ms = job_now_ms();
    job->status = JOB_SUCCEEDED;
    if (run->broken.code != ERR_OK) {
        fail_with(job, &run->broken);
    } else if (whole) {
        json_t *verdict = json_object_get(result, "verdict");
        job->verdict = json_is_string(verdict) ? json_incref(verdict) : NULL;
    } else if (atomic_load(&run->cancelled)) {
        job->status = JOB_CANCELLED;
        job->cancelled_ms = job->finished_ms;
    } else if (atomic_load(&run->jobs->stopping)) {
        job->status = JOB_FAILED;
        set_error(job, "server_restarted",
                  "the server was stopped while the job ran; submit the job again", NULL);
    } else if (clock_ns() >= run->deadline_ns) {
        job->status = JOB_FAILED;
        snprintf(text, sizeof text, "the job ran for its timeout_s, %g seconds", job->timeout_s);
        set_error(job, "timeout", text, "timeout_s");
    } else {
        fail_with(job, e);
    }
}

// The result's text with what is known of the job beside it, or NULL. Reads only what nobody changes.
static char *write_result(struct job_run *run, json_t *result, json_t *usage)
{
    if (!result || run->broken.code != ERR_OK)
        return NULL;
    const struct job *job = &run->job;
    json_object_set_new(result, "job",
                        json_pack("{s:s, s:I, s:I, s:O?, s:O, s:O?, s:O?, s:b}", "id", job->id,
                                  "created_at", (json_int_t)(job->created_ms / 1000), "started_at",
                                  (json_int_t)(job->started_ms / 1000), "name", job->name, "spec",
                                  job->spec, "metadata", job->metadata, "usage", usage, "contended",
                                  run->n_contended > 0));
    char *text = job_dump(result);
    if (strlen(text) <= RESULT_BYTES_MAX)
        return text;
    err_set(&run->broken, ERR_TOO_LARGE, "the result has more than %d MiB; ask for less",
            RESULT_BYTES_MAX >> 20);
    mem_free(text);
    return NULL;
}

// Sleep for ms, or until something changes. Lock held.
static void sleep_until_change(struct jobs *j, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&j->change, &j->lock, &until);
}

// The record must say how the job ended before the next one begins. Without room for the result the
// job has failed; without room even for that it stays here, seen as failed, until there is some, and
// should the server end before, the next one finds it as running and so as failed too. Lock held.
static void store_end(struct job_run *run, const char *result)
{
    struct jobs *j = run->jobs;
    struct err e = {0};
    if (store_put(j->store, &run->job, "state", result, &e) == 0)
        return;
    json_decref(run->job.verdict);
    run->job.verdict = NULL;
    fail_with(&run->job, &e);
    run->job.version++;
    jobs_notify(j, run->job.id);
    while (store_put(j->store, &run->job, "state", NULL, &e) && e.code != ERR_NOT_FOUND &&
           !atomic_load(&j->stopping)) {
        log_event(LOG_WARN, "job_not_stored", "id=%s text=\"%s\"", run->job.id, e.text);
        sleep_until_change(j, RETRY_MS);
    }
}

// --- the job thread -------------------------------------------------------------------------

static void count_end(enum job_status status)
{
    stats_set(STATS_JOBS_RUNNING, 0);
    stats_add(status == JOB_SUCCEEDED   ? STATS_JOBS_SUCCEEDED
              : status == JOB_CANCELLED ? STATS_JOBS_CANCELLED
                                        : STATS_JOBS_FAILED,
              1);
}

static void end_run(struct job_run *run, json_t *result, const struct err *e)
{
    struct jobs *j = run->jobs;
    json_t *usage = job_run_usage(run);
    char *text = write_result(run, result, usage); // may take a while: without the lock
    pthread_mutex_lock(&j->lock);
    json_decref(run->job.usage);
    run->job.usage = usage;
    decide(run, result, e);
    store_end(run, text);
    j->current = NULL;
    count_end(run->job.status);
    log_event(LOG_INFO, "job", "id=%s type=%s status=%s seconds=%.1f", run->job.id, run->job.type,
              job_status_name(run->job.status),
              (double)(run->job.finished_ms - run->job.started_ms) / 1e3);
    jobs_notify(j, run->job.id);
    pthread_mutex_unlock(&j->lock);
    mem_free(text);
    json_decref(result);
    job_fini(&run->job);
    store_retain(j->store);
}

static void run_job(struct job_run *run)
{
    struct err e = {0};
    json_t *result = NULL;
    run->type = job_type_find(run->job.type);
    if (run->type)
        result = run->type->work(run, run->job.spec, &e);
    else
        err_set(&e, ERR_BAD_REQUEST, "this server has no job type '%s' any more", run->job.type);
    if (!result && e.code == ERR_OK)
        err_set(&e, ERR_INTERNAL, "the job left neither a result nor a reason; please report it");
    end_run(run, result, &e);
}

// Make the next queued job the running one. Lock held.
static bool take_next(struct jobs *j, struct job_run *run)
{
    struct err e = {0};
    struct job job;
    if (store_next(j->store, &job, &e)) {
        if (e.code != ERR_NOT_FOUND) {
            log_event(LOG_ERROR, "jobs_not_read", "text=\"%s\"", e.text);
            sleep_until_change(j, RETRY_MS);
        }
        return false;
    }
    const int64_t now = clock_ns();
    *run = (struct job_run){.jobs = j,
                            .job = job,
                            .begun_ns = now,
                            .deadline_ns = now + (int64_t)(job.timeout_s * 1e9),
                            .lull_left_ms = j->options.lull_ms};
    run->job.status = JOB_RUNNING;
    run->job.started_ms = job_now_ms();
    if (store_put(j->store, &run->job, "state", NULL, &e)) {
        log_event(LOG_WARN, "job_not_started", "id=%s text=\"%s\"", job.id, e.text);
        job_fini(&run->job);
        sleep_until_change(j, RETRY_MS);
        return false;
    }
    j->current = run;
    stats_set(STATS_JOBS_RUNNING, 1);
    jobs_notify(j, run->job.id);
    log_event(LOG_INFO, "job", "id=%s type=%s status=running", run->job.id, run->job.type);
    return true;
}

static void *run_jobs(void *ud)
{
    struct jobs *j = ud;
    struct job_run *run = mem_zero(1, sizeof *run);
    pthread_mutex_lock(&j->lock);
    while (!atomic_load(&j->stopping)) {
        if (take_next(j, run)) {
            pthread_mutex_unlock(&j->lock);
            run_job(run);
            pthread_mutex_lock(&j->lock);
        } else if (store_queued(j->store) == 0) {
            sleep_until_change(j, RETAIN_MS);
            store_retain(j->store);
        }
    }
    pthread_mutex_unlock(&j->lock);
    mem_free(run);
    return NULL;
}

// --- life -----------------------------------------------------------------------------------

struct jobs *jobs_open(const struct jobs_options *o, struct err *e)
{
    pthread_condattr_t by;
    struct jobs *j = mem_zero(1, sizeof *j);
    j->options = *o;
    j->options.store.path = NULL; // the caller's
    j->store = store_open(&o->store, e);
    if (!j->store || store_recover(j->store, e)) {
        store_close(j->store);
        mem_free(j);
        return NULL;
    }
    store_retain(j->store);
    CHECK(pthread_condattr_init(&by) == 0 && pthread_condattr_setclock(&by, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_mutex_init(&j->lock, NULL) == 0 && pthread_cond_init(&j->change, &by) == 0);
    pthread_condattr_destroy(&by);
    return j;
}

void jobs_start(struct jobs *j, const struct job_node *node)
{
    j->node = *node;
    CHECK(pthread_create(&j->thread, NULL, run_jobs, j) == 0);
    atomic_store(&j->started, true);
}

void jobs_stop(struct jobs *j)
{
    pthread_mutex_lock(&j->lock);
    atomic_store(&j->stopping, true);
    pthread_cond_broadcast(&j->change);
    jobs_notify(j, NULL);
    pthread_mutex_unlock(&j->lock);
}

bool jobs_stopping(const struct jobs *j)
{
    return atomic_load(&j->stopping);
}

void jobs_close(struct jobs *j)
{
    if (!j)
        return;
    jobs_stop(j);
    if (atomic_load(&j->started))
        pthread_join(j->thread, NULL);
    CHECK(!j->watches);
    store_close(j->store);
    pthread_cond_destroy(&j->change);
    pthread_mutex_destroy(&j->lock);
    mem_free(j);
}

const struct job_node *jobs_node(struct jobs *j, struct err *e)
{
    if (atomic_load(&j->started))
        return &j->node;
    err_set(e, ERR_LOADING, "the model is loading");
    return NULL;
}

const struct jobs_options *jobs_options(const struct jobs *j)
{
    return &j->options;
}

struct store *jobs_store(struct jobs *j)
{
    return j->store;
}

// --- requests -------------------------------------------------------------------------------

static void fill_job(const struct jobs *j, const struct job_request *r, struct job *job)
{
    const struct job_node *n = &j->node;
    *job = (struct job){.status = JOB_QUEUED,
                        .priority = r->priority,
                        .timeout_s = r->timeout_s,
                        .exclusive = r->exclusive,
                        .created_ms = job_now_ms(),
                        .spec = json_incref(r->spec),
                        .name = r->name ? json_incref(r->name) : NULL,
                        .metadata = r->metadata ? json_incref(r->metadata) : NULL};
    job_make_id(job->id);
    snprintf(job->type, sizeof job->type, "%s", r->type->name);
    job->environment =
        json_pack("{s:o, s:o, s:o, s:o, s:f}", "version", job_text(n->version), "commit",
                  job_text(n->commit), "model", job_text(n->model_id), "device",
                  job_text(n->device), "estimated_seconds", r->estimated_s);
}

// The job that key stands for already: 1 found, 0 not, -1.
static int find_known(struct jobs *j, const struct job_submission *s, struct job *out,
                      struct err *e)
{
    bool same;
    struct err why;
    if (store_find_key(j->store, s->key, s->text, out, &same, &why)) {
        if (why.code == ERR_NOT_FOUND)
            return 0;
        *e = why;
        return -1;
    }
    if (same)
        return 1;
    err_set(e, ERR_KEY_REUSED,
            "the Idempotency-Key was used for %s with another body; use a new key for a new job",
            out->id);
    job_fini(out);
    return -1;
}

// Lock held.
static int submit(struct jobs *j, const struct job_submission *s, struct job *out, bool *created,
                  struct err *e)
{
    int known = s->key ? find_known(j, s, out, e) : 0;
    *created = known == 0;
    if (known)
        return known < 0 ? -1 : 0;
    if (atomic_load(&j->stopping))
        return err_set(e, ERR_SHUTTING_DOWN, "the server is shutting down; try again later");
    int n = store_queued(j->store);
    if (n >= j->options.queue_max)
        return err_set(e, ERR_BUSY, "%d jobs are waiting already; try again later", n);
    fill_job(j, s->request, out);
    if (store_add(j->store, out, s->key, s->text, e)) {
        job_fini(out);
        return -1;
    }
    pthread_cond_broadcast(&j->change);
    return 0;
}

int jobs_submit(struct jobs *j, const struct job_submission *s, struct job *out, bool *created,
                struct err *e)
{
    pthread_mutex_lock(&j->lock);
    int failed = submit(j, s, out, created, e);
    pthread_mutex_unlock(&j->lock);
    return failed;
}

// Lock held.
static int get(struct jobs *j, const char *id, struct job *out, struct err *e)
{
    if (!j->current || strcmp(j->current->job.id, id))
        return store_get(j->store, id, out, e);
    job_copy(out, &j->current->job);
    return 0;
}

int jobs_get(struct jobs *j, const char *id, struct job *out, struct err *e)
{
    pthread_mutex_lock(&j->lock);
    int failed = get(j, id, out, e);
    pthread_mutex_unlock(&j->lock);
    return failed;
}

// A queued job is over at once; a running one when its work notices. Lock held.
static int cancel(struct jobs *j, const char *id, struct job *out, struct err *e)
{
    if (get(j, id, out, e))
        return -1;
    struct job *job = out;
    if (out->status == JOB_RUNNING) {
        job = &j->current->job;
        atomic_store(&j->current->cancelled, true);
        job->status = JOB_CANCELLING;
    } else if (out->status == JOB_QUEUED) {
        job->status = JOB_CANCELLED;
        job->finished_ms = job->cancelled_ms = job_now_ms();
    } else {
        return 0;
    }
    // Without room to note it the running job is cancelled all the same.
    int failed = store_put(j->store, job, "state", NULL, e);
    if (failed && job == out) {
        job_fini(out);
        return -1;
    }
    if (job != out) {
        job_fini(out);
        job_copy(out, job);
    }
    jobs_notify(j, id);
    return 0;
}

int jobs_cancel(struct jobs *j, const char *id, struct job *out, struct err *e)
{
    pthread_mutex_lock(&j->lock);
    int failed = cancel(j, id, out, e);
    pthread_mutex_unlock(&j->lock);
    return failed;
}

int jobs_delete(struct jobs *j, const char *id, bool *removed, struct err *e)
{
    struct job job;
    pthread_mutex_lock(&j->lock);
    int failed = get(j, id, &job, e);
    if (!failed) {
        *removed = job.status == JOB_QUEUED || job_is_final(job.status);
        job_fini(&job);
        failed = *removed ? store_delete(j->store, id, e) : cancel(j, id, &job, e);
        if (!failed && !*removed)
            job_fini(&job);
        jobs_notify(j, id);
    }
    pthread_mutex_unlock(&j->lock);
    return failed;
}

json_t *jobs_result(struct jobs *j, const char *id, struct err *e)
{
    struct job job;
    struct buf text = {0};
    struct err why;
    json_t *result = NULL;
    if (jobs_get(j, id, &job, e))
        return NULL;
    if (!job_is_final(job.status))
        err_set(e, ERR_NOT_FINISHED, "job %s is %s; GET /v1/jobs/%s?wait=20 waits for its end",
                job.id, job_status_name(job.status), job.id);
    else if (store_result(j->store, id, &text, &why) == 0)
        result = json_loadb(text.data, text.n, 0, NULL);
    else if (why.code != ERR_NOT_FOUND)
        *e = why;
    else
        result = partial_result(j->store, &job, e);
    if (text.n && !result)
        err_set(e, ERR_INTERNAL, "the result of %s is damaged", job.id);
    job_fini(&job);
    buf_fini(&text);
    return result;
}
