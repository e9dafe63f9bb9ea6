// detok.c - see detok.h. held is decoded text that may begin a stop string, then at most three bytes
// that begin a character. Text is searched for stop strings only after it has been decoded, so a stop
// string is found wherever the borders of tokens and characters lie.
#include "detok.h"

#include <string.h>

#include "utf8.h"

void detok_init(struct detok *d, const struct tokenizer *tk, const struct detok_stop *stops,
                int n_stops, bool special_text)
{
    CHECK(n_stops >= 0 && n_stops <= DETOK_STOPS_MAX);
    for (int i = 0; i < n_stops; i++)
        CHECK(stops[i].n && stops[i].n <= DETOK_STOP_BYTES_MAX);
    *d = (struct detok){.tokenizer = tk,
                        .stops = stops,
                        .n_stops = n_stops,
                        .special_text = special_text,
                        .stop = -1};
}

void detok_fini(struct detok *d)
{
    buf_fini(&d->held);
}

// Bytes at the end of s that begin a character: 0 .. 3.
static size_t incomplete(const char *s, size_t n)
{
    for (size_t k = 1; k <= 3 && k <= n; k++)
        if (((unsigned char)s[n - k] & 0xC0) == 0xC0)
            return utf8_step(s + n - k, k) == 0 ? k : 0;
    return 0;
}

// Turn held[from ..) from bytes into text, bytes that are no character into U+FFFD. Returns how much of
// held is text now; behind it is the beginning of a character.
static size_t decode_from(struct buf *held, size_t from)
{
    size_t good = from + utf8_check(held->data + from, held->n - from);
    if (good == held->n || utf8_step(held->data + good, held->n - good) == 0)
        return good;
    struct buf raw = {0};
    buf_add(&raw, held->data + good, held->n - good);
    held->n = good;
    size_t read = utf8_lossy(held, raw.data, raw.n);
    good = held->n;
    buf_add(held, raw.data + read, raw.n - read);
    buf_fini(&raw);
    return good;
}

// The stop string in s that ends first, the longest among those: the one that would be found if text
// came byte by byte. Returns where it begins, or n.
static size_t find_stop(struct detok *d, const char *s, size_t n)
{
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (int i = 0; i < d->n_stops; i++) {
            const struct detok_stop *stop = &d->stops[i];
            if (stop->n <= end && stop->n > longest &&
                memcmp(s + end - stop->n, stop->text, stop->n) == 0) {
                longest = stop->n;
                d->stop = i;
            }
        }
        if (longest)
            return end - longest;
    }
    return n;
}

// Bytes at the end of s that are the beginning of a stop string.
static size_t may_stop(const struct detok *d, const char *s, size_t n)
{
    size_t most = 0;
    for (int i = 0; i < d->n_stops; i++) {
        const struct detok_stop *stop = &d->stops[i];
        for (size_t k = stop->n - 1 < n ? stop->n - 1 : n; k > most; k--)
            if (memcmp(s + n - k, stop->text, k) == 0)
                most = k;
    }
    return most;
}

// Let out of held[0 .. n), decoded text, what no stop string needs. True when one is complete.
static bool let_out(struct detok *d, size_t n, struct buf *out)
{
    size_t before_stop = find_stop(d, d->held.data, n);
    if (d->stop >= 0) {
        buf_add(out, d->held.data, before_stop);
        buf_clear(&d->held);
        return true;
    }
    size_t certain = n - may_stop(d, d->held.data, n);
    buf_add(out, d->held.data, certain);
    buf_drop(&d->held, certain);
    return false;
}

bool detok_push(struct detok *d, int id, struct buf *out)
{
    if (d->stop >= 0)
        return true;
    if (!d->tokenizer || (!d->special_text && tokenizer_is_special(d->tokenizer, id)))
        return false;
    size_t n = 0;
    const char *bytes = tokenizer_bytes(d->tokenizer, id, &n);
    if (!n)
        return false;
    size_t from = d->held.n - incomplete(d->held.data, d->held.n);
    buf_add(&d->held, bytes, n);
    return let_out(d, decode_from(&d->held, from), out);
}

void detok_flush(struct detok *d, struct buf *out)
{
    if (d->stop >= 0)
        return;
    size_t begun = incomplete(d->held.data, d->held.n);
    if (begun) {
        d->held.n -= begun;
        buf_str(&d->held, "\xEF\xBF\xBD");
    }
    if (!let_out(d, d->held.n, out))
        buf_add(out, d->held.data, d->held.n);
    buf_clear(&d->held);
}
