// job_run.h - what jobs.c and job_run.c share: the room's state and the job that runs. Nobody else
// includes this.
#ifndef JOB_RUN_H
#define JOB_RUN_H

#include <pthread.h>
#include <stdatomic.h>

#include "jobs.h"

// The job under way. The job thread's, but for what a line says otherwise.
struct job_run {
    struct jobs *jobs;
    const struct job_type *type;
    struct job job;        // under jobs.lock
    atomic_bool cancelled; // any thread sets
    int64_t begun_ns, deadline_ns;
    struct err broken; // code not ERR_OK: it cannot go on
    size_t bytes;      // of samples, logs and artifacts
    int lull_left_ms;
    double device_s;
    int n_tasks, n_contended, contended_max; // device tasks; those not alone; most beside one
    // Progress.
    int64_t written_ns, stage_ns; // last written; the stage began
    double stage_done;            // there
    char stage[32];
};

struct jobs {
    struct jobs_options options;
    struct store *store;
    struct job_node node;
    atomic_bool started, stopping;
    pthread_t thread;
    pthread_mutex_t lock;    // guards all below, and the order of changes in the store
    pthread_cond_t change;   // a job was queued, or stopping
    struct job_run *current; // NULL: none runs
    struct jobs_watch *watches;
};

void jobs_notify(struct jobs *j, const char *id); // wake the watches of a job; lock held

// Why the work must stop, or false. Takes no lock.
bool job_run_must_stop(struct job_run *run);

// What the run cost, for job.usage. New reference.
json_t *job_run_usage(const struct job_run *run);

#endif
