// jobs.h - the jobs of this server: take them in, run them one at a time, tell how they are. What api/
// sees of this room, with store.h for reading.
//
// A job is the server's own client of lowest priority: its device tasks run between steps, its
// generations start when no client's waits.
#ifndef JOBS_H
#define JOBS_H

#include "job.h"
#include "job_request.h"
#include "store.h"

struct jobs;

struct jobs_options {
    struct store_options store; // path is borrowed during the call only
    int queue_max;              // jobs that may wait
    int timeout_max_s;          // most a job may run
    int lull_ms;  // most that an exclusive job waits in all for moments without clients
    int pause_ms; // most that a client is held back for an exclusive job
};

// Open the store and settle what the last server left behind. Jobs run from jobs_start on. Fails as
// store_open does.
struct jobs *jobs_open(const struct jobs_options *o, struct err *e) MUST_USE;

// The model is there: node is copied, what it points to is borrowed until jobs_close. Starts the job
// thread. Once, or never.
void jobs_start(struct jobs *j, const struct job_node *node);

// Take no more, stop the running job (it becomes failed, "server_restarted"; queued ones run when the
// next server starts) and wake every watch. Any thread; does not wait.
void jobs_stop(struct jobs *j);
bool jobs_stopping(const struct jobs *j); // any thread

// Wait for the job thread, close. The engine must still be there. No watch may be left. NULL is fine.
void jobs_close(struct jobs *j);

// NULL with ERR_LOADING until jobs_start. Any thread.
const struct job_node *jobs_node(struct jobs *j, struct err *e) MUST_USE;
const struct jobs_options *jobs_options(const struct jobs *j); // without store.path
struct store *jobs_store(struct jobs *j); // to read events, lists, results, artifacts

// --- any thread; each fills *out, which is then the caller's (job_fini) ---------------------------

// Queue a job for r. key (may be NULL) is the client's idempotency key, text the request it stands for:
// with a key that is known, *out is the first job of it and *created false, or, when the text was
// another, ERR_KEY_REUSED. ERR_BUSY when queue_max jobs wait, ERR_STORAGE, ERR_SHUTTING_DOWN.
struct job_submission {
    const struct job_request *request;
    const char *key, *text;
};
int jobs_submit(struct jobs *j, const struct job_submission *s, struct job *out, bool *created,
                struct err *e) MUST_USE;

// As it is now; the running one may be ahead of the store. ERR_NOT_FOUND.
int jobs_get(struct jobs *j, const char *id, struct job *out, struct err *e) MUST_USE;

// Idempotent: a finished job stays as it is. ERR_NOT_FOUND, ERR_STORAGE.
int jobs_cancel(struct jobs *j, const char *id, struct job *out, struct err *e) MUST_USE;

// Remove a job that does not run with all it left; one that runs is cancelled instead and *removed
// false. ERR_NOT_FOUND, ERR_STORAGE.
int jobs_delete(struct jobs *j, const char *id, bool *removed, struct err *e) MUST_USE;

// The result document: as the work left it, or a partial one made of its samples when it ended early.
// ERR_NOT_FINISHED, ERR_NOT_FOUND. New reference.
json_t *jobs_result(struct jobs *j, const char *id, struct err *e) MUST_USE;

// --- being told -----------------------------------------------------------------------------

// wake(ud) is called after every change of the job, on any thread; it may not block or call jobs_*.
// None comes after jobs_unwatch has returned.
struct jobs_watch {
    char id[JOB_ID_BYTES];
    void (*wake)(void *ud);
    void *ud;
    struct jobs_watch *next; // jobs' own
};
void jobs_watch(struct jobs *j, struct jobs_watch *w);
void jobs_unwatch(struct jobs *j, struct jobs_watch *w);

#endif
