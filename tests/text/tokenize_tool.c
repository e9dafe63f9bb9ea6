// tokenize_tool.c - the tokenizer as a filter, for tokenizer_parity.py.
//
//   tokenize_tool encode DIR    texts on stdin, ids on stdout
//   tokenize_tool decode DIR    ids on stdin, texts on stdout
//   tokenize_tool bench DIR N   encode the texts on stdin N times; print the best time
//
// Records are a little-endian uint32 count and that many bytes (texts) or uint32 (ids).
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "clock.h"
#include "detok.h"
#include "err.h"
#include "mem.h"
#include "tokenizer.h"

enum { RECORD_MAX = 1 << 28 };

static void die(const char *what)
{
    fprintf(stderr, "tokenize_tool: %s\n", what);
    exit(1);
}

// One record with items of `size` bytes into b; false at the end of the input.
static bool read_record(struct buf *b, size_t size)
{
    uint32_t n = 0;
    if (fread(&n, sizeof n, 1, stdin) != 1)
        return false;
    if (n > RECORD_MAX / size)
        die("a record is too long");
    char chunk[1 << 14];
    buf_clear(b);
    for (size_t left = n * size; left;) {
        size_t k = left < sizeof chunk ? left : sizeof chunk;
        if (fread(chunk, 1, k, stdin) != k)
            die("the input ends inside a record");
        buf_add(b, chunk, k);
        left -= k;
    }
    return true;
}

static void write_record(const void *items, size_t n, size_t size)
{
    uint32_t count = (uint32_t)n;
    if (fwrite(&count, sizeof count, 1, stdout) != 1 || fwrite(items, size, n, stdout) != n)
        die("the output cannot be written");
}

static void encode(const struct tokenizer *tk)
{
    struct buf text = {0};
    struct ids ids = {0};
    struct err e = {0};
    while (read_record(&text, 1)) {
        ids.n = 0;
        if (tokenizer_encode(tk, text.data, text.n, TOKENIZER_SPECIAL, &ids, &e) != 0)
            die(e.text);
        write_record(ids.data, ids.n, sizeof *ids.data);
    }
    ids_fini(&ids);
    buf_fini(&text);
}

static void decode(const struct tokenizer *tk)
{
    struct buf ids = {0}, text = {0};
    while (read_record(&ids, sizeof(int))) {
        struct detok d;
        detok_init(&d, tk, NULL, 0, true);
        buf_clear(&text);
        for (size_t i = 0; i < ids.n; i += sizeof(int)) {
            int id = 0;
            memcpy(&id, ids.data + i, sizeof id);
            detok_push(&d, id, &text);
        }
        detok_flush(&d, &text);
        detok_fini(&d);
        write_record(text.data, text.n, 1);
    }
    buf_fini(&ids);
    buf_fini(&text);
}

static void bench(const struct tokenizer *tk, long rounds)
{
    struct buf text = {0}, all = {0};
    struct ids ids = {0};
    struct err e = {0};
    uint64_t bytes = 0, tokens = 0;
    while (read_record(&text, 1)) {
        buf_add(&all, &text.n, sizeof text.n);
        buf_add(&all, text.data, text.n);
        bytes += text.n;
    }
    int64_t best = INT64_MAX;
    for (long r = 0; r < rounds; r++) {
        int64_t start = clock_ns();
        tokens = 0;
        for (size_t i = 0, n; i < all.n; i += n) {
            memcpy(&n, all.data + i, sizeof n);
            i += sizeof n;
            ids.n = 0;
            if (tokenizer_encode(tk, all.data + i, n, TOKENIZER_SPECIAL, &ids, &e) != 0)
                die(e.text);
            tokens += ids.n;
        }
        int64_t taken = clock_ns() - start;
        best = taken < best ? taken : best;
    }
    printf("%" PRIu64 " bytes %" PRIu64 " tokens %.6f seconds\n", bytes, tokens,
           (double)best / 1e9);
    ids_fini(&ids);
    buf_fini(&all);
    buf_fini(&text);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    if (argc < 3)
        die("usage: tokenize_tool encode|decode|bench DIR [rounds]");
    int64_t start = clock_ns();
    struct tokenizer *tk = tokenizer_load(argv[2], &e);
    if (!tk)
        die(e.text);
    if (strcmp(argv[1], "encode") == 0) {
        encode(tk);
    } else if (strcmp(argv[1], "decode") == 0) {
        decode(tk);
    } else if (strcmp(argv[1], "bench") == 0) {
        printf("loaded in %.3f seconds\n", clock_ms_between(start, clock_ns()) / 1e3);
        bench(tk, argc > 3 ? strtol(argv[3], NULL, 10) : 3);
    } else {
        die("the mode is encode, decode or bench");
    }
    tokenizer_destroy(tk);
    return fflush(stdout) == 0 ? 0 : 1;
}
