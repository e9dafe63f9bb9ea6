// job_request.h - the body of POST /v1/jobs, checked: every field, and the spec by its type. Loop thread.
#ifndef JOB_REQUEST_H
#define JOB_REQUEST_H

#include "job_type.h"

struct job_request {
    const struct job_type *type;
    json_t *spec;            // every default filled in; owned
    json_t *name, *metadata; // owned, or NULL
    int priority;            // -10 .. 10
    double timeout_s;
    bool exclusive, validate_only;
    double estimated_s; // by the type
};

// Read body. A field that is not known is refused, as a misspelt one would silently ask for something
// else. ERR_BAD_REQUEST with param. On failure nothing is left to free.
int job_request_read(const struct job_node *node, double timeout_max_s, json_t *body,
                     struct job_request *r, struct err *e) MUST_USE;
void job_request_fini(struct job_request *r);

#endif
