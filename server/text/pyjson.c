// pyjson.c - see pyjson.h.
#include "pyjson.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// "d.ddde-x": one more in the last digit.
static void bump(char *text)
{
    char *digit = strchr(text, 'e') - 1;
    while (*digit == '9' || *digit == '.') {
        if (*digit == '9')
            *digit = '0';
        digit--;
    }
    ++*digit; // there is one that is no 9: no power of two begins with sixteen of them
}

// Write x with so many digits; does the text read back as x? The nearest text may not when x is a
// power of two, where the numbers below are closer than those above; then the next one up may.
static bool reads_back(char *text, size_t size, int digits, double x)
{
    snprintf(text, size, "%.*e", digits - 1, x);
    if (strtod(text, NULL) == x)
        return true;
    if (digits < 16 || frexp(fabs(x), &(int){0}) != 0.5)
        return false;
    bump(text);
    return strtod(text, NULL) == x;
}

// repr(float): the shortest digits that read back as the same number; plain between 1e-4 and 1e16.
static void add_float(struct buf *out, double x)
{
    char text[40];
    int digits = 1;
    while (!reads_back(text, sizeof text, digits, x) && digits < 17)
        digits++;
    int exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    if (exponent >= -4 && exponent < 16) {
        int decimals = digits - 1 - exponent;
        buf_format(out, "%.*f", decimals > 1 ? decimals : 1, x);
        return;
    }
    buf_str(out, text); // C's exponent has two digits at least, as Python's
}

static void add_string(struct buf *out, const char *s, size_t n)
{
    size_t plain = 0; // s[plain .. i) needs no escape
    buf_str(out, "\"");
    for (size_t i = 0; i < n; i++) {
        static const char named[] = "\"\\\n\r\t\b\f", letter[] = "\"\\nrtbf";
        const char *at = memchr(named, s[i], sizeof named - 1);
        if (!at && (unsigned char)s[i] >= 0x20)
            continue;
        buf_add(out, s + plain, i - plain);
        plain = i + 1;
        if (at)
            buf_format(out, "\\%c", letter[at - named]);
        else
            buf_format(out, "\\u%04x", (unsigned)s[i]);
    }
    buf_add(out, s + plain, n - plain);
    buf_str(out, "\"");
}

static bool dump(struct buf *out, const json_t *v, int depth);

static bool dump_object(struct buf *out, const json_t *v, int depth)
{
    const char *between = "{", *key;
    size_t key_n;
    json_t *value;
    bool ok = true;
    json_object_keylen_foreach((json_t *)v, key, key_n, value)
    {
        buf_str(out, between);
        between = ", ";
        add_string(out, key, key_n);
        buf_str(out, ": ");
        ok = ok && dump(out, value, depth);
    }
    buf_str(out, json_object_size(v) ? "}" : "{}");
    return ok;
}

static bool dump_array(struct buf *out, const json_t *v, int depth)
{
    bool ok = true;
    buf_str(out, "[");
    for (size_t i = 0; i < json_array_size(v); i++) {
        buf_str(out, i ? ", " : "");
        ok = ok && dump(out, json_array_get(v, i), depth);
    }
    buf_str(out, "]");
    return ok;
}

// depth: how many more arrays and objects may nest.
static bool dump(struct buf *out, const json_t *v, int depth)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return depth > 0 && dump_object(out, v, depth - 1);
    case JSON_ARRAY:
        return depth > 0 && dump_array(out, v, depth - 1);
    case JSON_STRING:
        add_string(out, json_string_value(v), json_string_length(v));
        return true;
    case JSON_INTEGER:
        buf_format(out, "%lld", (long long)json_integer_value(v));
        return true;
    case JSON_REAL:
        add_float(out, json_real_value(v));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        buf_str(out, json_is_true(v) ? "true" : "false");
        return true;
    default:
        buf_str(out, "null");
        return true;
    }
}

bool pyjson_dump(struct buf *out, const json_t *v)
{
    return dump(out, v, PYJSON_DEPTH_MAX);
}

bool pyjson_str(struct buf *out, const json_t *v)
{
    if (json_is_string(v))
        buf_add(out, json_string_value(v), json_string_length(v));
    else if (json_is_boolean(v))
        buf_str(out, json_is_true(v) ? "True" : "False");
    else if (json_is_null(v))
        buf_str(out, "None");
    else
        return pyjson_dump(out, v);
    return true;
}
