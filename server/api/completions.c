// completions.c - POST /v1/completions: prompts as text or token ids, answers in the shape that
// evaluation tools read (echo, four parallel arrays of logprobs).
#include "answer.h"

#include <stdio.h>

// --- request --------------------------------------------------------------------------------

struct fields {
    int64_t max_tokens, logprobs, best_of;
    json_t *prompt;
    bool echo;
};

#define AT(member) offsetof(struct fields, member)

static const struct json_field FIELDS[] = {
    {"max_tokens", JSON_KIND_INT, AT(max_tokens), 0, INT32_MAX, -1, false},
    {"logprobs", JSON_KIND_INT, AT(logprobs), 0, LOGPROBS_MAX, -1, false},
    {"best_of", JSON_KIND_INT, AT(best_of), 1, INT32_MAX, 0, false},
    {"prompt", JSON_KIND_ANY, AT(prompt), 0, 0, 0, true},
    {"echo", JSON_KIND_BOOL, AT(echo), 0, 0, false, false},
};

static const struct unsupported UNSUPPORTED[] = {
    {"suffix", "put what follows into the prompt"},
    {"response_format", "ask for the form in the prompt"},
    {NULL, NULL},
};

static int wrong_prompt(const char *where, const json_t *v, struct err *e)
{
    char found[64];
    return err_field(e, ERR_BAD_REQUEST, where,
                     "%s is %s; send text, a list of token ids, or a list of either", where,
                     json_describe(v, found, sizeof found));
}

// One prompt: text, or a list of ids.
static int read_prompt(const struct api_model *m, json_t *v, const char *path, struct ids *out,
                       struct err *e)
{
    if (json_is_string(v)) {
        if (params_encode(m, json_string_value(v), json_string_length(v), path, out, e))
            return -1;
    } else if (!json_is_array(v)) {
        return wrong_prompt(path, v, e);
    }
    for (size_t i = 0; i < json_array_size(v); i++) {
        int id = 0;
        if (params_read_id(m, v, i, path, &id, e))
            return -1;
        ids_add(out, id);
    }
    if (!out->n)
        return err_field(e, ERR_BAD_REQUEST, path, "%s has no tokens; send at least one", path);
    return 0;
}

// A list of ids is one prompt; a list of texts or of lists is many.
static int read_prompts(const struct api_model *m, json_t *v, int prompts_max, struct inputs *in,
                        struct err *e)
{
    json_t *first = json_array_get(v, 0);
    if (!json_is_array(v) || json_is_integer(first)) {
        inputs_add_prompts(in, 1);
        return read_prompt(m, v, "prompt", &in->prompts[0], e);
    }
    size_t n = json_array_size(v);
    if (n < 1 || n > (size_t)prompts_max)
        return err_field(e, ERR_BAD_REQUEST, "prompt",
                         "prompt has %zu entries; with this n, from 1 to %d can be answered", n,
                         prompts_max);
    inputs_add_prompts(in, (int)n);
    for (size_t i = 0; i < n; i++) {
        char path[32];
        snprintf(path, sizeof path, "prompt[%zu]", i);
        if (read_prompt(m, json_array_get(v, i), path, &in->prompts[i], e))
            return -1;
    }
    return 0;
}

static int check_best_of(const struct fields *f, int n, struct err *e)
{
    if (f->best_of && f->best_of != n)
        return err_field(e, ERR_UNSUPPORTED, "best_of",
                         "best_of is %lld and n is %d; every answer is returned, so leave best_of "
                         "out or set it to n",
                         (long long)f->best_of, n);
    return 0;
}

static int set_max_tokens(const struct api_model *m, const struct fields *f, struct inputs *in,
                          struct err *e)
{
    enum { DEFAULT = 16 }; // OpenAI's
    struct max_tokens max = {f->max_tokens, DEFAULT, "max_tokens", "prompt"};
    if (f->max_tokens == 0 && !f->echo)
        return err_field(e, ERR_BAD_REQUEST, "max_tokens",
                         "max_tokens is 0, which asks for nothing without echo; send 1 or more");
    for (int i = 0; i < in->n_prompts; i++)
        if (params_set_max_tokens(m, in, i, &max, e))
            return -1;
    return 0;
}

int completions_parse(struct api_server *s, json_t *body, struct params *p, struct err *e)
{
    const struct api_model *m = &s->model;
    struct fields f;
    *p = (struct params){.inputs = inputs_create()};
    if (params_read(s, body, p, e) ||
        json_read(FIELDS, sizeof FIELDS / sizeof *FIELDS, body, "", &f, e) ||
        api_refuse(UNSUPPORTED, body, e) || check_best_of(&f, p->n, e) ||
        read_prompts(m, f.prompt, s->n_max / p->n, p->inputs, e) ||
        set_max_tokens(m, &f, p->inputs, e)) {
        inputs_drop(p->inputs);
        return -1;
    }
    p->echo = f.echo;
    p->gen.logprobs = (int)f.logprobs;
    p->gen.prompt_logprobs = f.echo && f.logprobs >= 0;
    return 0;
}

// --- reply ----------------------------------------------------------------------------------

// Where the echoed prompt's tokens end is found as the engine finds it for the answer's.
static void add_prompt_logprobs(struct answer *a, struct choice *c, struct news *w)
{
    const struct gen_token *tokens = gen_prompt_tokens(c->g);
    CHECK(tokens != NULL);
    struct detok d;
    struct buf text = {0};
    detok_init(&d, a->server->model.tokenizer, NULL, 0, true);
    size_t end = 0;
    for (size_t i = 0; i < c->prompt->n; i++) {
        logprobs_add(&w->logprobs, &a->form, &tokens[i], i > 0, answer_offset(c, end));
        detok_push(&d, tokens[i].id, &text);
        end = text.n + d.held.n;
    }
    buf_fini(&text);
    detok_fini(&d);
}

static void take_text(struct answer *a, struct choice *c, struct news *w)
{
    if (!c->begun && a->params.gen.prompt_logprobs)
        add_prompt_logprobs(a, c, w);
}

static void take_token(struct answer *a, struct choice *c, struct news *w,
                       const struct gen_token *t)
{
    if (a->params.gen.logprobs < 0)
        return;
    logprobs_add(&w->logprobs, &a->form, t, true, answer_offset(c, c->next_bytes));
    c->next_bytes = c->prompt_bytes + t->text_end;
}

static void write(struct answer *a, struct choice *c, struct news *w, struct buf *out)
{
    buf_format(out, "{\"index\":%d,\"text\":", c->index);
    json_quote(out, w->text, w->n_text);
    buf_str(out, ",\"logprobs\":");
    if (a->params.gen.logprobs < 0)
        buf_str(out, "null");
    else
        logprobs_write(&w->logprobs, out);
    buf_format(out, ",\"finish_reason\":%s,\"stop_reason\":", answer_finish_reason(c));
    answer_write_stop_reason(a, c, out);
    if (a->params.return_token_ids) {
        buf_str(out, ",\"prompt_token_ids\":");
        if (c->begun)
            buf_str(out, "null");
        else
            answer_write_ids(c->prompt, out);
        buf_str(out, ",\"token_ids\":[");
        buf_add(out, w->ids.data, w->ids.n);
        buf_str(out, "]");
    }
    buf_str(out, "}");
}

static void write_events(struct answer *a, struct choice *c, struct news *w, struct buf *out)
{
    answer_begin_event(a, out);
    write(a, c, w, out);
    buf_str(out, "]");
    answer_end_event(a, w->last ? c : NULL, out);
}

static const struct answer_shape COMPLETION = {
    .id_prefix = "cmpl-",
    .object = "text_completion",
    .chunk_object = "text_completion",
    .take_text = take_text,
    .take_token = take_token,
    .write = write,
    .write_events = write_events,
};

int completions_handle(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct arena memory = {0};
    struct params p;
    json_t *body = api_model_of(s, e) ? api_parse_body(q, &memory, e) : NULL;
    int failed =
        !body || completions_parse(s, body, &p, e) || answer_start(s, q, &COMPLETION, &p, r, e);
    arena_fini(&memory);
    return failed ? -1 : 0;
}
