// logprobs.h - tokens with their logprobs as JSON, in the two shapes of the protocol: the four parallel
// arrays of completions, and the list of objects of chat. Loop thread only.
//
// A figure is printed so that it reads back as the same float: a token's own logprob and its entry in
// the map of the best are then equal, which is how evaluation tools find greedy tokens. JSON has no
// infinity; as with OpenAI -9999 stands for "never".
#ifndef LOGPROBS_H
#define LOGPROBS_H

#include <stdbool.h>

#include "buf.h"
#include "gen.h"
#include "tokenizer.h"

// How tokens are named and how many of the best are listed.
struct logprobs_form {
    const struct tokenizer *tokenizer; // NULL: no token has text
    bool as_ids;                       // "token_id:N" for every token
    int n_top;                         // gen_params.logprobs, >= 0
};

// The completions shape while it grows: each array's elements, with commas.
struct logprobs {
    struct buf tokens, figures, tops, offsets;
    int n;
};

// offset: characters of text before the token. known: false for a prompt's first token, which has no
// figure (null).
void logprobs_add(struct logprobs *l, const struct logprobs_form *f, const struct gen_token *t,
                  bool known, size_t offset);
void logprobs_write(const struct logprobs *l, struct buf *out); // the object
void logprobs_clear(struct logprobs *l);
void logprobs_fini(struct logprobs *l);

// One element of the chat shape's "content".
void logprobs_write_chat(struct buf *out, const struct logprobs_form *f, const struct gen_token *t);

// A token's name as a JSON string: its text; "bytes:\xe2\x98" when its bytes are not whole characters;
// "token_id:N" when it has no text or as_ids.
void logprobs_write_name(struct buf *out, const struct logprobs_form *f, int id);

#endif
