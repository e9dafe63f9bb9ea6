// pretokenize.h - cuts text into the pieces inside which BPE merges: words, digits, punctuation, white
// space. The regular expressions of the Qwen family by hand: one pass, no back-tracking, no recursion.
// Pure functions, any thread.
#ifndef PRETOKENIZE_H
#define PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "unicode.h"

struct pretokenizer {
    const struct unicode *unicode;
    unsigned word;  // classes that a word is made of: letters; in Qwen3.5 also marks
    unsigned known; // word, numbers and spaces; everything else is punctuation
};

// Choose by the regular expression of tokenizer.json; false when it is none of the known ones.
bool pretokenizer_init(struct pretokenizer *p, const struct unicode *u, const char *regex);

// Bytes of the first piece of s: n >= 1 bytes of UTF-8 that reach to the end of the text or to the
// next added token.
size_t pretokenize_next(const struct pretokenizer *p, const char *s, size_t n);

extern const char PRETOKENIZE_QWEN35[]; // Qwen3.5, 3.6, 3.8
extern const char PRETOKENIZE_QWEN2[];  // Qwen2, Qwen2.5, Qwen3

#endif
