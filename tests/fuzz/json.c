// json.c - any bytes as JSON: refused with a sentence, or every string in it survives json_quote, and a
// schema table reads it or names the field at fault. In an arena it is the same document or sentence.
#include "json.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct all {
    bool b;
    int64_t i;
    double d;
    const char *s;
    json_t *array, *object, *any;
};

#define AT(member) offsetof(struct all, member)

static const struct json_field ALL[] = {
    {"b", JSON_KIND_BOOL, AT(b), 0, 0, 0, false},
    {"i", JSON_KIND_INT, AT(i), -100, 100, 0, false},
    {"d", JSON_KIND_NUM, AT(d), -1e300, 1e300, 0, false},
    {"s", JSON_KIND_STR, AT(s), 0, 8, 0, false},
    {"array", JSON_KIND_ARRAY, AT(array), 0, 4, 0, false},
    {"object", JSON_KIND_OBJECT, AT(object), 0, 4, 0, false},
    {"any", JSON_KIND_ANY, AT(any), 0, 0, 0, true},
};

static void check_quote(const char *s, size_t n)
{
    struct buf b = {0};
    struct err e = {0};
    json_quote(&b, s, n);
    json_t *v = json_parse(b.data, b.n, 1, &e);
    CHECK(v && json_string_length(v) == n && !memcmp(json_string_value(v), s, n));
    json_decref(v);
    buf_fini(&b);
}

static void check_strings(json_t *v)
{
    char text[64];
    const char *key;
    size_t i;
    json_t *child;
    CHECK(strlen(json_describe(v, text, sizeof text)) < sizeof text);
    if (json_is_string(v))
        check_quote(json_string_value(v), json_string_length(v));
    json_array_foreach(v, i, child) check_strings(child);
    json_object_foreach(v, key, child)
    {
        check_quote(key, strlen(key));
        check_strings(child);
    }
}

static void check_in_arena(const uint8_t *data, size_t n, const json_t *v, const struct err *e)
{
    struct arena a = {0};
    struct err in = {0};
    json_t *same = json_parse_in(&a, (const char *)data, n, 64, &in);
    CHECK(v ? json_equal(v, same) : !same && in.code == e->code && !strcmp(in.text, e->text));
    arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err e = {0};
    struct all all;
    struct buf quoted = {0};
    json_t *v = json_parse((const char *)data, n, 64, &e);
    CHECK(v || (e.code != ERR_OK && *e.text));
    check_in_arena(data, n, v, &e);
    if (v)
        check_strings(v);
    if (v && json_read(ALL, sizeof ALL / sizeof *ALL, v, "", &all, &e) == 0)
        CHECK(all.i >= -100 && all.i <= 100 && isfinite(all.d) && all.any);
    else if (v)
        CHECK(*e.text && (*e.param || !json_is_object(v)));
    json_decref(v);
    // Bytes that are no UTF-8 still give a JSON string.
    json_quote(&quoted, (const char *)data, n);
    v = json_parse(quoted.data, quoted.n, 1, &e);
    CHECK(v != NULL);
    json_decref(v);
    buf_fini(&quoted);
    return 0;
}
