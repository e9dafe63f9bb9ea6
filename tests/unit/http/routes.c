// Tests of server/http: what is answered from a request's head and body alone.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "http_client.h"
#include "mem.h"
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

TestSuite(routes, .init = start, .fini = stop);

Test(routes, at_once)
{
    struct answer a = {0};
    client_once(&a, server.port, "GET", "/hello?x=1&name=a%20b%2Bc+d&name=second", "", NULL);
    cr_assert(a.status == 200);
    cr_assert(answer_has(&a, "\"name\":\"a b+c d\""), "%s", a.body.data);
    cr_assert(answer_has(&a, "\"path\":\"/hello\""));
    cr_assert(answer_header_is(&a, "Content-Type", "application/json"));
    cr_assert(answer_header_is(&a, "x-test", "none"));
    cr_assert(strlen(answer_header(&a, "x-request-id")) == 16);
    answer_fini(&a);
}

static const struct {
    const char *method, *path;
    int status;
    const char *has; // in the body
} PATHS[] = {
    {"GET", "/things/a/b", 200, "\"tail\":\"a/b\""},
    {"GET", "/things/Qwen%2FQwen3.5%C3%A9", 200, "\"tail\":\"Qwen/Qwen3.5\xC3\xA9\""},
    {"GET", "/things/fixed", 200, "\"path\":\"/things/fixed\""},
    {"DELETE", "/things/x", 200, "\"method\":\"DELETE\""},
    {"GET", "http://elsewhere:80/hello?name=n", 200, "\"name\":\"n\""},
    {"GET", "/things/", 404, "\"code\":\"not_found\""},
    {"GET", "/things", 404, "there is no /things here"},
    {"GET", "/hello/", 404, "\"type\":\"invalid_request_error\""},
    {"GET", "/Hello", 404, "not_found"},
    {"GET", "/", 404, "not_found"},
    {"GET", "/parts/x", 200, "{\"vars\":[\"x\",\"\"],\"tail\":\"\"}"},
    {"GET", "/parts/x/of/yy", 200, "{\"vars\":[\"x\",\"yy\"],\"tail\":\"\"}"},
    {"GET", "/parts/x/of/yy/z/w", 200, "{\"vars\":[\"x\",\"yy\"],\"tail\":\"z/w\"}"},
    {"GET", "/parts/fixed", 200, "\"path\":\"/parts/fixed\""},
    {"GET", "/parts/", 404, "not_found"},
    {"GET", "/parts/x/", 404, "not_found"},
    {"GET", "/parts/x/of", 404, "not_found"},
    {"GET", "/parts/x/of/", 404, "not_found"},
    {"GET", "/parts//of/y", 404, "not_found"},
    {"DELETE", "/parts/x/of/y", 405, "use GET, HEAD"},
    {"DELETE", "/parts/x", 405, "use GET, HEAD, POST"},
    {"GET", "/hello%00", 400, "escape"},
    {"GET", "/hello%0a", 400, "escape"},
    {"GET", "/hello%4", 400, "escape"},
    {"GET", "/hello?name=%zz", 400, "escape"},
    {"GET", "hello", 400, "does not begin with '/'"},
    {"OPTIONS", "*", 400, "does not begin with '/'"},
    {"GET", "http://hello", 400, "does not begin with '/'"},
};

Test(routes, paths)
{
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
        struct answer a = {0};
        client_once(&a, server.port, PATHS[i].method, PATHS[i].path, "", NULL);
        cr_expect(a.status == PATHS[i].status, "%s: %d", PATHS[i].path, a.status);
        cr_expect(answer_has(&a, PATHS[i].has), "%s: %s", PATHS[i].path, a.body.data);
        cr_expect(a.status == 200 || answer_has(&a, "{\"error\":{\"message\":\""));
        cr_expect(answer_header(&a, "x-request-id") != NULL);
        answer_fini(&a);
    }
}

Test(routes, methods)
{
    struct answer a = {0};
    client_once(&a, server.port, "POST", "/hello", "", "{}");
    cr_expect(a.status == 405);
    cr_expect(answer_header_is(&a, "Allow", "GET, HEAD"));
    cr_expect(answer_has(&a, "\"code\":\"method_not_allowed\""));
    client_once(&a, server.port, "PUT", "/things/x", "", "{}");
    cr_expect(a.status == 405);
    cr_expect(answer_header_is(&a, "Allow", "GET, HEAD, DELETE"));
    client_once(&a, server.port, "OPTIONS", "/echo", "", NULL);
    cr_expect(a.status == 405);
    cr_expect(answer_header_is(&a, "Allow", "POST"));
    answer_fini(&a);
}

// HEAD has GET's head, and the next answer follows at once.
Test(routes, head)
{
    struct client c;
    struct answer a = {0};
    cr_assert(client_open(&c, server.port));
    client_request(&c, "HEAD", "/open", "", NULL);
    client_request(&c, "GET", "/open", "", NULL);
    cr_assert(answer_head(&a, &c));
    cr_assert(a.status == 200);
    cr_assert(answer_header_is(&a, "Content-Length", "11"));
    cr_assert(answer_read(&a, &c));
    cr_assert(answer_is(&a, "{\"ok\":true}"));
    answer_fini(&a);
    client_close(&c);
}

Test(routes, request_ids)
{
    static const struct {
        const char *given;
        bool kept;
    } IDS[] = {{"abc-123_X:/{}", true}, {"has space", false}, {"quote\"", false},
               {"back\\slash", false},  {"\xC3\xA9", false},  {"tab\there", false}};
    struct answer a = {0};
    for (size_t i = 0; i < sizeof IDS / sizeof *IDS; i++) {
        char header[128];
        snprintf(header, sizeof header, "X-Request-Id: %s\r\n", IDS[i].given);
        client_once(&a, server.port, "GET", "/hello", header, NULL);
        const char *id = answer_header(&a, "x-request-id");
        cr_expect(!strcmp(id, IDS[i].given) == IDS[i].kept, "%s became %s", IDS[i].given, id);
        cr_expect(answer_has(&a, id), "the handler saw another id");
    }
    char header[256];
    for (int n = 128; n <= 129; n++) {
        snprintf(header, sizeof header, "X-Request-Id: %0*d\r\n", n, 7);
        client_once(&a, server.port, "GET", "/nowhere", header, NULL);
        cr_expect(strlen(answer_header(&a, "x-request-id")) == (n == 128 ? 128u : 16u));
    }
    answer_fini(&a);
}

// --- framing --------------------------------------------------------------------------------

static const struct {
    const char *why, *request;
    int status;
    bool closes;
} FRAMING[] = {
    {"both lengths",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
     "0\r\n\r\n",
     400, true},
    {"two lengths",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400,
     true},
    {"unknown encoding",
     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400,
     true},
    {"encoding in 1.0",
     "POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, true},
    {"two hosts", "GET /open HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, true},
    {"no host", "GET /open HTTP/1.1\r\n\r\n", 400, true},
    {"no number", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2x\r\n\r\n{}", 400, true},
    {"negative", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\n{}", 400, true},
    {"beyond 64 bits",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 413, true},
    {"bad chunk", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
     400, true},
    {"no HTTP", "hello\r\n\r\n", 0, true},
    {"space", "GET /op en HTTP/1.1\r\nHost: a\r\n\r\n", 400, false},
    {"version 3", "GET /open HTTP/3.7\r\nHost: a\r\n\r\n", 505, true},
    {"1.0 closes", "GET /open HTTP/1.0\r\n\r\n", 200, true},
    {"closing asked", "GET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, true},
    {"a form",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
     "Content-Length: 2\r\n\r\n{}",
     415, false},
    {"like JSON",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/jsonx\r\n"
     "Content-Length: 2\r\n\r\n{}",
     415, false},
    {"JSON with charset",
     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: Application/JSON; charset=utf-8\r\n"
     "Content-Length: 2\r\n\r\n{}",
     200, false},
    {"no type", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", 200, false},
    {"type without body", "GET /open HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n\r\n", 200,
     false},
};

// Where the connection stays open, the same request must get the same answer again.
Test(routes, framing)
{
    for (size_t i = 0; i < sizeof FRAMING / sizeof *FRAMING; i++) {
        struct client c;
        struct answer a = {0};
        cr_assert(client_open(&c, server.port));
        for (int again = 0; again < (FRAMING[i].closes ? 1 : 2); again++) {
            cr_expect(client_text(&c, "%s", FRAMING[i].request), "%s", FRAMING[i].why);
            answer_read(&a, &c); // "no HTTP" gets none, but an end
            cr_expect(a.status == FRAMING[i].status, "%s: %d", FRAMING[i].why, a.status);
        }
        cr_expect(!FRAMING[i].closes || client_skip_to_end(&c), "%s: still open", FRAMING[i].why);
        answer_fini(&a);
        client_close(&c);
    }
}

Test(routes, header_beyond_limit)
{
    struct client c;
    struct answer a = {0};
    char *line = mem_alloc(40001);
    memset(line, 'a', 40000);
    line[40000] = '\0';
    cr_assert(client_open(&c, server.port));
    client_text(&c, "GET /open HTTP/1.1\r\nHost: a\r\nX-Long: ");
    client_send(&c, line, 40000);
    cr_assert(answer_read(&a, &c));
    cr_assert(a.status == 431, "%d", a.status);
    client_close(&c);
    cr_assert(client_open(&c, server.port));
    client_text(&c, "GET /");
    client_send(&c, line, 40000);
    cr_assert(answer_read(&a, &c));
    cr_assert(a.status == 414, "%d", a.status);
    client_close(&c);
    answer_fini(&a);
    mem_free(line);
}

// --- bodies ---------------------------------------------------------------------------------

Test(routes, one_byte_at_a_time)
{
    static const char REQUEST[] = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
                                  "{\"a\": 12}"
                                  "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
                                  "chunked\r\n\r\n4;x=y\r\n{\"b\"\r\n5\r\n: 34}\r\n0\r\n\r\n";
    for (size_t piece = 1; piece <= 7; piece++) {
        struct client c;
        struct answer a = {0};
        cr_assert(client_open(&c, server.port));
        for (size_t i = 0; i < sizeof REQUEST - 1; i += piece) {
            size_t left = sizeof REQUEST - 1 - i;
            cr_assert(client_send(&c, REQUEST + i, left < piece ? left : piece));
            usleep(100);
        }
        cr_assert(answer_read(&a, &c));
        cr_assert(answer_is(&a, "{\"a\": 12}"));
        cr_assert(answer_read(&a, &c));
        cr_assert(answer_is(&a, "{\"b\": 34}"));
        answer_fini(&a);
        client_close(&c);
    }
}

Test(routes, pipelined_in_order)
{
    struct client c;
    struct answer a = {0};
    cr_assert(client_open(&c, server.port));
    for (int i = 0; i < 20; i++) {
        char path[64];
        snprintf(path, sizeof path, i % 2 ? "/hello?name=%d" : "/later?events=%d", i + 1);
        client_request(&c, i % 2 ? "GET" : "POST", path, "", i % 2 ? NULL : "{}");
    }
    for (int i = 0; i < 20; i++) {
        char want[64];
        snprintf(want, sizeof want, i % 2 ? "\"name\":\"%d\"" : "{\"events\":%d}", i + 1);
        cr_assert(answer_read(&a, &c));
        cr_assert(answer_has(&a, want), "%d: %s", i, a.body.data);
    }
    answer_fini(&a);
    client_close(&c);
}

Test(routes, body_at_the_limit)
{
    size_t max = server.options.body_bytes_max;
    char *body = mem_alloc(max + 2);
    memset(body, ' ', max + 1);
    body[max] = body[max + 1] = '\0';
    struct answer a = {0};
    client_once(&a, server.port, "POST", "/echo", "", body);
    cr_assert(a.status == 200);
    cr_assert(a.body.n == max);
    body[max] = ' ';
    client_once(&a, server.port, "POST", "/echo", "", body);
    cr_assert(a.status == 413);
    cr_assert(answer_has(&a, "Content-Length is 1048577; a request body may have 1048576 bytes"));
    answer_fini(&a);
    mem_free(body);
}

// Refused from its head alone: not one byte of the body has been sent.
Test(routes, declared_too_large)
{
    struct client c;
    struct answer a = {0};
    cr_assert(client_open(&c, server.port));
    client_text(&c, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000000\r\n\r\n");
    cr_assert(answer_read(&a, &c));
    cr_assert(a.status == 413);
    cr_assert(client_at_end(&c));
    cr_assert(atomic_load(&server.handled) == 0);
    answer_fini(&a);
    client_close(&c);
}

Test(routes, chunked_too_large)
{
    struct client c;
    struct answer a = {0};
    char chunk[4096];
    memset(chunk, ' ', sizeof chunk);
    cr_assert(client_open(&c, server.port));
    client_text(&c, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 256; i++) // exactly body_bytes_max
        cr_assert(client_text(&c, "1000\r\n") && client_send(&c, chunk, sizeof chunk) &&
                  client_text(&c, "\r\n"));
    client_text(&c, "1\r\n ");
    cr_assert(answer_read(&a, &c));
    cr_assert(a.status == 413, "%d", a.status);
    cr_assert(answer_has(&a, "request_too_large"));
    cr_assert(answer_header(&a, "x-request-id") != NULL);
    cr_assert(client_at_end(&c));
    answer_fini(&a);
    client_close(&c);
}

Test(routes, expect_continue)
{
    struct client c;
    struct answer a = {0};
    cr_assert(client_open(&c, server.port));
    client_text(&c, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
                    "Expect: 100-continue\r\n\r\n");
    while (c.in.n < 25) // "HTTP/1.1 100 Continue\r\n\r\n" comes before the body is sent
        cr_assert(!client_is_silent(&c, 60000) && c.in.n);
    cr_assert(!strncmp(c.in.data, "HTTP/1.1 100 ", 13));
    client_text(&c, "{}");
    cr_assert(answer_read(&a, &c));
    cr_assert(a.status == 200);
    cr_assert(answer_is(&a, "{}"));
    client_text(&c, "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
                    "Expect: 100-continue\r\n\r\n");
    cr_assert(answer_read(&a, &c));
    cr_assert(a.status == 404);
    answer_fini(&a);
    client_close(&c);
}

// A refusal costs neither the connection nor the answer, also when the body is more than sockets hold and
// than a request may have.
Test(routes, refused_body_is_swallowed)
{
    static const struct {
        const char *path;
        int status;
    } REFUSED[] = {{"/nowhere", 404}, {"/echo", 413}, {"/nowhere", 404}};
    struct client c;
    struct answer a = {0};
    const size_t n = 8 << 20;
    char *body = mem_alloc(n + 1);
    memset(body, 'x', n);
    body[n] = '\0';
    cr_assert(client_open(&c, server.port));
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++) {
        client_request(&c, "POST", REFUSED[i].path, "", body);
        cr_assert(answer_read(&a, &c));
        cr_assert(a.status == REFUSED[i].status, "%d", a.status);
    }
    client_request(&c, "GET", "/open", "", NULL);
    cr_assert(answer_read(&a, &c));
    cr_assert(a.status == 200);
    answer_fini(&a);
    client_close(&c);
    mem_free(body);
}

Test(routes, handler_errors)
{
    struct answer a = {0};
    client_once(&a, server.port, "GET", "/refused", "", NULL);
    cr_expect(a.status == 429);
    cr_expect(answer_header_is(&a, "Retry-After", "1"));
    cr_expect(answer_has(&a, "\"message\":\"the queue is full\",\"type\":\"rate_limit_error\","
                             "\"param\":null,\"code\":\"rate_limit_exceeded\""));
    cr_expect(answer_header(&a, "x-half") == NULL);
    client_once(&a, server.port, "GET", "/broken", "", NULL);
    cr_expect(a.status == 500);
    cr_expect(!answer_has(&a, "secret") && answer_has(&a, "internal_error"));
    client_once(&a, server.port, "GET", "/lost", "", NULL);
    cr_expect(a.status == 500);
    cr_expect(!answer_has(&a, "secret") && answer_has(&a, "device_lost"));
    cr_expect(answer_header_is(&a, "Content-Type", "application/json"));
    cr_expect(test_server_wait(&server.gone, 1), "a failed stream still ends with gone");
    answer_fini(&a);
}
