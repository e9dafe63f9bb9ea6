// bench_run.h - a benchmark's case on the engine's thread: placed once, then timed one sample a device task,
// so that a cancel and every client's token wait for one sample at most. Job thread.
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include "bench.h"
#include "job_type.h"

// What is written between samples that shall find no cache warm.
struct bench_flush {
    void *from, *to;
    size_t bytes;
};

// Also tells the type of activations. Release it also when this fails.
int bench_flush_place(struct job_run *run, struct bench_flush *f, enum dtype *act,
                      struct err *e) MUST_USE;
void bench_flush_release(struct job_run *run, struct bench_flush *f);

// Places c, runs it once and fetches the results, ready for judge. On failure nothing is placed.
int bench_case_place(struct job_run *run, struct bench_case *c, struct err *e) MUST_USE;
void bench_case_release(struct job_run *run, struct bench_case *c); // and bench_fini

struct bench_sample {
    int reps;       // runs timed together; 0: found out by the first sample and set
    bool cold;      // flush before; then reps is 1
    double us;      // of one run
    int contended;  // the most generations that ran beside a sample
    bool disturbed; // other processes kept this one from the processors for a good part of it
};
int bench_case_sample(struct job_run *run, struct bench_case *c, const struct bench_flush *f,
                      struct bench_sample *s, struct err *e) MUST_USE;

#endif
