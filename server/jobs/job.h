// job.h - the record of one job, as the store keeps it, the runner changes it and clients see it.
// Plain data: whoever holds a struct job owns it.
#ifndef JOB_H
#define JOB_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

enum { JOB_ID_BYTES = 32, JOB_TYPE_BYTES = 32 };

// queued -> running -> succeeded | failed | cancelled, or queued -> cancelled | expired. cancelling: it
// runs and was asked to stop. A missed threshold is succeeded with verdict "fail".
#define JOB_STATUSES(X)                                                                            \
    X(QUEUED, "queued")                                                                            \
    X(RUNNING, "running")                                                                          \
    X(CANCELLING, "cancelling")                                                                    \
    X(SUCCEEDED, "succeeded")                                                                      \
    X(FAILED, "failed")                                                                            \
    X(CANCELLED, "cancelled")                                                                      \
    X(EXPIRED, "expired")
enum job_status {
#define X(symbol, name) JOB_##symbol,
    JOB_STATUSES(X)
#undef X
        JOB_STATUS_N
};

struct job {
    char id[JOB_ID_BYTES]; // "job_" and 26 characters, in the order of creation
    char type[JOB_TYPE_BYTES];
    enum job_status status;
    int priority;     // -10 .. 10: a larger one leaves the queue first
    double timeout_s; // of running
    bool exclusive;
    // Milliseconds since 1970; 0: not yet, or never.
    int64_t created_ms, started_ms, finished_ms, cancelled_ms, expires_ms;
    int64_t version; // grows with every change: the ETag
    // Owned; NULL where there is nothing to say.
    json_t *name, *metadata, *spec, *environment, *progress, *error, *usage, *verdict;
};

void job_fini(struct job *j);
void job_copy(struct job *out,
              const struct job *j); // shares the JSON, which nobody changes in place

bool job_is_final(enum job_status status);
const char *job_status_name(enum job_status status);
int job_status_parse(const char *name); // or -1

// A new id, greater than every one made before by this call in this process.
void job_make_id(char id[static JOB_ID_BYTES]);
bool job_id_is_valid(const char *id);

int64_t job_now_ms(void); // milliseconds since 1970

// A JSON string of text that may hold bytes which are not UTF-8: they become U+FFFD.
json_t *job_text(const char *text);

// {"code", "message", "param"} for job.error.
json_t *job_error(const char *code, const char *message, const char *param);

// The object clients see (new reference). position: how many jobs leave the queue before it, or -1.
json_t *job_json(const struct job *j, int position);

// JSON text, compact, with the digits that a measured number has.
char *job_dump(const json_t *v); // NULL for NULL; the caller's (mem_free)
void job_write(struct buf *out, const json_t *v);

#endif
