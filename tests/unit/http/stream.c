// Tests of server/http/stream.c and watch.c: pulled replies, wake-ups from other threads, heartbeats,
// slow readers, and clients that leave in every phase.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "http_client.h"
#include "stats.h"
#include "test_server.h"

static struct test_server server;

static void start(void)
{
    test_server_options(&server);
    server.options.heartbeat_ms = 40;
    test_server_start(&server);
}

static void stop(void)
{
    test_server_stop(&server);
}

TestSuite(stream, .init = start, .fini = stop);

// Read all events of /stream, skipping comments; how many came, each checked to be the next.
static int read_events(struct answer *a, struct client *c, size_t bytes)
{
    int n = 0;
    for (const char *event; (event = answer_event(a, c));) {
        if (event[0] == ':')
            continue;
        char *rest;
        cr_assert(!strncmp(event, "data: ", 6), "%s", event);
        cr_assert(strtol(event + 6, &rest, 10) == n, "event %d: %.20s", n, event);
        cr_assert(strspn(rest + 1, "x") == bytes && strlen(rest + 1) == bytes);
        n++;
    }
    return a->complete ? n : -1;
}

static bool next_is(struct answer *a, struct client *c, const char *text)
{
    const char *event = answer_event(a, c);
    return event && !strcmp(event, text);
}

Test(stream, events_in_order_and_connection_lives_on)
{
    struct client c;
    struct answer a = {0};
    cr_assert(client_open(&c, server.port));
    for (int again = 0; again < 2; again++) {
        client_request(&c, "GET", "/stream?events=200&bytes=50", "", NULL);
        cr_assert(answer_head(&a, &c));
        cr_assert(a.status == 200 && a.chunked);
        cr_assert(answer_header_is(&a, "Content-Type", "text/event-stream; charset=utf-8"));
        cr_assert(answer_header_is(&a, "Cache-Control", "no-cache"));
        cr_assert(answer_header_is(&a, "X-Accel-Buffering", "no"));
        cr_assert(answer_header(&a, "x-request-id") != NULL);
        cr_assert(read_events(&a, &c, 50) == 200);
    }
    answer_fini(&a);
    client_close(&c);
    cr_assert(test_server_wait(&server.gone, 2));
}

Test(stream, events_larger_than_any_buffer)
{
    struct client c;
    struct answer a = {0};
    cr_assert(client_open(&c, server.port));
    client_request(&c, "GET", "/stream?events=3&bytes=1000000", "", NULL);
    cr_assert(answer_head(&a, &c));
    cr_assert(read_events(&a, &c, 1000000) == 3);
    answer_fini(&a);
    client_close(&c);
}

Test(stream, http_1_0_ends_by_closing)
{
    struct client c;
    struct answer a = {0};
    cr_assert(client_open(&c, server.port));
    client_text(&c, "GET /stream?events=5&bytes=9 HTTP/1.0\r\n\r\n");
    cr_assert(answer_head(&a, &c));
    cr_assert(!a.chunked);
    cr_assert(read_events(&a, &c, 9) == 5);
    answer_fini(&a);
    client_close(&c);
}

Test(stream, pulled_reply_has_a_length)
{
    struct answer a = {0};
    client_once(&a, server.port, "POST", "/later?events=50&gap_us=100", "", "{}");
    cr_assert(a.status == 200);
    cr_assert(answer_is(&a, "{\"events\":50}"));
    cr_assert(answer_header_is(&a, "Content-Length", "13"));
    answer_fini(&a);
    cr_assert(test_server_wait(&server.gone, 1));
}

Test(stream, a_waiting_reply_is_called_at_its_time)
{
    struct answer a = {0};
    int64_t begun_ns = clock_ns();
    client_once(&a, server.port, "POST", "/timed?gap_us=300000", "", "{}");
    cr_assert(answer_is(&a, "{\"pulls\":2}"), "%s", a.body.data);
    cr_assert(clock_ms_between(begun_ns, clock_ns()) >= 300);
    answer_fini(&a);
    cr_assert(test_server_wait(&server.gone, 1));
}

Test(stream, heartbeats_fill_silence)
{
    struct client c;
    struct answer a = {0};
    cr_assert(client_open(&c, server.port));
    client_request(&c, "GET", "/held", "", NULL);
    cr_assert(answer_head(&a, &c));
    cr_assert(next_is(&a, &c, "data: 0 "));
    for (int i = 0; i < 3; i++)
        cr_assert(next_is(&a, &c, ": keep-alive"));
    answer_fini(&a);
    client_close(&c);
    cr_assert(test_server_wait(&server.gone, 1));
}

// A stream with nothing to say yet is begun by its first heartbeat; a reply that is no stream is not.
Test(stream, heartbeat_begins_a_silent_stream)
{
    struct client c, d;
    struct answer a = {0};
    cr_assert(client_open(&c, server.port) && client_open(&d, server.port));
    client_request(&d, "POST", "/silent", "", "{}");
    client_request(&c, "GET", "/silent", "", NULL);
    cr_assert(answer_head(&a, &c));
    cr_assert(next_is(&a, &c, ": keep-alive"));
    cr_assert(next_is(&a, &c, ": keep-alive"));
    cr_assert(client_is_silent(&d, 0));
    answer_fini(&a);
    client_close(&c);
    client_close(&d);
    cr_assert(test_server_wait(&server.gone, 2));
}

static struct client clients[64];
static struct answer answers[64];

Test(stream, parallel)
{
    enum { N = 64, EVENTS = 100 };
    for (int i = 0; i < N; i++) {
        cr_assert(client_open(&clients[i], server.port));
        client_request(&clients[i], "GET", "/stream?events=100&bytes=30&gap_us=300", "", NULL);
    }
    for (int i = 0; i < N; i++)
        cr_assert(answer_head(&answers[i], &clients[i]));
    for (int i = 0; i < N; i++)
        cr_assert(read_events(&answers[i], &clients[i], 30) == EVENTS);
    cr_assert(test_server_wait(&server.gone, N));
    for (int i = 0; i < N; i++) {
        answer_fini(&answers[i]);
        client_close(&clients[i]);
    }
    cr_assert(test_server_wait(&server.live, 0));
}

// --- clients that leave ---------------------------------------------------------------------

enum leaving { LEAVE_CLOSE, LEAVE_RESET, LEAVE_PIPELINED };

// Leave a request that never ends, in the way asked for, and wait for gone.
static void leave(const char *method, const char *path, bool begun, enum leaving how)
{
    struct client c;
    struct answer a = {0};
    int gone = atomic_load(&server.gone);
    cr_assert(client_open(&c, server.port));
    client_request(&c, method, path, "", strcmp(method, "GET") ? "{}" : NULL);
    cr_assert(test_server_wait(&server.live, 1));
    if (begun)
        cr_assert(answer_head(&a, &c) && answer_event(&a, &c));
    if (how == LEAVE_PIPELINED) // bytes the server has not read hide the end behind them
        client_request(&c, "GET", "/open", "", NULL);
    if (how == LEAVE_RESET)
        client_reset(&c);
    else
        client_close(&c);
    answer_fini(&a);
    cr_assert(test_server_wait(&server.gone, gone + 1), "%s %s: not noticed", method, path);
    cr_assert(test_server_wait(&server.live, 0));
}

Test(stream, leaving_is_seen)
{
    for (int how = LEAVE_CLOSE; how <= LEAVE_PIPELINED; how++) {
        leave("POST", "/silent", false, (enum leaving)how);
        leave("GET", "/held", true, (enum leaving)how);
    }
    cr_assert(atomic_load(&server.handled) == 0, "a pipelined request of one that left was run");
}

// With heartbeats off there is no failed write to notice it by.
Test(no_heartbeats, leaving_is_seen, .fini = stop)
{
    test_server_options(&server);
    test_server_start(&server);
    for (int how = LEAVE_CLOSE; how <= LEAVE_PIPELINED; how++) {
        leave("POST", "/silent", false, (enum leaving)how);
        leave("GET", "/silent", false, (enum leaving)how);
        leave("GET", "/held", true, (enum leaving)how);
    }
}

// Waiting pipelined bytes are no reason to take a client for gone.
Test(stream, pipelined_bytes_are_not_leaving)
{
    struct client c;
    struct answer a = {0};
    cr_assert(client_open(&c, server.port));
    client_request(&c, "POST", "/later?events=3&gap_us=200000", "", "{}"); // several ticks
    client_request(&c, "GET", "/open", "", NULL);
    cr_assert(answer_read(&a, &c));
    cr_assert(answer_is(&a, "{\"events\":3}"));
    cr_assert(answer_read(&a, &c));
    cr_assert(answer_is(&a, "{\"ok\":true}"));
    answer_fini(&a);
    client_close(&c);
}

Test(stream, leaving_half_a_request)
{
    struct client c;
    cr_assert(client_open(&c, server.port));
    client_text(&c, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{");
    client_close(&c);
    cr_assert(client_open(&c, server.port));
    client_text(&c, "POST /echo HTTP/1.1\r\nHo");
    client_close(&c);
    struct answer a = {0};
    client_once(&a, server.port, "GET", "/open", "", NULL);
    cr_assert(a.status == 200);
    cr_assert(atomic_load(&server.handled) == 1);
    answer_fini(&a);
}

// A reader that does not read stops being pulled for; others go on; then it gets everything.
Test(stream, slow_reader)
{
    struct client slow;
    struct answer a = {0};
    cr_assert(client_open(&slow, server.port));
    client_request(&slow, "GET", "/stream?events=3000&bytes=10000", "", NULL);
    cr_assert(answer_head(&a, &slow));
    int before, now = -1;
    do { // until the sockets' buffers are full
        before = now;
        usleep(300000);
        now = atomic_load(&server.pulls);
    } while (now != before);
    cr_assert(now < 2900, "%d of 3000 events were pulled for a client that reads none", now);
    struct answer b = {0};
    for (int i = 0; i < 20; i++) {
        client_once(&b, server.port, "POST", "/later?events=5", "", "{}");
        cr_assert(b.status == 200);
    }
    answer_fini(&b);
    cr_assert(read_events(&a, &slow, 10000) == 3000);
    answer_fini(&a);
    client_close(&slow);
}

Test(stream, gauge_and_counters)
{
    struct answer a = {0};
    client_once(&a, server.port, "GET", "/stream", "", NULL);
    client_once(&a, server.port, "GET", "/nowhere", "", NULL);
    client_once(&a, server.port, "GET", "/broken", "", NULL);
    struct client c;
    cr_assert(client_open(&c, server.port));
    client_request(&c, "GET", "/open", "", NULL);
    cr_assert(answer_read(&a, &c));
    client_request(&c, "GET", "/open", "", NULL); // the one before is counted by now
    cr_assert(answer_read(&a, &c));
    cr_assert(stats_gauge_value(STATS_CONNECTIONS) >= 1);
    cr_assert(stats_counter_value(STATS_HTTP_REQUESTS) >= 4);
    cr_assert(stats_counter_value(STATS_HTTP_CLIENT_ERRORS) == 1);
    cr_assert(stats_counter_value(STATS_HTTP_SERVER_ERRORS) == 1);
    answer_fini(&a);
    client_close(&c);
}
