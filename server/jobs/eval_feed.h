// eval_feed.h - the served model, fed token ids by a job in steps of its own: between the engine's steps, on
// the slots and pages that nobody uses then, under any setting of the inversion. Job thread.
//
// Sequence s has slot s and every n-th page. Nothing is reserved: when clients' generations run in between
// (only when they had to be held for too long), what a sequence had read is gone, the feed says so, and
// the sequence must be read again from its first token.
#ifndef EVAL_FEED_H
#define EVAL_FEED_H

#include "eval_setting.h"
#include "job_type.h"

enum { EVAL_SEQUENCES_MAX = 64 };

struct eval {
    struct job_run *run;
    int sequences; // how many there are
    int context;   // tokens each may reach
    int piece;     // most tokens of a step whose logits are all wanted; a multiple of 64
    int vocab;
    int64_t steps; // of the engine when we last looked
};

// One sequence's share of a step; as struct feed of the tests' rig.
struct eval_feed {
    int seq;
    const int *ids;
    int t, pos0;
    bool decode;   // a generated token: t = 1
    bool last;     // only the last token's logits are wanted
    int row_first; // else: those of tokens row_first, row_first + row_step, ...
    int row_step;  // 0: of none
};

struct eval_step {
    const struct eval_setting *setting;
    const struct eval_feed *feeds; // prompts before generated tokens
    int n;
    const struct ops *(*probe)(void *ud,
                               const struct ops *ops); // NULL, or the table to run through
    void *probe_ud;
    float *logits;  // [rows, vocab] host: of all feeds with rows first, then of those with `last`
    bool disturbed; // out: nothing was computed
};

// What the node can do: never fails, but sequences may be fewer than asked for.
struct eval eval_open(struct job_run *run, int sequences, int context);

int eval_run(struct eval *v, struct eval_step *s, struct err *e) MUST_USE;

// The same on a model of the caller's own, on the caller's thread; v->sequences and context are its limits.
int eval_run_on(const struct eval *v, struct eval_step *s, const struct ops *ops, struct dev *dev,
                struct model *m, struct err *e) MUST_USE;

int eval_rows(const struct eval_feed *feeds, int n); // of logits

#endif
