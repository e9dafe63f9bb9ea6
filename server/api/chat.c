// chat.c - POST /v1/chat/completions: messages through the model's template, answers with what the
// model thinks apart from what it says.
#include "answer.h"

#include <string.h>

#include "messages.h"

// --- request --------------------------------------------------------------------------------

struct fields {
    int64_t max_tokens, max_completion_tokens, top_logprobs;
    json_t *response_format;
    bool logprobs;
};

#define AT(member) offsetof(struct fields, member)

static const struct json_field FIELDS[] = {
    {"max_tokens", JSON_KIND_INT, AT(max_tokens), 1, INT32_MAX, -1, false},
    {"max_completion_tokens", JSON_KIND_INT, AT(max_completion_tokens), 1, INT32_MAX, -1, false},
    {"top_logprobs", JSON_KIND_INT, AT(top_logprobs), 0, LOGPROBS_MAX, 0, false},
    {"response_format", JSON_KIND_OBJECT, AT(response_format), 0, 64, 0, false},
    {"logprobs", JSON_KIND_BOOL, AT(logprobs), 0, 0, false, false},
};

static const struct unsupported UNSUPPORTED[] = {
    {"audio", "answers are text"},
    {"web_search_options", "this server reaches no network"},
    {"echo", "it is a field of /v1/completions"},
    {NULL, NULL},
};

static int check_response_format(const struct fields *f, struct err *e)
{
    char found[64];
    json_t *type = json_object_get(f->response_format, "type");
    if (!f->response_format || (json_is_string(type) && !strcmp(json_string_value(type), "text")))
        return 0;
    return err_field(e, ERR_UNSUPPORTED, "response_format",
                     "response_format.type is %s; answers are \"text\", so ask for the form in a "
                     "message",
                     json_describe(type, found, sizeof found));
}

static int check_top_logprobs(const struct fields *f, struct err *e)
{
    if (f->top_logprobs > 0 && !f->logprobs)
        return err_field(e, ERR_BAD_REQUEST, "top_logprobs",
                         "top_logprobs is %lld but logprobs is not true; set logprobs to true",
                         (long long)f->top_logprobs);
    return 0;
}

int chat_parse(struct api_server *s, json_t *body, struct params *p, struct err *e)
{
    struct fields f;
    *p = (struct params){.inputs = inputs_create()};
    inputs_add_prompts(p->inputs, 1);
    if (params_read(s, body, p, e) ||
        json_read(FIELDS, sizeof FIELDS / sizeof *FIELDS, body, "", &f, e) ||
        api_refuse(UNSUPPORTED, body, e) || check_response_format(&f, e) ||
        check_top_logprobs(&f, e) || messages_read(s, body, &p->inputs->prompts[0], &p->thinks, e))
        goto failed;
    // max_tokens is the older name of the same field.
    struct max_tokens max = {f.max_tokens, s->max_tokens_default, "max_tokens", "messages"};
    if (f.max_completion_tokens >= 0) {
        max.asked = f.max_completion_tokens;
        max.field = "max_completion_tokens";
    }
    if (params_set_max_tokens(&s->model, p->inputs, 0, &max, e))
        goto failed;
    p->gen.logprobs = f.logprobs ? (int)f.top_logprobs : -1;
    return 0;
failed:
    inputs_drop(p->inputs);
    return -1;
}

// --- reply ----------------------------------------------------------------------------------

static void take_text(struct answer *a, struct choice *c, struct news *w)
{
    (void)a;
    reasoning_push(&c->reasoning, w->text, w->n_text, w->last, &w->reasoning, &w->content);
}

static void take_token(struct answer *a, struct choice *c, struct news *w,
                       const struct gen_token *t)
{
    if (t->text_end <= c->reasoning.end_bytes && a->params.thinks)
        c->n_reasoning++;
    if (a->params.gen.logprobs < 0)
        return;
    if (w->n_tokens)
        buf_str(&w->chat_logprobs, ",");
    logprobs_write_chat(&w->chat_logprobs, &a->form, t);
}

static void write_string_field(struct buf *out, const char *name, const struct buf *text)
{
    buf_format(out, "\"%s\":", name);
    json_quote(out, text->data ? text->data : "", text->n);
}

// Clients disagree on the name, so the same text goes by both.
static void write_reasoning(struct buf *out, const struct buf *text)
{
    write_string_field(out, "reasoning_content", text);
    buf_str(out, ",");
    write_string_field(out, "reasoning", text);
}

static void write_logprobs(const struct answer *a, const struct news *w, struct buf *out)
{
    buf_str(out, ",\"logprobs\":");
    if (a->params.gen.logprobs < 0) {
        buf_str(out, "null");
        return;
    }
    buf_str(out, "{\"content\":[");
    buf_add(out, w->chat_logprobs.data, w->chat_logprobs.n);
    buf_str(out, "],\"refusal\":null}");
}

static void write_token_ids(const struct answer *a, const struct news *w, struct buf *out)
{
    if (!a->params.return_token_ids)
        return;
    buf_str(out, ",\"token_ids\":[");
    buf_add(out, w->ids.data, w->ids.n);
    buf_str(out, "]");
}

static void write(struct answer *a, struct choice *c, struct news *w, struct buf *out)
{
    buf_format(out, "{\"index\":%d,\"message\":{\"role\":\"assistant\",", c->index);
    write_string_field(out, "content", &w->content);
    buf_str(out, ",\"refusal\":null");
    if (a->params.thinks) {
        buf_str(out, ",");
        write_reasoning(out, &w->reasoning);
    }
    buf_str(out, "}");
    write_logprobs(a, w, out);
    buf_format(out, ",\"finish_reason\":%s,\"stop_reason\":", answer_finish_reason(c));
    answer_write_stop_reason(a, c, out);
    write_token_ids(a, w, out);
    buf_str(out, "}");
}

static void write_fields(struct answer *a, struct buf *out)
{
    if (!a->params.return_token_ids)
        return;
    buf_str(out, ",\"prompt_token_ids\":");
    answer_write_ids(&a->params.inputs->prompts[0], out);
}

// The first event of every choice: who speaks.
static void write_role(struct answer *a, struct choice *c, struct buf *out)
{
    answer_begin_event(a, out);
    buf_format(out,
               "{\"index\":%d,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
               "\"logprobs\":null,\"finish_reason\":null}",
               c->index);
    buf_str(out, "]");
    write_fields(a, out);
    answer_end_event(a, NULL, out);
}

// One delta; the tokens go with the first delta of a read.
static void write_delta(struct answer *a, struct choice *c, struct news *w, bool thought,
                        struct buf *out)
{
    answer_begin_event(a, out);
    buf_format(out, "{\"index\":%d,\"delta\":{", c->index);
    if (thought)
        write_reasoning(out, &w->reasoning);
    else
        write_string_field(out, "content", &w->content);
    buf_str(out, "}");
    write_logprobs(a, w, out);
    buf_str(out, ",\"finish_reason\":null");
    write_token_ids(a, w, out);
    buf_str(out, "}]");
    buf_clear(&w->chat_logprobs);
    buf_clear(&w->ids);
    w->n_tokens = 0;
    answer_end_event(a, NULL, out);
}

static void write_finish(struct answer *a, struct choice *c, struct buf *out)
{
    answer_begin_event(a, out);
    buf_format(out,
               "{\"index\":%d,\"delta\":{},\"logprobs\":null,\"finish_reason\":%s,"
               "\"stop_reason\":",
               c->index, answer_finish_reason(c));
    answer_write_stop_reason(a, c, out);
    buf_str(out, "}]");
    answer_end_event(a, c, out);
}

static void write_events(struct answer *a, struct choice *c, struct news *w, struct buf *out)
{
    bool wants_tokens = a->params.gen.logprobs >= 0 || a->params.return_token_ids;
    if (!c->begun)
        write_role(a, c, out);
    if (w->reasoning.n)
        write_delta(a, c, w, true, out);
    // Tokens without text (the end, bytes of half a character) still carry their figures.
    if (w->content.n || (w->n_tokens && wants_tokens))
        write_delta(a, c, w, false, out);
    if (w->last)
        write_finish(a, c, out);
}

static const struct answer_shape CHAT = {
    .id_prefix = "chatcmpl-",
    .object = "chat.completion",
    .chunk_object = "chat.completion.chunk",
    .take_text = take_text,
    .take_token = take_token,
    .write = write,
    .write_events = write_events,
    .write_fields = write_fields,
};

int chat_handle(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct arena memory = {0};
    struct params p;
    json_t *body = api_model_of(s, e) ? api_parse_body(q, &memory, e) : NULL;
    int failed = !body || chat_parse(s, body, &p, e) || answer_start(s, q, &CHAT, &p, r, e);
    arena_fini(&memory);
    return failed ? -1 : 0;
}
