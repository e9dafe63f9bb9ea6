// sampler.h - from the rows of logits of a step to token ids and logprobs: gathers the settings of the
// gens behind the rows into the arguments of ops->sample and ops->logprobs. Everything is allocated
// at create. Owner: engine thread.
#ifndef SAMPLER_H
#define SAMPLER_H

#include <stddef.h>

#include "err.h"
#include "gen_engine.h"
#include "ops.h"

struct sampler_limits {
    int rows_max;    // rows of logits of a step
    int sampled_max; // of these, rows that are sampled
    int vocab;
    int n_tokens;       // ids >= n_tokens have no token; <= vocab
    size_t history_max; // prompt and output tokens of all running gens together
};

// One row of logits.
struct sampler_row {
    struct gen *gen;
    int target; // prompt rows: the prompt token that this row predicts, an index into the prompt
};

// The rows of a step, in the order of their logits.
struct sampler_step {
    const struct sampler_row *rows; // [n_prompt + n_logprobs + n_plain]
    int n_prompt;                   // rows of prompts: the target's logprob and the best ids
    int n_logprobs;                 // sampled rows whose gen wants logprobs
    int n_plain;                    // sampled rows whose gen does not
    float *logits;                  // device [rows, vocab]; changed in place
};

struct sampler;

// Host and device memory that a sampler takes.
size_t sampler_bytes(const struct sampler_limits *limits);

// ERR_TOO_LARGE when device memory is out.
struct sampler *sampler_create(const struct ops *ops, struct dev *dev,
                               const struct sampler_limits *limits, struct err *e) MUST_USE;
void sampler_destroy(struct sampler *s); // NULL is fine

// Enqueue one step's rows. Logprobs are those of the raw logits, before bias and penalties, whatever the
// row is then sampled with.
void sampler_begin(struct sampler *s, const struct sampler_step *st);

// Wait for them, and with them for all that was enqueued before. Fails with ERR_DEVICE only.
int sampler_end(struct sampler *s, const struct sampler_step *st, struct err *e) MUST_USE;

// What was found for row i: the sampled id or the target, and logprobs where they were wanted.
// Pointers live until the next begin.
struct gen_draw sampler_draw(const struct sampler *s, int i);

#endif
