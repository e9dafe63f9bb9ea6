// reasoning.c - see reasoning.h.
#include "reasoning.h"

#include <stdint.h>
#include <string.h>

static const char END[] = "\n</think>"; // the line break may be missing
enum { END_N = sizeof END - 1, NEWLINES_MAX = 2 };

void reasoning_init(struct reasoning *r, bool thinks)
{
    *r = (struct reasoning){.state = thinks ? REASONING_THINKS : REASONING_CONTENT,
                            .end_bytes = thinks ? SIZE_MAX : 0};
}

// Does s [n] begin like "</think>", or like a line break and then that?
static bool may_end(const char *s, size_t n)
{
    return (n <= END_N && !memcmp(s, END, n)) || (n < END_N && !memcmp(s, END + 1, n));
}

// Is s [n] all of it?
static bool is_end(const char *s, size_t n)
{
    return (n == END_N && !memcmp(s, END, n)) || (n == END_N - 1 && !memcmp(s, END + 1, n));
}

// One byte of the block: held back for as long as it may belong to its end.
static void think(struct reasoning *r, char c, struct buf *reasoning)
{
    r->held[r->n_held++] = c;
    size_t drop = 0;
    while (!may_end(r->held + drop, r->n_held - drop))
        drop++; // an empty rest may always be the end
    buf_add(reasoning, r->held, drop);
    memmove(r->held, r->held + drop, r->n_held - drop);
    r->n_held -= drop;
    if (is_end(r->held, r->n_held)) {
        r->n_held = 0;
        r->state = REASONING_ENDED;
        r->end_bytes = r->bytes;
    }
}

void reasoning_push(struct reasoning *r, const char *text, size_t n, bool last,
                    struct buf *reasoning, struct buf *content)
{
    size_t i = 0;
    while (i < n && r->state == REASONING_THINKS) {
        r->bytes++;
        think(r, text[i++], reasoning);
    }
    while (i < n && r->state == REASONING_ENDED) {
        if (text[i] != '\n' || r->newlines == NEWLINES_MAX) {
            r->state = REASONING_CONTENT;
            break;
        }
        r->newlines++;
        r->bytes++;
        i++;
    }
    buf_add(content, text + i, n - i);
    r->bytes += n - i;
    if (last) {
        buf_add(reasoning, r->held, r->n_held);
        r->n_held = 0;
    }
}
