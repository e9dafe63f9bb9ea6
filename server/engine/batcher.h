// batcher.h - the gens that run, and one step of all of them: plan -> forward -> sample -> gens. It
// holds the model's pages and slots. No locks: engine thread, except where a line says otherwise.
#ifndef BATCHER_H
#define BATCHER_H

#include <stdint.h>
#include <stdio.h>

#include "err.h"
#include "gen_engine.h"
#include "plan.h"
#include "qwen35.h"
#include "tokenizer.h"
#include "trace.h"

struct batcher;

struct batcher_parts { // all borrowed
    struct model *model;
    const struct ops *ops;
    struct dev *dev;
    const struct tokenizer *tokenizer; // or NULL
    struct trace *trace;
};

// ERR_BAD_REQUEST when the model's limits would let a gen wait for ever, ERR_TOO_LARGE when device
// memory is out.
struct batcher *batcher_create(const struct batcher_parts *parts, struct err *e) MUST_USE;
void batcher_destroy(struct batcher *b); // no gen may be running; NULL is fine

// What the sampler of a batcher over m takes beside the model's own memory. Any thread.
size_t batcher_sampler_bytes(const struct model *m);

// Could these params ever run? ERR_CONTEXT_LENGTH and ERR_BAD_REQUEST as gen_submit says. Looks at
// what never changes only. Any thread.
int batcher_check(const struct batcher *b, const struct gen_params *p, struct err *e) MUST_USE;

// Start g if there are a slot and pages for all the tokens it may reach: a gen that runs is never
// stopped for want of memory. Else g stays the caller's and the answer says what is short.
enum plan_wait batcher_admit(struct batcher *b, struct gen *g);

void batcher_drop_cancelled(struct batcher *b);              // fail those whose flag is set
void batcher_fail(struct batcher *b, const struct err *why); // fail all

// One step of all running gens, at least one. ERR_DEVICE: the device is lost, gens are as before. Readers of
// gens that go on may be told of it in the next step only, or by batcher_tell.
int batcher_step(struct batcher *b, struct err *e) MUST_USE;

void batcher_tell(struct batcher *b); // before anything that delays the next step

int batcher_running(const struct batcher *b); // any thread

// A gen that never ran: trace, counters, gen_fail.
void batcher_refuse(struct batcher *b, struct gen *g, const struct err *why);

void batcher_dump(const struct batcher *b, FILE *f);

#endif
