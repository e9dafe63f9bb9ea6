// utf8.c - see utf8.h.
#include "utf8.h"

#include <string.h>

int utf8_step(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4)
        return -1;
    int need = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    // The second byte's range shuts out overlong forms, surrogates and what is past U+10FFFF.
    unsigned low = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned high = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    for (int i = 1; i < need; i++) {
        if ((size_t)i == n)
            return 0;
        if (p[i] < low || p[i] > high)
            return -i;
        low = 0x80;
        high = 0xBF;
    }
    return need;
}

size_t utf8_check(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        while (n - i >= sizeof eight) {
            memcpy(&eight, s + i, sizeof eight);
            if (eight & UINT64_C(0x8080808080808080))
                break;
            i += sizeof eight;
        }
        if (i == n)
            break;
        int k = utf8_step(s + i, n - i);
        if (k <= 0)
            return i;
        i += (size_t)k;
    }
    return n;
}

size_t utf8_lossy(struct buf *out, const char *s, size_t n)
{
    size_t i = 0, good = 0; // s[good .. i) is whole characters that out does not have yet
    int k = 1;
    while (i < n && (k = utf8_step(s + i, n - i)) != 0) {
        if (k > 0) {
            i += (size_t)k;
            continue;
        }
        buf_add(out, s + good, i - good);
        buf_str(out, "\xEF\xBF\xBD");
        i += (size_t)-k;
        good = i;
    }
    buf_add(out, s + good, i - good);
    return i;
}

void utf8_add(struct buf *out, uint32_t code)
{
    char s[4];
    size_t n = 0;
    if (code < 0x80) {
        s[n++] = (char)code;
    } else if (code < 0x800) {
        s[n++] = (char)(0xC0 | code >> 6);
    } else if (code < 0x10000) {
        s[n++] = (char)(0xE0 | code >> 12);
        s[n++] = (char)(0x80 | (code >> 6 & 0x3F));
    } else {
        s[n++] = (char)(0xF0 | code >> 18);
        s[n++] = (char)(0x80 | (code >> 12 & 0x3F));
        s[n++] = (char)(0x80 | (code >> 6 & 0x3F));
    }
    if (code >= 0x80)
        s[n++] = (char)(0x80 | (code & 0x3F));
    buf_add(out, s, n);
}
