// utf8.h - UTF-8 by hand: one step that knows every malformed sequence, and what is built on it.
// Pure functions, any thread. Source: the Unicode Standard, table 3-7 (well-formed byte sequences)
// and the section on U+FFFD substitution of maximal subparts.
#ifndef UTF8_H
#define UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "buf.h"

// What begins at s (n >= 1 bytes): k > 0, a whole character of k bytes; k < 0, -k bytes that no
// continuation can turn into one (a maximal subpart, one U+FFFD); 0, the beginning of a character
// that more bytes could complete.
int utf8_step(const char *s, size_t n);

// Offset of the first byte that does not begin or continue a whole character; n when all is UTF-8.
size_t utf8_check(const char *s, size_t n);

// Append s to out, every maximal subpart as one U+FFFD, and stop before a last character that is
// not complete. Returns the bytes read, n - 3 .. n.
size_t utf8_lossy(struct buf *out, const char *s, size_t n);

void utf8_add(struct buf *out, uint32_t code); // append one code point

// The code point at *s, which must be well-formed; *s moves behind it.
static inline uint32_t utf8_decode(const char **s)
{
    const unsigned char *p = (const unsigned char *)*s;
    if (p[0] < 0x80) {
        *s += 1;
        return p[0];
    }
    if (p[0] < 0xE0) {
        *s += 2;
        return (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    }
    if (p[0] < 0xF0) {
        *s += 3;
        return (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    }
    *s += 4;
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 |
           (uint32_t)(p[2] & 0x3F) << 6 | (p[3] & 0x3F);
}

#endif
