// keys.c - see keys.h.
#define _GNU_SOURCE
#include "keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "mem.h"

enum { LINE_BYTES = 2 * KEY_BYTES_MAX };

static bool is_key(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~')
            return false;
    return n >= 1 && n < KEY_BYTES_MAX;
}

static int add_line(struct keys *k, const char *line, size_t n, int number, struct err *e)
{
    while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
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

static int read_lines(struct keys *k, FILE *f, struct err *e)
{
    char line[LINE_BYTES];
    for (int number = 1; fgets(line, sizeof line, f); number++)
        if (add_line(k, line, strlen(line), number, e))
            return -1;
    if (ferror(f))
        return err_set(e, ERR_BAD_REQUEST, "cannot be read: %s", strerror(errno));
    if (k->n == 0)
        return err_set(e, ERR_BAD_REQUEST, "holds no API key; write one a line");
    return 0;
}

int keys_read(struct keys *k, const char *path, struct err *e)
{
    *k = (struct keys){0};
    FILE *f = fopen(path, "re");
    if (!f)
        return err_set(e, ERR_BAD_REQUEST, "API key file '%s': %s", path, strerror(errno));
    struct err why = {0};
    int failed = read_lines(k, f, &why);
    fclose(f);
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
