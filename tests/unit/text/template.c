// template.c - tests of server/text/template.c and pyjson.c: tests/data/template/cases.json holds
// conversations and what the published template renders (tools/make_template_cases.py).
#include "template.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "fixture.h"
#include "pyjson.h"

static struct template_options options_of(const json_t *one)
{
    const json_t *thinking = json_object_get(one, "enable_thinking");
    return (struct template_options){
        .thinking = json_is_true(thinking)    ? TEMPLATE_THINK_ON
                    : json_is_false(thinking) ? TEMPLATE_THINK_OFF
                                              : TEMPLATE_THINK_DEFAULT,
        .thinking_by_default = !json_is_true(json_object_get(one, "small")),
        .add_generation_prompt = json_is_true(json_object_get(one, "add_generation_prompt"))};
}

static void check_case(const json_t *one)
{
    struct buf out = {0};
    struct err e = {0};
    const char *name = json_string_value(json_object_get(one, "name"));
    const char *param = json_string_value(json_object_get(one, "param"));
    const json_t *expected = json_object_get(one, "expected");
    struct template_options o = options_of(one);
    buf_str(&out, "before ");
    int rc = template_render(&out, json_object_get(one, "messages"), json_object_get(one, "tools"),
                             &o, &e);
    cr_assert((param != NULL) != (expected != NULL), "%s: neither text nor error", name);
    cr_expect_eq(rc, param ? -1 : 0, "%s: %s", name, e.text);
    if (param) {
        cr_expect_str_eq(e.param, param, "%s: %s", name, e.text);
        cr_expect_eq(e.code, ERR_BAD_REQUEST, "%s", name);
        cr_expect_eq(strncmp(e.text, param, strlen(param)), 0, "%s: \"%s\"", name, e.text);
    } else {
        cr_expect_eq(strncmp(out.data, "before ", 7), 0, "%s: render appends", name);
        cr_expect(out.n - 7 == json_string_length(expected) &&
                      memcmp(out.data + 7, json_string_value(expected), out.n - 7) == 0,
                  "%s:\n%s\nexpected:\n%s", name, out.data + 7, json_string_value(expected));
    }
    buf_fini(&out);
}

Test(template, renders_as_the_published_template)
{
    json_t *document = fixture_json("template/cases.json"), *one;
    json_t *cases = json_object_get(document, "cases");
    size_t i;
    cr_assert_gt(json_array_size(cases), 80);
    json_array_foreach(cases, i, one) check_case(one);
    json_decref(document);
}

Test(template, too_long)
{
    struct buf out = {.max = 100};
    struct err e = {0};
    struct template_options o = {.add_generation_prompt = true};
    json_t *messages =
        json_pack("[{s:s, s:s}]", "role", "user", "content",
                  "0123456789012345678901234567890123456789012345678901234567890123456"
                  "78901234567890");
    cr_expect_eq(template_render(&out, messages, NULL, &o, &e), -1);
    cr_expect_eq(e.code, ERR_TOO_LARGE);
    json_decref(messages);
    buf_fini(&out);
}

Test(template, deep_nesting)
{
    json_t *deep = json_object();
    for (int i = 0; i < 1000; i++)
        deep = json_pack("{s:o}", "a", deep);
    struct template_options o = {.add_generation_prompt = true};
    struct err e = {0};
    struct buf out = {0};
    json_t *tools = json_pack("[O]", deep);
    json_t *messages =
        json_pack("[{s:s, s:s}, {s:s, s:[{s:{s:s, s:O}}]}]", "role", "user", "content", "x", "role",
                  "assistant", "tool_calls", "function", "name", "f", "arguments", deep);
    cr_expect_eq(template_render(&out, messages, tools, &o, &e), -1);
    cr_expect_str_eq(e.param, "tools[0]");
    cr_expect_eq(template_render(&out, messages, NULL, &o, &e), -1);
    cr_expect_str_eq(e.param, "messages[1].tool_calls[0].function.arguments");
    json_decref(messages);
    json_decref(tools);
    json_decref(deep);
    buf_fini(&out);
}

Test(pyjson, numbers_are_python_s)
{
    static const struct {
        double value;
        const char *text; // repr() of CPython
    } rows[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {0.1, "0.1"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1.0 / 3, "0.3333333333333333"},
        {100.0, "100.0"},
        {1e15, "1000000000000000.0"},
        {1e16, "1e+16"},
        {123456789012345.67, "123456789012345.67"},
        {9007199254740993.0, "9007199254740992.0"},
        {1e22, "1e+22"},
        {1.5e300, "1.5e+300"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {0.0001, "0.0001"},
        {0.00012345, "0.00012345"},
        {0.00001, "1e-05"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {5e-324, "5e-324"},
        {5.684341886080802e-14, "5.684341886080802e-14"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf out = {0};
        json_t *v = json_real(rows[i].value);
        cr_expect(pyjson_dump(&out, v));
        cr_expect_str_eq(out.data, rows[i].text);
        json_decref(v);
        buf_fini(&out);
    }
}
