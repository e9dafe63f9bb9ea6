// unicode.h - what the tokenizer must know of a code point, one byte each in a two-stage table.
// Immutable once created: any thread may read it.
//
// The classes follow Unicode 16 (the regular expressions of the `tokenizers` library), the
// normalisation follows Unicode 9 (its normaliser). Both are older or newer than the utf8proc this is
// built from, so unicode.c lists the differences and the result does not depend on its version.
#ifndef UNICODE_H
#define UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum unicode_flags {
    UNICODE_LETTER = 1,    // \p{L}
    UNICODE_MARK = 2,      // \p{M}
    UNICODE_NUMBER = 4,    // \p{N}
    UNICODE_SPACE = 8,     // \s: White_Space
    UNICODE_REORDERS = 16, // combining class is not 0
    UNICODE_CHANGES = 32,  // NFC_Quick_Check is not Yes: may compose with what is before it, or is
                           // never found in NFC
};

enum { UNICODE_CODES = 0x110000, UNICODE_BLOCK = 256 };

struct unicode {
    uint16_t block[UNICODE_CODES / UNICODE_BLOCK];
    uint8_t *flags; // [n_blocks, UNICODE_BLOCK]; equal blocks are stored once
    size_t n_blocks;
};

void unicode_init(struct unicode *u);
void unicode_fini(struct unicode *u);

static inline unsigned unicode_flags(const struct unicode *u, uint32_t code)
{
    return u->flags[(size_t)u->block[code / UNICODE_BLOCK] * UNICODE_BLOCK + code % UNICODE_BLOCK];
}

// Canonical_Combining_Class, 0 .. 254.
int unicode_combining(uint32_t code);

enum { UNICODE_DECOMPOSED_MAX = 4 };
// Full canonical decomposition of code into out; returns how many code points it has (1: itself).
int unicode_decompose(uint32_t code, uint32_t out[UNICODE_DECOMPOSED_MAX]);

// The primary composite of the pair, or 0 when there is none.
uint32_t unicode_compose(uint32_t first, uint32_t second);

#endif
