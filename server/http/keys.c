// keys.c - see keys.h.
#define _GNU_SOURCE
#include "keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "buf.h"
#include "mem.h"

static bool is_key(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~')
            return false;
    return n >= 1 && n < KEY_BYTES_MAX;
}

static int add_line(struct keys *k, const char *line, size_t n, int number, struct err *e)
{
    if (n && line[n - 1] == '\r')
        n--;
    if (n == 0 || line[0] == '#')
        return 0;
    if (!is_key(line, n))
        return err_set(e, ERR_BAD_REQUEST,
                       "line %d is no API key; a key is 1 to %d printable characters, no spaces",
                       number, KEY_BYTES_MAX - 1);
    if (k->n == KEYS_MAX)
        return err_set(e, ERR_BAD_REQUEST, "line %d: more than %d API keys", number, KEYS_MAX);
    k->key = mem_resize(k->key, (size_t)k->n + 1, sizeof *k->key);
    memset(k->key[k->n], 0, sizeof *k->key);
    memcpy(k->key[k->n], line, n);
    k->n++;
    return 0;
}

static int read_lines(struct keys *k, const struct buf *text, struct err *e)
{
    int number = 1;
    for (size_t from = 0; from < text->n; number++) {
        const char *end = memchr(text->data + from, '\n', text->n - from);
        size_t n = end ? (size_t)(end - text->data) - from : text->n - from;
        if (add_line(k, text->data + from, n, number, e))
            return -1;
        from += n + 1;
    }
    if (k->n == 0)
        return err_set(e, ERR_BAD_REQUEST, "holds no API key; write one a line");
    return 0;
}

static int read_file(struct buf *text, FILE *f, struct err *e)
{
    char bytes[4096];
    size_t n;
    while ((n = fread(bytes, 1, sizeof bytes, f)) > 0)
        if (!buf_add(text, bytes, n))
            return err_set(e, ERR_BAD_REQUEST, "is larger than %zu bytes", text->max);
    explicit_bzero(bytes, sizeof bytes);
    return ferror(f) ? err_set(e, ERR_BAD_REQUEST, "cannot be read: %s", strerror(errno)) : 0;
}

int keys_read(struct keys *k, const char *path, struct err *e)
{
    *k = (struct keys){0};
    FILE *f = fopen(path, "re");
    if (!f)
        return err_set(e, ERR_BAD_REQUEST, "API key file '%s': %s", path, strerror(errno));
    struct err why = {0};
    struct buf text = {.max = (size_t)KEYS_MAX * KEY_BYTES_MAX};
    int failed = read_file(&text, f, &why) || read_lines(k, &text, &why);
    fclose(f);
    if (text.data)
        explicit_bzero(text.data, text.size);
    buf_fini(&text);
    if (failed) {
        keys_fini(k);
        return err_set(e, why.code, "API key file '%s': %s", path, why.text);
    }
    return 0;
}

void keys_fini(struct keys *k)
{
    if (k->key)
        explicit_bzero(k->key, (size_t)k->n * sizeof *k->key);
    mem_free(k->key);
    *k = (struct keys){0};
}

bool keys_match(const struct keys *k, const char *authorization)
{
    if (!authorization || strncasecmp(authorization, "Bearer ", 7))
        return false;
    const char *given = authorization + 7;
    while (*given == ' ')
        given++;
    size_t n = strlen(given);
    if (n == 0 || n >= KEY_BYTES_MAX)
        return false;
    // Every byte of every padded key is looked at, whatever is found on the way. A key holds no zero
    // byte, so equal padding means equal length.
    char padded[KEY_BYTES_MAX] = {0};
    memcpy(padded, given, n);
    unsigned found = 0;
    for (int i = 0; i < k->n; i++) {
        volatile unsigned differs = 0; // volatile: the compiler must not leave the loop early
        for (int j = 0; j < KEY_BYTES_MAX; j++)
            differs |= (unsigned)(k->key[i][j] ^ padded[j]);
        found |= differs == 0;
    }
    return found;
}
