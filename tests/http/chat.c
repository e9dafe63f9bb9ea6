// End to end: text, with the bundled model and its tokenizer. A streamed chat says what the same chat
// says in one piece, whatever bytes the tokens cut; stop strings never come through.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "http_client.h"
#include "json.h"
#include "server.h"

static struct server server;

struct chat {
    struct buf text;
    char finish[16];
    int roles, finishes, usages, chunks;
    long long n_total;
};

static void start(void)
{
    static const char *const OPTIONS[] = {"--model",
                                          TEST_SOURCE_DIR "/models/bundled",
                                          "--context-max",
                                          "1024",
                                          "--sequences-max",
                                          "4",
                                          "--threads",
                                          "1",
                                          NULL};
    cr_assert(server_start(&server, OPTIONS));
}

static void stop(void)
{
    cr_assert(server_end(&server) == 0);
}

TestSuite(chat, .init = start, .fini = stop);

// key is "message" or "delta". json_parse refuses what is not UTF-8.
static void take(struct chat *c, const char *key, const char *text)
{
    struct err e = {0};
    json_t *root = json_parse(text, strlen(text), 64, &e);
    cr_assert(root != NULL, "%s: %s", e.text, text);
    json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
    json_t *part = json_object_get(choice, key);
    const char *content = json_string_value(json_object_get(part, "content"));
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    json_t *usage = json_object_get(root, "usage");
    buf_str(&c->text, content ? content : "");
    c->roles += json_object_get(part, "role") != NULL;
    if (finish) {
        c->finishes++;
        snprintf(c->finish, sizeof c->finish, "%s", finish);
    }
    if (json_is_object(usage)) {
        c->usages++;
        c->n_total = json_integer_value(json_object_get(usage, "total_tokens"));
    }
    c->chunks++;
    json_decref(root);
}

// Ask for body in pieces of piece bytes, and read the reply, streamed or not.
static void ask(struct chat *c, const char *body, size_t piece)
{
    struct client client;
    struct answer a = {0};
    buf_fini(&c->text);
    *c = (struct chat){0};
    cr_assert(client_open(&client, server.port));
    client_text(&client,
                "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                "Content-Length: %zu\r\n\r\n",
                strlen(body));
    for (size_t i = 0, n = strlen(body); i < n; i += piece)
        cr_assert(client_send(&client, body + i, n - i < piece ? n - i : piece));
    cr_assert(answer_head(&a, &client) && a.status == 200, "%d", a.status);
    if (a.chunked) {
        const char *event;
        while ((event = answer_event(&a, &client)) && strcmp(event, "data: [DONE]"))
            if (event[0] != ':')
                take(c, "delta", event + 6);
        cr_assert(event != NULL, "no [DONE]");
        cr_assert(!answer_event(&a, &client) && a.complete);
    } else {
        cr_assert(answer_body(&a, &client));
        take(c, "message", a.body.data);
    }
    answer_fini(&a);
    client_close(&client);
}

#define ASKED                                                                                      \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Tell me of caf\xC3\xA9s "                     \
    "\xF0\x9F\x98\x80.\"}],"

// Hot sampling picks tokens that are pieces of characters, so that chunks end inside them.
Test(chat, streamed_or_not)
{
    static const char *const SAMPLING[] = {"\"temperature\":0", "\"temperature\":1,\"seed\":3",
                                           "\"temperature\":2,\"seed\":4,\"top_k\":0,\"top_p\":1",
                                           "\"temperature\":2,\"seed\":5,\"top_k\":0,\"top_p\":1"};
    struct chat whole = {0}, streamed = {0};
    char body[512];
    for (int i = 0; i < 4; i++) {
        snprintf(body, sizeof body, ASKED "\"max_tokens\":60,%s}", SAMPLING[i]);
        ask(&whole, body, sizeof body);
        snprintf(body, sizeof body, ASKED "\"max_tokens\":60,%s,\"stream\":true}", SAMPLING[i]);
        ask(&streamed, body, sizeof body);
        cr_expect_str_eq(streamed.text.data, whole.text.data);
        cr_expect_str_eq(streamed.finish, whole.finish);
        cr_expect(whole.text.n > 0 && streamed.chunks > 2);
        cr_expect(streamed.roles == 1 && streamed.finishes == 1 && streamed.usages == 0);
    }
    buf_fini(&whole.text);
    buf_fini(&streamed.text);
}

Test(chat, pieces_of_characters_and_usage)
{
    struct chat whole = {0}, pieces = {0};
    ask(&whole, ASKED "\"max_tokens\":8,\"temperature\":0}", 1 << 20);
    ask(&pieces,
        ASKED "\"max_tokens\":8,\"temperature\":0,\"stream\":true,"
              "\"stream_options\":{\"include_usage\":true}}",
        1);
    cr_expect_str_eq(pieces.text.data, whole.text.data);
    cr_expect(pieces.usages == 1 && whole.usages == 1);
    cr_expect(pieces.n_total == whole.n_total && whole.n_total > 8);
    buf_fini(&whole.text);
    buf_fini(&pieces.text);
}

// A stop string taken from the middle of an answer cuts the same answer right before it.
Test(chat, stop_strings)
{
    struct chat whole = {0}, cut = {0}, streamed = {0};
    char body[512], stop_text[8];
    ask(&whole, ASKED "\"max_tokens\":60,\"temperature\":0}", 1 << 20);
    size_t at = 0;
    for (size_t i = whole.text.n / 2; i + 4 < whole.text.n && !at; i++)
        if (strspn(whole.text.data + i, "abcdefghijklmnopqrstuvwxyz ") >= 4)
            at = i;
    cr_assert(at > 0, "no four plain letters in '%s'", whole.text.data);
    snprintf(stop_text, sizeof stop_text, "%.4s", whole.text.data + at);
    size_t first = (size_t)(strstr(whole.text.data, stop_text) - whole.text.data);
    snprintf(body, sizeof body, ASKED "\"max_tokens\":60,\"temperature\":0,\"stop\":\"%s\"}",
             stop_text);
    ask(&cut, body, 1 << 20);
    snprintf(body, sizeof body,
             ASKED "\"max_tokens\":60,\"temperature\":0,\"stop\":[\"%s\"],\"stream\":true}",
             stop_text);
    ask(&streamed, body, 1 << 20);
    cr_expect(cut.text.n == first && !strncmp(cut.text.data, whole.text.data, first));
    cr_expect_str_eq(cut.finish, "stop");
    cr_expect_str_eq(streamed.text.data, cut.text.data);
    cr_expect_str_eq(streamed.finish, "stop");
    buf_fini(&whole.text);
    buf_fini(&cut.text);
    buf_fini(&streamed.text);
}

// Replies that are no streams are cancelled too, and the next one is served.
Test(chat, leaving)
{
    struct chat next = {0};
    for (int streaming = 0; streaming < 2; streaming++) {
        struct client c;
        char body[256];
        snprintf(body, sizeof body, ASKED "\"max_tokens\":900,\"ignore_eos\":true,\"stream\":%s}",
                 streaming ? "true" : "false");
        cr_assert(client_open(&c, server.port));
        client_request(&c, "POST", "/v1/chat/completions", "", body);
        cr_assert(server_metric_becomes(&server, "deltaserve_requests_running", 1));
        client_close(&c);
        cr_assert(server_metric_becomes(&server, "deltaserve_requests_running", 0));
        cr_assert(server_metric(&server, "deltaserve_request_cancelled_total") == streaming + 1);
    }
    ask(&next, ASKED "\"max_tokens\":4}", 1 << 20);
    cr_assert(next.text.n > 0);
    buf_fini(&next.text);
}
