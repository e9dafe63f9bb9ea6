// report_json.c - a result document as JSON for people: rows of a table on one line each.
#include <string.h>

#include "json.h"
#include "report_value.h"
#include "report_write.h"

enum {
    LINE_VALUES_MAX = 64, // plain values that share a line
    LINE_BYTES_MAX = 160, // of their texts
    DEPTH_MAX = 128,      // what is deeper is written compactly; a parsed document is not
};

// Does v end the line it would share? Otherwise its bytes are counted.
static bool breaks_line(const json_t *v, size_t *bytes)
{
    *bytes += json_string_length(v);
    return json_is_array(v) || json_is_object(v) || *bytes > LINE_BYTES_MAX;
}

static bool fits_line(const json_t *v)
{
    size_t i, bytes = 0, n = json_is_array(v) ? json_array_size(v) : json_object_size(v);
    const char *key;
    json_t *child;
    if (n > LINE_VALUES_MAX)
        return false;
    json_array_foreach(v, i, child) if (breaks_line(child, &bytes)) return false;
    // The macro wants a json_t it may change, and does not.
    json_object_foreach((json_t *)v, key, child) if (breaks_line(child, &bytes)) return false;
    return true;
}

static void write_plain(struct buf *out, const json_t *v)
{
    size_t from = out->n;
    if (json_is_string(v))
        json_quote(out, json_string_value(v), json_string_length(v));
    else if (!v || json_is_null(v))
        buf_str(out, "null");
    else
        value_raw(out, v);
    // A real number stays one when it is read again.
    if (json_is_real(v) && out->n && !memchr(out->data + from, '.', out->n - from) &&
        !memchr(out->data + from, 'e', out->n - from))
        buf_str(out, ".0");
}

static void new_line(struct buf *out, bool one_line, int depth)
{
    if (!one_line)
        buf_format(out, "\n%*s", 2 * depth, "");
}

static void write(struct buf *out, const json_t *v, int depth)
{
    size_t i = 0;
    const char *key;
    json_t *child;
    if (!json_is_array(v) && !json_is_object(v)) {
        write_plain(out, v);
        return;
    }
    bool one_line = fits_line(v) || depth == DEPTH_MAX;
    buf_str(out, json_is_array(v) ? "[" : "{");
    json_array_foreach(v, i, child)
    {
        buf_str(out, i == 0 ? "" : one_line ? ", " : ",");
        new_line(out, one_line, depth + 1);
        write(out, child, depth + (depth < DEPTH_MAX));
    }
    json_object_foreach((json_t *)v, key, child)
    {
        buf_str(out, i++ == 0 ? "" : one_line ? ", " : ",");
        new_line(out, one_line, depth + 1);
        json_quote(out, key, strlen(key));
        buf_str(out, ": ");
        write(out, child, depth + (depth < DEPTH_MAX));
    }
    new_line(out, one_line, depth);
    buf_str(out, json_is_array(v) ? "]" : "}");
}

void report_json(const json_t *result, struct buf *out)
{
    write(out, result, 0);
    buf_str(out, "\n");
}
