// Tests of the two parsers: every field with a wrong value, the exact path in the error, and what a
// good request becomes. No engine: a config and the bundled tokenizer are all a parser needs.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <string.h>

#include "params.h"

static struct config config = {.vocab_size = 6144,
                               .temperature = 0.7,
                               .top_p = 0.8,
                               .top_k = 20,
                               .max_position_embeddings = 64};

static struct api_server server(bool text)
{
    struct err e = {0};
    struct api_server s = {.model_id = "m", .n_max = 4, .max_tokens_default = 24};
    s.model.config = &config;
    s.model.context_max = 64;
    if (text) {
        s.model.tokenizer = tokenizer_load(TEST_SOURCE_DIR "/models/bundled", &e);
        cr_assert(ne(ptr, (void *)s.model.tokenizer, NULL), "%s", e.text);
    }
    return s;
}

static void server_fini(struct api_server *s)
{
    tokenizer_destroy((struct tokenizer *)s->model.tokenizer);
}

typedef int parse_fn(struct api_server *s, json_t *body, struct params *p, struct err *e);

static int parse(parse_fn *fn, struct api_server *s, const char *text, struct params *p,
                 struct err *e)
{
    *e = (struct err){0};
    json_t *body = json_parse(text, strlen(text), 64, e);
    cr_assert(ne(ptr, body, NULL), "%s: %s", e->text, text);
    int failed = fn(s, body, p, e);
    json_decref(body);
    return failed;
}

// --- wrong requests -------------------------------------------------------------------------

struct wrong {
    const char *field; // one member of the body
    enum err_code code;
    const char *param, *says;
};

// Put into both kinds of body.
static const struct wrong WRONG[] = {
    {"\"model\":5", ERR_BAD_REQUEST, "model", "must be a string"},
    {"\"model\":\"x\"", ERR_MODEL_NOT_FOUND, "model", "model 'x' is not served here; ask for 'm'"},
    {"\"temperature\":\"1\"", ERR_BAD_REQUEST, "temperature", "must be a number"},
    {"\"temperature\":-0.5", ERR_BAD_REQUEST, "temperature", "from 0 to 2"},
    {"\"temperature\":2.5", ERR_BAD_REQUEST, "temperature", "from 0 to 2"},
    {"\"top_p\":1.01", ERR_BAD_REQUEST, "top_p", "from 0 to 1"},
    {"\"top_p\":-1", ERR_BAD_REQUEST, "top_p", "from 0 to 1"},
    {"\"top_k\":-2", ERR_BAD_REQUEST, "top_k", "from -1 to"},
    {"\"top_k\":1.5", ERR_BAD_REQUEST, "top_k", "a whole number"},
    {"\"min_p\":1.5", ERR_BAD_REQUEST, "min_p", "from 0 to 1"},
    {"\"presence_penalty\":-3", ERR_BAD_REQUEST, "presence_penalty", "from -2 to 2"},
    {"\"frequency_penalty\":3", ERR_BAD_REQUEST, "frequency_penalty", "from -2 to 2"},
    {"\"repetition_penalty\":0", ERR_BAD_REQUEST, "repetition_penalty", "from 0.01 to 10"},
    {"\"n\":0", ERR_BAD_REQUEST, "n", "from 1 to"},
    {"\"n\":5", ERR_BAD_REQUEST, "n", "at most 4 choices"},
    {"\"n\":99999999999", ERR_BAD_REQUEST, "n", "from 1 to"},
    {"\"seed\":\"a\"", ERR_BAD_REQUEST, "seed", "a whole number"},
    {"\"stop\":5", ERR_BAD_REQUEST, "stop", "stop must be a string, not the number 5"},
    {"\"stop\":\"\"", ERR_BAD_REQUEST, "stop", "stop has 0 bytes"},
    {"\"stop\":[\"a\",null]", ERR_BAD_REQUEST, "stop[1]", "must be a string, not null"},
    {"\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\","
     "\"e\",\"f\",\"g\",\"h\"]",
     ERR_BAD_REQUEST, "stop", "stop has 17 entries; send at most 16"},
    {"\"stop_token_ids\":5", ERR_BAD_REQUEST, "stop_token_ids", "an array"},
    {"\"stop_token_ids\":[1,6144]", ERR_BAD_REQUEST, "stop_token_ids[1]", "from 0 to 6143"},
    {"\"stop_token_ids\":[-1]", ERR_BAD_REQUEST, "stop_token_ids[0]", "from 0 to 6143"},
    {"\"stop_token_ids\":[\"a\"]", ERR_BAD_REQUEST, "stop_token_ids[0]", "must be a token id"},
    {"\"stop_token_ids\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", ERR_BAD_REQUEST, "stop_token_ids",
     "has 17 entries"},
    {"\"logit_bias\":[1]", ERR_BAD_REQUEST, "logit_bias", "an object"},
    {"\"logit_bias\":{\"6144\":1}", ERR_BAD_REQUEST, "logit_bias.6144", "from 0 to 6143"},
    {"\"logit_bias\":{\"-1\":1}", ERR_BAD_REQUEST, "logit_bias.-1", "must be a token id"},
    {"\"logit_bias\":{\"1x\":1}", ERR_BAD_REQUEST, "logit_bias.1x", "must be a token id"},
    {"\"logit_bias\":{\"\":1}", ERR_BAD_REQUEST, "logit_bias.", "must be a token id"},
    {"\"logit_bias\":{\"99999999999999999999\":1}", ERR_BAD_REQUEST,
     "logit_bias.99999999999999999999", "must be a token id"},
    {"\"logit_bias\":{\"5\":101}", ERR_BAD_REQUEST, "logit_bias.5", "from -100 to 100"},
    {"\"logit_bias\":{\"5\":\"1\"}", ERR_BAD_REQUEST, "logit_bias.5", "the string \"1\""},
    {"\"ignore_eos\":1", ERR_BAD_REQUEST, "ignore_eos", "true or false"},
    {"\"skip_special_tokens\":\"no\"", ERR_BAD_REQUEST, "skip_special_tokens", "true or false"},
    {"\"stream\":\"yes\"", ERR_BAD_REQUEST, "stream", "true or false"},
    {"\"stream_options\":true", ERR_BAD_REQUEST, "stream_options", "an object"},
    {"\"stream_options\":{\"include_usage\":1}", ERR_BAD_REQUEST, "stream_options.include_usage",
     "true or false"},
    {"\"return_token_ids\":1", ERR_BAD_REQUEST, "return_token_ids", "true or false"},
    {"\"return_tokens_as_token_ids\":1", ERR_BAD_REQUEST, "return_tokens_as_token_ids",
     "true or false"},
    {"\"min_tokens\":3", ERR_UNSUPPORTED, "min_tokens", "min_tokens is not supported"},
    {"\"use_beam_search\":true", ERR_UNSUPPORTED, "use_beam_search", "not supported"},
    {"\"include_stop_str_in_output\":true", ERR_UNSUPPORTED, "include_stop_str_in_output",
     "not supported"},
    {"\"prompt_logprobs\":1", ERR_UNSUPPORTED, "prompt_logprobs", "not supported"},
    {"\"prompt_embeds\":\"AA\"", ERR_UNSUPPORTED, "prompt_embeds", "not supported"},
    {"\"truncate_prompt_tokens\":-1", ERR_UNSUPPORTED, "truncate_prompt_tokens", "not supported"},
    {"\"allowed_token_ids\":[1]", ERR_UNSUPPORTED, "allowed_token_ids", "not supported"},
    {"\"bad_words\":[\"a\"]", ERR_UNSUPPORTED, "bad_words", "not supported"},
    {"\"logits_processors\":[1]", ERR_UNSUPPORTED, "logits_processors", "not supported"},
    {"\"structured_outputs\":{\"json\":{}}", ERR_UNSUPPORTED, "structured_outputs",
     "not supported"},
    {"\"guided_json\":{\"a\":1}", ERR_UNSUPPORTED, "guided_json", "not supported"},
    {"\"guided_regex\":\"a\"", ERR_UNSUPPORTED, "guided_regex", "not supported"},
    {"\"guided_choice\":[\"a\"]", ERR_UNSUPPORTED, "guided_choice", "not supported"},
    {"\"guided_grammar\":\"a\"", ERR_UNSUPPORTED, "guided_grammar", "not supported"},
    {"\"grammar\":\"a\"", ERR_UNSUPPORTED, "grammar", "not supported"},
};

static const struct wrong WRONG_COMPLETIONS[] = {
    {"\"prompt\":5", ERR_BAD_REQUEST, "prompt", "prompt is the number 5; send text"},
    {"\"prompt\":null", ERR_BAD_REQUEST, "prompt", "prompt is missing"},
    {"\"prompt\":\"\"", ERR_BAD_REQUEST, "prompt", "has no tokens"},
    {"\"prompt\":[]", ERR_BAD_REQUEST, "prompt", "prompt has 0 entries"},
    {"\"prompt\":{}", ERR_BAD_REQUEST, "prompt", "an object"},
    {"\"prompt\":[1,\"a\"]", ERR_BAD_REQUEST, "prompt[1]", "must be a token id"},
    {"\"prompt\":[1,-1]", ERR_BAD_REQUEST, "prompt[1]", "from 0 to 6143"},
    {"\"prompt\":[6144]", ERR_BAD_REQUEST, "prompt[0]", "from 0 to 6143"},
    {"\"prompt\":[[1],[]]", ERR_BAD_REQUEST, "prompt[1]", "has no tokens"},
    {"\"prompt\":[[1],[2,3.5]]", ERR_BAD_REQUEST, "prompt[1][1]", "must be a token id"},
    {"\"prompt\":[[1],5]", ERR_BAD_REQUEST, "prompt[1]", "prompt[1] is the number 5"},
    {"\"prompt\":[\"a\",\"\"]", ERR_BAD_REQUEST, "prompt[1]", "has no tokens"},
    {"\"prompt\":[[1],[2],[3],[4],[5]]", ERR_BAD_REQUEST, "prompt", "from 1 to 4"},
    {"\"prompt\":[[1],[2],[3]],\"n\":2", ERR_BAD_REQUEST, "prompt", "from 1 to 2"},
    {"\"prompt\":[1],\"max_tokens\":-1", ERR_BAD_REQUEST, "max_tokens", "from 0 to"},
    {"\"prompt\":[1],\"max_tokens\":0", ERR_BAD_REQUEST, "max_tokens", "nothing without echo"},
    {"\"prompt\":[1],\"max_tokens\":64", ERR_CONTEXT_LENGTH, "max_tokens",
     "the prompt has 1 tokens and max_tokens is 64, together 65; this model's maximum context "
     "length is 64 tokens"},
    {"\"prompt\":[1],\"logprobs\":21", ERR_BAD_REQUEST, "logprobs", "from 0 to 20"},
    {"\"prompt\":[1],\"logprobs\":true", ERR_BAD_REQUEST, "logprobs", "a whole number"},
    {"\"prompt\":[1],\"echo\":1", ERR_BAD_REQUEST, "echo", "true or false"},
    {"\"prompt\":[1],\"best_of\":2", ERR_UNSUPPORTED, "best_of", "best_of is 2 and n is 1"},
    {"\"prompt\":[1],\"suffix\":\"a\"", ERR_UNSUPPORTED, "suffix", "not supported"},
    {"\"prompt\":[1],\"response_format\":{\"type\":\"json_object\"}", ERR_UNSUPPORTED,
     "response_format", "not supported"},
};

#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]"

#define LONG "0123456789012345678901234567890123456789012345678901234567890123456789"

static const struct wrong WRONG_CHAT[] = {
    {"\"messages\":null", ERR_BAD_REQUEST, "messages", "messages is missing"},
    {"\"messages\":[]", ERR_BAD_REQUEST, "messages", "messages has 0 entries"},
    {"\"messages\":\"a\"", ERR_BAD_REQUEST, "messages", "an array"},
    {"\"messages\":[5]", ERR_BAD_REQUEST, "messages[0].role", "must be system"},
    {"\"messages\":[{\"role\":\"king\",\"content\":\"a\"}]", ERR_BAD_REQUEST, "messages[0].role",
     "must be system"},
    {HELLO ",\"max_tokens\":0", ERR_BAD_REQUEST, "max_tokens", "from 1 to"},
    {HELLO ",\"max_completion_tokens\":0", ERR_BAD_REQUEST, "max_completion_tokens", "from 1 to"},
    {HELLO ",\"max_completion_tokens\":64", ERR_CONTEXT_LENGTH, "max_completion_tokens",
     "this model's maximum context length is 64 tokens"},
    {"\"messages\":[{\"role\":\"user\",\"content\":\"" LONG "\"}]", ERR_CONTEXT_LENGTH, "messages",
     "this model's maximum context length is 64 tokens for prompt and answer"},
    {HELLO ",\"logprobs\":1", ERR_BAD_REQUEST, "logprobs", "true or false"},
    {HELLO ",\"logprobs\":true,\"top_logprobs\":21", ERR_BAD_REQUEST, "top_logprobs",
     "from 0 to 20"},
    {HELLO ",\"top_logprobs\":2", ERR_BAD_REQUEST, "top_logprobs", "set logprobs to true"},
    {HELLO ",\"response_format\":{\"type\":\"json_schema\"}", ERR_UNSUPPORTED, "response_format",
     "response_format.type is the string \"json_schema\""},
    {HELLO ",\"response_format\":5", ERR_BAD_REQUEST, "response_format", "an object"},
    {HELLO ",\"tools\":{}", ERR_BAD_REQUEST, "tools", "an array"},
    {HELLO ",\"tool_choice\":\"required\"", ERR_UNSUPPORTED, "tool_choice", "\"required\""},
    {HELLO ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}",
     ERR_UNSUPPORTED, "tool_choice", "an object"},
    {HELLO ",\"chat_template_kwargs\":{\"enable_thinking\":1}", ERR_BAD_REQUEST,
     "chat_template_kwargs.enable_thinking", "must be true or false, not the number 1"},
    {HELLO ",\"chat_template_kwargs\":[]", ERR_BAD_REQUEST, "chat_template_kwargs", "an object"},
    {HELLO ",\"reasoning_effort\":5", ERR_BAD_REQUEST, "reasoning_effort", "a string"},
    {HELLO ",\"add_generation_prompt\":1", ERR_BAD_REQUEST, "add_generation_prompt",
     "true or false"},
    {HELLO ",\"chat_template\":\"{{x}}\"", ERR_UNSUPPORTED, "chat_template", "not supported"},
    {HELLO ",\"continue_final_message\":true", ERR_UNSUPPORTED, "continue_final_message",
     "not supported"},
    {HELLO ",\"functions\":[{}]", ERR_UNSUPPORTED, "functions", "send tools"},
    {HELLO ",\"function_call\":\"auto\"", ERR_UNSUPPORTED, "function_call", "send tools"},
    {HELLO ",\"documents\":[{}]", ERR_UNSUPPORTED, "documents", "not supported"},
    {HELLO ",\"audio\":{\"voice\":\"a\"}", ERR_UNSUPPORTED, "audio", "not supported"},
    {HELLO ",\"web_search_options\":{\"a\":1}", ERR_UNSUPPORTED, "web_search_options",
     "not supported"},
    {HELLO ",\"echo\":true", ERR_UNSUPPORTED, "echo", "not supported"},
};

static void check_wrong(parse_fn *fn, struct api_server *s, const struct wrong *w, const char *with)
{
    struct buf body = {0};
    struct params p;
    struct err e;
    buf_format(&body, "{%s%s%s}", with, *with ? "," : "", w->field);
    cr_assert(eq(int, parse(fn, s, body.data, &p, &e), -1), "%s was taken", body.data);
    cr_assert(eq(str, e.param, (char *)w->param), "of %s: %s", body.data, e.text);
    cr_assert(eq(int, (int)e.code, (int)w->code), "of %s: %s", body.data, e.text);
    cr_assert(ne(ptr, strstr(e.text, w->says), NULL), "'%s' of %s", e.text, body.data);
    buf_fini(&body);
}

Test(params, wrong_values_name_the_field)
{
    struct api_server s = server(true);
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        check_wrong(completions_parse, &s, &WRONG[i], "\"prompt\":[1]");
        check_wrong(chat_parse, &s, &WRONG[i], HELLO);
    }
    for (size_t i = 0; i < sizeof WRONG_COMPLETIONS / sizeof *WRONG_COMPLETIONS; i++)
        check_wrong(completions_parse, &s, &WRONG_COMPLETIONS[i], "");
    for (size_t i = 0; i < sizeof WRONG_CHAT / sizeof *WRONG_CHAT; i++)
        check_wrong(chat_parse, &s, &WRONG_CHAT[i], "");
    server_fini(&s);
}

Test(params, without_a_tokenizer_text_is_refused_with_advice)
{
    static const struct wrong TEXT[] = {
        {"\"prompt\":\"a\"", ERR_BAD_REQUEST, "prompt", "no tokenizer.json"},
        {"\"prompt\":[[1],\"a\"]", ERR_BAD_REQUEST, "prompt[1]", "send token ids"},
        {"\"prompt\":[1],\"stop\":\"a\"", ERR_BAD_REQUEST, "stop", "send stop_token_ids"},
    };
    static const struct wrong CHAT = {HELLO, ERR_BAD_REQUEST, "messages", "no tokenizer.json"};
    struct api_server s = server(false);
    for (size_t i = 0; i < sizeof TEXT / sizeof *TEXT; i++)
        check_wrong(completions_parse, &s, &TEXT[i], "");
    check_wrong(chat_parse, &s, &CHAT, "");
}

// --- good requests --------------------------------------------------------------------------

static void must_parse(parse_fn *fn, struct api_server *s, const char *text, struct params *p)
{
    struct err e;
    cr_assert(zero(parse(fn, s, text, p, &e)), "%s: %s", e.text, text);
}

Test(params, defaults_are_the_models)
{
    struct api_server s = server(true);
    struct params p;
    must_parse(completions_parse, &s, "{\"prompt\":\"Hello there\"}", &p);
    cr_assert(epsilon_eq(flt, p.gen.sampling.temperature, 0.7f, 1e-6f));
    cr_assert(epsilon_eq(flt, p.gen.sampling.top_p, 0.8f, 1e-6f));
    cr_assert(eq(int, p.gen.sampling.top_k, 20));
    cr_assert(eq(flt, p.gen.sampling.repetition, 1.0f));
    cr_assert(eq(int, p.inputs->max_tokens[0], 16));
    cr_assert(eq(int, p.gen.logprobs, -1));
    cr_assert(not(p.stream || p.echo || p.gen.ignore_eos || p.gen.special_text || p.thinks));
    inputs_drop(p.inputs);
    struct config silent = config;
    silent.temperature = silent.top_p = NAN;
    silent.top_k = -1;
    s.model.config = &silent;
    must_parse(chat_parse, &s, "{" HELLO "}", &p);
    cr_assert(eq(flt, p.gen.sampling.temperature, 1.0f));
    cr_assert(eq(flt, p.gen.sampling.top_p, 1.0f));
    cr_assert(eq(int, p.gen.sampling.top_k, 0));
    cr_assert(eq(int, p.inputs->max_tokens[0], 24)); // the server's default
    inputs_drop(p.inputs);
    server_fini(&s);
}

Test(params, every_field_arrives)
{
    struct api_server s = server(true);
    struct params p;
    must_parse(completions_parse, &s,
               "{\"model\":\"m\",\"prompt\":[[1,2],[3]],\"temperature\":0,\"top_p\":0,\"top_k\":-1,"
               "\"min_p\":1,\"presence_penalty\":1,\"frequency_penalty\":-1,"
               "\"repetition_penalty\":1.5,\"n\":2,\"best_of\":2,\"seed\":-7,"
               "\"stop\":[\"a\",\"b\\u0000c\"],\"stop_token_ids\":[4,5],"
               "\"logit_bias\":{\"6\":-100},\"ignore_eos\":true,\"skip_special_tokens\":false,"
               "\"stream\":true,\"stream_options\":{\"include_usage\":true,\"other\":1},"
               "\"echo\":true,\"logprobs\":3,\"max_tokens\":5,\"return_token_ids\":true,"
               "\"return_tokens_as_token_ids\":true}",
               &p);
    const struct sample_row *row = &p.gen.sampling;
    cr_assert(row->temperature == 0 && row->top_k == 0 && row->repetition == 1.5f);
    cr_assert(row->top_p > 0 && row->min_p < 1, "half-open ranges of the kernel");
    cr_assert(row->presence == 1 && row->frequency == -1);
    cr_assert(eq(int, p.n, 2));
    cr_assert(eq(i64, (int64_t)p.seed, -7));
    cr_assert(eq(int, p.gen.n_stops, 2));
    cr_assert(eq(sz, p.gen.stops[1].n, 3));
    cr_assert(zero(memcmp(p.gen.stops[1].text, "b\0c", 3)));
    cr_assert(p.gen.n_stop_ids == 2 && p.gen.stop_ids[1] == 5);
    cr_assert(p.gen.n_bias == 1 && p.gen.bias_ids[0] == 6 && p.gen.bias[0] == -100);
    cr_assert(p.gen.ignore_eos && p.gen.special_text && p.stream && p.include_usage && p.echo);
    cr_assert(p.return_token_ids && p.tokens_as_ids);
    cr_assert(p.gen.logprobs == 3 && p.gen.prompt_logprobs);
    cr_assert(eq(int, p.inputs->n_prompts, 2));
    cr_assert(p.inputs->prompts[0].n == 2 && p.inputs->prompts[0].data[1] == 2);
    cr_assert(p.inputs->prompts[1].n == 1 && p.inputs->prompts[1].data[0] == 3);
    cr_assert(p.inputs->max_tokens[0] == 5 && p.inputs->max_tokens[1] == 5);
    inputs_drop(p.inputs);
    server_fini(&s);
}

// What clients send without wanting anything by it.
Test(params, harmless_fields_are_accepted)
{
    struct api_server s = server(true);
    struct params p;
    must_parse(chat_parse, &s,
               "{" HELLO ",\"tools\":[],\"tool_choice\":null,\"stop\":null,\"stop_token_ids\":[],"
               "\"logit_bias\":{},\"user\":\"u\",\"metadata\":{\"a\":\"b\"},\"store\":true,"
               "\"service_tier\":\"auto\",\"parallel_tool_calls\":true,\"stream_options\":null,"
               "\"response_format\":{\"type\":\"text\"},\"functions\":[],\"min_tokens\":0,"
               "\"modalities\":[\"text\"],\"reasoning_effort\":\"low\",\"unheard_of\":[1]}",
               &p);
    cr_assert(eq(int, p.gen.n_stops, 0));
    inputs_drop(p.inputs);
    must_parse(completions_parse, &s, "{\"prompt\":\"a\",\"suffix\":null,\"best_of\":1}", &p);
    inputs_drop(p.inputs);
    server_fini(&s);
}

Test(params, thinking)
{
    static const struct {
        bool by_default;
        const char *fields;
        bool thinks;
    } CASES[] = {
        {false, "", false},
        {true, "", true},
        {false, ",\"chat_template_kwargs\":{\"enable_thinking\":true}", true},
        {true, ",\"chat_template_kwargs\":{\"enable_thinking\":false}", false},
        {true, ",\"chat_template_kwargs\":{\"enable_thinking\":null}", true},
        {true, ",\"reasoning_effort\":\"none\"", false},
        {true, ",\"reasoning_effort\":\"high\"", true},
        {true, ",\"add_generation_prompt\":false", false},
    };
    struct api_server s = server(true);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char body[256];
        struct params p;
        snprintf(body, sizeof body, "{%s%s}", HELLO, CASES[i].fields);
        s.thinking_by_default = CASES[i].by_default;
        must_parse(chat_parse, &s, body, &p);
        cr_assert(eq(int, p.thinks, CASES[i].thinks), "%s", body);
        inputs_drop(p.inputs);
    }
    server_fini(&s);
}

// tool_choice "none" keeps tools out of the prompt.
Test(params, tools_are_in_the_prompt_unless_none)
{
#define TOOLS ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}]"
    struct api_server s = server(true);
    struct params with, none, without;
    s.model.context_max = 4096;
    must_parse(chat_parse, &s, "{" HELLO TOOLS "}", &with);
    must_parse(chat_parse, &s, "{" HELLO TOOLS ",\"tool_choice\":\"none\"}", &none);
    must_parse(chat_parse, &s, "{" HELLO "}", &without);
    cr_assert(gt(sz, with.inputs->prompts[0].n, none.inputs->prompts[0].n));
    cr_assert(eq(sz, none.inputs->prompts[0].n, without.inputs->prompts[0].n));
    inputs_drop(with.inputs);
    inputs_drop(none.inputs);
    inputs_drop(without.inputs);
    server_fini(&s);
}

Test(params, length_follows_the_context)
{
    struct api_server s = server(false);
    struct params p;
    struct err e;
    struct buf body = {0};
    buf_str(&body, "{\"prompt\":[1");
    for (int i = 1; i < 60; i++)
        buf_str(&body, ",1");
    size_t n = body.n;
    buf_str(&body, "]}");
    must_parse(completions_parse, &s, body.data, &p);
    cr_assert(eq(int, p.inputs->max_tokens[0], 4), "the default gives way to the context");
    inputs_drop(p.inputs);
    body.n = n;
    buf_str(&body, "],\"max_tokens\":5}");
    cr_assert(eq(int, parse(completions_parse, &s, body.data, &p, &e), -1));
    cr_assert(eq(int, (int)e.code, ERR_CONTEXT_LENGTH));
    body.n = n;
    buf_str(&body, ",1,1,1,1],\"max_tokens\":0,\"echo\":true}"); // 64: full, nothing to add
    must_parse(completions_parse, &s, body.data, &p);
    cr_assert(eq(int, p.inputs->max_tokens[0], 0));
    inputs_drop(p.inputs);
    body.n = n;
    buf_str(&body, ",1,1,1,1,1]}");
    cr_assert(eq(int, parse(completions_parse, &s, body.data, &p, &e), -1));
    cr_assert(eq(int, (int)e.code, ERR_CONTEXT_LENGTH));
    cr_assert(ne(ptr, strstr(e.text, "the prompt has 65 tokens"), NULL), "%s", e.text);
    buf_fini(&body);
}

Test(params, far_too_long_text_is_not_counted_to_its_end)
{
    struct api_server s = server(true);
    struct params p;
    struct err e;
    struct buf body = {0};
    buf_str(&body, "{\"prompt\":\"");
    for (int i = 0; i < 5000; i++)
        buf_str(&body, "a b ");
    buf_str(&body, "\"}");
    cr_assert(eq(int, parse(completions_parse, &s, body.data, &p, &e), -1));
    cr_assert(eq(int, (int)e.code, ERR_CONTEXT_LENGTH));
    cr_assert(ne(ptr, strstr(e.text, "has more than 256 tokens"), NULL), "%s", e.text);
    buf_fini(&body);
    server_fini(&s);
}

Test(params, names)
{
    static const char *const ALIASES[] = {"alias"};
    struct api_server s = server(false);
    struct params p;
    struct err e;
    s.aliases = ALIASES;
    s.n_aliases = 1;
    must_parse(completions_parse, &s, "{\"prompt\":[1],\"model\":\"alias\"}", &p);
    inputs_drop(p.inputs);
    cr_assert(parse(completions_parse, &s, "{\"prompt\":[1],\"model\":\"other\"}", &p, &e) != 0);
    s.any_model = true;
    must_parse(completions_parse, &s, "{\"prompt\":[1],\"model\":\"other\"}", &p);
    inputs_drop(p.inputs);
}

Test(params, seeds_differ_unless_given)
{
    struct api_server s = server(false);
    struct params a, b;
    must_parse(completions_parse, &s, "{\"prompt\":[1]}", &a);
    must_parse(completions_parse, &s, "{\"prompt\":[1],\"seed\":null}", &b);
    cr_assert(ne(u64, a.seed, b.seed));
    inputs_drop(a.inputs);
    inputs_drop(b.inputs);
}
