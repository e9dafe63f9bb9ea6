// tokenizer.h - byte-level BPE of the Qwen3.5 family: text <-> ids, equal to the `tokenizers` library.
// Reads tokenizer.json (+ tokenizer_config.json's added_tokens_decoder). Immutable after loading: any
// thread may encode and decode at once.
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"

struct tokenizer;

// A growing list of ids; the caller's. All-zero is valid, empty and without a limit.
struct ids {
    int *data;
    size_t n, size;
    size_t max; // most ids that tokenizer_encode may leave in the list; 0: no limit
};
void ids_add(struct ids *l, int id);
void ids_fini(struct ids *l);

// dir holds tokenizer.json. NULL with ERR_NOT_FOUND when there is none, ERR_BAD_REQUEST when it is
// not one this server reads (the sentence says what was found and expected).
struct tokenizer *tokenizer_load(const char *dir, struct err *e) MUST_USE;
// As tokenizer_load, from bytes (the fuzz target's door); config_json may be NULL.
struct tokenizer *tokenizer_parse(const char *json, size_t n, const char *config_json,
                                  size_t config_n, struct err *e) MUST_USE;
void tokenizer_destroy(struct tokenizer *tk); // NULL is fine

enum tokenizer_flags {
    TOKENIZER_SPECIAL =
        1, // added tokens in the text are taken as tokens (the `tokenizers` default)
};

// Append the ids of n bytes of UTF-8. Linear time whatever the text. Fails with ERR_BAD_REQUEST when
// text is not UTF-8 (the byte offset is named) and ERR_TOO_LARGE past out->max ids; out
// is then as it was.
int tokenizer_encode(const struct tokenizer *tk, const char *text, size_t n, unsigned flags,
                     struct ids *out, struct err *e) MUST_USE;

int tokenizer_count(const struct tokenizer *tk); // ids are 0 .. count - 1; holes have no bytes

// The bytes of one token (added tokens: their text); *n = 0 for an id without a token. Lives as long
// as the tokenizer. A token's bytes need not be UTF-8 on their own.
const char *tokenizer_bytes(const struct tokenizer *tk, int id, size_t *n);
bool tokenizer_is_added(const struct tokenizer *tk, int id);
bool tokenizer_is_special(const struct tokenizer *tk, int id);     // left out of decoded text
int tokenizer_find(const struct tokenizer *tk, const char *token); // an added token's id, or -1
const char *
tokenizer_config_json(const struct tokenizer *tk); // tokenizer_config.json's text or NULL

#endif
