// detok.h - ids to text, one at a time: holds back bytes that are not yet a whole character and text
// that may be the beginning of a stop string; never lets a stop string out. One owner.
#ifndef DETOK_H
#define DETOK_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "tokenizer.h"

enum { DETOK_STOPS_MAX = 16, DETOK_STOP_BYTES_MAX = 256 };

struct detok_stop {
    const char *text; // UTF-8, borrowed for the detok's life
    size_t n;         // bytes, 1 .. DETOK_STOP_BYTES_MAX
};

struct detok {
    const struct tokenizer *tokenizer; // NULL: ids have no text
    const struct detok_stop *stops;
    int n_stops;
    bool special_text; // print special tokens (skip_special_tokens = false)
    struct buf held;   // bytes not yet let out
    int stop;          // index of the stop string that matched, or -1
};

void detok_init(struct detok *d, const struct tokenizer *tk, const struct detok_stop *stops,
                int n_stops, bool special_text);
void detok_fini(struct detok *d);

// Feed one id; append what is now certain to out, always whole characters (bytes that can never
// become UTF-8 turn into U+FFFD, as the `tokenizers` library's decode does). Returns true when a stop
// string is complete: out holds the text before it, d->stop says which, and nothing more comes. Of
// several, the one that ends first, and of those the longest; so the borders of tokens do not matter.
bool detok_push(struct detok *d, int id, struct buf *out);

// The end: let out what was held back (an incomplete character becomes one U+FFFD).
void detok_flush(struct detok *d, struct buf *out);

#endif
