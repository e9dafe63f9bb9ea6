// eval_text.h - what a model is judged on: a text in its tokens, cut into windows that are read from an empty
// state each, and facts to be found again in long prompts. Job thread.
#ifndef EVAL_TEXT_H
#define EVAL_TEXT_H

#include "job_type.h"

struct eval_window {
    int first, n; // of ids
};

struct eval_text {
    struct ids ids;
    struct eval_window *windows;
    int n_windows;
    double bytes;     // of the tokens that are predicted, all but each window's first; 0: unknown
    const char *what; // one line for people
};

// Where a text comes from: "heldout" (the installed book), "own" (what the model writes at temperature
// 0.9), "random" (ids without meaning: a model without a tokenizer); or texts, a JSON list, if not NULL.
struct eval_source {
    const char *name;
    const json_t *texts;
    int tokens;  // at most
    int context; // of a window at most
};

// ERR_UNSUPPORTED when the node lacks what the source needs; ERR_BAD_REQUEST for texts that are not a
// window of two tokens at least.
int eval_text_make(struct job_run *run, const struct eval_source *s, struct eval_text *out,
                   struct err *e) MUST_USE;
void eval_text_free(struct eval_text *t);

// "The secret code of NAME is 12345." eight times between the paragraphs of a book; the prompt ends with
// "The secret code of NAME is" for one of them.
struct recall_item {
    struct ids ids; // the prompt, then the answer
    int n_prompt;
};

// An item of at most `tokens` tokens; a function of tokens and seed. ERR_UNSUPPORTED without tokenizer or
// text.
int recall_make(const struct job_node *node, int tokens, uint64_t seed, struct recall_item *out,
                struct err *e) MUST_USE;
void recall_free(struct recall_item *item);

#endif
