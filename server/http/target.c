// target.c - see target.h.
#define _GNU_SOURCE
#include "target.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

// The byte at s[*i], moving *i behind it; -1 for a wrong escape, a control byte or a bare space.
static int next_byte(const char *s, size_t n, size_t *i)
{
    int c = (unsigned char)s[(*i)++];
    if (c == ' ')
        return -1;
    if (c == '%') {
        int high = *i < n ? hex_value(s[*i]) : -1;
        int low = high >= 0 && *i + 1 < n ? hex_value(s[*i + 1]) : -1;
        if (low < 0)
            return -1;
        *i += 2;
        c = high * 16 + low;
    }
    return c < 0x20 || c == 0x7F ? -1 : c;
}

static bool is_decodable(const char *s, size_t n)
{
    for (size_t i = 0; i < n;)
        if (next_byte(s, n, &i) < 0)
            return false;
    return true;
}

// Only of text that is_decodable.
static char *decode(struct arena *a, const char *s, size_t n, bool plus_is_space)
{
    char *out = arena_string(a, s, n);
    size_t length = 0;
    for (size_t i = 0; i < n;) {
        bool plus = plus_is_space && s[i] == '+';
        int c = next_byte(s, n, &i);
        out[length++] = plus ? ' ' : (char)c;
    }
    out[length] = '\0';
    return out;
}

// Drop "http://authority" of the absolute form, which proxies may send.
static void skip_authority(const char **s, size_t *n)
{
    static const char SCHEME[] = "http://";
    size_t prefix = sizeof SCHEME - 1;
    if (*n < prefix || strncasecmp(*s, SCHEME, prefix))
        return;
    while (prefix < *n && (*s)[prefix] != '/')
        prefix++;
    *s += prefix;
    *n -= prefix;
}

int target_parse(struct target *t, struct arena *a, const char *raw, size_t n, struct err *e)
{
    *t = (struct target){"", "", ""};
    if (!is_decodable(raw, n))
        return err_set(e, ERR_BAD_REQUEST,
                       "the request target holds a wrong %% escape or a "
                       "control byte; escape bytes as %%XX");
    skip_authority(&raw, &n);
    if (n == 0 || raw[0] != '/')
        return err_set(e, ERR_BAD_REQUEST, "the request target does not begin with '/'");
    const char *mark = memchr(raw, '?', n);
    size_t n_path = mark ? (size_t)(mark - raw) : n;
    t->raw_path = arena_string(a, raw, n_path);
    t->path = decode(a, raw, n_path, false);
    if (mark)
        t->query = arena_string(a, mark + 1, n - n_path - 1);
    return 0;
}

const char *target_query(const struct target *t, struct arena *a, const char *name)
{
    for (const char *p = t->query; *p;) {
        size_t n = strcspn(p, "&");
        const char *equals = memchr(p, '=', n);
        size_t n_name = equals ? (size_t)(equals - p) : n;
        if (n && !strcmp(decode(a, p, n_name, true), name))
            return equals ? decode(a, equals + 1, n - n_name - 1, true) : "";
        p += n + (p[n] == '&');
    }
    return NULL;
}
