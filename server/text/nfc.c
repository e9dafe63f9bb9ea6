// nfc.c - see nfc.h. Text is cut at code points that nothing before them can change (combining class
// 0, quick check Yes); only the stretches between such cuts that fail the quick check are worked on.
#include "nfc.h"

#include <stdint.h>
#include <string.h>

#include "err.h"
#include "mem.h"
#include "utf8.h"

// The code points of one stretch, and room to sort them.
struct stretch {
    uint32_t *code, *sorted;
    size_t n, size;
};

static bool is_cut(unsigned flags)
{
    return !(flags & (UNICODE_REORDERS | UNICODE_CHANGES));
}

size_t nfc_prefix(const struct unicode *u, const char *s, size_t n)
{
    const char *at = s, *end = s + n, *cut = s; // cut: the last place where a stretch may begin
    int before = 0;
    while (at < end) {
        const char *here = at;
        if ((unsigned char)*at < 0x80) {
            cut = at++;
            before = 0;
            continue;
        }
        uint32_t code = utf8_decode(&at);
        unsigned flags = unicode_flags(u, code);
        if (is_cut(flags)) {
            cut = here;
            before = 0;
            continue;
        }
        if (flags & UNICODE_CHANGES)
            return (size_t)(cut - s);
        int class = unicode_combining(code);
        if (class < before)
            return (size_t)(cut - s);
        before = class;
    }
    return n;
}

// Bytes of the stretch that begins at s: its first character and all that follow up to a cut.
static size_t stretch_bytes(const struct unicode *u, const char *s, size_t n)
{
    const char *at = s, *end = s + n;
    utf8_decode(&at);
    while (at < end) {
        const char *here = at;
        if (is_cut(unicode_flags(u, utf8_decode(&at))))
            return (size_t)(here - s);
    }
    return n;
}

static void decompose(struct stretch *t, const char *s, size_t n)
{
    t->n = 0;
    for (const char *at = s, *end = s + n; at < end;) {
        if (t->size - t->n < UNICODE_DECOMPOSED_MAX) {
            t->size = t->size ? t->size * 2 : 64;
            t->code = mem_resize(t->code, t->size, sizeof *t->code);
            t->sorted = mem_resize(t->sorted, t->size, sizeof *t->sorted);
        }
        t->n += (size_t)unicode_decompose(utf8_decode(&at), t->code + t->n);
    }
}

// Stable counting sort of n marks by combining class. Not a sort by exchange: those are quadratic,
// and a request may hold a million marks in a row.
static void sort_marks(uint32_t *code, uint32_t *sorted, size_t n)
{
    size_t start[256] = {0};
    for (size_t i = 0; i < n; i++)
        start[unicode_combining(code[i]) + 1]++;
    for (size_t class = 1; class < 256; class ++)
        start[class] += start[class - 1];
    for (size_t i = 0; i < n; i++)
        sorted[start[unicode_combining(code[i])]++] = code[i];
    memcpy(code, sorted, n * sizeof *code);
}

static void reorder(struct stretch *t)
{
    for (size_t i = 0; i < t->n;) {
        size_t first = i;
        bool ordered = true;
        for (int class, before = 0; i < t->n && (class = unicode_combining(t->code[i])); i++) {
            ordered = ordered && before <= class;
            before = class;
        }
        if (!ordered)
            sort_marks(t->code + first, t->sorted, i - first);
        i += i == first; // a starter stays where it is
    }
}

static void compose(struct stretch *t)
{
    size_t out = 0, starter = SIZE_MAX;
    int highest = -1; // largest class kept since the starter; a mark composes only past it
    for (size_t i = 0; i < t->n; i++) {
        uint32_t code = t->code[i];
        int class = unicode_combining(code);
        uint32_t whole =
            starter != SIZE_MAX && class > highest ? unicode_compose(t->code[starter], code) : 0;
        if (whole) {
            t->code[starter] = whole;
            continue;
        }
        if (class == 0)
            starter = out;
        highest = class == 0 ? -1 : class;
        t->code[out++] = code;
    }
    t->n = out;
}

void nfc_add(const struct unicode *u, const char *s, size_t n, struct buf *out)
{
    struct stretch t = {0};
    while (n) {
        size_t good = nfc_prefix(u, s, n);
        buf_add(out, s, good);
        s += good;
        n -= good;
        if (!n)
            break;
        size_t bad = stretch_bytes(u, s, n);
        decompose(&t, s, bad);
        reorder(&t);
        compose(&t);
        for (size_t i = 0; i < t.n; i++)
            utf8_add(out, t.code[i]);
        s += bad;
        n -= bad;
    }
    mem_free(t.code);
    mem_free(t.sorted);
}
