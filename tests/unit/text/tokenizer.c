// tokenizer.c - tests of server/text/tokenizer.c, tokenizer_json.c, vocab.c and bpe.c, with the tiny
// tokenizer of tests/data and the ids that the `tokenizers` library gives with it.
#include "tokenizer.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "buf.h"
#include "mem.h"
#include "pretokenize.h"

static void expect_ids(const struct tokenizer *tk, const json_t *text, const json_t *ids)
{
    struct ids got = {0};
    struct err e = {0};
    const char *s = json_string_value(text);
    cr_assert_eq(tokenizer_encode(tk, s, json_string_length(text), TOKENIZER_SPECIAL, &got, &e), 0,
                 "\"%s\": %s", s, e.text);
    cr_expect_eq(got.n, json_array_size(ids), "\"%s\" has %zu ids, expected %zu", s, got.n,
                 json_array_size(ids));
    for (size_t i = 0; i < got.n && i < json_array_size(ids); i++)
        cr_expect_eq(got.data[i], json_integer_value(json_array_get(ids, i)), "\"%s\" id %zu", s,
                     i);
    ids_fini(&got);
}

Test(tokenizer, ids_are_the_library_s)
{
    struct tokenizer *tk = fixture_tokenizer();
    json_t *expected = fixture_json("tiny_tokenizer/expected.json");
    json_t *cases = json_object_get(expected, "encode"), *one;
    size_t i;
    cr_assert_gt(json_array_size(cases), 100);
    json_array_foreach(cases, i, one)
        expect_ids(tk, json_object_get(one, "text"), json_object_get(one, "ids"));
    json_decref(expected);
    tokenizer_destroy(tk);
}

// The document at tests/data/tiny_tokenizer/tokenizer.json, to be changed.
static json_t *tiny(void)
{
    return fixture_json("tiny_tokenizer/tokenizer.json");
}

static json_t *split_of(json_t *document)
{
    json_t *list = json_object_get(json_object_get(document, "pre_tokenizer"), "pretokenizers");
    return json_array_get(list, 0);
}

Test(tokenizer, qwen2_expression)
{
    json_t *document = tiny(), *one;
    struct err e = {0};
    json_object_set_new(json_object_get(split_of(document), "pattern"), "Regex",
                        json_string(PRETOKENIZE_QWEN2));
    struct tokenizer *tk = fixture_parse(document, NULL, &e);
    cr_assert(tk != NULL, "%s", e.text);
    json_t *expected = fixture_json("tiny_tokenizer/expected.json");
    size_t i, different = 0;
    json_array_foreach(json_object_get(expected, "encode"), i, one)
    {
        json_t *ids = json_object_get(one, "qwen2_ids");
        if (strstr(json_string_value(json_object_get(one, "text")), "<tts_pad>"))
            continue; // known only to tokenizer_config.json, which is left out here
        different += ids != NULL;
        expect_ids(tk, json_object_get(one, "text"), ids ? ids : json_object_get(one, "ids"));
    }
    cr_expect_geq(different, 3);
    json_decref(expected);
    json_decref(document);
    tokenizer_destroy(tk);
}

Test(tokenizer, merges_as_strings)
{
    json_t *document = tiny(), *pair;
    json_t *strings = json_array();
    size_t i;
    json_array_foreach(json_object_get(json_object_get(document, "model"), "merges"), i, pair)
        json_array_append_new(strings,
                              json_sprintf("%s %s", json_string_value(json_array_get(pair, 0)),
                                           json_string_value(json_array_get(pair, 1))));
    json_object_set_new(json_object_get(document, "model"), "merges", strings);
    struct err e = {0};
    struct tokenizer *tk = fixture_parse(document, NULL, &e);
    cr_assert(tk != NULL, "%s", e.text);
    json_t *expected = fixture_json("tiny_tokenizer/expected.json");
    for (i = 0; i < 12; i++) {
        json_t *one = json_array_get(json_object_get(expected, "encode"), i);
        expect_ids(tk, json_object_get(one, "text"), json_object_get(one, "ids"));
    }
    json_decref(expected);
    json_decref(document);
    tokenizer_destroy(tk);
}

Test(tokenizer, added_tokens)
{
    struct tokenizer *tk = fixture_tokenizer();
    int start = tokenizer_find(tk, "<|im_start|>"), think = tokenizer_find(tk, "<think>");
    int pad = tokenizer_find(tk, "<tts_pad>");
    cr_assert(start > 0 && think > 0 && pad > 0);
    cr_expect(tokenizer_is_added(tk, start) && tokenizer_is_special(tk, start));
    cr_expect(tokenizer_is_added(tk, think) && !tokenizer_is_special(tk, think));
    cr_expect_eq(pad, tokenizer_count(tk) - 1, "the configuration's token is the last one");
    cr_expect(!tokenizer_is_added(tk, 5) && !tokenizer_is_special(tk, 5));
    cr_expect_eq(tokenizer_find(tk, "<|im_start|>x"), -1);
    cr_expect_eq(tokenizer_find(tk, "<|im_start"), -1);
    cr_expect_eq(tokenizer_find(tk, "a"), -1, "not an added token");
    cr_expect_eq(tokenizer_find(tk, ""), -1);
    size_t n = 1;
    cr_expect_str_eq(tokenizer_bytes(tk, think, &n), "<think>");
    cr_expect_eq(n, 7);
    tokenizer_bytes(tk, tokenizer_count(tk), &n);
    cr_expect_eq(n, 0);
    tokenizer_bytes(tk, -1, &n);
    cr_expect_eq(n, 0);
    cr_expect_not_null(strstr(tokenizer_config_json(tk), "eos_token"));
    tokenizer_destroy(tk);
}

Test(tokenizer, added_tokens_as_plain_text)
{
    struct tokenizer *tk = fixture_tokenizer();
    struct ids ids = {0};
    struct err e = {0};
    static const char text[] = "a<|im_end|>b";
    cr_assert_eq(tokenizer_encode(tk, text, strlen(text), 0, &ids, &e), 0);
    struct buf back = {0};
    for (size_t i = 0; i < ids.n; i++) {
        size_t n;
        cr_expect(!tokenizer_is_added(tk, ids.data[i]));
        const char *bytes = tokenizer_bytes(tk, ids.data[i], &n);
        buf_add(&back, bytes, n);
    }
    cr_expect_str_eq(back.data, text);
    buf_fini(&back);
    ids_fini(&ids);
    tokenizer_destroy(tk);
}

Test(tokenizer, appends_and_leaves_on_failure)
{
    struct tokenizer *tk = fixture_tokenizer();
    struct ids ids = {0};
    struct err e = {0};
    ids_add(&ids, 7);
    ids.max = 5;
    cr_assert_eq(tokenizer_encode(tk, "1234", 4, 0, &ids, &e), 0, "four digits are four ids");
    cr_expect_eq(ids.n, 5);
    cr_expect_eq(tokenizer_encode(tk, "1", 1, 0, &ids, &e), -1);
    cr_expect_eq(e.code, ERR_TOO_LARGE);
    cr_expect_eq(ids.n, 5);
    cr_expect_eq(tokenizer_encode(tk, "<think><think>", 14, TOKENIZER_SPECIAL, &ids, &e), -1);
    cr_expect_eq(e.code, ERR_TOO_LARGE);
    cr_expect_eq(tokenizer_encode(tk, "abc\xE4\xB8", 5, 0, &ids, &e), -1);
    cr_expect_eq(e.code, ERR_BAD_REQUEST);
    cr_expect_not_null(strstr(e.text, "byte 3"), "%s", e.text);
    cr_expect_eq(ids.n, 5);
    cr_expect_eq(ids.data[0], 7);
    ids_fini(&ids);
    tokenizer_destroy(tk);
}

// A megabyte without a cut: quadratic merging would not come back.
Test(tokenizer, long_pieces, .timeout = 60)
{
    enum { BYTES = 1 << 20 };
    static const char *const units[] = {"e", "the", "=", " ", "\xE5\xA4\xA9", "\xCC\x81", "<"};
    struct tokenizer *tk = fixture_tokenizer();
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        struct buf text = {0}, back = {0};
        struct ids ids = {0};
        struct err e = {0};
        while (text.n < BYTES)
            buf_str(&text, units[i]);
        cr_assert_eq(tokenizer_encode(tk, text.data, text.n, TOKENIZER_SPECIAL, &ids, &e), 0);
        for (size_t k = 0; k < ids.n; k++) {
            size_t n;
            const char *bytes = tokenizer_bytes(tk, ids.data[k], &n);
            buf_add(&back, bytes, n);
        }
        cr_expect(back.n == text.n && memcmp(back.data, text.data, text.n) == 0, "%s", units[i]);
        ids_fini(&ids);
        buf_fini(&text);
        buf_fini(&back);
    }
    tokenizer_destroy(tk);
}

// Short and long pieces are merged by different code; the border must not be seen: the ids of a run of
// n letters are those of the run of n - 1 up to a few at the end.
Test(tokenizer, merging_is_the_same_in_short_and_long_pieces)
{
    struct tokenizer *tk = fixture_tokenizer();
    struct err e = {0};
    struct ids before = {0};
    for (size_t n = 50; n < 80; n++) {
        char text[80];
        struct ids ids = {0};
        for (size_t i = 0; i < n; i++)
            text[i] = "the"[i % 3];
        cr_assert_eq(tokenizer_encode(tk, text, n, 0, &ids, &e), 0);
        cr_expect_leq(ids.n, before.n + 2 + 100 * (n == 50));
        for (size_t i = 0; i + 3 < before.n; i++)
            cr_expect_eq(ids.data[i], before.data[i], "n %zu id %zu", n, i);
        ids_fini(&before);
        before = ids;
    }
    ids_fini(&before);
    tokenizer_destroy(tk);
}

static void *encode_again(void *arg)
{
    json_t *expected = fixture_json("tiny_tokenizer/expected.json"), *one;
    size_t i;
    json_array_foreach(json_object_get(expected, "encode"), i, one)
        expect_ids(arg, json_object_get(one, "text"), json_object_get(one, "ids"));
    json_decref(expected);
    return NULL;
}

Test(tokenizer, many_threads_at_once)
{
    enum { THREADS = 4 };
    struct tokenizer *tk = fixture_tokenizer();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, encode_again, tk), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    tokenizer_destroy(tk);
}

Test(tokenizer, files_that_are_not_there)
{
    struct err e = {0};
    cr_expect_null(tokenizer_load(TEST_SOURCE_DIR "/tests/data/nowhere", &e));
    cr_expect_eq(e.code, ERR_NOT_FOUND);
    cr_expect_not_null(strstr(e.text, "tokenizer.json"), "%s", e.text);
}

// One wrong file: the change to the tiny tokenizer, and words of the sentence that must come.
struct refusal {
    const char *path;  // keys and indexes from the root, separated by '/'
    const char *value; // JSON to put there
    const char *words;
};

static const struct refusal REFUSALS[] = {
    {"normalizer", "{\"type\": \"NFKC\"}", "normalizer is the string \"NFKC\""},
    {"pre_tokenizer", "null", "pre_tokenizer is null"},
    {"pre_tokenizer/pretokenizers/0/pattern", "{\"String\": \" \"}", "Split with a Regex"},
    {"pre_tokenizer/pretokenizers/0/pattern/Regex", "\"\\\\w+\"", "expression is \\w+"},
    {"pre_tokenizer/pretokenizers/0/behavior", "\"Removed\"", "Isolated"},
    {"pre_tokenizer/pretokenizers/0/invert", "true", "not inverted"},
    {"pre_tokenizer/pretokenizers/1/use_regex", "true", "use_regex"},
    {"pre_tokenizer/pretokenizers/1/add_prefix_space", "true", "add_prefix_space"},
    {"decoder", "{\"type\": \"WordPiece\"}", "decoder is the string \"WordPiece\""},
    {"post_processor", "{\"type\": \"TemplateProcessing\"}", "post_processor"},
    {"truncation", "{\"max_length\": 3}", "truncation"},
    {"model/type", "\"Unigram\"", "Unigram"},
    {"model/dropout", "0.1", "model.dropout"},
    {"model/byte_fallback", "true", "model.byte_fallback"},
    {"model/ignore_merges", "true", "model.ignore_merges"},
    {"model/vocab", "[]", "model.vocab"},
    {"model/vocab/the", "-1", "\"the\""},
    {"model/vocab/the", "1048576", "not an id"},
    {"model/vocab/the", "1.5", "not an id"},
    {"model/vocab/the", "0", "id 0 is taken"},
    {"model/vocab/with space", "5000", "byte alphabet"},
    {"model/vocab/", "5000", "byte alphabet"},
    {"model/vocab/\xE4\xB8\xAD", "5000", "byte alphabet"},
    {"model/merges", "{}", "model.merges"},
    {"model/merges/0", "\"ab\"", "model.merges[0]"},
    {"model/merges/0", "[\"a\"]", "model.merges[0]"},
    {"model/merges/0", "[\"a\", 3]", "model.merges[0]"},
    {"model/merges/0", "[\"a\", \"zqzq\"]", "\"zqzq\" is not in model.vocab"},
    {"model/merges/0", "[\"z\", \"q\"]", "joined"},
    {"added_tokens", "{}", "added_tokens"},
    {"added_tokens/0/id", "-5", "added_tokens[0]"},
    {"added_tokens/0/id", "99999999999", "added_tokens[0]"},
    {"added_tokens/0/content", "\"\"", "content"},
    {"added_tokens/0/content", "7", "content"},
    {"added_tokens/0/lstrip", "true", "lstrip is set"},
    {"added_tokens/0/normalized", "true", "normalized is set"},
    {"added_tokens/0/single_word", "true", "single_word is set"},
    {"added_tokens/1/content", "\"<|endoftext|>\"", "same text"},
    {"added_tokens/0/id", "3", "is taken by"},
};

static void put(json_t *at, const char *path, json_t *value)
{
    for (;;) {
        const char *slash = strchr(path, '/');
        size_t n = slash ? (size_t)(slash - path) : strlen(path);
        char key[64];
        cr_assert_lt(n, sizeof key);
        memcpy(key, path, n);
        key[n] = '\0';
        if (!slash) {
            if (json_is_array(at))
                json_array_set_new(at, strtoul(key, NULL, 10), value);
            else
                json_object_set_new(at, key, value);
            return;
        }
        at = json_is_array(at) ? json_array_get(at, strtoul(key, NULL, 10))
                               : json_object_get(at, key);
        cr_assert_not_null(at, "%s", path);
        path = slash + 1;
    }
}

Test(tokenizer, wrong_files_are_refused)
{
    for (size_t i = 0; i < sizeof REFUSALS / sizeof REFUSALS[0]; i++) {
        const struct refusal *row = &REFUSALS[i];
        json_t *document = tiny();
        struct err e = {0};
        put(document, row->path, json_loads(row->value, JSON_DECODE_ANY, NULL));
        struct tokenizer *tk = fixture_parse(document, NULL, &e);
        cr_expect_null(tk, "%s = %s", row->path, row->value);
        cr_expect_eq(e.code, ERR_BAD_REQUEST);
        cr_expect_not_null(strstr(e.text, row->words), "%s = %s: %s", row->path, row->value,
                           e.text);
        tokenizer_destroy(tk);
        json_decref(document);
    }
}

Test(tokenizer, longest_token_and_missing_byte)
{
    char name[1026], path[32] = "model/vocab/";
    struct err e = {0};
    memset(name, 'q', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    json_t *document = tiny(),
           *vocab = json_object_get(json_object_get(document, "model"), "vocab");
    json_object_set_new(vocab, name, json_integer(9000));
    cr_expect_null(fixture_parse(document, NULL, &e), "%s", path);
    cr_expect_not_null(strstr(e.text, "byte alphabet"), "%s", e.text);
    json_object_del(vocab, name);
    json_object_set_new(vocab, name + 1, json_integer(9000)); // 1024 bytes
    struct tokenizer *tk = fixture_parse(document, NULL, &e);
    cr_assert_not_null(tk, "%s", e.text);
    cr_expect_eq(tokenizer_count(tk), 9001);
    tokenizer_destroy(tk);
    json_object_del(vocab, "z");
    cr_expect_null(fixture_parse(document, NULL, &e));
    cr_expect_not_null(strstr(e.text, "\"z\" is not in model.vocab") ?: strstr(e.text, "0x7a"),
                       "%s", e.text);
    json_decref(document);
}

Test(tokenizer, a_token_that_its_merges_never_make)
{
    // "zq" has no merge, so the text zq stays two tokens although the vocabulary has it whole.
    json_t *document = tiny();
    struct err e = {0};
    struct ids ids = {0};
    put(document, "model/vocab/zq", json_integer(5000));
    struct tokenizer *tk = fixture_parse(document, NULL, &e);
    cr_assert_not_null(tk, "%s", e.text);
    cr_assert_eq(tokenizer_encode(tk, "zq", 2, 0, &ids, &e), 0);
    cr_expect_eq(ids.n, 2);
    ids_fini(&ids);
    tokenizer_destroy(tk);
    json_decref(document);
}

Test(tokenizer, added_token_inside_the_vocabulary)
{
    json_t *document = tiny();
    struct err e = {0};
    json_t *added = json_array_get(json_object_get(document, "added_tokens"), 0);
    json_t *id = json_object_get(added, "id");
    json_object_set(json_object_get(json_object_get(document, "model"), "vocab"), "<|endoftext|>",
                    id);
    struct tokenizer *tk = fixture_parse(document, NULL, &e);
    cr_assert_not_null(tk, "%s", e.text);
    cr_expect_eq(tokenizer_find(tk, "<|endoftext|>"), json_integer_value(id));
    struct ids ids = {0};
    cr_assert_eq(tokenizer_encode(tk, "<|endoftext|>", 13, 0, &ids, &e), 0);
    cr_expect_gt(ids.n, 1, "as plain text it is merged from its bytes");
    ids_fini(&ids);
    tokenizer_destroy(tk);
    json_decref(document);
}

Test(tokenizer, configuration)
{
    static const struct {
        const char *config, *words; // words NULL: accepted
    } rows[] = {
        {"{}", NULL},
        {"{\"added_tokens_decoder\": {\"7000\": {\"content\": \"<x>\", \"special\": true}}}", NULL},
        {"{\"added_tokens_decoder\": {\"70x\": {\"content\": \"<x>\"}}}", "[\"70x\"]"},
        {"{\"added_tokens_decoder\": {\"\": {\"content\": \"<x>\"}}}", "id -1"},
        {"{\"added_tokens_decoder\": {\"-3\": {\"content\": \"<x>\"}}}", "id -1"},
        {"{\"added_tokens_decoder\": {\"99999999999999999999\": {\"content\": \"<x>\"}}}", "id"},
        {"{\"added_tokens_decoder\": {\"7000\": {\"content\": \"<x>\", \"rstrip\": true}}}",
         "rstrip"},
        {"{\"added_tokens_decoder\": {\"620\": {\"content\": \"<x>\"}}}", "elsewhere"},
        {"{\"added_tokens_decoder\": {\"7000\": {\"content\": \"<think>\"}}}", "same text"},
        {"{", "tokenizer_config.json"},
    };
    json_t *document = tiny();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = {0};
        struct tokenizer *tk = fixture_parse(document, rows[i].config, &e);
        cr_expect_eq(tk != NULL, rows[i].words == NULL, "%s: %s", rows[i].config, e.text);
        if (rows[i].words)
            cr_expect_not_null(strstr(e.text, rows[i].words), "%s: %s", rows[i].config, e.text);
        tokenizer_destroy(tk);
    }
    json_decref(document);
}
