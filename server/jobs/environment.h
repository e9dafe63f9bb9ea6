// environment.h - what a report was measured on: program, model, device, machine, and the ceilings that
// its figures are compared with, measured in the same run. Job thread.
#ifndef ENVIRONMENT_H
#define ENVIRONMENT_H

#include <jansson.h>

#include "job_type.h"

// Rates of the device, the best that simple work reaches.
struct ceilings {
    double copy_bytes_s; // copying device memory, bytes read and bytes written
    double flops_s;      // multiply-adds (two operations): float32 registers on the CPU, a
                         // product of large square matrices of the server's 16-bit type elsewhere
};

// The document's "environment", with "clocks_before"; new reference, NULL with e when the job was
// stopped or the device failed. Takes a second or two.
json_t *environment_collect(struct job_run *run, struct ceilings *out, struct err *e) MUST_USE;

// "clocks_after": call it when all is measured.
void environment_finish(const struct job_node *node, json_t *environment);

#endif
