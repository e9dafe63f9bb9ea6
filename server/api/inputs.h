// inputs.h - what generations borrow of a request: prompts, stop strings, biases. A generation may
// stay in the engine for a moment after its reply is gone (the client left), so this is apart from the
// request's arena and counts its users: the reply, and every generation.
#ifndef INPUTS_H
#define INPUTS_H

#include <stdatomic.h>

#include "arena.h"
#include "detok.h"
#include "tokenizer.h"

struct inputs {
    atomic_int users;
    struct arena arena;  // of everything below but the ids
    struct ids *prompts; // [n_prompts]
    int *max_tokens;     // [n_prompts] of an answer to each
    int n_prompts;
    struct detok_stop stops[DETOK_STOPS_MAX];
    int n_stops;
    int *bias_ids; // [n_bias]
    float *bias;
    int n_bias;
};

// Loop thread, until the first generation is submitted; then nothing of it changes.
struct inputs *inputs_create(void);                // one user: the caller
void inputs_add_prompts(struct inputs *in, int n); // once; empty
struct inputs *inputs_share(struct inputs *in);    // one user more

void inputs_drop(void *in); // one user less; the last one frees it. Any thread. NULL is fine.

#endif
