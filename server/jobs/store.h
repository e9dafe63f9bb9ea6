// store.h - job records, events, results and artifacts in one SQLite file (WAL). What a call has
// returned 0 for survives kill -9; after a power cut the last moments may be missing, never half there.
//
// Any thread: one connection behind a lock, and each call is one transaction. A server has its file for
// itself. Every call that writes may fail with ERR_STORAGE when there is no room on the disk or within
// bytes_max; the store is then as it was before the call, and good for reading. ERR_INTERNAL is damage.
#ifndef STORE_H
#define STORE_H

#include <stddef.h>

#include "buf.h"
#include "err.h"
#include "job.h"

struct store;

struct store_options {
    const char *path;  // created if missing; ":memory:" keeps nothing
    int64_t bytes_max; // of the file, without its WAL (a few MB)
    int jobs_max;      // finished jobs beyond this many are removed, oldest first
    int64_t keep_ms;   // and those finished longer ago than this; 0: never
};

// ERR_BAD_REQUEST with the reason and what to do when the file cannot be used: in use by another
// server, not ours, of a newer schema, in a folder that cannot be written.
struct store *store_open(const struct store_options *o, struct err *e) MUST_USE;
void store_close(struct store *s); // NULL is fine

// --- records --------------------------------------------------------------------------------

// A new job; sets its expires_ms. key (may be NULL): the client's idempotency key; request: the text it
// stands for.
int store_add(struct store *s, struct job *j, const char *key, const char *request,
              struct err *e) MUST_USE;

// Fill *j, which is then the caller's (job_fini). ERR_NOT_FOUND.
int store_get(struct store *s, const char *id, struct job *j, struct err *e) MUST_USE;

// The job of an idempotency key, and whether it stands for the same request. ERR_NOT_FOUND.
int store_find_key(struct store *s, const char *key, const char *request, struct job *j, bool *same,
                   struct err *e) MUST_USE;

// Write what may change of a job (all but what the request said). event: "state", "progress" or NULL,
// written with it; result (may be NULL): its result document's text, with event "result". j's version
// grows and expires_ms follows finished_ms.
int store_put(struct store *s, struct job *j, const char *event, const char *result,
              struct err *e) MUST_USE;

// Newest first. filter fields NULL or -1: any. after: ids before it in that order are left out.
struct store_filter {
    const char *type, *after;
    int status, limit;
};
int store_list(struct store *s, const struct store_filter *f, struct job *jobs, int *n,
               bool *has_more, struct err *e) MUST_USE; // jobs [limit]

// The queued job that runs next. ERR_NOT_FOUND when none waits.
int store_next(struct store *s, struct job *j, struct err *e) MUST_USE;
int store_queued(struct store *s); // how many wait
int store_position(struct store *s,
                   const struct job *j); // how many of them go before j; -1: not queued

int store_delete(struct store *s, const char *id, struct err *e) MUST_USE; // ERR_NOT_FOUND

// Jobs that ran when the last server ended become failed, code "server_restarted".
int store_recover(struct store *s, struct err *e) MUST_USE;

// Remove what is kept no longer, and the oldest while more than three quarters of bytes_max are used;
// expire what waited too long. Never fails for want of room.
void store_retain(struct store *s);

// --- events ---------------------------------------------------------------------------------

// Append an event. A job has one event "progress" at most: a new one takes the place of the last.
int store_event(struct store *s, const char *id, const char *kind, const json_t *data,
                struct err *e) MUST_USE;

// Events after the one numbered after, oldest first, until limit or about bytes_max of text. Called for
// each: take(ud, number, ms since 1970, kind, data as JSON text). *more: there are others.
struct store_page {
    const char *id, *kind; // kind NULL: all
    int64_t after;
    int limit;
    size_t bytes_max;
};
typedef void store_take_event(void *ud, int64_t number, int64_t at_ms, const char *kind,
                              const char *data);
int store_events(struct store *s, const struct store_page *p, store_take_event *take, void *ud,
                 bool *more, struct err *e) MUST_USE;

// --- results and artifacts --------------------------------------------------------------------

int store_result(struct store *s, const char *id, struct buf *out,
                 struct err *e) MUST_USE; // ERR_NOT_FOUND

struct store_artifact {
    const char *name, *content_type;
    const void *data; // [n]
    size_t n;
    char sha256[65]; // hexadecimal
};
// sha256 is filled. An artifact of the same name is replaced.
int store_add_artifact(struct store *s, const char *id, struct store_artifact *a,
                       struct err *e) MUST_USE;
// [{"name", "content_type", "bytes", "sha256"}]; new reference.
json_t *store_artifacts(struct store *s, const char *id, struct err *e) MUST_USE;
// One of them, data appended to out, the rest as in the list. ERR_NOT_FOUND. New reference.
json_t *store_artifact(struct store *s, const char *id, const char *name, struct buf *out,
                       struct err *e) MUST_USE;

#endif
