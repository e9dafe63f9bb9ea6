// answer.c - see answer.h.
#include "answer.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "mem.h"
#include "usage.h"

// --- reading --------------------------------------------------------------------------------

size_t answer_offset(struct choice *c, size_t byte)
{
    if (byte > c->text.n)
        byte = c->text.n; // text that a stop string has cut
    for (; c->offset_bytes < byte; c->offset_bytes++)
        c->offset += ((unsigned char)c->text.data[c->offset_bytes] & 0xC0) != 0x80;
    return c->offset;
}

static void clear_news(struct news *w)
{
    w->n_tokens = 0;
    w->last = false;
    buf_clear(&w->reasoning);
    buf_clear(&w->content);
    buf_clear(&w->chat_logprobs);
    buf_clear(&w->ids);
    logprobs_clear(&w->logprobs);
}

static void fini_news(struct news *w)
{
    buf_fini(&w->reasoning);
    buf_fini(&w->content);
    buf_fini(&w->chat_logprobs);
    buf_fini(&w->ids);
    logprobs_fini(&w->logprobs);
}

// Read all there is; returns the number of tokens.
static int drain(struct answer *a, struct choice *c)
{
    enum { TOKENS_MIN = 64 };
    int n = 0;
    for (;;) {
        if (n == a->tokens_max) {
            a->tokens_max = a->tokens_max ? 2 * a->tokens_max : TOKENS_MIN;
            a->tokens = mem_resize(a->tokens, (size_t)a->tokens_max, sizeof *a->tokens);
        }
        n += gen_read(c->g, &c->cursor, &c->text, a->tokens + n, a->tokens_max - n, &c->status);
        if (n < a->tokens_max)
            return n;
    }
}

// What c's generation has let out since the last read, into a->news. False: nothing new.
static bool read_choice(struct answer *a, struct choice *c)
{
    struct news *w = &a->news;
    size_t had_bytes = c->text.n;
    clear_news(w);
    int n = drain(a, c);
    w->last = c->status.state == GEN_DONE;
    if (!n && !w->last && c->text.n == had_bytes)
        return false;
    w->text = c->text.data ? c->text.data + c->told_bytes : "";
    w->n_text = c->text.n - c->told_bytes;
    c->told_bytes = c->text.n;
    if (w->last)
        a->ended_ns = clock_ns();
    a->shape->take_text(a, c, w);
    for (int i = 0; i < n; i++) {
        if (a->params.return_token_ids)
            buf_format(&w->ids, "%s%d", i ? "," : "", a->tokens[i].id);
        a->shape->take_token(a, c, w, &a->tokens[i]);
        w->n_tokens++;
    }
    return true;
}

// --- writing --------------------------------------------------------------------------------

const char *answer_finish_reason(const struct choice *c)
{
    if (c->status.state != GEN_DONE)
        return "null";
    return c->status.finish == GEN_FINISH_STOP ? "\"stop\"" : "\"length\"";
}

void answer_write_stop_reason(const struct answer *a, const struct choice *c, struct buf *out)
{
    const struct gen_status *s = &c->status;
    if (s->state == GEN_DONE && s->stop >= 0) {
        json_quote(out, a->params.inputs->stops[s->stop].text, a->params.inputs->stops[s->stop].n);
        return;
    }
    for (int i = 0; s->state == GEN_DONE && i < a->params.gen.n_stop_ids; i++) {
        if (a->params.gen.stop_ids[i] == s->stop_id) {
            buf_format(out, "%d", s->stop_id);
            return;
        }
    }
    buf_str(out, "null");
}

void answer_write_ids(const struct ids *ids, struct buf *out)
{
    buf_str(out, "[");
    for (size_t i = 0; i < ids->n; i++)
        buf_format(out, "%s%d", i ? "," : "", ids->data[i]);
    buf_str(out, "]");
}

void answer_begin_event(struct answer *a, struct buf *out)
{
    buf_str(out, "data: ");
    buf_add(out, a->head.data, a->head.n);
    buf_str(out, ",\"choices\":[");
}

static bool all_ended(const struct answer *a)
{
    for (int i = 0; i < a->n_choices; i++)
        if (!a->choices[i].ended)
            return false;
    return true;
}

void answer_end_event(struct answer *a, const struct choice *ended, struct buf *out)
{
    if (a->params.include_usage)
        buf_str(out, ",\"usage\":null");
    // The last event of all carries the timings, unless the one with usage follows.
    if (ended && !a->params.include_usage && all_ended(a)) {
        buf_str(out, ",\"timings\":");
        usage_write_timings(a, out);
    }
    buf_str(out, "}\n\n");
}

static void write_usage_event(struct answer *a, struct buf *out)
{
    answer_begin_event(a, out);
    buf_str(out, "],\"usage\":");
    usage_write(a, out);
    buf_str(out, ",\"timings\":");
    usage_write_timings(a, out);
    buf_str(out, "}\n\n");
}

static void make_head(struct answer *a)
{
    const struct api_server *s = a->server;
    const char *model = a->params.model ? a->params.model : s->model_id;
    buf_format(&a->head, "{\"id\":\"%s%016llx\",\"object\":\"%s\",\"created\":%lld,\"model\":",
               a->shape->id_prefix, (unsigned long long)api_random(a->server),
               a->params.stream ? a->shape->chunk_object : a->shape->object, (long long)time(NULL));
    json_quote(&a->head, model, strlen(model));
    buf_format(&a->head, ",\"system_fingerprint\":\"deltaserve-%s\"", s->commit);
}

// --- pulling --------------------------------------------------------------------------------

// The whole answer becomes an error, or, when its head is on the way already, its last event.
static enum pull fail(struct reply *r, const struct err *e, struct buf *out)
{
    if (!r->started) {
        r->stream = false;
        reply_error(r, e);
        return PULL_END;
    }
    struct reply error = {0};
    reply_error(&error, e);
    buf_format(out, "data: %s\n\n", error.body.data);
    buf_fini(&error.body);
    return PULL_END;
}

static enum pull pull_events(void *ud, struct reply *r, struct buf *out)
{
    struct answer *a = ud;
    for (int i = 0; i < a->n_choices; i++) {
        struct choice *c = &a->choices[i];
        if (c->ended)
            continue;
        bool any = read_choice(a, c);
        if (c->status.state == GEN_FAILED)
            return fail(r, &c->status.err, out);
        if (!any)
            continue;
        c->ended = a->news.last;
        a->shape->write_events(a, c, &a->news, out);
        c->begun = true;
    }
    if (out->n && !r->started)
        usage_add_headers(a, r);
    if (!all_ended(a))
        return out->n ? PULL_MORE : PULL_WAIT;
    if (a->params.include_usage)
        write_usage_event(a, out);
    buf_str(out, "data: [DONE]\n\n");
    return PULL_END;
}

// Only looks: a cursor of its own, and nothing is copied.
static enum pull wait_for_all(struct answer *a, struct reply *r, struct buf *out)
{
    for (int i = 0; i < a->n_choices; i++) {
        struct gen_cursor look = {0};
        struct gen_status status;
        gen_read(a->choices[i].g, &look, NULL, NULL, 0, &status);
        if (status.state == GEN_FAILED)
            return fail(r, &status.err, out);
        if (status.state != GEN_DONE)
            return PULL_WAIT;
    }
    return PULL_END;
}

static enum pull pull_whole(void *ud, struct reply *r, struct buf *out)
{
    struct answer *a = ud;
    enum pull got = wait_for_all(a, r, out);
    if (got == PULL_WAIT || r->status != 200)
        return got;
    buf_add(out, a->head.data, a->head.n);
    buf_str(out, ",\"choices\":[");
    for (int i = 0; i < a->n_choices; i++) {
        struct choice *c = &a->choices[i];
        read_choice(a, c);
        c->ended = true;
        buf_str(out, i ? "," : "");
        a->shape->write(a, c, &a->news, out);
    }
    buf_str(out, "],\"usage\":");
    usage_write(a, out);
    buf_str(out, ",\"timings\":");
    usage_write_timings(a, out);
    if (a->shape->write_fields)
        a->shape->write_fields(a, out);
    buf_str(out, "}");
    usage_add_headers(a, r);
    return PULL_END;
}

// --- life -----------------------------------------------------------------------------------

// Give everything back. Generations that still run are cancelled; what they borrow stays with them.
static void release(void *ud)
{
    struct answer *a = ud;
    for (int i = 0; i < a->n_choices; i++) {
        struct choice *c = &a->choices[i];
        if (c->g)
            gen_release(c->g, inputs_drop, inputs_share(a->params.inputs));
        buf_fini(&c->text);
    }
    fini_news(&a->news);
    buf_fini(&a->head);
    mem_free(a->tokens);
    inputs_drop(a->params.inputs);
}

// Engine thread.
static void wake(void *ud)
{
    reply_wake(ud);
}

// The prompt's text comes back at the front of the answer's.
static void echo_prompt(struct answer *a, struct choice *c)
{
    struct detok d;
    detok_init(&d, a->server->model.tokenizer, NULL, 0, true);
    for (size_t i = 0; i < c->prompt->n; i++)
        detok_push(&d, c->prompt->data[i], &c->text);
    detok_flush(&d, &c->text);
    detok_fini(&d);
    c->prompt_bytes = c->next_bytes = c->text.n;
}

static void make_choice(struct answer *a, int i, struct reply *r)
{
    struct choice *c = &a->choices[i];
    const struct params *params = &a->params;
    int prompt = i / params->n;
    c->index = i;
    c->prompt = &params->inputs->prompts[prompt];
    reasoning_init(&c->reasoning, params->thinks);
    if (params->echo)
        echo_prompt(a, c);
    struct gen_params p = params->gen;
    p.prompt = c->prompt->data;
    p.n_prompt = (int)c->prompt->n;
    p.max_tokens = params->inputs->max_tokens[prompt];
    p.sampling.seed = params->seed + (uint64_t)(i % params->n);
    c->g = gen_create(&p, wake, r);
}

int answer_start(struct api_server *s, const struct request *q, const struct answer_shape *shape,
                 const struct params *p, struct reply *r, struct err *e)
{
    struct answer *a = arena_alloc(q->arena, 1, sizeof *a);
    *a = (struct answer){.server = s, .request = q, .shape = shape, .params = *p};
    a->form = (struct logprobs_form){s->model.tokenizer, p->tokens_as_ids, p->gen.logprobs};
    a->n_choices = p->inputs->n_prompts * p->n;
    a->choices = arena_alloc(q->arena, (size_t)a->n_choices, sizeof *a->choices);
    make_head(a);
    for (int i = 0; i < a->n_choices; i++)
        make_choice(a, i, r);
    for (int i = 0; i < a->n_choices; i++) {
        if (gen_submit(s->model.engine, a->choices[i].g, e)) {
            release(a);
            return -1;
        }
    }
    r->stream = p->stream;
    r->pull = p->stream ? pull_events : pull_whole;
    r->gone = release;
    r->ud = a;
    return 0;
}
