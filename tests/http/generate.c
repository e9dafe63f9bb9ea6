// End to end: generations. The same tokens streamed or not, alone or among many, and usage that adds up.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "completion.h"
#include "server.h"

static struct server server;
static struct completion whole, other;

static void start(void)
{
    static const char *const OPTIONS[] = {
        "--context-max", "1024", "--sequences-max", "64", "--threads", "1", NULL};
    cr_assert(server_start(&server, OPTIONS));
}

static void stop(void)
{
    cr_assert(server_end(&server) == 0);
}

TestSuite(generate, .init = start, .fini = stop);

#define COMMON ",\"max_tokens\":24,\"ignore_eos\":true,\"return_token_ids\":true"

Test(generate, seed_decides)
{
    struct buf body = {0};
    completion_body(&body, 20, 3, COMMON ",\"temperature\":2,\"seed\":42");
    cr_assert(completion_get(&whole, server.port, body.data));
    cr_assert(whole.n == 24);
    for (int again = 0; again < 3; again++) {
        cr_assert(completion_get(&other, server.port, body.data));
        cr_assert(completion_same(&whole, &other), "the same seed gave other tokens");
    }
    completion_body(&body, 20, 3, COMMON ",\"temperature\":2,\"seed\":43");
    cr_assert(completion_get(&other, server.port, body.data));
    cr_assert(!completion_same(&whole, &other), "another seed gave the same 24 tokens");
    buf_fini(&body);
}

Test(generate, streamed_or_not)
{
    static const char *const SAMPLING[] = {",\"temperature\":0",
                                           ",\"temperature\":2,\"seed\":7,\"top_p\":0.9",
                                           ",\"temperature\":1.8,\"seed\":8,\"top_k\":20"};
    struct buf body = {0};
    char more[256];
    for (int i = 0; i < 3; i++) {
        snprintf(more, sizeof more, COMMON "%s", SAMPLING[i]);
        cr_assert(completion_get(&whole, server.port, completion_body(&body, 33, i, more)));
        snprintf(more, sizeof more, COMMON "%s,\"stream\":true", SAMPLING[i]);
        cr_assert(completion_get(&other, server.port, completion_body(&body, 33, i, more)));
        cr_assert(completion_same(&whole, &other), "%s", SAMPLING[i]);
        cr_assert(other.n_total == -1, "usage was not asked for");
    }
    buf_fini(&body);
}

Test(generate, usage)
{
    struct buf body = {0};
    char more[256];
    for (int n = 1; n <= 300; n = n * 3 + 2) {
        snprintf(more, sizeof more, COMMON ",\"temperature\":0");
        cr_assert(completion_get(&whole, server.port, completion_body(&body, n, n, more)));
        cr_expect(whole.n_prompt == n && whole.n_completion == 24 && whole.n_total == n + 24);
        cr_expect_str_eq(whole.finish, "length");
        snprintf(more, sizeof more,
                 COMMON ",\"temperature\":0,\"stream\":true,"
                        "\"stream_options\":{\"include_usage\":true}");
        cr_assert(completion_get(&other, server.port, completion_body(&body, n, n, more)));
        cr_expect(other.n_prompt == n && other.n_completion == 24 && other.n_total == n + 24);
        cr_expect(completion_same(&whole, &other));
    }
    cr_assert(server_metric(&server, "deltaserve_generation_tokens_total") >= 6 * 24);
    buf_fini(&body);
}

enum { N = 64 };
static struct client clients[N];
static struct answer answers[N];
static struct completion alone[N];

// 64 at a time, each with its own prompt, seed and length: every one gets the tokens it gets alone.
Test(generate, parallel_streams)
{
    struct buf body = {0};
    char more[256];
    for (int i = 0; i < N; i++) {
        snprintf(more, sizeof more,
                 ",\"max_tokens\":%d,\"ignore_eos\":true,\"return_token_ids\":true,"
                 "\"temperature\":2,\"seed\":%d,\"stream\":true",
                 4 + i % 12, 1000 + i);
        completion_body(&body, 3 + i * 2, i, more);
        cr_assert(completion_get(&alone[i], server.port, body.data));
        cr_assert(alone[i].n == 4 + i % 12);
    }
    for (int i = 0; i < N; i++) {
        snprintf(more, sizeof more,
                 ",\"max_tokens\":%d,\"ignore_eos\":true,\"return_token_ids\":true,"
                 "\"temperature\":2,\"seed\":%d,\"stream\":true",
                 4 + i % 12, 1000 + i);
        completion_body(&body, 3 + i * 2, i, more);
        cr_assert(client_open(&clients[i], server.port));
        cr_assert(client_request(&clients[i], "POST", "/v1/completions", "", body.data));
    }
    for (int i = 0; i < N; i++) {
        cr_assert(answer_head(&answers[i], &clients[i]) && answers[i].status == 200);
        cr_assert(completion_stream(&other, &answers[i], &clients[i]));
        cr_expect(completion_same(&alone[i], &other), "stream %d differs among others", i);
        answer_fini(&answers[i]);
        client_close(&clients[i]);
    }
    buf_fini(&body);
    cr_assert(server_metric_becomes(&server, "deltaserve_requests_running", 0));
    cr_assert(server_metric(&server, "deltaserve_requests_waiting") == 0);
}
