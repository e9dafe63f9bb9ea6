// params.h - the fields that completions and chat share: sampling, stopping, form of the reply.
// Loop thread only.
#ifndef PARAMS_H
#define PARAMS_H

#include "inputs.h"
#include "parts.h"

// A checked request, whichever path it came by. What gen borrows is in inputs.
struct params {
    const char *model;     // of the request, or NULL; borrowed from the body
    struct inputs *inputs; // owned
    struct gen_params gen; // of every choice, but for its prompt, max_tokens and seed
    uint64_t seed;         // of the first choice of a prompt; the k-th takes seed + k
    int n;                 // choices a prompt
    bool stream, include_usage;
    bool return_token_ids;
    bool tokens_as_ids; // "token_id:N" instead of text in logprobs
    bool echo;          // completions: the prompt's text leads the answer's
    bool thinks;        // chat: the prompt ends inside a think block
};

// The body of one of the two paths, checked and tokenised. s->model must be filled, its engine may be
// missing. On failure nothing is left to free.
int completions_parse(struct api_server *s, json_t *body, struct params *p, struct err *e) MUST_USE;
int chat_parse(struct api_server *s, json_t *body, struct params *p, struct err *e) MUST_USE;

// The fields that both share; p->inputs is there and the rest of p is zero. Sampling fields that the
// request leaves out are the model's own (generation_config.json), else OpenAI's defaults.
int params_read(struct api_server *s, json_t *body, struct params *p, struct err *e) MUST_USE;

// How long the answer to prompt i may be: asked, or, when that is negative, def as far as the context
// goes. ERR_CONTEXT_LENGTH with both numbers when prompt and answer do not fit.
struct max_tokens {
    int64_t asked;
    int def;
    const char *field, *prompt; // names of the request's fields, for the error
};
int params_set_max_tokens(const struct api_model *m, struct inputs *in, int i,
                          const struct max_tokens *max, struct err *e) MUST_USE;

// Entry i of the array of token ids at JSON path `list`. A prompt has many, so only an error writes a path.
int params_read_id(const struct api_model *m, const json_t *array, size_t i, const char *list,
                   int *id, struct err *e) MUST_USE;

// Append the ids of text, which path names in errors. ERR_BAD_REQUEST without a tokenizer.
int params_encode(const struct api_model *m, const char *text, size_t n, const char *path,
                  struct ids *out, struct err *e) MUST_USE;

#endif
