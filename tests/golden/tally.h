// tally.h - what the checks of this folder count, and how they print it.
#ifndef TALLY_H
#define TALLY_H

#include <stdbool.h>

#include "err.h"

struct tally {
    int passed, failed, skipped;
};

// One line: "ok   what" or "FAIL what"; what says the figure and its limit.
void tally_add(struct tally *t, bool ok, const char *format, ...) PRINTF_LIKE(3, 4);
void tally_skip(struct tally *t, const char *format, ...) PRINTF_LIKE(2, 3);

// Sanitizers cost ten times the time: those builds run a subset that still takes every path, and
// model_check's --quick yes asks for it. --quick brief: every kernel in every type a few times, for a
// sanitizer that costs a thousand times the time; tally_quick too then. Written by main alone.
extern bool tally_quick, tally_brief;

// golden_check.c: the logits, log-probabilities and greedy tokens that transformers computed.
void check_golden(struct tally *t);

// heldout_check.c: the loss on a long text.
void check_heldout(struct tally *t);

// rows_check.c: a sequence's logits have the same bits alone, in a batch and cut into pieces.
void check_rows(struct tally *t);

// types_check.c: how far bf16 and int8 weights, and bf16 states, are from float32.
void check_types(struct tally *t);

#endif
