// End to end: bytes on the wire. Requests in pieces, pipelined, too large, not UTF-8, not JSON; paths,
// methods and keys; always the real program.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "completion.h"
#include "json.h"
#include "mem.h"
#include "server.h"

static struct server server;
static struct completion first, second;

static void start(void)
{
    static const char *const OPTIONS[] = {"--context-max",
                                          "1024",
                                          "--sequences-max",
                                          "8",
                                          "--body-max-bytes",
                                          "65536",
                                          "--threads",
                                          "1",
                                          "--model-alias",
                                          "gpt-x,org/other",
                                          NULL};
    cr_assert(server_start(&server, OPTIONS));
}

static void stop(void)
{
    cr_assert(server_end(&server) == 0);
}

TestSuite(wire, .init = start, .fini = stop);

static bool is_error(const struct answer *a, int status, const char *code)
{
    struct err e = {0};
    json_t *root = json_parse(a->body.data ? a->body.data : "", a->body.n, 8, &e);
    json_t *error = json_object_get(root, "error");
    json_t *found = json_object_get(error, "code");
    bool ok = a->status == status && json_is_string(json_object_get(error, "message")) &&
              json_is_string(json_object_get(error, "type")) && json_object_get(error, "param") &&
              (code ? json_is_string(found) && !strcmp(json_string_value(found), code)
                    : json_is_null(found)) &&
              answer_header(a, "x-request-id");
    if (!ok)
        fprintf(stderr, "%d %s\n", a->status, a->body.n ? a->body.data : "");
    json_decref(root);
    return ok;
}

// The same completion whether its request comes at once or in pieces of any size.
Test(wire, pieces)
{
    struct buf body = {0}, text = {0};
    completion_body(&body, 40, 1, ",\"max_tokens\":8,\"temperature\":0,\"return_token_ids\":true");
    cr_assert(completion_get(&first, server.port, body.data));
    cr_assert(first.n == 8 || !strcmp(first.finish, "stop"));
    buf_format(&text,
               "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
               body.n, body.data);
    for (size_t piece = 1; piece < text.n; piece = piece * 3 + 1) {
        struct client c;
        struct answer a = {0};
        cr_assert(client_open(&c, server.port));
        for (size_t i = 0; i < text.n; i += piece) {
            cr_assert(client_send(&c, text.data + i, text.n - i < piece ? text.n - i : piece));
            usleep(200);
        }
        cr_assert(answer_read(&a, &c) && a.status == 200);
        cr_assert(completion_parse(&second, &a) && completion_same(&first, &second));
        answer_fini(&a);
        client_close(&c);
    }
    buf_fini(&body);
    buf_fini(&text);
}

Test(wire, pipelined)
{
    struct client c;
    struct answer a = {0};
    struct buf body = {0};
    cr_assert(client_open(&c, server.port));
    for (int i = 1; i <= 6; i++) {
        char more[64];
        snprintf(more, sizeof more, ",\"max_tokens\":%d,\"ignore_eos\":true", i);
        client_request(&c, "POST", "/v1/completions", "", completion_body(&body, 5, i, more));
    }
    for (int i = 1; i <= 6; i++) {
        cr_assert(answer_read(&a, &c) && a.status == 200);
        cr_assert(completion_parse(&first, &a));
        cr_assert(first.n_completion == i, "reply %d has %lld tokens", i, first.n_completion);
    }
    answer_fini(&a);
    client_close(&c);
    buf_fini(&body);
}

Test(wire, too_large)
{
    struct answer a = {0};
    char *big = mem_alloc(70001);
    memset(big, ' ', 70000);
    big[70000] = '\0';
    client_once(&a, server.port, "POST", "/v1/completions", "", big);
    cr_assert(is_error(&a, 413, "request_too_large"));
    big[40000] = '\0';
    memset(big, 'h', 40000);
    struct client c;
    cr_assert(client_open(&c, server.port));
    client_text(&c, "GET /livez HTTP/1.1\r\nHost: a\r\nX-Big: ");
    client_send(&c, big, 40000);
    cr_assert(answer_read(&a, &c) && a.status == 431);
    client_close(&c);
    answer_fini(&a);
    mem_free(big);
}

static const struct {
    const char *body;
    const char *param; // in the error, or NULL
} BODIES[] = {
    {"", NULL},
    {"{", NULL},
    {"[]", NULL},
    {"null", NULL},
    {"{\"prompt\":[1,2],}", NULL},
    {"{\"prompt\":[1,2]} {}", NULL},
    {"{\"prompt\":\"\xFF\xFE\"}", NULL},
    {"{\"prompt\":\"\xC3\"}", NULL},
    {"{\"prompt\":\"\xED\xA0\x80\"}", NULL}, // a surrogate in UTF-8
    {"{\"prompt\":[1,2],\"max_tokens\":1e999}", NULL},
    {"{\"prompt\":[1,2],\"prompt\":[3]}", NULL},
    {"{\"max_tokens\":2}", "prompt"},
    {"{\"prompt\":[1,2],\"max_tokens\":-1}", "max_tokens"},
    {"{\"prompt\":[1,2],\"max_tokens\":\"2\"}", "max_tokens"},
    {"{\"prompt\":[1,2],\"max_tokens\":1.5}", "max_tokens"},
    {"{\"prompt\":[1,2],\"max_tokens\":99999999999999999999}", NULL},
    {"{\"prompt\":[1,2],\"temperature\":-0.1}", "temperature"},
    {"{\"prompt\":[1,2],\"n\":0}", "n"},
    {"{\"prompt\":[1,1000000]}", "prompt"},
    {"{\"prompt\":[1,-1]}", "prompt"},
};

// Always 400 and never a stream: what is wrong with a request is known before its first byte.
Test(wire, wrong_bodies)
{
    for (size_t i = 0; i < sizeof BODIES / sizeof *BODIES; i++) {
        struct answer a = {0};
        client_once(&a, server.port, "POST", "/v1/completions", "", BODIES[i].body);
        cr_expect(a.status == 400, "%s: %d", BODIES[i].body, a.status);
        cr_expect(is_error(&a, 400, NULL) || a.status == 400);
        char want[64];
        snprintf(want, sizeof want, "\"param\":\"%s", BODIES[i].param ? BODIES[i].param : "");
        cr_expect(!BODIES[i].param || (a.body.n && strstr(a.body.data, want)), "%s: %s",
                  BODIES[i].body, a.body.n ? a.body.data : "");
        answer_fini(&a);
    }
    struct buf deep = {0};
    struct answer a = {0};
    for (int i = 0; i < 20000; i++)
        buf_str(&deep, "[");
    client_once(&a, server.port, "POST", "/v1/completions", "", deep.data);
    cr_expect(a.status == 400);
    buf_fini(&deep);
    answer_fini(&a);
}

Test(wire, context_length)
{
    struct buf body = {0};
    struct answer a = {0};
    completion_body(&body, 1000, 1, ",\"max_tokens\":100,\"stream\":true");
    client_once(&a, server.port, "POST", "/v1/completions", "", body.data);
    cr_assert(is_error(&a, 400, "context_length_exceeded"));
    cr_assert(answer_has(&a, "1024") && answer_has(&a, "1000"), "%s", a.body.data);
    answer_fini(&a);
    buf_fini(&body);
}

Test(wire, paths_and_methods)
{
    struct answer a = {0};
    client_once(&a, server.port, "GET", "/v2/nothing", "", NULL);
    cr_expect(is_error(&a, 404, "not_found"));
    client_once(&a, server.port, "GET", "/v1/completions", "", NULL);
    cr_expect(is_error(&a, 405, "method_not_allowed"));
    cr_expect(answer_header_is(&a, "Allow", "POST"));
    client_once(&a, server.port, "POST", "/v1/completions", "Content-Type: text/plain\r\n", "{}");
    cr_expect(a.status == 400 || a.status == 415, "two types: %d", a.status);
    struct client c;
    cr_assert(client_open(&c, server.port));
    client_text(&c, "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: "
                    "application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b");
    cr_expect(answer_read(&a, &c) && is_error(&a, 415, "unsupported_media_type"));
    client_close(&c);
    client_once(&a, server.port, "POST", "/v1/completions", "",
                "{\"prompt\":[1],\"model\":\"another\"}");
    cr_expect(is_error(&a, 404, "model_not_found"));
    client_once(&a, server.port, "GET", "/v1/models", "X-Request-Id: mine-1\r\n", NULL);
    cr_expect(a.status == 200);
    cr_expect(answer_header_is(&a, "x-request-id", "mine-1"));
    cr_expect(answer_has(&a, "\"gpt-x\"") && answer_has(&a, "\"org/other\""), "%s", a.body.data);
    client_once(&a, server.port, "POST", "/v1/completions", "",
                "{\"prompt\":[1],\"model\":\"org/other\",\"max_tokens\":1}");
    cr_expect(a.status == 200);
    answer_fini(&a);
}

static const struct {
    const char *method, *path;
} GUARDED[] = {
    {"POST", "/v1/completions"},
    {"POST", "/v1/chat/completions"},
    {"GET", "/v1/models"},
    {"GET", "/v1/models/x"},
    {"POST", "/tokenize"},
    {"POST", "/detokenize"},
    {"GET", "/tokenizer_info"},
    {"GET", "/v1/job-types"},
    {"GET", "/v1/jobs"},
    {"POST", "/v1/jobs"},
    {"GET", "/v1/jobs/x"},
    {"DELETE", "/v1/jobs/x"},
    {"POST", "/v1/jobs/x/cancel"},
    {"POST", "/v1/jobs/x/compare"},
    {"GET", "/v1/jobs/x/events"},
    {"GET", "/v1/jobs/x/result"},
    {"GET", "/v1/jobs/x/artifacts"},
    {"GET", "/v1/jobs/x/artifacts/y"},
    {"GET", "/version"},
    {"GET", "/metrics"},
    {"GET", "/nothing"},
    {"DELETE", "/v1/models/x"},
};

Test(keys, every_route)
{
    char path[] = "/tmp/deltaserve-keys-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, "secret-one\n", 11) == 11);
    close(fd);
    const char *const options[] = {
        "--api-key-file", path, "--context-max", "256", "--threads", "1", NULL};
    cr_assert(server_start(&server, options));
    struct answer a = {0};
    for (size_t i = 0; i < sizeof GUARDED / sizeof *GUARDED; i++) {
        const char *body = strcmp(GUARDED[i].method, "POST") ? NULL : "{}";
        client_once(&a, server.port, GUARDED[i].method, GUARDED[i].path, "", body);
        cr_expect(is_error(&a, 401, "invalid_api_key"), "%s", GUARDED[i].path);
        client_once(&a, server.port, GUARDED[i].method, GUARDED[i].path,
                    "Authorization: Bearer secret-two\r\n", body);
        cr_expect(is_error(&a, 401, "invalid_api_key"), "%s", GUARDED[i].path);
        client_once(&a, server.port, GUARDED[i].method, GUARDED[i].path,
                    "Authorization: Bearer secret-one\r\n", body);
        cr_expect(a.status != 401 && a.status != 0, "%s", GUARDED[i].path);
    }
    client_once(&a, server.port, "GET", "/livez", "", NULL);
    cr_expect(a.status == 200);
    client_once(&a, server.port, "GET", "/readyz", "", NULL);
    cr_expect(a.status == 200);
    client_once(&a, server.port, "GET", "/", "", NULL); // the page, which then asks for the key
    cr_expect(a.status == 200 && !answer_has(&a, "secret"));
    cr_expect(!server_log_has(&server, "secret"), "a key is in the log");
    answer_fini(&a);
    cr_assert(server_end(&server) == 0);
    unlink(path);
}

// Beyond this machine only with a key, or when told that it is meant.
Test(keys, refuses_to_be_open)
{
    static const char *const OPTIONS[] = {"--host", "0.0.0.0", NULL};
    cr_assert(!server_listen(&server, OPTIONS));
    cr_assert(server_log_has(&server, "--api-key-file"));
}

Test(aliases, empty_names)
{
    static const char *const LISTS[] = {",", "a,", ",a", "a,,b"};
    for (size_t i = 0; i < sizeof LISTS / sizeof *LISTS; i++) {
        const char *const options[] = {"--model-alias", LISTS[i], NULL};
        cr_assert(!server_listen(&server, options), "%s", LISTS[i]);
        cr_assert(server_log_has(&server, "has an empty name"), "%s", LISTS[i]);
    }
}

// Never quietly another type.
Test(device, f16_needs_a_gpu)
{
    static const char *const OPTIONS[] = {"--device", "cpu", "--dtype", "f16", NULL};
    cr_assert(!server_listen(&server, OPTIONS));
    cr_assert(server_log_has(
        &server, "--dtype f16 needs a GPU (--device is cpu); on the cpu give --dtype bf16"));
}
