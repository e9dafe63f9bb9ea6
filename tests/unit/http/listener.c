// Tests of server/http/listener.c: addresses, limits, timeouts, signals, draining and stopping.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "http_client.h"
#include "stats.h"
#include "test_server.h"

static struct test_server server;

static void start(void)
{
    test_server_options(&server);
    test_server_start(&server);
}

static void stop(void)
{
    test_server_stop(&server);
}

static bool open_and_get(struct client *c, const char *path)
{
    struct answer a = {0};
    bool ok = client_open(c, server.port) && client_request(c, "GET", path, "", NULL) &&
              answer_read(&a, c) && a.status == 200;
    answer_fini(&a);
    return ok;
}

// --- address --------------------------------------------------------------------------------

Test(listener, address_in_use, .init = start, .fini = stop)
{
    struct http_options o = server.options;
    struct err e = {0};
    char want[64];
    o.port = server.port;
    cr_assert(http_create(&o, NULL, 0, NULL, &e) == NULL);
    snprintf(want, sizeof want, "127.0.0.1 port %d: Address already in use", server.port);
    cr_assert(e.code == ERR_BAD_REQUEST && strstr(e.text, want), "%s", e.text);
}

Test(listener, address_unknown)
{
    static const char *const HOSTS[] = {"256.0.0.1", "192.0.2.1", "no.such.host.invalid"};
    test_server_options(&server);
    for (int i = 0; i < 3; i++) {
        struct err e = {0};
        server.options.host = HOSTS[i];
        cr_assert(http_create(&server.options, NULL, 0, NULL, &e) == NULL, "%s", HOSTS[i]);
        cr_assert(e.code == ERR_BAD_REQUEST && strstr(e.text, HOSTS[i]), "%s", e.text);
    }
}

Test(listener, created_and_never_run)
{
    test_server_options(&server);
    struct err e = {0};
    struct http *h = http_create(&server.options, NULL, 0, NULL, &e);
    cr_assert(h && http_port(h) > 0);
    http_destroy(h);
    http_destroy(NULL);
}

Test(listener, allowed_hosts, .fini = stop)
{
    static const char *const ALLOWED[] = {"localhost", "model.example"};
    test_server_options(&server);
    server.options.allowed_hosts = ALLOWED;
    server.options.n_allowed_hosts = 2;
    test_server_start(&server);
    static const struct {
        const char *host;
        int status;
    } ROWS[] = {{"localhost", 200},          {"LocalHost:8080", 200},
                {"model.example", 200},      {"localhost.evil", 403},
                {"model.example.evil", 403}, {"evil", 403},
                {"evil/localhost:80", 403},  {"", 403}};
    struct answer a = {0};
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct client c;
        cr_assert(client_open(&c, server.port));
        client_text(&c, "GET /open HTTP/1.1\r\nHost: %s\r\n\r\n", ROWS[i].host);
        cr_assert(answer_read(&a, &c));
        cr_expect(a.status == ROWS[i].status, "%s: %d", ROWS[i].host, a.status);
        client_close(&c);
    }
    answer_fini(&a);
}

// --- limits ---------------------------------------------------------------------------------

Test(listener, connections_beyond_the_limit_wait, .fini = stop)
{
    struct client c[4];
    struct answer a = {0};
    test_server_options(&server);
    server.options.connections_max = 3;
    server.options.idle_timeout_ms = 3600000; // no timeout may come to the waiting one's help
    test_server_start(&server);
    for (int i = 0; i < 3; i++)
        cr_assert(open_and_get(&c[i], "/open"));
    cr_assert(client_open(&c[3], server.port)); // the kernel's queue takes it
    client_request(&c[3], "GET", "/open", "", NULL);
    cr_assert(client_is_silent(&c[3], 100));
    client_close(&c[0]);
    cr_assert(answer_read(&a, &c[3]) && a.status == 200);
    for (int i = 1; i < 4; i++)
        client_close(&c[i]);
    answer_fini(&a);
}

Test(listener, connections_of_one_address, .fini = stop)
{
    struct client c[3];
    test_server_options(&server);
    server.options.connections_per_ip = 2;
    test_server_start(&server);
    cr_assert(open_and_get(&c[0], "/open") && open_and_get(&c[1], "/open"));
    cr_assert(client_open(&c[2], server.port));
    client_request(&c[2], "GET", "/open", "", NULL);
    cr_assert(client_at_end(&c[2]));
    for (int i = 0; i < 3; i++)
        client_close(&c[i]);
}

// All bodies together: two may be held, the third is told to come back.
Test(listener, bodies_together, .fini = stop)
{
    struct client c[2];
    struct answer a = {0};
    test_server_options(&server);
    server.options.body_bytes_max = 1000;
    server.options.bodies_bytes_max = 2000;
    test_server_start(&server);
    for (int i = 0; i < 2; i++) {
        cr_assert(client_open(&c[i], server.port));
        client_text(&c[i], "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n"
                           "Expect: 100-continue\r\n\r\n");
        cr_assert(!client_is_silent(&c[i], CLIENT_DEADLINE_MS)); // 100 Continue: it is counted
    }
    client_once(&a, server.port, "POST", "/echo", "", "{}");
    cr_assert(a.status == 429);
    cr_assert(answer_header_is(&a, "Retry-After", "1"));
    struct client chunked;
    cr_assert(client_open(&chunked, server.port));
    client_text(&chunked, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                          "1\r\n{\r\n");
    cr_assert(answer_read(&a, &chunked) && a.status == 429);
    client_close(&chunked);
    client_close(&c[0]);
    do
        client_once(&a, server.port, "POST", "/echo", "", "{}");
    while (a.status == 429);
    cr_assert(a.status == 200);
    client_close(&c[1]);
    answer_fini(&a);
}

// --- timeouts -------------------------------------------------------------------------------

static void trickle(const char *begin, const char *piece)
{
    struct client c;
    cr_assert(client_open(&c, server.port));
    client_text(&c, "%s", begin);
    for (int i = 0; i < 600 && client_text(&c, "%s", piece); i++)
        usleep(100000);
    cr_expect(client_skip_to_end(&c), "a request may be sent for ever: %s", begin);
    client_close(&c);
}

Test(listener, slow_requests_are_ended, .fini = stop)
{
    struct client idle;
    test_server_options(&server);
    server.options.idle_timeout_ms = 1000;
    test_server_start(&server);
    cr_assert(open_and_get(&idle, "/open"));
    trickle("GET /", "a");
    trickle("GET /open HTTP/1.1\r\n", "X: a\r\n");
    trickle("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", "{");
    trickle("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n{\r\n");
    cr_assert(client_at_end(&idle));
    client_close(&idle);
    cr_assert(atomic_load(&server.handled) == 1);
}

// The timeout is for what a client owes, not for what the server makes it wait for.
Test(listener, waiting_for_an_answer_is_not_idle, .fini = stop)
{
    struct answer a = {0};
    test_server_options(&server);
    server.options.idle_timeout_ms = 1000;
    test_server_start(&server);
    client_once(&a, server.port, "POST", "/later?events=2&gap_us=1500000", "", "{}");
    cr_assert(a.status == 200);
    answer_fini(&a);
}

// --- the end --------------------------------------------------------------------------------

Test(listener, drain_of_an_idle_server, .init = start)
{
    struct client c;
    cr_assert(open_and_get(&c, "/open")); // an idle connection holds nothing up
    http_drain(server.http);
    test_server_join(&server);
    cr_assert(client_at_end(&c));
    client_close(&c);
    cr_assert(!client_open(&c, server.port));
    cr_assert(stats_gauge_value(STATS_CONNECTIONS) == 0);
}

Test(listener, drain_finishes_what_is_under_way, .init = start)
{
    struct client c, d;
    struct answer a = {0}, b = {0};
    cr_assert(open_and_get(&d, "/open"));
    cr_assert(client_open(&c, server.port));
    client_request(&c, "GET", "/stream?events=60&gap_us=20000", "", NULL);
    cr_assert(answer_head(&a, &c) && answer_event(&a, &c));
    http_drain(server.http);
    do { // until the drain has begun
        cr_assert(client_request(&d, "GET", "/hello", "", NULL));
        cr_assert(answer_read(&b, &d));
    } while (b.status == 200);
    cr_assert(b.status == 503);
    cr_assert(answer_has(&b, "server_shutting_down"));
    cr_assert(answer_header_is(&b, "Connection", "close"));
    cr_assert(answer_header_is(&b, "Retry-After", "1"));
    int n = 1;
    while (answer_event(&a, &c))
        n++;
    cr_assert(n == 60 && a.complete, "%d events", n);
    test_server_join(&server);
    answer_fini(&a);
    answer_fini(&b);
    client_close(&c);
    client_close(&d);
}

static const char *last_event(struct answer *a, struct client *c)
{
    static char last[512];
    for (const char *event; (event = answer_event(a, c));)
        snprintf(last, sizeof last, "%s", event);
    return last;
}

// A drain that takes too long, and a stop, end streams with an error event and the rest with 503.
static void end_with_errors(void)
{
    struct client begun, silent, waiting;
    struct answer a = {0}, b = {0}, d = {0};
    cr_assert(client_open(&begun, server.port) && client_open(&silent, server.port) &&
              client_open(&waiting, server.port));
    client_request(&begun, "GET", "/held", "", NULL);
    client_request(&silent, "GET", "/silent", "", NULL);
    client_request(&waiting, "POST", "/silent", "", "{}");
    cr_assert(answer_head(&a, &begun) && answer_event(&a, &begun));
    cr_assert(test_server_wait(&server.live, 3));
    if (server.options.drain_timeout_ms < 60000)
        http_drain(server.http);
    else
        http_stop(server.http);
    const char *last = last_event(&a, &begun);
    cr_assert(!strncmp(last, "data: {\"error\":{", 16) && strstr(last, "server_shutting_down"),
              "%s", last);
    cr_assert(a.complete, "a stream that is ended by the server must end as HTTP says");
    cr_assert(answer_read(&b, &silent) && b.status == 503);
    cr_assert(answer_read(&d, &waiting) && d.status == 503);
    test_server_join(&server);
    cr_assert(atomic_load(&server.gone) == 3);
    answer_fini(&a);
    answer_fini(&b);
    answer_fini(&d);
    client_close(&begun);
    client_close(&silent);
    client_close(&waiting);
}

Test(listener, stop_ends_everything, .init = start)
{
    end_with_errors();
}

Test(listener, drain_timeout_ends_everything)
{
    test_server_options(&server);
    server.options.drain_timeout_ms = 100;
    test_server_start(&server);
    end_with_errors();
}

Test(listener, stop_does_not_wait_for_a_reader_that_does_not_read, .init = start)
{
    struct client c;
    struct answer a = {0};
    cr_assert(client_open(&c, server.port));
    client_request(&c, "GET", "/stream?events=3000&bytes=10000", "", NULL);
    cr_assert(answer_head(&a, &c));
    http_stop(server.http);
    test_server_join(&server);
    answer_fini(&a);
    client_close(&c);
}

Test(listener, drain_then_stop, .init = start)
{
    struct client c;
    struct answer a = {0};
    cr_assert(client_open(&c, server.port));
    client_request(&c, "GET", "/held", "", NULL);
    cr_assert(answer_head(&a, &c) && answer_event(&a, &c));
    http_drain(server.http);
    http_stop(server.http);
    http_drain(server.http); // does not go back
    cr_assert(strstr(last_event(&a, &c), "server_shutting_down") != NULL);
    test_server_join(&server);
    answer_fini(&a);
    client_close(&c);
}

Test(listener, signals, .init = start, .fini = stop)
{
    static const int SIGNALS[] = {SIGTERM, SIGINT, SIGUSR1};
    for (int i = 0; i < 3; i++) {
        raise(SIGNALS[i]);
        cr_assert(test_server_wait(&server.signals, i + 1));
    }
}
