// job_client.h - what the end-to-end tests of jobs send and read.
#ifndef JOB_CLIENT_H
#define JOB_CLIENT_H

#include <jansson.h>

#include "http_client.h"

// One request on a connection of its own; the body as JSON (new reference), or NULL when it is none.
json_t *job_call(int port, int *status, const char *method, const char *path, const char *headers,
                 const char *body);

const char *job_text(const json_t *o, const char *path); // "error.code"; "" when it is not there
json_t *job_at(const json_t *o, const char *path);       // "tables.0.rows", or NULL

// Submit; must be taken. id [64].
void job_submit(int port, const char *body, char *id);
// Wait for the end; the final status must be what it says. The job (new reference).
json_t *job_end(int port, const char *id, const char *status);
// Wait until the job has the status.
void job_await(int port, const char *id, const char *status);
// Wait until the job has left n samples.
void job_await_samples(int port, const char *id, int n);

#endif
