// err.c - see err.h.
#include "err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    int http;
    const char *type, *slug;
} CODES[] = {
#define X(name, http, type, code) {http, type, code},
    ERR_LIST(X)
#undef X
};

// Drop a last UTF-8 sequence that vsnprintf cut in the middle: error texts go into JSON.
static void trim_utf8(char *s)
{
    size_t n = strlen(s), i = n;
    while (i > 0 && ((unsigned char)s[i - 1] & 0xC0) == 0x80)
        i--;
    if (i == 0)
        return;
    unsigned char lead = (unsigned char)s[i - 1];
    size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (n - (i - 1) < need)
        s[i - 1] = '\0';
}

static void fill(struct err *e, enum err_code code, const char *param, const char *format,
                 va_list args)
{
    e->code = code;
    snprintf(e->param, sizeof e->param, "%s", param);
    int n = vsnprintf(e->text, sizeof e->text, format, args);
    if (n >= (int)sizeof e->text)
        trim_utf8(e->text);
}

int err_set(struct err *e, enum err_code code, const char *format, ...)
{
    if (!e)
        return -1;
    va_list args;
    va_start(args, format);
    fill(e, code, "", format, args);
    va_end(args);
    return -1;
}

int err_field(struct err *e, enum err_code code, const char *param, const char *format, ...)
{
    if (!e)
        return -1;
    va_list args;
    va_start(args, format);
    fill(e, code, param, format, args);
    va_end(args);
    return -1;
}

int err_http(enum err_code code)
{
    return CODES[code].http;
}

const char *err_type(enum err_code code)
{
    return CODES[code].type;
}

const char *err_slug(enum err_code code)
{
    return CODES[code].slug;
}

_Noreturn void err_abort(const char *file, int line, const char *what)
{
    fprintf(stderr, "deltaserve: broken invariant at %s:%d: %s (please report this)\n", file, line,
            what);
    abort();
}
