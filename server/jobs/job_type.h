// job_type.h - one kind of job: what its spec may say, and the work itself. What the author of a kind
// needs to know of the runner is all here; job_types.c lists the kinds.
//
// A kind's work runs on the job thread, one job at a time. It measures in many short samples and asks
// before each whether it was cancelled, so that a cancel, a timeout or the end of the server takes
// effect within one sample. What it has handed over by job_run_sample survives whatever happens next.
#ifndef JOB_TYPE_H
#define JOB_TYPE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine.h"
#include "err.h"
#include "ops.h"
#include "qwen35.h"
#include "tokenizer.h"

struct job_run; // the runner's own

// What a job may know of the node: facts that do not change. Any thread.
struct job_node {
    struct engine *engine;
    const struct ops *ops;
    const struct tokenizer *tokenizer; // NULL: token ids only
    const struct config *config;
    const struct model_options *model_options;
    const struct model_memory *memory;
    const char *model_id, *model_dir;
    const char *version, *commit;
    const char *device; // what ops->describe says
    const char *host;   // where this server listens, for work that comes in by the front door
    int port;
    const char *api_key;  // one that is let in, or NULL when none is asked for
    const char *data_dir; // held-out text and recall tasks, or NULL when they are not installed
};

struct job_type {
    const char *name;  // "kernel_benchmark"
    const char *title; // one line for people
    // The JSON Schema (draft 2020-12) of spec, with defaults and what this node offers. New reference.
    json_t *(*schema)(const struct job_node *node);
    // Check spec (an object, may be empty) and return it with every default filled in (new reference),
    // or NULL with e: ERR_BAD_REQUEST, param "spec.field[2]". Must bound the work: number of
    // combinations, bytes, tokens. Loop thread, so it must be quick.
    json_t *(*expand)(const struct job_node *node, json_t *spec, struct err *e);
    double (*estimate)(const struct job_node *node, const json_t *expanded); // seconds
    // Job thread. Do the work; return the result document (new reference, schema
    // "deltaserve.result/1") or NULL with e, ERR_CANCELLED when job_run_cancelled said so. A document
    // with "partial": true is kept as the partial result of a job that was stopped; without one, a
    // table of its samples is made.
    json_t *(*work)(struct job_run *run, const json_t *expanded, struct err *e);
    // By default device tasks of this kind wait for a moment without clients and hold them back
    // meanwhile, see job_run_device. The request's "exclusive" overrides it.
    bool exclusive;
};

extern const struct job_type *const JOB_TYPES[];
extern const int JOB_TYPES_N;

const struct job_type *job_type_find(const char *name); // NULL: there is none

// --- services of the runner; job thread only ------------------------------------------------

const struct job_node *job_run_node(struct job_run *run);

// Stop now? True once the job was cancelled, its time is up, the server ends, or what it produces can
// no longer be stored. Ask before every sample.
bool job_run_cancelled(struct job_run *run);

// How far it is: done of total (0: unknown) units, e.g. "samples". stage is one word or two ("warm up"),
// message may be NULL. As often as you like: events are written ten times a second at most.
void job_run_progress(struct job_run *run, double done, double total, const char *unit,
                      const char *stage, const char *message);

// One row of partial results, a flat object: event "sample", kept if the job ends half way.
void job_run_sample(struct job_run *run, json_t *sample_take);

void job_run_log(struct job_run *run, const char *format, ...) PRINTF_LIKE(2, 3); // one line

// Keep n bytes under name (letters, digits, '.', '_', '-'; 100 at most) for
// GET /v1/jobs/{id}/artifacts/{name}. ERR_TOO_LARGE beyond the job's share of the store, ERR_STORAGE
// when the disk is full.
int job_run_artifact(struct job_run *run, const char *name, const char *content_type,
                     const void *data, size_t n, struct err *e) MUST_USE;

// Run fn on the engine thread between two steps and wait for it: the device keeps one owner. fn gets
// the engine's operations, device and model, may use the model's state slots and pages only when
// *contended_out is 0, must leave nothing allocated that it does not release in a later task, and takes
// a second or two at most: no token of any client is computed meanwhile.
//
// An exclusive job's task waits for a moment without clients, and clients that come during it and for
// a moment after it are held in the queue, so that the next sample finds the device as quiet; no client
// is held longer than a limit of the server's, and no lull is waited for longer than another. When
// there was no lull the task runs anyway. *contended_out (may be NULL) says how many generations of
// clients were running or about to when it began: 0 for an undisturbed one.
// Fails with what fn fails with, or ERR_CANCELLED, ERR_SHUTTING_DOWN, ERR_DEVICE without having run it.
// Of a job that must stop already it runs at once, held by nothing: that is how memory is given back.
int job_run_device(struct job_run *run,
                   int (*fn)(void *ud, const struct ops *ops, struct dev *dev, struct model *m,
                             struct err *e),
                   void *ud, int *contended_out, struct err *e) MUST_USE;

#endif
