// api.h - every path of the server: JSON in, generations asked for, JSON out. No sockets, no tensors.
//
// Handlers run on the loop thread (handler.h). While the model loads, every path that needs it answers
// 503 model_loading; api_ready may come from any thread.
#ifndef API_H
#define API_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "handler.h"
#include "jobs.h"
#include "tokenizer.h"

// What handlers know of the model. Does not change once the server is ready.
struct api_model {
    struct engine *engine;
    const struct tokenizer *tokenizer; // NULL: token ids only
    const struct config *config;
    int context_max; // tokens of prompt and answer that fit the context and the KV pages
    const struct model_memory *memory;
};

// Filled by main up to the blank line; outlives the HTTP room. Strings are borrowed.
struct api_server {
    const char *model_id;
    const char *const *aliases; // [n_aliases] other names that requests may use
    int n_aliases;
    int64_t created; // seconds since 1970, of /v1/models
    const char *version, *commit;
    const char *device;     // what the kernels run on, in words
    int n_max;              // choices (prompts * n) of one request
    int max_tokens_default; // of a chat answer
    bool any_model;         // the field "model" is not looked at
    bool thinking_by_default;
    struct jobs *jobs; // for the paths of jobs; outlives the HTTP room

    struct api_model model; // set before ready
    atomic_bool ready;
    uint64_t random; // loop thread: state behind ids of replies and seeds that nobody gave
};

extern const struct route API_ROUTES[];
extern const int API_ROUTES_N;

// The model is there. engine and tk (may be NULL) are borrowed until the HTTP room has ended. Once.
void api_ready(struct api_server *s, struct engine *engine, const struct tokenizer *tk);

// Print what the engine is doing to stderr, if it is there. Any thread.
void api_dump(struct api_server *s);

#endif
