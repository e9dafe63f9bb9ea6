// gen_engine.h - the engine's side of a gen: what it keeps there, and how output gets in. Only engine/
// includes this; everyone else sees gen.h.
//
// Owner: the maker until gen_take, then the engine thread until gen_end or gen_fail. What a reader may
// see meanwhile is behind the lock; the engine alone writes it, so the engine thread may read it
// without.
#ifndef GEN_ENGINE_H
#define GEN_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "detok.h"
#include "gen.h"

struct gen {
    struct gen_params params;
    void (*wake)(void *ud);
    void *ud;
    atomic_bool cancelled; // any thread sets, the engine reads

    // The engine thread's alone.
    struct gen *next;       // in a gen_list
    uint64_t ticket;        // order of submission, from 1
    int n_pages;            // positions reserved for the prompt and every output token
    int *pages;             // [n_pages], borrowed from the batcher while running
    int slot;               // while running
    int n_done;             // prompt tokens computed
    enum gen_finish finish; // why it is over; GEN_FINISH_NONE while it goes on
    uint64_t served;        // plan.h
    bool news;              // output that gen_tell has not told of
    struct detok detok;

    pthread_mutex_t lock; // guards all below
    struct gen_status status;
    struct buf text;                 // all that was let out
    struct gen_token *tokens;        // [max_tokens], the first status.n_output are there
    struct gen_top *tops;            // [max_tokens, logprobs]
    struct gen_token *prompt_tokens; // [n_prompt] or NULL
    struct gen_top *prompt_tops;     // [n_prompt, logprobs]
    int n_visible;                   // tokens whose text is out
    bool prompt_ready;               // prompt_tokens is complete
    bool held;                       // the engine still uses this gen
    bool woken;                      // wake was called and no gen_read since
    bool released;
    void (*release_done)(void *ud2);
    void *release_ud;
};

// First in, first out. All-zero is empty.
struct gen_list {
    struct gen *first, *last;
};

void gen_list_add(struct gen_list *l, struct gen *g);
struct gen *gen_list_pop(struct gen_list *l); // NULL when empty
// Move the gens whose cancel flag is set to out, in order; returns how many.
int gen_list_cancelled(struct gen_list *l, struct gen_list *out);

// One row of what the sampler found.
struct gen_draw {
    int id;
    float logprob;
    const int *top_ids;       // [params.logprobs]
    const float *top_logprob; // [params.logprobs]
};

// The engine holds g from now on. Makes room for all of its output, so nothing that a running gen
// produces is ever refused; max_tokens has been checked. Maker's thread, inside gen_submit.
void gen_take(struct gen *g, uint64_t ticket, int64_t now_ns);

void gen_begin(struct gen *g, const struct tokenizer *tk, int64_t now_ns); // queued -> running

// The logprob of prompt token i, 1 .. n_prompt - 1, when prompt_logprobs is on.
void gen_push_prompt(struct gen *g, int i, const struct gen_draw *d);

// One more output token. end_id: it ends the generation and has no text. When the generation is over
// g->finish says why, and gen_end must follow; else gen_tell.
void gen_push(struct gen *g, const struct gen_draw *d, bool end_id, int64_t now_ns);

// Wakes the reader if there is something new. Apart from gen_push, because to wake a sleeping thread costs
// tens of microseconds, in which the device had better have its next step.
void gen_tell(struct gen *g);

// The engine's last touch: g may be gone when these return.
void gen_end(struct gen *g);
void gen_fail(struct gen *g, const struct err *e);

// Wants logprobs of its prompt: a row of logits for each prompt token but the last.
bool gen_wants_prompt(const struct gen *g);

#endif
