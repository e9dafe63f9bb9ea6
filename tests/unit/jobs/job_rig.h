// job_rig.h - what the tests of this folder share: a store in a folder of its own, and jobs over a real
// engine with a small model. One rig a process (Criterion starts one a test).
#ifndef JOB_RIG_H
#define JOB_RIG_H

#include "jobs.h"

struct rig {
    char folder[64], path[96];
    struct jobs_options options;
    struct jobs *jobs;
    struct dev *dev;
    struct engine *engine;
};

void rig_open(struct rig *r);   // a folder, options, jobs; nothing runs yet
void rig_start(struct rig *r);  // an engine; jobs run
void rig_reopen(struct rig *r); // close the jobs and open them again, without an engine
void rig_close(struct rig *r);

// A job of self_test for so many seconds; its id.
const char *rig_submit(struct rig *r, double seconds);
// Wait for its end; must be as said.
void rig_end(struct rig *r, const char *id, enum job_status status);

struct job rig_new_job(const char *type); // queued, with an id and a spec

#endif
