// rig.h - a model with nothing around it: sequences are fed token ids in steps of any shape, logits come
// back. Stands where the engine stands in the server; used by the checks and measurements of this folder.
#ifndef RIG_H
#define RIG_H

#include <stdbool.h>
#include <stddef.h>

#include "qwen35.h"

enum { RIG_SEQUENCES_MAX = 64, RIG_BATCH_TOKENS = 512, RIG_BATCH_BRIEF = 128 };

struct rig_options {
    enum dtype dtype, state;   // state: model_options' state_dtype
    int threads;               // 0: every core
    int sequences;             // at most RIG_SEQUENCES_MAX
    int context;               // tokens a sequence may reach; 0: the model's
    int chunk;                 // 0: 64
    const char *method, *type; // inverse_parse's; NULL: "auto", "fp32"
    bool residuals;            // check every chunk's inverse
    int batch_tokens;          // 0: RIG_BATCH_TOKENS, or with --quick brief RIG_BATCH_BRIEF
    size_t kv_bytes;           // 0: the model's default
};

struct rig {
    const struct ops *ops;
    struct dev *dev;
    struct model *m;
    int sequences, vocab, pages_max;
    int batch_tokens;
    int pos[RIG_SEQUENCES_MAX]; // tokens each sequence has
    int *pages;                 // [sequences, pages_max]
    float *logits;              // host [rows of a step, vocab]
};

// The table of operations that the checks of this folder run: the CPU's unless --device says otherwise.
extern const struct ops *rig_ops;
bool rig_has_f16(void); // has its device activations of 16 bits, and so dtype f16?

// One sequence's share of a step. Prefill feeds stand before decode feeds.
struct feed {
    int seq;
    const int *ids;
    int t;
    bool decode; // the recurrent form and the few-rows path
    bool all;    // logits of every token, by the matrix path
    bool last;   // logits of the last token, by the few-rows path
};

// The numbers of dir's config.json. Prints the reason and returns -1 when it cannot be read.
int rig_config(const char *dir, struct config *c);

// Prints the reason and returns -1 when the model cannot be loaded. ops: &ops_cpu, or a table around it.
int rig_open(struct rig *r, const char *dir, const struct rig_options *o, const struct ops *ops);
void rig_close(struct rig *r);
void rig_reset(struct rig *r); // every sequence is empty again

// Run one step; aborts the program when the device fails. Returns host memory, valid until the next
// step: first the rows of every feed with all, feed by feed, then one row for each feed with last.
const float *rig_step(struct rig *r, const struct feed *feeds, int n);

// The same, only enqueued; returns the number of rows of model_logits.
int rig_enqueue(struct rig *r, const struct feed *feeds, int n);

// Wait for what is enqueued; aborts the program when the device has failed.
void rig_wait(struct rig *r);

// Deal all pages to the first n sequences, n at most those of rig_open; every sequence is empty again.
void rig_deal(struct rig *r, int n);

// Feed n prompt tokens in prefill pieces of `piece`. logprobs (NULL, or [n]): entry i is the natural
// logarithm of the probability of ids[i] after those before it, from i = 1 on. Returns the last
// token's logits.
const float *rig_prompt(struct rig *r, int seq, const int *ids, int n, int piece, double *logprobs);

double rig_logprob(const float *logits, int vocab, int id);
int rig_argmax(const float *logits, int vocab); // the lowest id on ties

#endif
