// nfc.h - Unicode Normalization Form C. Linear in the text, whatever marks it piles up. Any thread.
// Source: Unicode Standard Annex 15, sections 9 (quick check) and 3.11 of the Standard (D117).
#ifndef NFC_H
#define NFC_H

#include <stddef.h>

#include "buf.h"
#include "unicode.h"

// How many of the n bytes of s (valid UTF-8) are already in NFC and would stay so whatever follows
// is turned into: n for nearly all text, so that it needs no copy.
size_t nfc_prefix(const struct unicode *u, const char *s, size_t n);

// Append s in NFC to out.
void nfc_add(const struct unicode *u, const char *s, size_t n, struct buf *out);

#endif
