// vocab.h - the tokens themselves: id -> bytes, bytes -> id, and the added tokens that are cut out of
// the text before anything else. Built by tokenizer_json.c, immutable afterwards; any thread.
#ifndef VOCAB_H
#define VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

enum {
    VOCAB_IDS_MAX = 1 << 20,
    VOCAB_TOKEN_BYTES_MAX = 1024,
    VOCAB_ADDED_MAX = 4096,
};

enum vocab_kind {
    VOCAB_USED = 1,    // the id has a token
    VOCAB_BASE = 2,    // from model.vocab, written in the byte alphabet: found by its bytes
    VOCAB_ADDED = 4,   // matched as a whole in the text
    VOCAB_SPECIAL = 8, // left out of decoded text
    VOCAB_WHOLE = 16,  // BPE turns the token's bytes into this token: a piece equal to it is done
};

struct vocab_token {
    uint32_t start; // in bytes.data
    uint16_t n;
    uint16_t kind; // enum vocab_kind, or-ed
};

struct vocab {
    struct vocab_token *tokens; // [size], of which count may be in use
    size_t size, count;         // count: highest id in use + 1
    struct buf bytes;           // every token, one after the other, with a NUL after each
    size_t token_bytes_max;     // of the longest base token
    struct vocab_slot *slots;   // open addressing by bytes, base tokens only
    size_t mask;
    int *added; // [n_added], by bytes, ascending; filled by vocab_index
    size_t n_added;
    uint16_t added_from[257]; // added[added_from[c] .. added_from[c + 1]) begin with byte c
};

// Give id its token. False when the id is taken.
bool vocab_set(struct vocab *v, int id, const char *bytes, size_t n, unsigned kind);
void vocab_mark(struct vocab *v, int id, unsigned kind); // id is in use and is this as well

// After the last vocab_set: build the two indexes. Fails on two tokens of the same bytes.
int vocab_index(struct vocab *v, struct err *e) MUST_USE;
void vocab_fini(struct vocab *v);

const char *vocab_bytes(const struct vocab *v, int id, size_t *n); // *n = 0 when there is none
unsigned vocab_kind(const struct vocab *v, int id);

// The base token of exactly these bytes, or -1.
int vocab_find(const struct vocab *v, const char *bytes, size_t n);

// The longest added token at the beginning of s, or -1.
int vocab_match_added(const struct vocab *v, const char *s, size_t n);

#endif
