// plan.h - which tokens of which sequences form the next step: continuous batching with chunked
// prefill. Pure functions of plain numbers; no gens, no model, no locks. Any thread.
//
// A step holds one token of every sequence that is generating, always: prefill never makes a running
// answer wait longer than one step. What is left of the token budget is dealt to the prompts that are
// still being read. A prompt is cut only at multiples of the delta rule's chunk, so that the chunks of
// a prompt, and with them every bit of its result, do not depend on what else was running.
#ifndef PLAN_H
#define PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct plan_limits {
    int tokens; // most tokens of one step
    int rows;   // most rows of logits of one step
    int chunk;  // a prompt is cut at multiples of this
};

// One running sequence.
struct plan_seq {
    uint64_t served;  // the step that last gave it tokens; before that, the step it came in
    int n_prompt;     // tokens of its prompt, at least 1
    int n_done;       // prompt tokens computed; n_prompt: it generates, one token a step
    bool prompt_rows; // logits of every prompt token are wanted
};

// What ended a piece of a prompt.
enum plan_cut {
    PLAN_WHOLE,  // nothing: the prompt (or the one token to generate) is complete
    PLAN_TOKENS, // the step's tokens, or this prompt's share of them
    PLAN_ROWS,   // the step's rows of logits
};

struct plan_piece {
    int seq; // index into seqs
    int t;   // tokens, at least 1
    enum plan_cut cut;
};

enum plan_wait { PLAN_ADMIT, PLAN_WAIT_SLOT, PLAN_WAIT_PAGES };

// Do these limits let every one of n_max sequences make progress? The error names the option to
// change. ERR_BAD_REQUEST.
int plan_check(const struct plan_limits *l, int n_max, struct err *e) MUST_USE;

// May a sequence that needs n_pages start now?
enum plan_wait plan_admit(int n_pages, int pages_free, int slots_free);

// Fill pieces [n] with the next step of seqs [n], which stand in order of arrival; returns how many.
// Pieces of prompts come first, then the sequences that generate, each in order of arrival.
//
// Prompts share what the generating sequences leave: first an equal number of whole chunks each (at
// least one, so that a short prompt is not stuck behind a long one), then the rest goes to the oldest.
// When there is not a chunk for every prompt, those served longest ago go first: a prompt waits for at
// most as many steps as there are sequences.
int plan_step(const struct plan_seq *seqs, int n, const struct plan_limits *l,
              struct plan_piece *pieces);

#endif
