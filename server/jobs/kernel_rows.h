// kernel_rows.h - the rows of a kernel benchmark: what a spec asks for, what was measured, the report.
// Job thread (kernel_rows_make also the loop thread).
#ifndef KERNEL_ROWS_H
#define KERNEL_ROWS_H

#include "bench.h"
#include "environment.h"
#include "job_type.h"
#include "sample_stats.h"

enum { KERNEL_ROWS_MAX = 1024 };

struct kernel_row {
    const struct bench_op *op;
    struct bench_point at;
    bool cold;
    bool first;        // the first row of a case: the next ones differ by cold only
    double host_bytes; // of the case
    char name[128];    // what distinguishes it; equal in two jobs of equal specs
    // Measured.
    double *us;
    int *round, n, max;
    int reps, contended;
    int disturbed; // samples set aside because other processes ran in them
    bool unquiet;  // one such had to be kept
    bool noisy, judged;
    double error, limit, bytes, flops;
    const char *measure, *why; // of the error and of its limit
    char skipped[160];         // why it was not measured
};

struct kernel_rows {
    struct kernel_row *row;
    int n;
};

// Every combination of an expanded spec, in an order that keeps rows of one case together.
// ERR_BAD_REQUEST with a param when there are too many, or one is too large.
int kernel_rows_make(struct kernel_rows *rows, const struct job_node *node, const json_t *spec,
                     struct err *e) MUST_USE;
void kernel_rows_free(struct kernel_rows *rows);

void kernel_row_add(struct kernel_row *row, double us, int round);
void kernel_row_judged(struct kernel_row *row, const struct bench_case *c);
void kernel_row_skip(struct kernel_row *row, const char *why);
const char *kernel_row_state(const struct kernel_row *row); // "ok", "failed", "skipped"
json_t *kernel_row_sample(const struct kernel_row *row);    // flat; new reference

// The result document. Takes environment.
json_t *kernel_rows_report(const struct kernel_rows *rows, const struct ceilings *c,
                           json_t *environment_take, bool partial);
// Every sample, as samples.jsonl.
int kernel_rows_artifact(const struct kernel_rows *rows, struct job_run *run,
                         struct err *e) MUST_USE;

#endif
