// Tests of server/base/json.c: what is refused before parsing, every kind of field with every kind of
// wrong value and its exact path, and quoting that a parser reads back.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "json.h"
#include "mem.h"

static json_t *parse(const char *text, struct err *e)
{
    *e = (struct err){0};
    return json_parse(text, strlen(text), 4, e);
}

// --- parsing --------------------------------------------------------------------------------

Test(json, parses_any_document)
{
    struct err e;
    json_t *v = parse(" {\"a\": [1, 2.5, \"x\\u0000y\"]} ", &e);
    cr_assert(ne(ptr, v, NULL));
    json_t *s = json_array_get(json_object_get(v, "a"), 2);
    cr_assert(eq(sz, json_string_length(s), 3));
    json_decref(v);
    v = parse("17", &e);
    cr_assert(eq(i64, json_integer_value(v), 17));
    json_decref(v);
}

static const struct {
    const char *text, *says;
} BROKEN[] = {
    {"", "not valid JSON at line 1, column 0"},
    {"{", "not valid JSON at line 1"},
    {"{\"a\":1} x", "not valid JSON at line 1"},
    {"{\"a\":1,\n\"a\":2}", "not valid JSON at line 2"},
    {"[01]", "not valid JSON"},
    {"[NaN]", "not valid JSON"},
    {"[Infinity]", "not valid JSON"},
    {"[1e999]", "not valid JSON"},
    {"[99999999999999999999]", "not valid JSON"},
    {"\"\\ud800\"", "not valid JSON"},
    {"\"\xff\"", "not valid JSON"},
    {"[[[[[]]]]]", "nested deeper than 4 arrays and objects at byte 4"},
    {"[{\"a\":[{\"b\":[]}]}]", "nested deeper than 4 arrays and objects at byte 12"},
    {"]]]]", "not valid JSON"},
};

Test(json, broken_documents_say_where)
{
    for (size_t i = 0; i < sizeof BROKEN / sizeof *BROKEN; i++) {
        struct err e;
        cr_assert(eq(ptr, parse(BROKEN[i].text, &e), NULL), "%s", BROKEN[i].text);
        cr_assert(eq(int, (int)e.code, ERR_BAD_REQUEST));
        cr_assert(ne(ptr, strstr(e.text, BROKEN[i].says), NULL), "'%s' of %s", e.text,
                  BROKEN[i].text);
        struct arena a = {0};
        struct err in = {0};
        cr_assert(eq(ptr, json_parse_in(&a, BROKEN[i].text, strlen(BROKEN[i].text), 4, &in), NULL));
        cr_assert(eq(int, (int)in.code, (int)e.code));
        cr_assert(eq(str, in.text, e.text));
        arena_fini(&a);
    }
}

Test(json, depth_is_counted_outside_strings_only)
{
    struct err e;
    json_t *v = parse("[[[[\"[[[[\\\"[[[[\"]]]]", &e);
    cr_assert(ne(ptr, v, NULL), "%s", e.text);
    json_decref(v);
}

Test(json, as_many_brackets_as_may_be_nested)
{
    struct err e;
    json_t *v = parse("[{\"a\":[{\"b\":1}]}]", &e);
    cr_assert(ne(ptr, v, NULL), "%s", e.text);
    json_decref(v);
    cr_assert(eq(ptr, json_parse("", 0, 4, &e), NULL));
    cr_assert(eq(ptr, json_parse(NULL, 0, 4, &e), NULL));
}

Test(json, number_of_containers_is_limited)
{
    enum { N = (1 << 20) + 1 };
    struct buf b = {0};
    struct err e = {0};
    buf_str(&b, "[");
    for (int i = 0; i < N; i++)
        buf_str(&b, i ? ",[]" : "[]");
    buf_str(&b, "]");
    cr_assert(eq(ptr, json_parse(b.data, b.n, 64, &e), NULL));
    cr_assert(eq(int, (int)e.code, ERR_TOO_LARGE));
    buf_fini(&b);
}

// --- in an arena ----------------------------------------------------------------------------

// Lists, keys and a string that make jansson outgrow its buffers several times over.
static void write_large(struct buf *b)
{
    buf_str(b, "{\"ids\":[");
    for (int i = 0; i < 9000; i++)
        buf_format(b, "%s%d", i ? "," : "", i * 7919 % 248320);
    buf_str(b, "],\"keys\":{");
    for (int i = 0; i < 500; i++)
        buf_format(b, "%s\"key %d\":[%d.5,null,true,\"\\u00e9\"]", i ? "," : "", i, i);
    buf_str(b, "},\"text\":\"");
    for (int i = 0; i < 300000; i++)
        buf_str(b, i % 40 ? "a" : "\\n");
    buf_str(b, "\"}");
}

Test(json, a_document_in_an_arena_is_the_same)
{
    struct arena a = {0};
    struct buf b = {0};
    struct err e = {0};
    write_large(&b);
    json_t *in = json_parse_in(&a, b.data, b.n, 4, &e), *own = json_parse(b.data, b.n, 4, &e);
    cr_assert(ne(ptr, in, NULL), "%s", e.text);
    cr_assert(ne(ptr, own, NULL), "%s", e.text);
    buf_fini(&b);
    // What is made and ended beside it is not the arena's.
    size_t used = a.used_bytes;
    json_t *copy = json_deep_copy(in), *ids = json_incref(json_object_get(in, "ids"));
    json_array_append(json_object_get(copy, "ids"), json_object_get(copy, "keys"));
    json_decref(ids);
    json_decref(copy);
    cr_assert(eq(sz, a.used_bytes, used));
    cr_assert(json_equal(in, own));
    cr_assert(eq(sz, json_array_size(json_object_get(in, "ids")), 9000));
    arena_fini(&a);
    cr_assert(eq(i64, json_integer_value(json_array_get(json_object_get(own, "ids"), 2)), 15838));
    json_decref(own);
}

static void *parse_often(void *text)
{
    struct err e;
    for (int i = 0; i < 2000; i++)
        json_decref(parse(text, &e));
    return NULL;
}

Test(json, an_arena_is_one_threads_alone)
{
    static char text[] = "{\"a\":[1,2,3,{\"b\":\"c\"}]}";
    pthread_t other;
    cr_assert(zero(pthread_create(&other, NULL, parse_often, text)));
    for (int i = 0; i < 2000; i++) {
        struct arena a = {0};
        struct err e = {0};
        json_t *v = json_parse_in(&a, text, sizeof text - 1, 4, &e);
        cr_assert(eq(sz, json_array_size(json_object_get(v, "a")), 4));
        arena_fini(&a);
    }
    cr_assert(zero(pthread_join(other, NULL)));
}

// --- schema ---------------------------------------------------------------------------------

struct all {
    bool b;
    int64_t i;
    double d;
    const char *s;
    json_t *array, *object, *any;
};

#define AT(member) offsetof(struct all, member)

static const struct json_field ALL[] = {
    {"b", JSON_KIND_BOOL, AT(b), 0, 0, true, false},
    {"i", JSON_KIND_INT, AT(i), -5, 5, 3, false},
    {"d", JSON_KIND_NUM, AT(d), 0, 2, 0.5, false},
    {"s", JSON_KIND_STR, AT(s), 1, 4, 0, false},
    {"array", JSON_KIND_ARRAY, AT(array), 1, 2, 0, false},
    {"object", JSON_KIND_OBJECT, AT(object), 0, 1, 0, false},
    {"any", JSON_KIND_ANY, AT(any), 0, 0, 0, false},
};
enum { N_ALL = sizeof ALL / sizeof *ALL };

Test(json, absent_and_null_are_the_default)
{
    static const char *const TEXTS[] = {
        "{}", "{\"b\":null,\"i\":null,\"d\":null,\"s\":null,\"array\":null,\"object\":null}"};
    for (int k = 0; k < 2; k++) {
        struct err e;
        struct all all;
        memset(&all, 0xAA, sizeof all);
        json_t *v = parse(TEXTS[k], &e);
        cr_assert(zero(json_read(ALL, N_ALL, v, "", &all, &e)));
        cr_assert(all.b && all.i == 3 && all.d == 0.5);
        cr_assert(not(all.s || all.array || all.object || all.any));
        json_decref(v);
    }
}

Test(json, values_are_read)
{
    struct err e;
    struct all all;
    json_t *v = parse("{\"b\":false,\"i\":-5,\"d\":2,\"s\":\"abcd\",\"array\":[1],"
                      "\"object\":{\"k\":1},\"any\":7,\"unknown\":1}",
                      &e);
    cr_assert(zero(json_read(ALL, N_ALL, v, "", &all, &e)), "%s", e.text);
    cr_assert(not(all.b || all.i != -5 || all.d != 2));
    cr_assert(eq(str, (char *)all.s, "abcd"));
    cr_assert(eq(sz, json_array_size(all.array), 1));
    cr_assert(eq(sz, json_object_size(all.object), 1));
    cr_assert(eq(i64, json_integer_value(all.any), 7));
    json_decref(v);
    v = parse("{\"i\":4.0}", &e);
    cr_assert(zero(json_read(ALL, N_ALL, v, "", &all, &e)));
    cr_assert(eq(i64, all.i, 4));
    json_decref(v);
}

static const struct {
    const char *text, *param, *says;
} WRONG[] = {
    {"{\"b\":1}", "p.b", "p.b must be true or false, not the number 1"},
    {"{\"b\":\"true\"}", "p.b", "must be true or false, not the string \"true\""},
    {"{\"i\":\"1\"}", "p.i", "p.i must be a whole number, not the string \"1\""},
    {"{\"i\":1.5}", "p.i", "p.i must be a whole number, not the number 1.5"},
    {"{\"i\":6}", "p.i", "p.i is the number 6; it must be from -5 to 5"},
    {"{\"i\":-6}", "p.i", "p.i is the number -6; it must be from -5 to 5"},
    {"{\"i\":6.0}", "p.i", "it must be from -5 to 5"},
    {"{\"i\":9223372036854775807}", "p.i", "it must be from -5 to 5"},
    {"{\"i\":true}", "p.i", "must be a whole number, not true"},
    {"{\"d\":\"x\"}", "p.d", "p.d must be a number"},
    {"{\"d\":-0.1}", "p.d", "p.d is the number -0.1; it must be from 0 to 2"},
    {"{\"d\":3}", "p.d", "it must be from 0 to 2"},
    {"{\"s\":5}", "p.s", "p.s must be a string, not the number 5"},
    {"{\"s\":\"\"}", "p.s", "p.s has 0 bytes; it must have from 1 to 4"},
    {"{\"s\":\"abcde\"}", "p.s", "p.s has 5 bytes"},
    {"{\"s\":\"a\\u0000b\"}", "p.s", "p.s holds a NUL character"},
    {"{\"array\":{}}", "p.array", "p.array must be an array, not an object"},
    {"{\"array\":[]}", "p.array", "p.array has 0 entries; it must have from 1 to 2"},
    {"{\"array\":[1,2,3]}", "p.array", "p.array has 3 entries"},
    {"{\"object\":[1]}", "p.object", "p.object must be an object, not an array of 1"},
    {"{\"object\":{\"a\":1,\"b\":2}}", "p.object", "p.object has 2 entries"},
};

Test(json, wrong_values_name_the_field)
{
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        struct err e;
        struct all all;
        json_t *v = parse(WRONG[i].text, &e);
        cr_assert(eq(int, json_read(ALL, N_ALL, v, "p", &all, &e), -1), "%s", WRONG[i].text);
        cr_assert(eq(int, (int)e.code, ERR_BAD_REQUEST));
        cr_assert(eq(str, e.param, (char *)WRONG[i].param));
        cr_assert(ne(ptr, strstr(e.text, WRONG[i].says), NULL), "'%s'", e.text);
        json_decref(v);
    }
}

Test(json, required_fields_and_paths)
{
    static const struct json_field REQUIRED[] = {{"role", JSON_KIND_STR, 0, 0, 9, 0, true}};
    struct err e;
    const char *role;
    json_t *v = parse("{\"role\":null}", &e);
    cr_assert(eq(int, json_read(REQUIRED, 1, v, "messages[2]", &role, &e), -1));
    cr_assert(eq(str, e.param, "messages[2].role"));
    cr_assert(eq(str, e.text, "messages[2].role is missing"));
    json_decref(v);
    v = parse("[1]", &e);
    cr_assert(eq(int, json_read(REQUIRED, 1, v, "", &role, &e), -1));
    cr_assert(eq(str, e.text, "the body must be an object, not an array of 1"));
    json_decref(v);
}

// INT64_MAX and its neighbour are the same double, so the comparison must not be what lets them in.
Test(json, whole_int64_range)
{
    static const struct json_field WIDE[] = {{"i", JSON_KIND_INT, 0, -0x1p63, 0x1p63, 0, false}};
    struct err e;
    int64_t i;
    json_t *v = parse("{\"i\":9223372036854775807}", &e);
    cr_assert(zero(json_read(WIDE, 1, v, "", &i, &e)));
    cr_assert(eq(i64, i, INT64_MAX));
    json_decref(v);
    v = parse("{\"i\":1e18}", &e); // beyond 2^53 a double does not say which whole number is meant
    cr_assert(eq(int, json_read(WIDE, 1, v, "", &i, &e), -1));
    json_decref(v);
}

// --- quoting --------------------------------------------------------------------------------

static void check_quote(const char *s, size_t n, const char *read, size_t read_n)
{
    struct buf b = {0};
    struct err e = {0};
    json_quote(&b, s, n);
    json_t *v = json_parse(b.data, b.n, 1, &e);
    cr_assert(ne(ptr, v, NULL), "%s: %s", b.data, e.text);
    cr_assert(eq(sz, json_string_length(v), read_n), "%s", b.data);
    cr_assert(zero(memcmp(json_string_value(v), read, read_n)), "%s", b.data);
    json_decref(v);
    buf_fini(&b);
}

Test(json, quoted_text_reads_back)
{
    char all[128];
    for (int i = 0; i < 128; i++)
        all[i] = (char)i;
    check_quote(all, sizeof all, all, sizeof all);
    const char *texts[] = {"", "a", "\"\\/", "é", "€", "😀", "\xF4\x8F\xBF\xBF", "line\nline"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        check_quote(texts[i], strlen(texts[i]), texts[i], strlen(texts[i]));
}

#define FFFD "\xEF\xBF\xBD"

Test(json, broken_utf8_becomes_a_replacement_character)
{
    check_quote("a\xFF"
                "b",
                3, "a" FFFD "b", 5);
    check_quote("\xC3", 1, FFFD, 3);
    check_quote("\xC0\x80", 2, FFFD FFFD, 6);          // overlong
    check_quote("\xED\xA0\x80", 3, FFFD FFFD FFFD, 9); // surrogate
    check_quote("\xF4\x90\x80\x80", 4, FFFD FFFD FFFD FFFD, 12);
    check_quote("\xE2\x82"
                "x",
                3, FFFD FFFD "x", 7);
}

Test(json, describe)
{
    static const char *const TEXTS[][2] = {
        {"null", "null"},
        {"true", "true"},
        {"false", "false"},
        {"3", "the number 3"},
        {"[1,2]", "an array of 2"},
        {"{}", "an object"},
        {"\"a\"", "the string \"a\""},
        {"2.5", "the number 2.5"},
        {"\"123456789012345678901234567890123\"", "a string of 33 bytes"},
    };
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        struct err e;
        char text[64];
        json_t *v = parse(TEXTS[i][0], &e);
        json_describe(v, text, sizeof text);
        cr_assert(eq(str, text, (char *)TEXTS[i][1]));
        json_decref(v);
    }
    char text[16];
    json_describe(NULL, text, sizeof text);
    cr_assert(eq(str, text, "null"));
}
