// measure_rig.h - the measuring kinds of jobs, run by the real runner over a real engine: a small model, the
// store in memory. One rig a process (Criterion starts one a test).
#ifndef MEASURE_RIG_H
#define MEASURE_RIG_H

#include "jobs.h"

struct measure_options {
    const char *model;     // folder of tests/golden, or "bundled"; NULL: dense_a
    const struct ops *ops; // NULL: ops_cpu; else a table around it
    int context_max;       // 0: 1024
    int port;              // of a server, for serve_benchmark
};

struct measure_rig {
    struct jobs *jobs;
    struct dev *dev;
    struct tokenizer *tokenizer;
    struct engine *engine;
    struct job_node node;
};

void measure_open(struct measure_rig *r, const struct measure_options *o);
void measure_close(struct measure_rig *r);

// Submit, wait, and the result; it must have succeeded. spec is JSON text. New reference.
json_t *measure_run(struct measure_rig *r, const char *type, const char *spec);
// Submit; *job is the caller's to finish. The id is the job's.
void measure_submit(struct measure_rig *r, const char *type, const char *spec, struct job *job);
// Wait for its end.
struct job measure_wait(struct measure_rig *r, const char *id);

// The spec must be refused with this param.
void measure_refuse(struct measure_rig *r, const char *type, const char *spec, const char *param);

// Of a table by its name: a row by the text of its first column, a value of a row by its column's name.
json_t *measure_table(json_t *doc, const char *name);
json_t *measure_row(json_t *table, const char *first);
const char *measure_state(json_t *table, const char *first); // of a row
double measure_value(json_t *table, json_t *row, const char *column);

#endif
