// End to end: clients that leave while their request waits, is prefilled or decodes; clients that do
// not read; a full queue. The engine must hear of it, and others must not.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "completion.h"
#include "server.h"

#define RUNNING "deltaserve_requests_running"
#define WAITING "deltaserve_requests_waiting"
#define CANCELLED "deltaserve_request_cancelled_total"
#define LONG ",\"max_tokens\":20000,\"ignore_eos\":true"

static struct server server;
static struct completion result;

// One sequence at a time and small steps: what is behind the first request stays there.
static void start(void)
{
    static const char *const OPTIONS[] = {"--context-max",
                                          "32768",
                                          "--sequences-max",
                                          "1",
                                          "--batch-tokens",
                                          "128",
                                          "--queue-max",
                                          "2",
                                          "--threads",
                                          "1",
                                          NULL};
    cr_assert(server_start(&server, OPTIONS));
}

static void stop(void)
{
    cr_assert(server_end(&server) == 0);
}

TestSuite(leave, .init = start, .fini = stop);

static void post(struct client *c, int n_prompt, const char *more)
{
    struct buf body = {0};
    cr_assert(client_open(c, server.port));
    cr_assert(client_request(c, "POST", "/v1/completions", "",
                             completion_body(&body, n_prompt, 1, more)));
    buf_fini(&body);
}

static void expect_gone(int64_t cancelled)
{
    cr_assert(server_metric_becomes(&server, CANCELLED, cancelled));
    cr_assert(server_metric_becomes(&server, RUNNING, 0));
    cr_assert(server_metric_becomes(&server, WAITING, 0));
}

Test(leave, while_decoding)
{
    struct client c;
    struct answer a = {0};
    post(&c, 4, LONG ",\"stream\":true");
    cr_assert(answer_head(&a, &c) && answer_event(&a, &c) && answer_event(&a, &c));
    cr_assert(server_metric(&server, RUNNING) == 1);
    client_close(&c);
    expect_gone(1);
    post(&c, 4, LONG); // not a stream: nothing is written that could fail
    cr_assert(server_metric_becomes(&server, RUNNING, 1));
    client_reset(&c);
    expect_gone(2);
    answer_fini(&a);
}

Test(leave, while_prefilling)
{
    struct client c;
    int64_t before = server_metric(&server, "deltaserve_prompt_tokens_total");
    post(&c, 30000, ",\"max_tokens\":1");
    cr_assert(server_metric_becomes(&server, RUNNING, 1));
    client_close(&c);
    expect_gone(1);
    cr_expect(server_metric(&server, "deltaserve_prompt_tokens_total") - before < 30000,
              "the whole prompt was computed for nobody");
}

Test(leave, while_waiting)
{
    struct client busy, c;
    struct answer a = {0};
    post(&busy, 4, LONG ",\"stream\":true");
    cr_assert(answer_head(&a, &busy) && answer_event(&a, &busy));
    post(&c, 4, LONG);
    cr_assert(server_metric_becomes(&server, WAITING, 1));
    client_close(&c);
    cr_assert(server_metric_becomes(&server, WAITING, 0));
    cr_assert(server_metric_becomes(&server, CANCELLED, 1));
    cr_assert(server_metric(&server, RUNNING) == 1, "the one that runs was cancelled too");
    cr_assert(answer_event(&a, &busy));
    client_close(&busy);
    expect_gone(2);
    answer_fini(&a);
}

Test(leave, full_queue)
{
    struct client c[3];
    struct answer a = {0}, b = {0};
    post(&c[0], 4, LONG ",\"stream\":true");
    cr_assert(answer_head(&a, &c[0]) && answer_event(&a, &c[0]));
    post(&c[1], 4, ",\"max_tokens\":1");
    post(&c[2], 4, ",\"max_tokens\":1");
    cr_assert(server_metric_becomes(&server, WAITING, 2));
    struct buf body = {0};
    for (int i = 0; i < 3; i++) {
        client_once(&b, server.port, "POST", "/v1/completions", "",
                    completion_body(&body, 4, 1, i ? "" : ",\"stream\":true"));
        cr_expect(b.status == 429, "%d", b.status);
        cr_expect(answer_header(&b, "Retry-After") != NULL);
        cr_expect(answer_has(&b, "rate_limit_exceeded"));
    }
    // The house is full, but it says how it is.
    static const char *const OPEN[] = {"/livez", "/readyz", "/health", "/metrics", "/v1/models"};
    for (int i = 0; i < 5; i++) {
        client_once(&b, server.port, "GET", OPEN[i], "", NULL);
        cr_expect(b.status == 200, "%s: %d", OPEN[i], b.status);
    }
    client_close(&c[0]);
    for (int i = 1; i < 3; i++) { // those that waited are served now
        cr_assert(answer_read(&b, &c[i]) && b.status == 200);
        client_close(&c[i]);
    }
    expect_gone(1);
    answer_fini(&a);
    answer_fini(&b);
    buf_fini(&body);
}

// One that does not read costs itself nothing and others nothing, and gets every token in the end.
Test(crowd, slow_reader)
{
    static const char *const OPTIONS[] = {
        "--context-max", "8192", "--sequences-max", "4", "--threads", "1", NULL};
    struct client slow;
    struct answer a = {0};
    struct buf body = {0};
    cr_assert(server_start(&server, OPTIONS));
    post(&slow, 4,
         ",\"max_tokens\":600,\"ignore_eos\":true,\"return_token_ids\":true,"
         "\"stream\":true,\"logprobs\":5,\"temperature\":0");
    for (int i = 0; i < 10; i++) {
        completion_body(&body, 10, i, ",\"max_tokens\":10,\"ignore_eos\":true");
        cr_assert(completion_get(&result, server.port, body.data));
        cr_assert(result.n_completion == 10);
    }
    cr_assert(server_metric_becomes(&server, RUNNING, 0), "generated without being read");
    cr_assert(answer_head(&a, &slow) && a.status == 200);
    cr_assert(completion_stream(&result, &a, &slow));
    cr_assert(result.n == 600, "%d", result.n);
    answer_fini(&a);
    client_close(&slow);
    buf_fini(&body);
    stop();
}

enum { CROWD = 24 };
static struct client crowd[CROWD];

// Half of a crowd leaves at different times; the other half gets what it would get alone.
Test(crowd, half_leaves)
{
    static const char *const OPTIONS[] = {
        "--context-max", "1024", "--sequences-max", "8", "--threads", "1", NULL};
    static struct completion alone;
    struct answer a = {0};
    struct buf body = {0};
    cr_assert(server_start(&server, OPTIONS));
    completion_body(&body, 50, 1,
                    ",\"max_tokens\":40,\"ignore_eos\":true,\"temperature\":0,"
                    "\"return_token_ids\":true,\"stream\":true");
    cr_assert(completion_get(&alone, server.port, body.data));
    for (int i = 0; i < CROWD; i++) {
        cr_assert(client_open(&crowd[i], server.port));
        client_request(&crowd[i], "POST", "/v1/completions", "", body.data);
    }
    for (int i = 0; i < CROWD; i += 2) {
        usleep(5000);
        client_reset(&crowd[i]);
    }
    for (int i = 1; i < CROWD; i += 2) {
        cr_assert(answer_head(&a, &crowd[i]) && a.status == 200);
        cr_assert(completion_stream(&result, &a, &crowd[i]));
        cr_expect(completion_same(&alone, &result), "%d", i);
        client_close(&crowd[i]);
    }
    cr_assert(server_metric_becomes(&server, RUNNING, 0));
    cr_assert(server_metric_becomes(&server, WAITING, 0));
    cr_assert(server_metric_becomes(&server, "deltaserve_connections", 1)); // the one that asks
    answer_fini(&a);
    buf_fini(&body);
    stop();
}
