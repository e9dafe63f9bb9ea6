// End to end: the golden checkpoint through HTTP by token ids. transformers' greedy tokens and the
// log-probabilities of its prompts, from the real binary, one request a case and all cases in one.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "completion.h"
#include "server.h"

// A plain float32 implementation reaches 1.5e-4; the reference's logits have a deviation of 16.
static const double LIMIT = 1e-3;

static struct server server;
static json_t *cases;

static void start(void)
{
    static const char *const OPTIONS[] = {
        "--dtype", "f32", "--context-max", "4096", "--sequences-max", "8", NULL};
    json_t *golden = json_load_file(TEST_SOURCE_DIR "/tests/golden/dense_a/golden.json", 0, NULL);
    cases = json_incref(json_object_get(golden, "cases"));
    json_decref(golden);
    cr_assert(json_array_size(cases) == 7);
    cr_assert(server_start(&server, OPTIONS));
}

static void stop(void)
{
    json_decref(cases);
    cr_assert(server_end(&server) == 0);
}

TestSuite(golden, .init = start, .fini = stop);

static json_t *post(json_t *prompt)
{
    json_t *body = json_pack("{s:O,s:i,s:i,s:b,s:i,s:b,s:b}", "prompt", prompt, "max_tokens", 24,
                             "temperature", 0, "echo", 1, "logprobs", 1, "ignore_eos", 1,
                             "return_token_ids", 1);
    char *text = json_dumps(body, JSON_COMPACT);
    struct answer a = {0};
    client_once(&a, server.port, "POST", "/v1/completions", "Content-Type: application/json\r\n",
                text);
    cr_assert(a.status == 200, "status %d: %s", a.status, a.body.data);
    json_t *reply = json_loadb(a.body.data, a.body.n, 0, NULL);
    json_t *choices = json_incref(json_object_get(reply, "choices"));
    json_decref(reply);
    json_decref(body);
    free(text);
    answer_fini(&a);
    return choices;
}

// token_logprobs holds the prompt's (the first null), then the answer's.
static void compare(const json_t *choice, const json_t *golden)
{
    const json_t *expected = json_object_get(golden, "prompt_logprobs");
    const json_t *logprobs = json_object_get(choice, "logprobs");
    const json_t *got = json_object_get(logprobs, "token_logprobs");
    const size_t n = json_array_size(json_object_get(golden, "prompt"));
    cr_assert(json_equal(json_object_get(choice, "token_ids"), json_object_get(golden, "greedy")),
              "%zu tokens: greedy differs", n);
    cr_assert(json_array_size(got) == n + 24);
    cr_assert(json_is_null(json_array_get(got, 0)));
    for (size_t i = 1; i < n && json_is_array(expected); i++) {
        const double a = json_real_value(json_array_get(got, i));
        const double b = json_number_value(json_array_get(expected, i));
        cr_assert(fabs(a - b) <= LIMIT, "%zu tokens, token %zu: %g, expected %g", n, i, a, b);
    }
}

Test(golden, one_by_one)
{
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *golden = json_array_get(cases, i);
        json_t *choices = post(json_object_get(golden, "prompt"));
        cr_assert(json_array_size(choices) == 1);
        compare(json_array_get(choices, 0), golden);
        json_decref(choices);
    }
}

Test(golden, all_in_one_request)
{
    json_t *prompts = json_array();
    for (size_t i = 0; i < json_array_size(cases); i++)
        json_array_append(prompts, json_object_get(json_array_get(cases, i), "prompt"));
    json_t *choices = post(prompts);
    cr_assert(json_array_size(choices) == json_array_size(cases));
    for (size_t i = 0; i < json_array_size(cases); i++)
        compare(json_array_get(choices, i), json_array_get(cases, i));
    json_decref(choices);
    json_decref(prompts);
}
