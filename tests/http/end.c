// End to end: how the server ends. Every test ends it by a signal and looks at its exit code.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "completion.h"
#include "server.h"

static struct server server;
static struct completion result;

static void start_with(const char *drain_timeout_ms)
{
    const char *const options[] = {
        "--context-max",  "32768", "--sequences-max", "4", "--threads", "1", "--drain-timeout-ms",
        drain_timeout_ms, NULL};
    cr_assert(server_start(&server, options));
}

// A stream that has begun.
static void begin_stream(struct client *c, struct answer *a, int max_tokens)
{
    struct buf body = {0};
    char more[160];
    snprintf(more, sizeof more,
             ",\"max_tokens\":%d,\"ignore_eos\":true,\"return_token_ids\":true,\"stream\":true",
             max_tokens);
    cr_assert(client_open(c, server.port));
    client_request(c, "POST", "/v1/completions", "", completion_body(&body, 4, 1, more));
    cr_assert(answer_head(a, c) && a->status == 200);
    buf_fini(&body);
}

Test(end, idle)
{
    struct client keep_alive;
    struct answer a = {0};
    start_with("60000");
    cr_assert(client_open(&keep_alive, server.port));
    client_request(&keep_alive, "GET", "/livez", "", NULL);
    cr_assert(answer_read(&a, &keep_alive));
    server_signal(&server, SIGINT);
    cr_assert(client_at_end(&keep_alive));
    client_close(&keep_alive);
    answer_fini(&a);
    cr_assert(server_wait(&server) == 0);
}

// Streams under way are finished; what comes new is refused.
Test(end, while_streaming)
{
    struct client streams[3], late;
    struct answer a[3] = {0}, b = {0};
    start_with("60000");
    cr_assert(client_open(&late, server.port));
    client_request(&late, "GET", "/livez", "", NULL);
    cr_assert(answer_read(&b, &late) && b.status == 200);
    for (int i = 0; i < 3; i++)
        begin_stream(&streams[i], &a[i], 400);
    server_signal(&server, SIGTERM);
    do { // until the drain has begun
        cr_assert(client_request(&late, "GET", "/v1/models", "", NULL));
        cr_assert(answer_read(&b, &late));
    } while (b.status == 200);
    cr_assert(b.status == 503 && answer_has(&b, "server_shutting_down"));
    for (int i = 0; i < 3; i++) {
        cr_assert(completion_stream(&result, &a[i], &streams[i]));
        cr_assert(result.n == 400 && !strcmp(result.finish, "length"), "%d", result.n);
        client_close(&streams[i]);
        answer_fini(&a[i]);
    }
    client_close(&late);
    answer_fini(&b);
    cr_assert(server_wait(&server) == 0);
}

static void expect_cut(struct client *c, struct answer *a)
{
    cr_assert(completion_stream(&result, a, c));
    cr_assert_str_eq(result.error, "server_shutting_down");
    cr_assert(result.n < 20000);
    client_close(c);
    answer_fini(a);
    cr_assert(server_wait(&server) == 0);
}

Test(end, drain_timeout)
{
    struct client c;
    struct answer a = {0};
    start_with("50");
    begin_stream(&c, &a, 20000);
    server_signal(&server, SIGTERM);
    expect_cut(&c, &a);
}

Test(end, second_signal)
{
    struct client c;
    struct answer a = {0};
    start_with("60000");
    begin_stream(&c, &a, 20000);
    server_signal(&server, SIGTERM);
    while (!server_log_has(&server, " draining "))
        usleep(5000);
    server_signal(&server, SIGTERM);
    expect_cut(&c, &a);
}

// A client that has left does not hold the drain up.
Test(end, client_leaves_during_drain)
{
    struct client c;
    struct answer a = {0};
    start_with("600000");
    begin_stream(&c, &a, 20000);
    server_signal(&server, SIGTERM);
    while (!server_log_has(&server, " draining "))
        usleep(5000);
    client_close(&c);
    answer_fini(&a);
    cr_assert(server_wait(&server) == 0);
}

Test(end, dump_does_not_end)
{
    struct client c;
    struct answer a = {0};
    start_with("60000");
    begin_stream(&c, &a, 200);
    server_signal(&server, SIGUSR1);
    cr_assert(completion_stream(&result, &a, &c) && result.n == 200);
    client_close(&c);
    answer_fini(&a);
    cr_assert(server_end(&server) == 0);
}
