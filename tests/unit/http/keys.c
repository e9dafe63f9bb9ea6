// Tests of server/http/keys.c, and of what a server with keys answers.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http_client.h"
#include "test_server.h"

static int read_text(struct keys *k, const char *text, size_t n, struct err *e)
{
    char path[] = "/tmp/keys-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, text, n) == (ssize_t)n);
    close(fd);
    int failed = keys_read(k, path, e);
    unlink(path);
    return failed;
}

Test(keys, file)
{
    struct keys k;
    struct err e = {0};
    char text[1024];
    int n = snprintf(text, sizeof text, "# comment\n\nalpha\r\nbeta-2\n%0*d", KEY_BYTES_MAX - 1, 5);
    cr_assert(read_text(&k, text, (size_t)n, &e) == 0, "%s", e.text);
    cr_assert(k.n == 3);
    snprintf(text, sizeof text, "Bearer %0*d", KEY_BYTES_MAX - 1, 5);
    cr_expect(keys_match(&k, text));
    snprintf(text, sizeof text, "Bearer %0*d", KEY_BYTES_MAX, 5);
    cr_expect(!keys_match(&k, text));
    static const struct {
        const char *authorization;
        bool is;
    } ROWS[] = {
        {"Bearer alpha", true},
        {"bearer  beta-2", true},
        {"Bearer alph", false},
        {"Bearer alphaa", false},
        {"Bearer ", false},
        {"Bearer", false},
        {"Bearer alpha ", false},
        {"alpha", false},
        {"Basic alpha", false},
        {"Bearer # comment", false},
        {"", false},
        {NULL, false},
        {"Bearer Alpha", false},
        {"Bearer alpha\n", false},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        cr_expect(keys_match(&k, ROWS[i].authorization) == ROWS[i].is, "%s", ROWS[i].authorization);
    keys_fini(&k);
    cr_expect(!keys_match(&k, "Bearer alpha"));
}

// No message may hold a key.
Test(keys, wrong_files)
{
    char many[KEY_BYTES_MAX + 16];
    snprintf(many, sizeof many, "ok\n%0*d\n", KEY_BYTES_MAX, 5);
    const struct {
        const char *text;
        size_t n;
        const char *says;
    } ROWS[] = {
        {"", 0, "holds no API key"},
        {"\n# only a comment\n", 18, "holds no API key"},
        {"sec ret\n", 8, "line 1 is no API key"},
        {"fine\nsecret\xC3\xA9\n", 14, "line 2 is no API key"},
        {"secret\t\n", 8, "line 1 is no API key"},
        {"fine\nsec\0ret", 12, "line 2 is no API key"},
        {many, strlen(many), "line 2 is no API key"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct keys k;
        struct err e = {0};
        cr_expect(read_text(&k, ROWS[i].text, ROWS[i].n, &e) == -1, "%zu", i);
        cr_expect(strstr(e.text, ROWS[i].says) && strstr(e.text, "/tmp/keys-"), "%s", e.text);
        cr_expect(!strstr(e.text, "sec"), "%s", e.text);
        cr_expect(k.n == 0 && k.key == NULL);
    }
    struct keys k;
    struct err e = {0};
    cr_expect(keys_read(&k, "/nonexistent/keys", &e) == -1);
    cr_expect(strstr(e.text, "/nonexistent/keys") != NULL);
}

static const char *const PATHS[] = {"/hello", "/things/x", "/nowhere", "/", "/stream", "/open/x"};

Test(keys, every_route_but_open_ones)
{
    struct keys k;
    struct err e = {0};
    struct test_server s;
    struct answer a = {0};
    cr_assert(read_text(&k, "one\ntwo\n", 8, &e) == 0);
    test_server_options(&s);
    s.options.keys = &k;
    test_server_start(&s);
    client_once(&a, s.port, "GET", "/open", "", NULL);
    cr_expect(a.status == 200);
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
        client_once(&a, s.port, "GET", PATHS[i], "", NULL);
        cr_expect(a.status == 401, "%s: %d", PATHS[i], a.status);
        cr_expect(answer_header_is(&a, "WWW-Authenticate", "Bearer"));
        cr_expect(answer_has(&a, "no API key given"));
        client_once(&a, s.port, "GET", PATHS[i], "Authorization: Bearer three\r\n", NULL);
        cr_expect(a.status == 401 && answer_has(&a, "invalid_api_key"), "%s", PATHS[i]);
        cr_expect(!answer_has(&a, "three"));
    }
    client_once(&a, s.port, "POST", "/echo", "", "{}");
    cr_expect(a.status == 401);
    cr_expect(atomic_load(&s.handled) == 1, "a handler ran without a key");
    client_once(&a, s.port, "POST", "/echo", "Authorization: Bearer two\r\n", "{}");
    cr_expect(a.status == 200);
    client_once(&a, s.port, "GET", "/nowhere", "Authorization: Bearer one\r\n", NULL);
    cr_expect(a.status == 404);
    answer_fini(&a);
    test_server_stop(&s);
    keys_fini(&k);
}
