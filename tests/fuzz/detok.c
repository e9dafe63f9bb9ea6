// detok.c - fuzz target: one byte says how long a stop string is, then comes the stop string, then ids of
// one byte each. The text must not depend on where tokens end, and never holds the stop string.
#define _GNU_SOURCE // memmem
#include <stdint.h>
#include <string.h>

#include "detok.h"
#include "tokenizer.h"
#include "utf8.h"

// Append everything that ids decode to.
static void decode(struct tokenizer *tk, const struct detok_stop *stop, const uint8_t *ids,
                   size_t n, struct buf *out)
{
    struct detok d;
    detok_init(&d, tk, stop, stop ? 1 : 0, true);
    bool stopped = false;
    for (size_t i = 0; i < n && !stopped; i++) {
        size_t before = out->n;
        stopped = detok_push(&d, ids[i] * 3, out);
        CHECK(utf8_check(out->data + before, out->n - before) == out->n - before);
    }
    detok_flush(&d, out);
    CHECK(utf8_check(out->data, out->n) == out->n && (!stopped || d.stop == 0));
    detok_fini(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct tokenizer *tk;
    if (!tk)
        tk = tokenizer_load(TEST_SOURCE_DIR "/tests/data/tiny_tokenizer", NULL);
    CHECK(tk != NULL);
    size_t stop_n = n ? data[0] % 8 : 0;
    if (stop_n == 0 || n < 1 + stop_n || utf8_check((const char *)data + 1, stop_n) != stop_n)
        return 0;
    struct detok_stop stop = {(const char *)data + 1, stop_n};
    struct buf whole = {0}, cut = {0};
    buf_str(&whole, ""); // so that both have memory
    buf_str(&cut, "");
    decode(tk, NULL, data + 1 + stop_n, n - 1 - stop_n, &whole);
    decode(tk, &stop, data + 1 + stop_n, n - 1 - stop_n, &cut);
    const char *at = memmem(whole.data, whole.n, stop.text, stop.n);
    size_t expected = at ? (size_t)(at - whole.data) : whole.n;
    CHECK(cut.n == expected && memcmp(cut.data, whole.data, cut.n) == 0);
    buf_fini(&whole);
    buf_fini(&cut);
    return 0;
}
