// json.c - see json.h.
#include "json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"

// An empty object of three bytes costs jansson some 250, so their number is limited and not only the
// text's size. No request and no tokenizer.json comes near.
enum { CONTAINERS_MAX = 1 << 20 };

// --- memory ---------------------------------------------------------------------------------

// A list of 8,192 ids is as many allocations of 24 bytes. One by one, with their release, they were a
// fifth of what such a request costs, so json_parse_in has jansson take them from an arena. All that jansson
// frees while it reads is of that reading: buffers it has outgrown, each at most half of the next, and
// keys it has copied. So what stays behind unused is less than what is used.
static _Thread_local struct arena *reading; // where this thread reads to; NULL: no json_parse_in

static void *take(size_t bytes)
{
    return reading ? arena_take(reading, bytes) : mem_alloc(bytes);
}

static void give(void *p)
{
    if (!reading)
        mem_free(p);
}

// Before there is a second thread: jansson keeps these without a lock.
__attribute__((constructor)) static void set_memory(void)
{
    json_set_alloc_funcs(take, give);
}

// --- parsing --------------------------------------------------------------------------------

// Are there more than max brackets that open, in strings or not? Long bodies are mostly prose or digits,
// which memchr passes in a fortieth of the time that a look at every byte takes.
static bool has_brackets(const char *text, size_t n, int max)
{
    int found = 0;
    for (const char *bracket = "[{"; *bracket; bracket++) {
        const char *end = text + n;
        for (const char *p = text; p < end && (p = memchr(p, *bracket, (size_t)(end - p))); p++)
            if (++found > max)
                return true;
    }
    return false;
}

// Depth and number are counted before jansson builds anything: its parser recurses.
static int check_nesting(const char *text, size_t n, int depth_max, struct err *e)
{
    if (!has_brackets(text, n, depth_max < CONTAINERS_MAX ? depth_max : CONTAINERS_MAX))
        return 0;
    int depth = 0, containers = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > depth_max)
                return err_set(e, ERR_BAD_REQUEST,
                               "JSON is nested deeper than %d arrays and objects at byte %zu",
                               depth_max, i);
            if (++containers > CONTAINERS_MAX)
                return err_set(e, ERR_TOO_LARGE, "JSON has more than %d arrays and objects",
                               CONTAINERS_MAX);
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return 0;
}

json_t *json_parse_in(struct arena *a, const char *text, size_t n, int depth_max, struct err *e)
{
    reading = a;
    json_t *v = json_parse(text, n, depth_max, e);
    reading = NULL;
    return v;
}

json_t *json_parse(const char *text, size_t n, int depth_max, struct err *e)
{
    if (check_nesting(text, n, depth_max, e))
        return NULL;
    json_error_t why;
    json_t *v =
        json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (!v)
        err_set(e, ERR_BAD_REQUEST, "not valid JSON at line %d, column %d: %s", why.line,
                why.column, why.text);
    return v;
}

const char *json_describe(const json_t *v, char *text, size_t size)
{
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_STRING:
        if (json_string_length(v) <= 32)
            snprintf(text, size, "the string \"%s\"", json_string_value(v));
        else
            snprintf(text, size, "a string of %zu bytes", json_string_length(v));
        break;
    case JSON_INTEGER:
        snprintf(text, size, "the number %lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL:
        snprintf(text, size, "the number %.9g", json_real_value(v));
        break;
    case JSON_TRUE:
        snprintf(text, size, "true");
        break;
    case JSON_FALSE:
        snprintf(text, size, "false");
        break;
    case JSON_ARRAY:
        snprintf(text, size, "an array of %zu", json_array_size(v));
        break;
    case JSON_OBJECT:
        snprintf(text, size, "an object");
        break;
    default:
        snprintf(text, size, "null");
    }
    return text;
}

// "messages[2]" and "role" -> "messages[2].role"
static void field_path(const char *path, const char *name, char *text, size_t size)
{
    snprintf(text, size, "%s%s%s", path, *path ? "." : "", name);
}

static int wrong_type(const char *path, const char *wanted, const json_t *v, struct err *e)
{
    char found[64];
    return err_field(e, ERR_BAD_REQUEST, path, "%s must be %s, not %s", path, wanted,
                     json_describe(v, found, sizeof found));
}

static int out_of_range(const struct json_field *f, const char *path, const json_t *v,
                        struct err *e)
{
    char found[64];
    return err_field(e, ERR_BAD_REQUEST, path, "%s is %s; it must be from %.10g to %.10g", path,
                     json_describe(v, found, sizeof found), f->min, f->max);
}

static int read_int(const struct json_field *f, const char *path, const json_t *v, void *at,
                    struct err *e)
{
    if (json_is_integer(v)) {
        json_int_t i = json_integer_value(v);
        if ((double)i < f->min || (double)i > f->max)
            return out_of_range(f, path, v, e);
        *(int64_t *)at = i;
        return 0;
    }
    if (!json_is_real(v) || json_real_value(v) != floor(json_real_value(v)))
        return wrong_type(path, "a whole number", v, e);
    double d = json_real_value(v);
    if (d < f->min || d > f->max || fabs(d) > 0x1p53)
        return out_of_range(f, path, v, e);
    *(int64_t *)at = (int64_t)d;
    return 0;
}

static int read_num(const struct json_field *f, const char *path, const json_t *v, void *at,
                    struct err *e)
{
    if (!json_is_number(v))
        return wrong_type(path, "a number", v, e);
    double d = json_number_value(v);
    if (!(d >= f->min && d <= f->max))
        return out_of_range(f, path, v, e);
    *(double *)at = d;
    return 0;
}

static int read_str(const struct json_field *f, const char *path, const json_t *v, void *at,
                    struct err *e)
{
    if (!json_is_string(v))
        return wrong_type(path, "a string", v, e);
    size_t n = json_string_length(v);
    if (memchr(json_string_value(v), '\0', n))
        return err_field(e, ERR_BAD_REQUEST, path, "%s holds a NUL character; leave it out", path);
    if ((double)n < f->min || (double)n > f->max)
        return err_field(e, ERR_BAD_REQUEST, path,
                         "%s has %zu bytes; it must have from %.10g to %.10g", path, n, f->min,
                         f->max);
    *(const char **)at = json_string_value(v);
    return 0;
}

static int read_container(const struct json_field *f, const char *path, json_t *v, void *at,
                          struct err *e)
{
    bool is_array = f->kind == JSON_KIND_ARRAY;
    if (is_array ? !json_is_array(v) : !json_is_object(v))
        return wrong_type(path, is_array ? "an array" : "an object", v, e);
    size_t n = is_array ? json_array_size(v) : json_object_size(v);
    if ((double)n < f->min || (double)n > f->max)
        return err_field(e, ERR_BAD_REQUEST, path,
                         "%s has %zu entries; it must have from %.10g to %.10g", path, n, f->min,
                         f->max);
    *(json_t **)at = v;
    return 0;
}

static void set_default(const struct json_field *f, void *at)
{
    if (f->kind == JSON_KIND_BOOL)
        *(bool *)at = f->def != 0;
    else if (f->kind == JSON_KIND_INT)
        *(int64_t *)at = (int64_t)f->def;
    else if (f->kind == JSON_KIND_NUM)
        *(double *)at = f->def;
    else
        *(void **)at = NULL;
}

static int read_value(const struct json_field *f, const char *path, json_t *v, void *at,
                      struct err *e)
{
    switch (f->kind) {
    case JSON_KIND_BOOL:
        if (!json_is_boolean(v))
            return wrong_type(path, "true or false", v, e);
        *(bool *)at = json_is_true(v);
        return 0;
    case JSON_KIND_INT:
        return read_int(f, path, v, at, e);
    case JSON_KIND_NUM:
        return read_num(f, path, v, at, e);
    case JSON_KIND_STR:
        return read_str(f, path, v, at, e);
    case JSON_KIND_ARRAY:
    case JSON_KIND_OBJECT:
        return read_container(f, path, v, at, e);
    case JSON_KIND_ANY:
        *(json_t **)at = v;
    }
    return 0;
}

int json_read(const struct json_field *fields, size_t n, json_t *object, const char *path,
              void *out, struct err *e)
{
    if (!json_is_object(object))
        return wrong_type(*path ? path : "the body", "an object", object, e);
    for (size_t i = 0; i < n; i++) {
        const struct json_field *f = &fields[i];
        void *at = (char *)out + f->offset;
        json_t *v = json_object_get(object, f->name);
        char where[sizeof e->param];
        field_path(path, f->name, where, sizeof where);
        set_default(f, at);
        if (!v || json_is_null(v)) {
            if (f->required)
                return err_field(e, ERR_BAD_REQUEST, where, "%s is missing", where);
        } else if (read_value(f, where, v, at, e)) {
            return -1;
        }
    }
    return 0;
}

// Length of the well-formed UTF-8 character at s, or 0.
static size_t utf8_length(const unsigned char *s, size_t n)
{
    size_t need = s[0] < 0x80   ? 1
                  : s[0] < 0xC2 ? 0
                  : s[0] < 0xE0 ? 2
                  : s[0] < 0xF0 ? 3
                  : s[0] < 0xF5 ? 4
                                : 0;
    if (need == 0 || need > n)
        return 0;
    for (size_t i = 1; i < need; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
        (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return need;
}

static void quote_special(struct buf *out, unsigned char c)
{
    if (c == '"')
        buf_str(out, "\\\"");
    else if (c == '\\')
        buf_str(out, "\\\\");
    else if (c == '\n')
        buf_str(out, "\\n");
    else if (c < 0x20)
        buf_format(out, "\\u%04x", c);
    else
        buf_str(out, "\xEF\xBF\xBD");
}

void json_quote(struct buf *out, const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t from = 0;
    buf_str(out, "\"");
    for (size_t i = 0; i < n;) {
        size_t length = utf8_length(p + i, n - i);
        if (length > 1 || (length == 1 && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\')) {
            i += length;
            continue;
        }
        buf_add(out, s + from, i - from);
        quote_special(out, p[i]);
        from = ++i;
    }
    buf_add(out, s + from, n - from);
    buf_str(out, "\"");
}
