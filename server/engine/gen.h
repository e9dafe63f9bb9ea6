// gen.h - one generation: a prompt in, tokens out. The only way into the engine.
// Used by api/ on the loop thread and by jobs/ on the job thread.
//
// A gen has two users in time: its maker until gen_submit, then the engine, which always ends it with
// exactly one final state. Between the two only gen_read, gen_cancel and gen_release may be called;
// they take the gen's own lock.
#ifndef GEN_H
#define GEN_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "detok.h"
#include "err.h"
#include "ops.h"

struct engine;

enum { GEN_STOP_IDS_MAX = 16, GEN_BIAS_MAX = 1024 };

struct gen_params {
    const int *prompt; // [n_prompt], 1 .. ; borrowed until the final state
    int n_prompt;
    int max_tokens; // 0 (only prompt_logprobs) .. ; n_prompt + max_tokens <= context_max
    struct sample_row sampling; // bias, history and counter fields are the engine's
    const int *bias_ids;        // [n_bias], borrowed until the final state
    const float *bias;
    int n_bias;
    const struct detok_stop *stops; // [n_stops], borrowed until the final state
    int n_stops;
    int stop_ids[GEN_STOP_IDS_MAX];
    int n_stop_ids;
    bool ignore_eos;      // the model's end ids do not stop (and are generated like any other)
    bool special_text;    // detok.h
    int logprobs;         // -1: none; 0 .. LOGPROBS_MAX: the token's own and that many best
    bool prompt_logprobs; // the same for the prompt's tokens (with logprobs >= 0)
    bool background;      // a job's: starts only when no client's generation waits to
};

enum gen_state { GEN_QUEUED, GEN_RUNNING, GEN_DONE, GEN_FAILED }; // the last two are final
enum gen_finish { GEN_FINISH_NONE, GEN_FINISH_STOP, GEN_FINISH_LENGTH };

struct gen_top {
    int id;
    float logprob;
};

// One token with what is known of it.
struct gen_token {
    int id;
    float logprob;             // 0 when logprobs are off
    const struct gen_top *top; // [params.logprobs], lives as long as the gen; NULL when none
    size_t text_end;           // bytes of decoded text up to and with this token, before any
                               // stop string is cut
    int64_t made_ns;           // clock_ns at the end of its step; 0 of a prompt's token
};

struct gen_status {
    enum gen_state state;
    enum gen_finish finish;
    int stop_id;            // the id that ended it, or -1
    int stop;               // index of the stop string that ended it, or -1
    int n_prompt, n_output; // tokens computed; n_output counts a final end token too
    int n_cached;           // prompt tokens not computed
    int64_t submitted_ns, started_ns, first_ns, last_ns; // clock_ns; 0: not yet
    struct err err;                                      // GEN_FAILED
};

// What a reader has seen so far; all-zero at the start.
struct gen_cursor {
    size_t text;
    int tokens;
};

struct gen;

// wake(ud) is called on the engine thread after new output or a final state, at most once between two
// gen_reads; it must not block and may not call gen_*. It is called under the gen's lock: once
// gen_release has returned it never comes again. NULL: nobody is woken. p is copied, what it points to
// is borrowed; numbers beyond the limits above are the maker's bug and abort.
struct gen *gen_create(const struct gen_params *p, void (*wake)(void *ud), void *ud);

// Hand g to the engine. Fails with ERR_BUSY when queue_max gens wait (of its kind, background or not), ERR_CONTEXT_LENGTH when
// n_prompt + max_tokens passes the context, ERR_BAD_REQUEST for an id outside the vocabulary (param
// "prompt"), ERR_SHUTTING_DOWN while draining; on failure g is still the caller's alone.
int gen_submit(struct engine *en, struct gen *g, struct err *e) MUST_USE;

// Append the text let out since *c to text (may be NULL), copy up to tokens_max tokens since *c to
// tokens, return how many; *c moves on; *status is filled. Tokens and text come in step: a token is
// visible once its text is, or at the end. When tokens_max are returned there may be more. Text that
// does not fit text->max is kept for the next call.
int gen_read(struct gen *g, struct gen_cursor *c, struct buf *text, struct gen_token *tokens,
             int tokens_max, struct gen_status *status);

// The prompt's logprobs, [n_prompt]: entry 0 has no figure (NaN). NULL until the first output token
// or the final state, or when not asked for.
const struct gen_token *gen_prompt_tokens(struct gen *g);

// Ask the engine to stop at its next step; the gen ends GEN_FAILED with ERR_CANCELLED. Idempotent.
void gen_cancel(struct gen *g);

// The maker's last call, at any time: cancels if needed, and frees g once the engine is done with it.
// What params borrowed must outlive that: release_done(ud2), if not NULL, is called exactly once, from
// here or from the engine thread, when nothing touches them any more.
void gen_release(struct gen *g, void (*release_done)(void *ud2), void *ud2);

#endif
