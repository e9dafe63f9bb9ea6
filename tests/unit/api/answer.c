// Tests of answers over a real engine: whole replies and streams agree, the contract of evaluation
// tools, errors at every moment, and that nothing is left when a client leaves.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api_rig.h"
#include "mem.h"

#define COMPLETIONS "POST", "/v1/completions"
#define CHAT "POST", "/v1/chat/completions"

static int64_t whole(const struct call *c, const char *path)
{
    return json_integer_value(call_at(c, path));
}

static const char *text(const struct call *c, const char *path)
{
    return json_string_value(call_at(c, path));
}

static bool is_null(const json_t *v)
{
    return !v || json_is_null(v);
}

// --- whole replies and streams --------------------------------------------------------------

// The same request twice: whole, and as a stream whose events are put together again.
struct pair {
    struct call whole, stream;
    json_t *events;
};

static void pair_run(struct pair *p, struct rig *r, const char *path, const char *fields)
{
    struct buf body = {0};
    buf_format(&body, "{%s}", fields);
    call_run(&p->whole, r, "POST", path, body.data);
    cr_assert(eq(int, p->whole.status, 200), "%s", p->whole.body.data);
    buf_clear(&body);
    buf_format(&body, "{%s,\"stream\":true,\"stream_options\":{\"include_usage\":true}}", fields);
    call_run(&p->stream, r, "POST", path, body.data);
    p->events = call_events(&p->stream);
    buf_fini(&body);
}

static void pair_end(struct pair *p)
{
    json_decref(p->events);
    call_end(&p->whole);
    call_end(&p->stream);
}

static void check_same_text(const struct pair *p, const char *whole_path, const char *event_path,
                            int index)
{
    char path[64];
    snprintf(path, sizeof path, "choices.%d.%s", index, whole_path);
    char *joined = events_text(p->events, index, event_path);
    cr_assert(eq(str, joined, (char *)text(&p->whole, path)));
    mem_free(joined);
}

// The last event has usage and no choices; all others have null for it; ids and the like are equal.
static void check_events(const struct pair *p)
{
    size_t n = json_array_size(p->events);
    json_t *last = json_array_get(p->events, n - 1);
    cr_assert(json_equal(json_at(last, "usage"), call_at(&p->whole, "usage")), "usage differs");
    cr_assert(eq(sz, json_array_size(json_at(last, "choices")), 0));
    cr_assert(ne(ptr, json_object_get(last, "timings"), NULL));
    for (size_t i = 0; i < n; i++) {
        json_t *event = json_array_get(p->events, i);
        cr_assert(json_equal(json_at(event, "id"), json_at(last, "id")));
        cr_assert(json_equal(json_at(event, "created"), json_at(last, "created")));
        cr_assert(json_equal(json_at(event, "model"), json_at(last, "model")));
        if (event != last) {
            cr_assert(is_null(json_at(event, "usage")));
            cr_assert(eq(sz, json_array_size(json_at(event, "choices")), 1));
        }
    }
}

// finish_reason is null in all events of a choice but its last.
static void check_finish(const struct pair *p, int index)
{
    char path[64];
    json_t *reason = NULL;
    for (size_t i = 0; i < json_array_size(p->events); i++) {
        json_t *c = json_array_get(json_at(json_array_get(p->events, i), "choices"), 0);
        if (!c || json_integer_value(json_at(c, "index")) != index)
            continue;
        cr_assert(is_null(reason), "something behind the end of a choice");
        reason = json_at(c, "finish_reason");
    }
    snprintf(path, sizeof path, "choices.%d.finish_reason", index);
    cr_assert(json_equal(reason, call_at(&p->whole, path)));
}

Test(answer, completions_whole_and_stream_agree)
{
    struct rig r;
    struct pair p;
    rig_open(&r, &(struct rig_options){.model = "bundled"});
    pair_run(&p, &r, "/v1/completions",
             "\"prompt\":[\"The old man\",\"Once upon\"],\"n\":2,\"seed\":5,\"temperature\":1,"
             "\"max_tokens\":12,\"logprobs\":1,\"return_token_ids\":true");
    cr_assert(eq(sz, json_array_size(call_at(&p.whole, "choices")), 4));
    check_events(&p);
    for (int i = 0; i < 4; i++) {
        check_same_text(&p, "text", "text", i);
        check_finish(&p, i);
    }
    cr_assert(
        ne(str, (char *)text(&p.whole, "choices.0.text"), (char *)text(&p.whole, "choices.1.text")),
        "two choices of a prompt have different seeds");
    cr_assert(eq(str, (char *)text(&p.whole, "object"), "text_completion"));
    cr_assert(zero(strncmp(text(&p.whole, "id"), "cmpl-", 5)));
    pair_end(&p);
    rig_close(&r);
}

// Arrays of a stream's events, put behind each other.
static json_t *join(const struct pair *p, const char *path)
{
    json_t *all = json_array();
    for (size_t i = 0; i + 1 < json_array_size(p->events); i++)
        json_array_extend(all, json_at(json_array_get(p->events, i), path));
    return all;
}

Test(answer, streamed_logprobs_and_ids_agree)
{
    static const char *const PATHS[] = {
        "choices.0.logprobs.tokens", "choices.0.logprobs.token_logprobs",
        "choices.0.logprobs.top_logprobs", "choices.0.logprobs.text_offset", "choices.0.token_ids"};
    struct rig r;
    struct pair p;
    rig_open(&r, &(struct rig_options){.model = "bundled"});
    pair_run(&p, &r, "/v1/completions",
             "\"prompt\":\"Caf\xC3\xA9 in the\",\"temperature\":0,\"max_tokens\":9,\"logprobs\":2,"
             "\"echo\":true,\"return_token_ids\":true,\"ignore_eos\":true");
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
        json_t *all = join(&p, PATHS[i]);
        cr_assert(json_equal(all, call_at(&p.whole, PATHS[i])), "%s", PATHS[i]);
        json_decref(all);
    }
    check_same_text(&p, "text", "text", 0);
    pair_end(&p);
    rig_close(&r);
}

Test(answer, chat_whole_and_stream_agree)
{
    struct rig r;
    struct pair p;
    rig_open(&r, &(struct rig_options){.model = "bundled"});
    pair_run(&p, &r, "/v1/chat/completions",
             "\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],\"n\":2,\"seed\":5,"
             "\"temperature\":1,\"max_tokens\":12,\"logprobs\":true,\"top_logprobs\":2");
    check_events(&p);
    for (int i = 0; i < 2; i++) {
        check_same_text(&p, "message.content", "delta.content", i);
        check_finish(&p, i);
    }
    json_t *first = json_array_get(p.events, 0);
    cr_assert(
        eq(str, (char *)json_string_value(json_at(first, "choices.0.delta.role")), "assistant"));
    cr_assert(eq(str, (char *)json_string_value(json_at(first, "choices.0.delta.content")), ""));
    json_t *content = call_at(&p.whole, "choices.0.logprobs.content");
    cr_assert(eq(i64, whole(&p.whole, "usage.completion_tokens"),
                 (int64_t)json_array_size(content) +
                     (int64_t)json_array_size(call_at(&p.whole, "choices.1.logprobs.content"))));
    cr_assert(eq(sz, json_array_size(json_at(content, "0.top_logprobs")), 2));
    cr_assert(eq(str, (char *)text(&p.whole, "object"), "chat.completion"));
    cr_assert(zero(strncmp(text(&p.whole, "id"), "chatcmpl-", 9)));
    pair_end(&p);
    rig_close(&r);
}

// A bias makes the model say only "</think>": the first one ends the block, the others are content.
Test(answer, reasoning_is_told_apart)
{
    struct rig r;
    struct pair p;
    rig_open(&r, &(struct rig_options){.model = "bundled", .thinking_by_default = true});
    pair_run(&p, &r, "/v1/chat/completions",
             "\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],\"temperature\":0,"
             "\"max_tokens\":3,\"logit_bias\":{\"6143\":100}");
    check_events(&p);
    check_same_text(&p, "message.content", "delta.content", 0);
    check_same_text(&p, "message.reasoning", "delta.reasoning", 0);
    cr_assert(eq(str, (char *)text(&p.whole, "choices.0.message.reasoning"), ""));
    cr_assert(eq(str, (char *)text(&p.whole, "choices.0.message.content"), "</think></think>"));
    cr_assert(eq(i64, whole(&p.whole, "usage.completion_tokens_details.reasoning_tokens"), 1));
    pair_end(&p);
    pair_run(&p, &r, "/v1/chat/completions",
             "\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],\"temperature\":0,"
             "\"max_tokens\":6,\"logit_bias\":{\"6143\":-100},\"ignore_eos\":true");
    check_same_text(&p, "message.reasoning", "delta.reasoning", 0);
    check_same_text(&p, "message.reasoning_content", "delta.reasoning_content", 0);
    cr_assert(ne(str, (char *)text(&p.whole, "choices.0.message.reasoning_content"), ""));
    cr_assert(eq(str, (char *)text(&p.whole, "choices.0.message.content"), ""));
    cr_assert(eq(i64, whole(&p.whole, "usage.completion_tokens_details.reasoning_tokens"), 6));
    pair_end(&p);
    rig_close(&r);
}

Test(answer, stops)
{
    struct rig r;
    struct call c;
    struct pair p;
    rig_open(&r, &(struct rig_options){.model = "bundled"});
    call_run(&c, &r, COMPLETIONS,
             "{\"prompt\":\"The old man\",\"temperature\":0,\"max_tokens\":20,"
             "\"return_token_ids\":true}");
    const char *all = text(&c, "choices.0.text");
    int id = (int)whole(&c, "choices.0.token_ids.3");
    cr_assert(gt(sz, strlen(all), 12));
    char stop[4] = {all[8], all[9], all[10], '\0'};
    const char *first = strstr(all, stop);
    struct buf fields = {0};
    buf_str(&fields, "\"prompt\":\"The old man\",\"temperature\":0,\"max_tokens\":20,\"stop\":[");
    json_quote(&fields, stop, 3);
    buf_str(&fields, "]");
    pair_run(&p, &r, "/v1/completions", fields.data);
    cr_assert(eq(str, (char *)text(&p.whole, "choices.0.finish_reason"), "stop"));
    cr_assert(eq(str, (char *)text(&p.whole, "choices.0.stop_reason"), stop));
    cr_assert(eq(sz, strlen(text(&p.whole, "choices.0.text")), (size_t)(first - all)));
    check_same_text(&p, "text", "text", 0);
    pair_end(&p);
    buf_clear(&fields);
    buf_format(&fields,
               "\"prompt\":\"The old man\",\"temperature\":0,\"max_tokens\":20,"
               "\"stop_token_ids\":[%d]",
               id);
    pair_run(&p, &r, "/v1/completions", fields.data);
    cr_assert(eq(i64, whole(&p.whole, "choices.0.stop_reason"), id));
    cr_assert(le(i64, whole(&p.whole, "usage.completion_tokens"), 4));
    check_same_text(&p, "text", "text", 0);
    pair_end(&p);
    buf_fini(&fields);
    call_end(&c);
    rig_close(&r);
}

// --- evaluation tools -----------------------------------------------------------------------

// prompt_len + 1 entries; a token's own figure is among those of its map; the first is null.
Test(answer, echo_with_logprobs)
{
    struct rig r;
    struct call c;
    rig_open(&r, &(struct rig_options){.model = "dense_a"});
    call_run(&c, &r, COMPLETIONS,
             "{\"model\":\"dense_a\",\"prompt\":[[5,6,7,8],[9,10,11]],\"temperature\":0,"
             "\"max_tokens\":1,\"logprobs\":1,\"seed\":1234,\"echo\":true}");
    for (int i = 0; i < 2; i++) {
        char path[64];
        snprintf(path, sizeof path, "choices.%d.logprobs", i);
        json_t *l = call_at(&c, path);
        json_t *figures = json_at(l, "token_logprobs"), *tops = json_at(l, "top_logprobs");
        cr_assert(eq(sz, json_array_size(figures), i ? 4u : 5u));
        cr_assert(eq(sz, json_array_size(tops), i ? 4u : 5u));
        cr_assert(is_null(json_array_get(figures, 0)));
        cr_assert(is_null(json_array_get(tops, 0)));
        for (size_t k = 1; k < json_array_size(figures); k++) {
            const char *name = json_string_value(json_array_get(json_at(l, "tokens"), k));
            json_t *own = json_object_get(json_array_get(tops, k), name);
            cr_assert(json_equal(own, json_array_get(figures, k)), "%s", name);
        }
        // The generated token is the greedy one.
        cr_assert(eq(sz, json_object_size(json_array_get(tops, json_array_size(tops) - 1)), 1));
    }
    cr_assert(eq(i64, whole(&c, "usage.prompt_tokens"), 7));
    cr_assert(eq(i64, whole(&c, "usage.completion_tokens"), 2));
    call_end(&c);
    rig_close(&r);
}

Test(answer, echo_without_a_new_token)
{
    struct rig r;
    struct pair p;
    rig_open(&r, &(struct rig_options){.model = "dense_a"});
    pair_run(&p, &r, "/v1/completions",
             "\"prompt\":[5,6,7],\"max_tokens\":0,\"logprobs\":2,\"echo\":true");
    check_events(&p);
    cr_assert(eq(sz, json_array_size(call_at(&p.whole, "choices.0.logprobs.tokens")), 3));
    cr_assert(eq(str, (char *)text(&p.whole, "choices.0.logprobs.tokens.1"), "token_id:6"));
    cr_assert(eq(i64, whole(&p.whole, "usage.completion_tokens"), 0));
    cr_assert(eq(str, (char *)text(&p.whole, "choices.0.finish_reason"), "length"));
    pair_end(&p);
    struct call c;
    call_run(&c, &r, COMPLETIONS, "{\"prompt\":[5,6,7],\"max_tokens\":0,\"echo\":true}");
    cr_assert(is_null(call_at(&c, "choices.0.logprobs")));
    call_end(&c);
    rig_close(&r);
}

// text_offset counts characters, not bytes, from the beginning of the echoed prompt.
Test(answer, offsets_are_characters)
{
    struct rig r;
    struct call c;
    rig_open(&r, &(struct rig_options){.model = "bundled"});
    call_run(&c, &r, COMPLETIONS,
             "{\"prompt\":\"\xC3\xA9\xE2\x82\xAC man\",\"temperature\":0,\"max_tokens\":2,"
             "\"logprobs\":0,\"echo\":true}");
    json_t *tokens = call_at(&c, "choices.0.logprobs.tokens");
    json_t *offsets = call_at(&c, "choices.0.logprobs.text_offset");
    for (size_t i = 0; i < json_array_size(tokens); i++)
        if (!strcmp(json_string_value(json_array_get(tokens, i)), " man"))
            cr_assert(eq(i64, json_integer_value(json_array_get(offsets, i)), 2));
    cr_assert(zero(strncmp(text(&c, "choices.0.text"), "\xC3\xA9\xE2\x82\xAC man", 9)));
    call_end(&c);
    rig_close(&r);
}

// --- cost -----------------------------------------------------------------------------------

Test(answer, usage_timings_and_headers)
{
    struct rig r;
    struct call c;
    rig_open(&r, &(struct rig_options){.model = "dense_a"});
    call_run(&c, &r, COMPLETIONS,
             "{\"prompt\":[5,6,7],\"max_tokens\":4,\"n\":2,\"ignore_eos\":true}");
    cr_assert(eq(i64, whole(&c, "usage.prompt_tokens"), 3), "once, whatever n");
    cr_assert(eq(i64, whole(&c, "usage.completion_tokens"), 8));
    cr_assert(eq(i64, whole(&c, "usage.total_tokens"), 11));
    cr_assert(eq(i64, whole(&c, "usage.prompt_tokens_details.cached_tokens"), 0));
    cr_assert(eq(i64, whole(&c, "timings.prompt_n"), 6), "each choice computes it");
    cr_assert(eq(i64, whole(&c, "timings.predicted_n"), 8));
    static const char *const POSITIVE[] = {"timings.prompt_ms", "timings.prompt_per_second",
                                           "timings.predicted_ms", "timings.predicted_per_second"};
    for (size_t i = 0; i < sizeof POSITIVE / sizeof *POSITIVE; i++)
        cr_assert(json_number_value(call_at(&c, POSITIVE[i])) > 0, "%s", POSITIVE[i]);
    cr_assert(json_number_value(call_at(&c, "timings.queue_ms")) >= 0);
    bool processing = false, timing = false;
    for (int i = 0; i < c.reply.n_headers; i++) {
        processing = processing || !strcmp(c.reply.headers[i].name, "openai-processing-ms");
        timing = timing || !strcmp(c.reply.headers[i].name, "Server-Timing");
    }
    cr_assert(processing && timing);
    call_end(&c);
    rig_close(&r);
}

// Without include_usage no event has an empty "choices", and the last one carries the timings.
Test(answer, stream_without_usage)
{
    struct rig r;
    struct call c;
    rig_open(&r, &(struct rig_options){.model = "dense_a"});
    call_run(&c, &r, COMPLETIONS,
             "{\"prompt\":[5,6,7],\"max_tokens\":4,\"n\":2,\"stream\":true,\"ignore_eos\":true}");
    json_t *events = call_events(&c);
    size_t n = json_array_size(events);
    for (size_t i = 0; i < n; i++) {
        json_t *event = json_array_get(events, i);
        cr_assert(eq(sz, json_array_size(json_at(event, "choices")), 1));
        cr_assert(eq(ptr, json_object_get(event, "usage"), NULL));
        cr_assert(eq(int, json_object_get(event, "timings") != NULL, i + 1 == n));
    }
    json_decref(events);
    call_end(&c);
    rig_close(&r);
}

// --- failures -------------------------------------------------------------------------------

static void check_error(struct call *c, int status, const char *code, const char *param)
{
    cr_assert(eq(int, c->status, status), "%s", c->body.data);
    json_t *error = json_at(c->json, "error");
    cr_assert(eq(str, (char *)json_string_value(json_at(error, "code")), (char *)code));
    json_t *found = json_at(error, "param");
    if (param)
        cr_assert(eq(str, (char *)json_string_value(found), (char *)param));
    else
        cr_assert(is_null(found));
}

Test(answer, lost_device_before_the_first_byte_has_a_status)
{
    static const char *const STREAM[] = {"false", "true"};
    for (int i = 0; i < 2; i++) {
        struct rig r;
        struct call c;
        char body[128];
        rig_open(&r, &(struct rig_options){.model = "dense_a", .break_device = true});
        snprintf(body, sizeof body, "{\"prompt\":[5,6,7],\"stream\":%s}", STREAM[i]);
        call_run(&c, &r, COMPLETIONS, body);
        check_error(&c, 500, "device_lost", NULL);
        call_end(&c);
        rig_close(&r);
    }
}

// A stream that has begun ends with an error event and without [DONE]. engine_destroy is what ends it.
Test(answer, failure_in_a_stream_is_its_last_event)
{
    struct rig r;
    struct call c;
    rig_open(&r, &(struct rig_options){.model = "dense_a"});
    call_begin(&c, &r, COMPLETIONS,
               "{\"prompt\":[5,6,7],\"max_tokens\":200,\"ignore_eos\":true,\"stream\":true}");
    call_pull(&c);
    cr_assert(not(c.ended));
    engine_destroy(r.engine);
    r.engine = NULL;
    while (!c.ended)
        call_pull(&c);
    json_t *events = call_events(&c);
    json_t *last = json_array_get(events, json_array_size(events) - 1);
    cr_assert(
        eq(str, (char *)json_string_value(json_at(last, "error.code")), "server_shutting_down"));
    json_decref(events);
    call_end(&c);
    rig_close(&r);
}

Test(answer, full_queue_gives_all_choices_back)
{
    struct rig r;
    struct call busy, c;
    rig_open(&r, &(struct rig_options){.model = "dense_a", .queue_max = 1, .n_max = 64});
    call_begin(&busy, &r, COMPLETIONS, "{\"prompt\":[5],\"max_tokens\":1}");
    call_begin(&c, &r, COMPLETIONS,
               "{\"prompt\":[5,6,7],\"n\":64,\"max_tokens\":200,\"ignore_eos\":true}");
    check_error(&c, 429, "rate_limit_exceeded", NULL);
    call_end(&c);
    while (!busy.ended)
        call_pull(&busy);
    call_end(&busy);
    rig_wait_idle(&r);
    rig_close(&r);
}

// The reply goes before its generations end: nothing of it may be touched after that.
Test(answer, client_that_leaves_costs_nothing_more)
{
    static const char *const BODIES[] = {
        "{\"prompt\":[5,6,7],\"max_tokens\":200,\"ignore_eos\":true,\"n\":4,\"stop_token_ids\":[1],"
        "\"logit_bias\":{\"3\":1},\"stream\":true}",
        "{\"prompt\":[[5,6,7],[8]],\"max_tokens\":200,\"ignore_eos\":true,\"n\":2}",
    };
    struct rig r;
    rig_open(&r, &(struct rig_options){.model = "dense_a"});
    for (int i = 0; i < 8; i++) {
        struct call c;
        call_begin(&c, &r, COMPLETIONS, BODIES[i % 2]);
        if (i % 4 == 0)
            call_pull(&c);
        cr_assert(not(c.ended));
        call_end(&c);
    }
    rig_wait_idle(&r);
    rig_close(&r);
}

Test(answer, refused_requests_name_the_field)
{
    static const struct {
        const char *body;
        int status;
        const char *code, *param;
    } CASES[] = {
        {"{\"prompt\":[5],\"max_tokens\":256}", 400, "context_length_exceeded", "max_tokens"},
        {"{\"prompt\":[5],\"suffix\":\"a\"}", 400, "unsupported_parameter", "suffix"},
        {"{\"prompt\":[5],\"model\":\"a\"}", 404, "model_not_found", "model"},
    };
    struct rig r;
    struct call c;
    rig_open(&r, &(struct rig_options){.model = "dense_a"});
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        call_run(&c, &r, COMPLETIONS, CASES[i].body);
        check_error(&c, CASES[i].status, CASES[i].code, CASES[i].param);
        call_end(&c);
    }
    static const char *const BROKEN[] = {"", "[1]", "{", "{\"prompt\":\"a\"}", "nul"};
    for (size_t i = 0; i < sizeof BROKEN / sizeof *BROKEN; i++) {
        call_run(&c, &r, COMPLETIONS, BROKEN[i]);
        cr_assert(eq(int, c.status, 400), "%s", BROKEN[i]);
        call_end(&c);
        call_run(&c, &r, CHAT, BROKEN[i]);
        cr_assert(eq(int, c.status, 400), "%s", BROKEN[i]);
        call_end(&c);
    }
    rig_close(&r);
}
