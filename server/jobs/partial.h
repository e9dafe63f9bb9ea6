// partial.h - a result document of what a job had found when it ended early.
#ifndef PARTIAL_H
#define PARTIAL_H

#include "store.h"

// A document (schema deltaserve.result/1, "partial": true) whose one table holds the job's samples: a
// column for every field that occurs, in the order of first appearance. New reference. Any thread.
json_t *partial_result(struct store *s, const struct job *j, struct err *e) MUST_USE;

#endif
