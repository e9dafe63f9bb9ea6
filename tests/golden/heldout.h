// heldout.h - tests/data/heldout.txt in a model's own tokens, and what a model makes of it.
#ifndef HELDOUT_H
#define HELDOUT_H

#include <stddef.h>

#include "rig.h"
#include "tokenizer.h"

enum { HELDOUT_TOKENS = 8192 };

struct heldout {
    struct ids ids;
    double bytes; // of the tokens that are predicted: all but the first
};

// The first tokens_max tokens of the text.
int heldout_read(struct heldout *h, const struct tokenizer *tk, size_t tokens_max,
                 struct err *e) MUST_USE;
void heldout_fini(struct heldout *h);

// Sequence 0 reads the text from an empty state, as a prompt or, generated, a token a step.
// row(ud, i, logits, vocab) is called for every token i but the last, with the logits that predict token
// i + 1.
void heldout_run(struct rig *r, const struct heldout *h, bool generated,
                 void (*row)(void *ud, int i, const float *logits, int vocab), void *ud);

#endif
