// steps.h - steps of several sequences for the cases of the operations that look across tokens:
// spans, slots, scattered pages, and the same work cut into pieces.
// Not for the runner; single-threaded.
#ifndef STEPS_H
#define STEPS_H

#include "ops_check.h"

enum { STEP_SPANS_MAX = 6, STEP_CUTS_MAX = 700 };

struct step_shape {
    int t, pos0, decode;
};

// A case's step. Slots are taken from the end and pages in a random order, so that what no sequence
// owns lies between what they own; unused entries of the page table are -1. Where pieces can be chunks
// (cut 16 or more) the first prefill spans save their states after their last whole piece, in the first
// slots.
struct step {
    struct span spans[STEP_SPANS_MAX];
    int n_spans, t, n_slots, n_pages, pages_max;
    int pages[STEP_SPANS_MAX][64]; // page i of each span
    struct batch cuts[STEP_CUTS_MAX];
    int n_cuts;
};

// Declares the buffers of *batch and fills it and c->user (a struct step) from `shapes`, which ends at
// t = 0 or after STEP_SPANS_MAX. cut: largest piece of a span for step_part.
struct step *step_make(struct check_case *c, struct batch *batch, const struct step_shape *shapes,
                       int cut);

// The i-th piece of the step: false when there is none.
bool step_part(const struct check_case *c, struct batch *batch, int i);

// Where a value of K or V lies in the pages of the case's device; place: page, head, token of the page,
// element of the head.
size_t step_k_at(const struct check_case *c, enum dtype type, int kv_heads, int head_dim,
                 const int place[4]);
size_t step_v_at(const struct check_case *c, enum dtype type, int kv_heads, int head_dim,
                 const int place[4]);

#endif
