// job_run.c - the runner's services for the work of a job: job_type.h's second half.
#define _GNU_SOURCE
#include "job_run.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "log.h"

enum {
    PROGRESS_MS = 100,       // between two progress events of one stage
    HOLD_MS = 50,            // clients stay held this long for the next sample of an exclusive job
    BYTES_MAX = 32 << 20,    // of all that a job leaves while it runs
    LOG_BYTES_MAX = 1000,    // of one line
    ARTIFACT_NAME_MAX = 100, // bytes
};

const struct job_node *job_run_node(struct job_run *run)
{
    return &run->jobs->node;
}

bool job_run_must_stop(struct job_run *run)
{
    return atomic_load(&run->cancelled) || atomic_load(&run->jobs->stopping) ||
           run->broken.code != ERR_OK || clock_ns() >= run->deadline_ns;
}

bool job_run_cancelled(struct job_run *run)
{
    return job_run_must_stop(run);
}

// --- events ---------------------------------------------------------------------------------

// What cannot be stored ends the job: a report with holes in it is none.
static int charge(struct job_run *run, size_t n, struct err *e)
{
    if (run->broken.code != ERR_OK) {
        *e = run->broken;
        return -1;
    }
    run->bytes += n;
    if (run->bytes <= BYTES_MAX)
        return 0;
    err_set(&run->broken, ERR_TOO_LARGE,
            "the job's samples, logs and artifacts pass %d MiB; ask for less", BYTES_MAX >> 20);
    *e = run->broken;
    return -1;
}

static void add_event(struct job_run *run, const char *kind, const json_t *data)
{
    struct err e = {0};
    if (charge(run, json_dumpb(data, NULL, 0, JSON_COMPACT), &e))
        return;
    if (store_event(run->jobs->store, run->job.id, kind, data, &e)) {
        run->broken = e;
        return;
    }
    pthread_mutex_lock(&run->jobs->lock);
    jobs_notify(run->jobs, run->job.id);
    pthread_mutex_unlock(&run->jobs->lock);
}

void job_run_sample(struct job_run *run, json_t *sample_take)
{
    CHECK(json_is_object(sample_take));
    add_event(run, "sample", sample_take);
    json_decref(sample_take);
}

void job_run_log(struct job_run *run, const char *format, ...)
{
    char line[LOG_BYTES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    json_t *data = json_pack("{s:o}", "message", job_text(line));
    add_event(run, "log", data);
    json_decref(data);
}

// --- progress -------------------------------------------------------------------------------

static json_t *number_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *make_progress(const struct job_run *run, double done, double total, const char *unit,
                             const char *message)
{
    double seconds = clock_ms_between(run->stage_ns, clock_ns()) / 1e3;
    double rate = seconds > 0 ? (done - run->stage_done) / seconds : NAN;
    double fraction = total > 0 ? fmin(fmax(done / total, 0), 1) : NAN;
    double eta = total > 0 && rate > 0 ? fmax(total - done, 0) / rate : NAN;
    return json_pack("{s:o, s:o, s:o, s:s, s:s, s:o, s:o, s:o}", "fraction",
                     number_or_null(fraction), "done", number_or_null(done), "total",
                     number_or_null(total > 0 ? total : NAN), "unit", unit, "stage", run->stage,
                     "message", message ? job_text(message) : json_null(), "eta_seconds",
                     number_or_null(eta), "rate", number_or_null(rate));
}

void job_run_progress(struct job_run *run, double done, double total, const char *unit,
                      const char *stage, const char *message)
{
    struct jobs *j = run->jobs;
    int64_t now = clock_ns();
    bool new_stage = strcmp(run->stage, stage) != 0;
    if (new_stage) {
        snprintf(run->stage, sizeof run->stage, "%s", stage);
        run->stage_ns = now;
        run->stage_done = done;
    }
    json_t *progress = make_progress(run, done, total, unit, message);
    pthread_mutex_lock(&j->lock);
    json_decref(run->job.progress);
    run->job.progress = progress;
    if (new_stage || clock_ms_between(run->written_ns, now) >= PROGRESS_MS) {
        struct err e = {0};
        run->written_ns = now;
        json_decref(run->job.usage);
        run->job.usage = job_run_usage(run);
        if (store_put(j->store, &run->job, "progress", NULL, &e) && run->broken.code == ERR_OK)
            run->broken = e;
        jobs_notify(j, run->job.id);
    }
    pthread_mutex_unlock(&j->lock);
}

json_t *job_run_usage(const struct job_run *run)
{
    double wall_s = clock_ms_between(run->begun_ns, clock_ns()) / 1e3;
    return json_pack("{s:f, s:f, s:i, s:i, s:i}", "wall_seconds", wall_s, "device_seconds",
                     run->device_s, "device_tasks", run->n_tasks, "contended_tasks",
                     run->n_contended, "contended_requests_max", run->contended_max);
}

// --- artifacts ------------------------------------------------------------------------------

int job_run_artifact(struct job_run *run, const char *name, const char *content_type,
                     const void *data, size_t n, struct err *e)
{
    static const char ALLOWED[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n_name = strlen(name);
    CHECK(n_name >= 1 && n_name <= ARTIFACT_NAME_MAX && strspn(name, ALLOWED) == n_name);
    struct store_artifact a = {.name = name, .content_type = content_type, .data = data, .n = n};
    if (charge(run, n, e))
        return -1;
    if (store_add_artifact(run->jobs->store, run->job.id, &a, e) == 0)
        return 0;
    run->broken = *e;
    return -1;
}

// --- the device -----------------------------------------------------------------------------

struct device_call {
    struct job_run *run;
    int (*fn)(void *ud, const struct ops *ops, struct dev *dev, struct model *m, struct err *e);
    void *ud;
    int64_t begun_ns; // 0: it never began
};

static bool call_cancelled(void *ud)
{
    struct device_call *c = ud;
    return job_run_must_stop(c->run);
}

// Engine thread.
static int call(void *ud, const struct ops *ops, struct dev *dev, struct model *m, struct err *e)
{
    struct device_call *c = ud;
    c->begun_ns = clock_ns();
    return c->fn(c->ud, ops, dev, m, e);
}

int job_run_device(struct job_run *run,
                   int (*fn)(void *ud, const struct ops *ops, struct dev *dev, struct model *m,
                             struct err *e),
                   void *ud, int *contended_out, struct err *e)
{
    // Once it must stop, what the work still asks for is to give back what it holds: that runs at once.
    const bool clean_up = job_run_must_stop(run);
    struct device_call c = {.run = run, .fn = fn, .ud = ud};
    const struct engine_task t = {.fn = call,
                                  .ud = &c,
                                  .exclusive = run->job.exclusive && !clean_up,
                                  .lull_ms = run->lull_left_ms,
                                  .hold_ms = HOLD_MS,
                                  .pause_ms = run->jobs->options.pause_ms,
                                  .cancelled = clean_up ? NULL : call_cancelled};
    int64_t asked_ns = clock_ns();
    int beside = 0, result = engine_run(run->jobs->node.engine, &t, &beside, e);
    if (contended_out)
        *contended_out = beside;
    if (!c.begun_ns)
        return result;
    // All lulls together are waited for no longer than one limit: under steady traffic a job is slow
    // once, not at every sample.
    run->lull_left_ms -= (int)fmin(clock_ms_between(asked_ns, c.begun_ns), run->lull_left_ms);
    run->device_s += clock_ms_between(c.begun_ns, clock_ns()) / 1e3;
    run->n_tasks++;
    run->n_contended += beside > 0;
    run->contended_max = beside > run->contended_max ? beside : run->contended_max;
    return result;
}
