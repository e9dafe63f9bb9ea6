// Tests of server/api/logprobs.c: names of tokens, figures that read back, maps without lost entries.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <string.h>

#include "json.h"
#include "logprobs.h"

// The bundled tokenizer with one added token that has the text of another, as padded vocabularies do.
struct names {
    struct tokenizer *tokenizer;
    int a, b; // two ids of the text "<|pad|>"
};

static struct names open_names(void)
{
    struct err e = {0};
    struct names n = {.a = 6138, .b = 6144};
    json_error_t why;
    json_t *t = json_load_file(TEST_SOURCE_DIR "/models/bundled/tokenizer.json", 0, &why);
    cr_assert(ne(ptr, t, NULL), "%s", why.text);
    const char *key;
    json_t *id;
    json_t *vocab = json_object_get(json_object_get(t, "model"), "vocab");
    json_object_foreach(vocab, key, id)
    {
        if (json_integer_value(id) != n.a)
            continue;
        // Plain ASCII stands for itself in a byte-level vocabulary; a space is written otherwise.
        cr_assert(ne(ptr, strstr(key, "\xC4\xA0"), NULL), "'%s' was expected to begin with a space",
                  key);
        struct buf text = {0};
        buf_format(&text, " %s", key + 2);
        json_array_append_new(json_object_get(t, "added_tokens"),
                              json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", n.b, "content",
                                        text.data, "single_word", 0, "lstrip", 0, "rstrip", 0,
                                        "normalized", 0, "special", 0));
        buf_fini(&text);
    }
    char *json = json_dumps(t, 0);
    n.tokenizer = tokenizer_parse(json, strlen(json), NULL, 0, &e);
    cr_assert(ne(ptr, n.tokenizer, NULL), "%s", e.text);
    free(json);
    json_decref(t);
    return n;
}

static json_t *read(const struct buf *b)
{
    struct err e = {0};
    json_t *v = json_parse(b->data, b->n, 8, &e);
    cr_assert(ne(ptr, v, NULL), "%s: %s", e.text, b->data);
    return v;
}

static json_t *name_of(const struct logprobs_form *f, int id)
{
    struct buf b = {0};
    logprobs_write_name(&b, f, id);
    json_t *v = read(&b);
    buf_fini(&b);
    return v;
}

static void check_name(const struct logprobs_form *f, int id, const char *name)
{
    json_t *v = name_of(f, id);
    cr_assert(eq(str, (char *)json_string_value(v), (char *)name));
    json_decref(v);
}

static int id_of_bytes(const struct tokenizer *tk, const char *bytes)
{
    for (int id = 0; id < tokenizer_count(tk); id++) {
        size_t n;
        const char *b = tokenizer_bytes(tk, id, &n);
        if (n == strlen(bytes) && !memcmp(b, bytes, n))
            return id;
    }
    cr_assert(false, "no token of these bytes");
    return -1;
}

Test(logprobs, names)
{
    struct err e = {0};
    struct tokenizer *tk = tokenizer_load(TEST_SOURCE_DIR "/models/bundled", &e);
    cr_assert(ne(ptr, tk, NULL), "%s", e.text);
    struct logprobs_form text = {.tokenizer = tk}, ids = {.tokenizer = tk, .as_ids = true},
                         none = {0};
    check_name(&text, id_of_bytes(tk, "\""), "\"");
    check_name(&text, id_of_bytes(tk, "\xE2"), "bytes:\\xe2");
    check_name(&text, 6141, "<|im_end|>");
    check_name(&ids, 6141, "token_id:6141");
    check_name(&none, 7, "token_id:7");
    tokenizer_destroy(tk);
}

Test(logprobs, figures_read_back_as_the_same_float)
{
    static const float FIGURES[] = {-0.1f, -1.0f / 3, -7.75302219f, -1e-7f, 0, -123.456789f};
    struct logprobs_form f = {.n_top = 1};
    for (size_t i = 0; i < sizeof FIGURES / sizeof *FIGURES; i++) {
        struct logprobs l = {0};
        struct buf b = {0};
        struct gen_top top = {3, FIGURES[i]};
        logprobs_add(&l, &f, &(struct gen_token){.id = 3, .logprob = FIGURES[i], .top = &top}, true,
                     0);
        logprobs_write(&l, &b);
        json_t *v = read(&b);
        json_t *own = json_array_get(json_object_get(v, "token_logprobs"), 0);
        json_t *map = json_array_get(json_object_get(v, "top_logprobs"), 0);
        double best = json_number_value(json_object_get(map, "token_id:3"));
        cr_assert(eq(sz, json_object_size(map), 1));
        cr_assert(json_number_value(own) == best && (float)best == FIGURES[i], "%.9g", best);
        json_decref(v);
        logprobs_fini(&l);
        buf_fini(&b);
    }
}

Test(logprobs, infinity_and_nan_become_never)
{
    static const float FIGURES[] = {-INFINITY, INFINITY, NAN};
    struct logprobs_form f = {0};
    for (size_t i = 0; i < 3; i++) {
        struct buf b = {0};
        logprobs_write_chat(&b, &f, &(struct gen_token){.id = 3, .logprob = FIGURES[i]});
        json_t *v = read(&b);
        cr_assert(json_number_value(json_object_get(v, "logprob")) == -9999.0);
        json_decref(v);
        buf_fini(&b);
    }
}

Test(logprobs, equal_texts_do_not_overwrite_each_other)
{
    struct names n = open_names();
    size_t a_n, b_n;
    const char *a = tokenizer_bytes(n.tokenizer, n.a, &a_n);
    const char *b = tokenizer_bytes(n.tokenizer, n.b, &b_n);
    cr_assert(a_n == b_n && !memcmp(a, b, a_n), "the two tokens have one text");
    struct logprobs_form f = {.tokenizer = n.tokenizer, .n_top = 2};
    struct gen_top top[] = {{n.a, -1}, {n.b, -2}};
    struct logprobs l = {0};
    struct buf out = {0};
    logprobs_add(&l, &f, &(struct gen_token){.id = 5, .logprob = -3, .top = top}, true, 0);
    logprobs_write(&l, &out);
    json_t *v = read(&out); // a parser that refuses duplicate keys
    json_t *map = json_array_get(json_object_get(v, "top_logprobs"), 0);
    cr_assert(eq(sz, json_object_size(map), 3), "%s", out.data);
    cr_assert(json_number_value(json_object_get(map, "token_id:6144")) == -2, "%s", out.data);
    json_decref(v);
    buf_fini(&out);
    logprobs_fini(&l);
    tokenizer_destroy(n.tokenizer);
}

Test(logprobs, four_arrays_of_one_length)
{
    struct logprobs_form f = {.n_top = 2};
    struct gen_top top[] = {{1, -0.5f}, {2, -1.5f}};
    struct logprobs l = {0};
    struct buf out = {0};
    logprobs_add(&l, &f, &(struct gen_token){.id = 9, .logprob = NAN}, false, 0);
    logprobs_add(&l, &f, &(struct gen_token){.id = 1, .logprob = -0.5f, .top = top}, true, 2);
    logprobs_add(&l, &f, &(struct gen_token){.id = 7, .logprob = -4, .top = top}, true, 5);
    logprobs_write(&l, &out);
    json_t *v = read(&out);
    json_t *tops = json_object_get(v, "top_logprobs");
    cr_assert(eq(sz, json_array_size(json_object_get(v, "tokens")), 3));
    cr_assert(eq(sz, json_array_size(json_object_get(v, "token_logprobs")), 3));
    cr_assert(eq(sz, json_array_size(tops), 3));
    json_t *figures = json_object_get(v, "token_logprobs");
    cr_assert(eq(int, json_typeof(json_array_get(figures, 0)), JSON_NULL));
    cr_assert(eq(int, json_typeof(json_array_get(tops, 0)), JSON_NULL));
    cr_assert(eq(sz, json_object_size(json_array_get(tops, 1)), 2));
    cr_assert(eq(sz, json_object_size(json_array_get(tops, 2)), 3), "the token itself is added");
    json_t *offsets = json_object_get(v, "text_offset");
    cr_assert(eq(i64, json_integer_value(json_array_get(offsets, 2)), 5));
    json_decref(v);
    logprobs_clear(&l);
    buf_clear(&out);
    logprobs_write(&l, &out);
    v = read(&out);
    cr_assert(eq(sz, json_array_size(json_object_get(v, "tokens")), 0));
    json_decref(v);
    buf_fini(&out);
    logprobs_fini(&l);
}
