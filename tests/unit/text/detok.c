// detok.c - tests of server/text/detok.c.
#include "detok.h"

#include <criterion/criterion.h>
#include <string.h>

#include "fixture.h"
#include "utf8.h"

// Feed ids (JSON array) one at a time; every piece let out must be whole characters.
static void feed(struct detok *d, const json_t *ids, struct buf *out)
{
    for (size_t i = 0; i < json_array_size(ids); i++) {
        size_t before = out->n;
        detok_push(d, (int)json_integer_value(json_array_get(ids, i)), out);
        cr_expect_eq(utf8_check(out->data + before, out->n - before), out->n - before);
    }
    detok_flush(d, out);
}

static void expect_text(const struct tokenizer *tk, const json_t *ids, bool special,
                        const json_t *text)
{
    struct detok d;
    struct buf out = {0};
    buf_str(&out, "");
    detok_init(&d, tk, NULL, 0, special);
    feed(&d, ids, &out);
    cr_expect(out.n == json_string_length(text) &&
                  memcmp(out.data, json_string_value(text), out.n) == 0,
              "\"%s\", expected \"%s\"", out.data, json_string_value(text));
    cr_expect_eq(d.stop, -1);
    detok_fini(&d);
    buf_fini(&out);
}

Test(detok, text_is_the_library_s)
{
    struct tokenizer *tk = fixture_tokenizer();
    json_t *expected = fixture_json("tiny_tokenizer/expected.json"), *one;
    size_t i;
    json_array_foreach(json_object_get(expected, "encode"), i, one)
    {
        expect_text(tk, json_object_get(one, "ids"), true, json_object_get(one, "decoded"));
        expect_text(tk, json_object_get(one, "ids"), false, json_object_get(one, "shown"));
    }
    json_array_foreach(json_object_get(expected, "decode"), i, one)
        expect_text(tk, json_object_get(one, "ids"), true, json_object_get(one, "decoded"));
    json_decref(expected);
    tokenizer_destroy(tk);
}

// The ids of single bytes, found through the tokenizer itself.
static int byte_id(const struct tokenizer *tk, unsigned char byte)
{
    for (int id = 0; id < tokenizer_count(tk); id++) {
        size_t n;
        const char *bytes = tokenizer_bytes(tk, id, &n);
        if (n == 1 && (unsigned char)bytes[0] == byte)
            return id;
    }
    cr_assert(false, "no token for byte 0x%02x", byte);
    return -1;
}

// Push text byte by byte until a stop string; returns how many bytes were pushed.
static size_t push_bytes(struct detok *d, const struct tokenizer *tk, const char *text,
                         struct buf *out)
{
    for (size_t i = 0; text[i]; i++)
        if (detok_push(d, byte_id(tk, (unsigned char)text[i]), out))
            return i + 1;
    return strlen(text);
}

Test(detok, characters_come_whole)
{
    struct tokenizer *tk = fixture_tokenizer();
    struct detok d;
    struct buf out = {0};
    detok_init(&d, tk, NULL, 0, false);
    push_bytes(&d, tk, "a\xF0\x9F\x98", &out);
    cr_expect_str_eq(out.data, "a");
    push_bytes(&d, tk, "\x80", &out);
    cr_expect_str_eq(out.data, "a😀");
    push_bytes(&d, tk, "\xE4\xB8", &out);
    cr_expect_str_eq(out.data, "a😀");
    push_bytes(&d, tk, "b", &out); // the two bytes can be nothing any more
    cr_expect_str_eq(out.data, "a😀\xEF\xBF\xBD"
                               "b");
    push_bytes(&d, tk, "\xE4\xB8", &out);
    detok_flush(&d, &out);
    cr_expect_str_eq(out.data, "a😀\xEF\xBF\xBD"
                               "b\xEF\xBF\xBD");
    detok_fini(&d);
    buf_fini(&out);
    tokenizer_destroy(tk);
}

static const struct {
    const char *stops[3];
    const char *text, *out;
    int stop;
} STOPS[] = {
    {{"STOP"}, "one STOP two", "one ", 0},
    {{"STOP"}, "one STO", "one STO", -1},
    {{"STOP"}, "SSTOP", "S", 0},
    {{"aab"}, "aaab", "a", 0},
    {{"abab", "abc"}, "ababc", "", 0},
    {{"xyz", "bc"}, "abcd", "a", 1},
    {{"bcd", "c"}, "abcd", "ab", 1},    // ends first
    {{"c", "bc", "abc"}, "abc", "", 2}, // end together: the longest
    {{"\n\n"}, "a\nb\n\nc", "a\nb", 0},
    {{"é"}, "caf\xC3\xA9 x", "caf", 0},
    {{"\xEF\xBF\xBD"}, "a\xE4z", "a", 0}, // bytes that became U+FFFD
    {{"\xEF\xBF\xBD"}, "a\xE4", "a", 0},  // and those that do so at the end
    {{"a"}, "a", "", 0},
};

Test(detok, stop_strings)
{
    struct tokenizer *tk = fixture_tokenizer();
    for (size_t i = 0; i < sizeof STOPS / sizeof STOPS[0]; i++) {
        struct detok_stop stops[3];
        int n = 0;
        for (; n < 3 && STOPS[i].stops[n]; n++)
            stops[n] = (struct detok_stop){STOPS[i].stops[n], strlen(STOPS[i].stops[n])};
        struct detok d;
        struct buf out = {0};
        buf_str(&out, "");
        detok_init(&d, tk, stops, n, false);
        push_bytes(&d, tk, STOPS[i].text, &out);
        detok_flush(&d, &out);
        cr_expect_str_eq(out.data, STOPS[i].out, "row %zu: \"%s\"", i, out.data);
        cr_expect_eq(d.stop, STOPS[i].stop, "row %zu: stop %d", i, d.stop);
        if (d.stop >= 0) {
            cr_expect(detok_push(&d, byte_id(tk, 'x'), &out), "row %zu", i);
            cr_expect_str_eq(out.data, STOPS[i].out, "row %zu: nothing comes after a stop", i);
        }
        detok_fini(&d);
        buf_fini(&out);
    }
    tokenizer_destroy(tk);
}

Test(detok, only_what_may_stop_is_held_back)
{
    struct tokenizer *tk = fixture_tokenizer();
    struct detok_stop stop = {"<end>", 5};
    struct detok d;
    struct buf out = {0};
    detok_init(&d, tk, &stop, 1, false);
    push_bytes(&d, tk, "ab<e", &out);
    cr_expect_str_eq(out.data, "ab");
    push_bytes(&d, tk, "x", &out);
    cr_expect_str_eq(out.data, "ab<ex");
    push_bytes(&d, tk, "<en<en", &out);
    cr_expect_str_eq(out.data, "ab<ex<en");
    detok_flush(&d, &out);
    cr_expect_str_eq(out.data, "ab<ex<en<en");
    detok_fini(&d);
    buf_fini(&out);
    tokenizer_destroy(tk);
}

Test(detok, tokens_of_many_bytes)
{
    struct tokenizer *tk = fixture_tokenizer();
    struct ids ids = {0};
    struct err e = {0};
    static const char text[] = "The state of the token sequence";
    cr_assert_eq(tokenizer_encode(tk, text, strlen(text), 0, &ids, &e), 0);
    cr_assert_lt(ids.n, strlen(text) / 2, "the text has tokens of many bytes");
    struct detok_stop stop = {"he tok", 6}; // begins and ends inside tokens
    struct detok d;
    struct buf out = {0};
    detok_init(&d, tk, &stop, 1, false);
    bool stopped = false;
    for (size_t i = 0; i < ids.n && !stopped; i++)
        stopped = detok_push(&d, ids.data[i], &out);
    cr_expect(stopped);
    cr_expect_str_eq(out.data, "The state of t");
    ids_fini(&ids);
    detok_fini(&d);
    buf_fini(&out);
    tokenizer_destroy(tk);
}

Test(detok, special_tokens)
{
    struct tokenizer *tk = fixture_tokenizer();
    int end = tokenizer_find(tk, "<|im_end|>"), think = tokenizer_find(tk, "<think>");
    for (int special = 0; special < 2; special++) {
        struct detok d;
        struct buf out = {0};
        detok_init(&d, tk, NULL, 0, special);
        push_bytes(&d, tk, "a\xC3", &out);
        detok_push(&d, end, &out); // left out, it does not stand between the halves of a character
        push_bytes(&d, tk, "\xA9", &out);
        detok_push(&d, think, &out);
        cr_expect_str_eq(out.data,
                         special ? "a\xEF\xBF\xBD<|im_end|>\xEF\xBF\xBD<think>" : "aé<think>");
        detok_fini(&d);
        buf_fini(&out);
    }
    tokenizer_destroy(tk);
}

Test(detok, without_a_tokenizer)
{
    struct detok d;
    struct buf out = {0};
    detok_init(&d, NULL, NULL, 0, true);
    cr_expect(!detok_push(&d, 3, &out));
    detok_flush(&d, &out);
    cr_expect_eq(out.n, 0);
    detok_fini(&d);
    buf_fini(&out);
}
