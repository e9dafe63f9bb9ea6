// jobs_parts.h - what the handlers of jobs share: jobs.c (records), jobs_events.c (events),
// jobs_result.c (results, artifacts, comparison). Loop thread only.
#ifndef JOBS_PARTS_H
#define JOBS_PARTS_H

#include "parts.h"
#include "jobs.h"

// A number of the query, or otherwise when it is not there. ERR_BAD_REQUEST with its name as param.
int jobs_query_number(const struct request *q, const char *name, double min, double max,
                      double *value, struct err *e) MUST_USE;
int jobs_query_count(const struct request *q, const char *name, int64_t max, int64_t *value,
                     struct err *e) MUST_USE; // a whole one from 0

// The query's cursor "after" of lists of jobs, or NULL.
int jobs_query_id(const struct request *q, const char *name, const char **id,
                  struct err *e) MUST_USE;

// A header whose value is made here.
void jobs_header(struct reply *r, struct arena *a, const char *name, const char *format, ...)
    PRINTF_LIKE(4, 5);

// reply_wake for watches.
void jobs_wake(void *reply);

#endif
