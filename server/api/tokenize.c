// tokenize.c - POST /tokenize and /detokenize, GET /tokenizer_info. Requests of vLLM's and of
// llama-server's clients are both understood, and the reply has the fields of both.
#include <string.h>

#include "messages.h"
#include "utf8.h"

static const struct tokenizer *tokenizer_of(struct api_server *s, struct err *e)
{
    const struct api_model *m = api_model_of(s, e);
    if (m && !m->tokenizer)
        err_set(e, ERR_UNSUPPORTED, "the checkpoint has no tokenizer.json; send token ids");
    return m ? m->tokenizer : NULL;
}

// --- tokenize -------------------------------------------------------------------------------

struct tokenize_fields {
    const char *model;
    json_t *prompt, *content, *messages;
    bool parse_special, with_pieces, return_token_strs;
};

#define AT(member) offsetof(struct tokenize_fields, member)

// add_special_tokens and add_special ask for what this family does not have, and are not looked at.
static const struct json_field TOKENIZE[] = {
    {"model", JSON_KIND_STR, AT(model), 0, 512, 0, false},
    {"prompt", JSON_KIND_ANY, AT(prompt), 0, 0, 0, false},
    {"content", JSON_KIND_ANY, AT(content), 0, 0, 0, false},
    {"messages", JSON_KIND_ANY, AT(messages), 0, 0, 0, false},
    {"parse_special", JSON_KIND_BOOL, AT(parse_special), 0, 0, true, false},
    {"with_pieces", JSON_KIND_BOOL, AT(with_pieces), 0, 0, false, false},
    {"return_token_strs", JSON_KIND_BOOL, AT(return_token_strs), 0, 0, false, false},
};

#undef AT

static int encode_text(const struct tokenizer *tk, const struct tokenize_fields *f, struct ids *out,
                       struct err *e)
{
    char found[64];
    struct err why;
    const char *field = f->prompt || !f->content ? "prompt" : "content";
    json_t *text = f->prompt ? f->prompt : f->content;
    if (!json_is_string(text))
        return err_field(e, ERR_BAD_REQUEST, field,
                         "%s is %s; send text in prompt or content, or a list of messages", field,
                         json_describe(text, found, sizeof found));
    if (tokenizer_encode(tk, json_string_value(text), json_string_length(text),
                         f->parse_special ? TOKENIZER_SPECIAL : 0, out, &why))
        return err_field(e, why.code, field, "%s: %.300s", field, why.text);
    return 0;
}

// llama-server's piece: text, or the bytes when they are not whole characters.
static void write_piece(const struct tokenizer *tk, int id, struct buf *out)
{
    size_t n = 0;
    const char *bytes = tokenizer_bytes(tk, id, &n);
    if (utf8_check(bytes, n) == n) {
        json_quote(out, bytes, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        buf_format(out, "%s%d", i ? "," : "[", (unsigned char)bytes[i]);
    buf_str(out, "]");
}

static void write_tokens(const struct api_server *s, const struct tokenize_fields *f,
                         const struct ids *ids, struct buf *out)
{
    const struct tokenizer *tk = s->model.tokenizer;
    buf_format(out, "{\"count\":%zu,\"max_model_len\":%d,\"tokens\":[", ids->n,
               s->model.context_max);
    for (size_t i = 0; i < ids->n; i++) {
        buf_str(out, i ? "," : "");
        if (!f->with_pieces) {
            buf_format(out, "%d", ids->data[i]);
            continue;
        }
        buf_format(out, "{\"id\":%d,\"piece\":", ids->data[i]);
        write_piece(tk, ids->data[i], out);
        buf_str(out, "}");
    }
    buf_str(out, "]");
    if (f->return_token_strs) {
        for (size_t i = 0; i < ids->n; i++) {
            size_t n = 0;
            const char *bytes = tokenizer_bytes(tk, ids->data[i], &n);
            buf_str(out, i ? "," : ",\"token_strs\":[");
            json_quote(out, bytes, n);
        }
        buf_str(out, ids->n ? "]" : ",\"token_strs\":[]");
    }
    buf_str(out, "}");
}

int tokenize_handle(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct tokenize_fields f;
    struct ids ids = {0};
    bool thinks;
    struct arena memory = {0};
    const struct tokenizer *tk = tokenizer_of(s, e);
    json_t *body = tk ? api_parse_body(q, &memory, e) : NULL;
    int failed =
        !body || json_read(TOKENIZE, sizeof TOKENIZE / sizeof *TOKENIZE, body, "", &f, e) ||
        api_check_name(s, f.model, e) ||
        (f.messages ? messages_read(s, body, &ids, &thinks, e) : encode_text(tk, &f, &ids, e));
    if (!failed)
        write_tokens(s, &f, &ids, &r->body);
    ids_fini(&ids);
    arena_fini(&memory);
    return failed ? -1 : 0;
}

// --- detokenize -----------------------------------------------------------------------------

struct detokenize_fields {
    const char *model;
    json_t *tokens;
};

static const struct json_field DETOKENIZE[] = {
    {"model", JSON_KIND_STR, offsetof(struct detokenize_fields, model), 0, 512, 0, false},
    {"tokens", JSON_KIND_ARRAY, offsetof(struct detokenize_fields, tokens), 0, INT32_MAX, 0, true},
};

static int decode(const struct api_model *m, json_t *tokens, struct buf *out, struct err *e)
{
    struct detok d;
    detok_init(&d, m->tokenizer, NULL, 0, true);
    int failed = 0;
    for (size_t i = 0; i < json_array_size(tokens) && !failed; i++) {
        int id = 0;
        failed = params_read_id(m, tokens, i, "tokens", &id, e);
        if (!failed)
            detok_push(&d, id, out);
    }
    detok_flush(&d, out);
    detok_fini(&d);
    return failed;
}

int detokenize_handle(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct detokenize_fields f;
    struct buf text = {0};
    struct arena memory = {0};
    json_t *body = tokenizer_of(s, e) ? api_parse_body(q, &memory, e) : NULL;
    int failed = !body ||
                 json_read(DETOKENIZE, sizeof DETOKENIZE / sizeof *DETOKENIZE, body, "", &f, e) ||
                 api_check_name(s, f.model, e) || decode(&s->model, f.tokens, &text, e);
    if (!failed) {
        const char *data = text.data ? text.data : "";
        buf_str(&r->body, "{\"prompt\":");
        json_quote(&r->body, data, text.n);
        buf_str(&r->body, ",\"content\":");
        json_quote(&r->body, data, text.n);
        buf_str(&r->body, "}");
    }
    buf_fini(&text);
    arena_fini(&memory);
    return failed ? -1 : 0;
}

// --- info -----------------------------------------------------------------------------------

// A special token stands in tokenizer_config.json as its text or as an object that holds it.
static void set_token(json_t *info, const char *name)
{
    json_t *v = json_object_get(info, name);
    json_t *text = json_is_object(v) ? json_object_get(v, "content") : v;
    json_object_set_new(info, name, text ? json_incref(text) : json_null());
}

// The file as it is, with the fields in it that clients cannot do without.
int tokenizer_info_handle(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)q;
    const struct tokenizer *tk = tokenizer_of(server, e);
    if (!tk)
        return -1;
    const char *text = tokenizer_config_json(tk);
    json_t *info = text ? json_parse(text, strlen(text), JSON_DEPTH_MAX, e) : json_object();
    if (!info)
        return -1;
    set_token(info, "bos_token");
    set_token(info, "eos_token");
    set_token(info, "pad_token");
    if (!json_object_get(info, "chat_template"))
        json_object_set_new(info, "chat_template", json_null());
    if (!json_object_get(info, "tokenizer_class"))
        json_object_set_new(info, "tokenizer_class", json_string("Qwen2Tokenizer"));
    api_write_json(&r->body, info);
    json_decref(info);
    return 0;
}
