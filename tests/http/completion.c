// completion.c - see completion.h.
#include "completion.h"

#include <stdio.h>
#include <string.h>

#include "json.h"

const char *completion_body(struct buf *b, int n_prompt, int first, const char *more)
{
    buf_clear(b);
    buf_str(b, "{\"prompt\":[");
    for (int i = 0; i < n_prompt; i++)
        buf_format(b, "%s%d", i ? "," : "", 1 + (first * 31 + i * 7) % 1000);
    buf_format(b, "]%s}", more);
    return b->data;
}

static bool fail(const char *why, const char *text)
{
    fprintf(stderr, "not a completion: %s: %.300s\n", why, text);
    return false;
}

static bool take_usage(struct completion *c, json_t *usage)
{
    if (!json_is_object(usage))
        return true;
    return json_unpack(usage, "{s:I, s:I, s:I}", "prompt_tokens", &c->n_prompt, "completion_tokens",
                       &c->n_completion, "total_tokens", &c->n_total) == 0;
}

static bool take_choice(struct completion *c, json_t *choice)
{
    json_t *ids = json_object_get(choice, "token_ids");
    for (size_t i = 0; i < json_array_size(ids) && c->n < TOKENS_MAX; i++)
        c->tokens[c->n++] = (int)json_integer_value(json_array_get(ids, i));
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    if (finish)
        snprintf(c->finish, sizeof c->finish, "%s", finish);
    return json_is_string(json_object_get(choice, "text"));
}

static bool take_document(struct completion *c, const char *text, size_t n)
{
    struct err e = {0};
    json_t *root = json_parse(text, n, 64, &e);
    if (!root)
        return fail(e.text, text);
    json_t *choices = json_object_get(root, "choices"), *error = json_object_get(root, "error");
    bool ok = take_usage(c, json_object_get(root, "usage"));
    if (error)
        snprintf(c->error, sizeof c->error, "%s",
                 json_string_value(json_object_get(error, "code")));
    else if (json_array_size(choices))
        ok = take_choice(c, json_array_get(choices, 0)) && ok;
    else
        ok = json_is_array(choices) && ok;
    json_decref(root);
    return ok || fail("fields are missing", text);
}

static void begin(struct completion *c)
{
    memset(c, 0, sizeof *c);
    c->n_prompt = c->n_completion = c->n_total = -1;
}

bool completion_parse(struct completion *c, const struct answer *a)
{
    begin(c);
    return a->body.n && take_document(c, a->body.data, a->body.n);
}

bool completion_stream(struct completion *c, struct answer *a, struct client *client)
{
    begin(c);
    bool done = false;
    for (const char *event; (event = answer_event(a, client));) {
        if (event[0] == ':')
            continue;
        if (done || strncmp(event, "data: ", 6) || strchr(event, '\n'))
            return fail("event", event);
        done = !strcmp(event + 6, "[DONE]");
        if (!done && !take_document(c, event + 6, strlen(event + 6)))
            return false;
        c->chunks += !done;
    }
    return a->complete && (done || c->error[0] || fail("no [DONE]", ""));
}

bool completion_get(struct completion *c, int port, const char *body)
{
    struct client client;
    struct answer a = {0};
    begin(c);
    bool ok = client_open(&client, port) &&
              client_request(&client, "POST", "/v1/completions", "", body) &&
              answer_head(&a, &client);
    if (ok && a.status != 200) {
        answer_body(&a, &client);
        ok = fail("status", a.body.n ? a.body.data : "");
    } else if (ok && a.chunked) {
        ok = completion_stream(c, &a, &client);
    } else if (ok) {
        ok = answer_body(&a, &client) && completion_parse(c, &a);
    }
    answer_fini(&a);
    client_close(&client);
    return ok;
}

bool completion_same(const struct completion *a, const struct completion *b)
{
    return a->n == b->n && !memcmp(a->tokens, b->tokens, (size_t)a->n * sizeof *a->tokens) &&
           !strcmp(a->finish, b->finish);
}
