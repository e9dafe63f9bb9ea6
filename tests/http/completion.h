// completion.h - what the end-to-end tests send and read: completions of token ids, so that the small
// model of random weights, which has no tokenizer, will do.
#ifndef COMPLETION_H
#define COMPLETION_H

#include "buf.h"
#include "http_client.h"

enum { TOKENS_MAX = 8192 };

struct completion {
    int n;                                     // of tokens
    int tokens[TOKENS_MAX];                    // token_ids, of all chunks of a stream
    char finish[16];                           // finish_reason
    long long n_prompt, n_completion, n_total; // usage; -1: none came
    int chunks;                                // of a stream; [DONE] came last
    char error[64];                            // code of an error event, or ""
};

// {"prompt":[n_prompt ids that depend on first], more} - more is "" or ",\"max_tokens\":4" and so on.
// The caller's buf is cleared first; its data is returned.
const char *completion_body(struct buf *b, int n_prompt, int first, const char *more);

// Fill c from a reply's body, or from a stream's events as they come. false, with a line on stderr,
// when it is not what the protocol says.
bool completion_parse(struct completion *c, const struct answer *a);
bool completion_stream(struct completion *c, struct answer *a, struct client *client);

// Post body to /v1/completions on a connection of its own and read it all; body says whether it
// streams. false unless the status is 200 and the rest as above.
bool completion_get(struct completion *c, int port, const char *body);
bool completion_same(const struct completion *a, const struct completion *b); // tokens and finish

#endif
