// params.c - see params.h. Ranges are OpenAI's; fields that OpenAI does not have are vLLM's.
#include "params.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct fields {
    const char *model;
    double temperature, top_p, min_p, presence, frequency, repetition;
    int64_t top_k, n, seed;
    json_t *stop, *stop_token_ids, *logit_bias, *stream_options;
    bool ignore_eos, skip_special, stream, return_token_ids, tokens_as_ids;
};

#define AT(member) offsetof(struct fields, member)

// Defaults that the model's own may replace are NaN, and -2 for top_k.
static const struct json_field FIELDS[] = {
    {"model", JSON_KIND_STR, AT(model), 0, 512, 0, false},
    {"temperature", JSON_KIND_NUM, AT(temperature), 0, 2, NAN, false},
    {"top_p", JSON_KIND_NUM, AT(top_p), 0, 1, NAN, false},
    {"top_k", JSON_KIND_INT, AT(top_k), -1, INT32_MAX, -2, false},
    {"min_p", JSON_KIND_NUM, AT(min_p), 0, 1, 0, false},
    {"presence_penalty", JSON_KIND_NUM, AT(presence), -2, 2, 0, false},
    {"frequency_penalty", JSON_KIND_NUM, AT(frequency), -2, 2, 0, false},
    {"repetition_penalty", JSON_KIND_NUM, AT(repetition), 0.01, 10, 1, false},
    {"n", JSON_KIND_INT, AT(n), 1, INT32_MAX, 1, false},
    {"seed", JSON_KIND_INT, AT(seed), -0x1p63, 0x1p63, 0, false},
    {"stop", JSON_KIND_ANY, AT(stop), 0, 0, 0, false},
    {"stop_token_ids", JSON_KIND_ARRAY, AT(stop_token_ids), 0, GEN_STOP_IDS_MAX, 0, false},
    {"logit_bias", JSON_KIND_OBJECT, AT(logit_bias), 0, GEN_BIAS_MAX, 0, false},
    {"ignore_eos", JSON_KIND_BOOL, AT(ignore_eos), 0, 0, false, false},
    {"skip_special_tokens", JSON_KIND_BOOL, AT(skip_special), 0, 0, true, false},
    {"stream", JSON_KIND_BOOL, AT(stream), 0, 0, false, false},
    {"stream_options", JSON_KIND_OBJECT, AT(stream_options), 0, 64, 0, false},
    {"return_token_ids", JSON_KIND_BOOL, AT(return_token_ids), 0, 0, false, false},
    {"return_tokens_as_token_ids", JSON_KIND_BOOL, AT(tokens_as_ids), 0, 0, false, false},
};

static const struct unsupported UNSUPPORTED[] = {
    {"min_tokens", "use stop conditions that cannot come early"},
    {"include_stop_str_in_output", "append the string named in stop_reason"},
    {"use_beam_search", "ask for several choices with n"},
    {"prompt_logprobs", "ask /v1/completions for echo and logprobs"},
    {"prompt_embeds", "send text or token ids"},
    {"truncate_prompt_tokens", "shorten the prompt before sending it"},
    {"allowed_token_ids", "use logit_bias"},
    {"bad_words", "use logit_bias"},
    {"logits_processors", "use logit_bias"},
    {"structured_outputs", "ask for the form in the prompt"},
    {"guided_json", "ask for the form in the prompt"},
    {"guided_regex", "ask for the form in the prompt"},
    {"guided_choice", "ask for the form in the prompt"},
    {"guided_grammar", "ask for the form in the prompt"},
    {"grammar", "ask for the form in the prompt"},
    {NULL, NULL},
};

static int refuse_id(const struct api_model *m, const json_t *v, size_t i, const char *list,
                     struct err *e)
{
    char found[64], where[64];
    snprintf(where, sizeof where, "%s[%zu]", list, i);
    json_describe(v, found, sizeof found);
    if (!json_is_integer(v))
        return err_field(e, ERR_BAD_REQUEST, where, "%s must be a token id, not %s", where, found);
    return err_field(e, ERR_BAD_REQUEST, where, "%s is %s; token ids go from 0 to %d", where, found,
                     m->config->vocab_size - 1);
}

int params_read_id(const struct api_model *m, const json_t *array, size_t i, const char *list,
                   int *id, struct err *e)
{
    const json_t *v = json_array_get(array, i);
    const json_int_t value = json_integer_value(v);
    if (!json_is_integer(v) || value < 0 || value >= m->config->vocab_size)
        return refuse_id(m, v, i, list, e);
    *id = (int)value;
    return 0;
}

static int add_stop(struct inputs *in, json_t *v, const char *where, struct err *e)
{
    char found[64];
    if (!json_is_string(v))
        return err_field(e, ERR_BAD_REQUEST, where, "%s must be a string, not %s", where,
                         json_describe(v, found, sizeof found));
    size_t n = json_string_length(v);
    if (n < 1 || n > DETOK_STOP_BYTES_MAX)
        return err_field(e, ERR_BAD_REQUEST, where, "%s has %zu bytes; it must have from 1 to %d",
                         where, n, DETOK_STOP_BYTES_MAX);
    in->stops[in->n_stops++] =
        (struct detok_stop){arena_string(&in->arena, json_string_value(v), n), n};
    return 0;
}

// A string, or an array of them.
static int read_stops(const struct api_model *m, json_t *stop, struct inputs *in, struct err *e)
{
    char where[32];
    if (!stop)
        return 0;
    if (!m->tokenizer)
        return err_field(e, ERR_BAD_REQUEST, "stop",
                         "the checkpoint has no tokenizer.json, so answers have no text for stop "
                         "strings; send stop_token_ids");
    if (!json_is_array(stop))
        return add_stop(in, stop, "stop", e);
    if (json_array_size(stop) > DETOK_STOPS_MAX)
        return err_field(e, ERR_BAD_REQUEST, "stop", "stop has %zu entries; send at most %d",
                         json_array_size(stop), DETOK_STOPS_MAX);
    for (size_t i = 0; i < json_array_size(stop); i++) {
        snprintf(where, sizeof where, "stop[%zu]", i);
        if (add_stop(in, json_array_get(stop, i), where, e))
            return -1;
    }
    return 0;
}

static int read_stop_ids(const struct api_model *m, json_t *ids, struct gen_params *g,
                         struct err *e)
{
    for (size_t i = 0; i < json_array_size(ids); i++) {
        if (params_read_id(m, ids, i, "stop_token_ids", &g->stop_ids[i], e))
            return -1;
        g->n_stop_ids++;
    }
    return 0;
}

// A key of logit_bias: decimal digits, nothing else.
static int parse_key(const char *key, int vocab_size)
{
    int64_t id = 0;
    size_t n = strlen(key);
    if (n < 1 || n > 9)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (key[i] < '0' || key[i] > '9')
            return -1;
        id = id * 10 + (key[i] - '0');
    }
    return id < vocab_size ? (int)id : -1;
}

static int read_bias(const struct api_model *m, json_t *object, struct inputs *in, struct err *e)
{
    enum { BIAS_MAX = 100 };
    size_t n = json_object_size(object);
    if (!n)
        return 0;
    in->bias_ids = arena_alloc(&in->arena, n, sizeof *in->bias_ids);
    in->bias = arena_alloc(&in->arena, n, sizeof *in->bias);
    const char *key;
    json_t *v;
    json_object_foreach(object, key, v)
    {
        char where[64], found[64];
        snprintf(where, sizeof where, "logit_bias.%.40s", key);
        int id = parse_key(key, m->config->vocab_size);
        if (id < 0)
            return err_field(e, ERR_BAD_REQUEST, where,
                             "the key '%.40s' of logit_bias must be a token id from 0 to %d", key,
                             m->config->vocab_size - 1);
        double bias = json_number_value(v);
        if (!json_is_number(v) || !(bias >= -BIAS_MAX && bias <= BIAS_MAX))
            return err_field(e, ERR_BAD_REQUEST, where,
                             "%s is %s; it must be a number from %d to %d", where,
                             json_describe(v, found, sizeof found), -BIAS_MAX, BIAS_MAX);
        in->bias_ids[in->n_bias] = id;
        in->bias[in->n_bias++] = (float)bias;
    }
    return 0;
}

static double first_number(double a, double b, double c)
{
    return !isnan(a) ? a : !isnan(b) ? b : c;
}

static void set_sampling(const struct config *c, const struct fields *f, struct sample_row *row)
{
    double temperature = first_number(f->temperature, c->temperature, 1);
    double top_p = first_number(f->top_p, c->top_p, 1);
    int64_t top_k = f->top_k > -2 ? f->top_k : c->top_k;
    *row = (struct sample_row){
        .temperature = (float)temperature,
        // The kernel's ranges are half open: at these ends the likeliest token alone is left.
        .top_p = fmaxf((float)top_p, FLT_MIN),
        .min_p = fminf((float)f->min_p, 1 - FLT_EPSILON),
        .top_k = top_k > 0 && top_k < c->vocab_size ? (int)top_k : 0,
        .presence = (float)f->presence,
        .frequency = (float)f->frequency,
        .repetition = (float)f->repetition,
    };
}

static int read_stream_options(json_t *options, struct params *p, struct err *e)
{
    static const struct json_field ROWS[] = {
        {"include_usage", JSON_KIND_BOOL, offsetof(struct params, include_usage), 0, 0, false,
         false},
    };
    return options ? json_read(ROWS, 1, options, "stream_options", p, e) : 0;
}

static int check_n(const struct api_server *s, int64_t n, struct err *e)
{
    if (n > s->n_max)
        return err_field(e, ERR_BAD_REQUEST, "n", "n is %lld; this server gives at most %d choices",
                         (long long)n, s->n_max);
    return 0;
}

int params_read(struct api_server *s, json_t *body, struct params *p, struct err *e)
{
    const struct api_model *m = &s->model;
    struct inputs *in = p->inputs;
    struct fields f;
    if (json_read(FIELDS, sizeof FIELDS / sizeof *FIELDS, body, "", &f, e) ||
        api_check_name(s, f.model, e) || api_refuse(UNSUPPORTED, body, e) || check_n(s, f.n, e) ||
        read_stream_options(f.stream_options, p, e) || read_stops(m, f.stop, in, e) ||
        read_bias(m, f.logit_bias, in, e) || read_stop_ids(m, f.stop_token_ids, &p->gen, e))
        return -1;
    json_t *seed = json_object_get(body, "seed");
    p->model = f.model;
    p->seed = seed && !json_is_null(seed) ? (uint64_t)f.seed : api_random(s);
    p->n = (int)f.n;
    p->stream = f.stream;
    p->return_token_ids = f.return_token_ids;
    p->tokens_as_ids = f.tokens_as_ids;
    set_sampling(m->config, &f, &p->gen.sampling);
    p->gen.bias_ids = in->bias_ids;
    p->gen.bias = in->bias;
    p->gen.n_bias = in->n_bias;
    p->gen.stops = in->stops;
    p->gen.n_stops = in->n_stops;
    p->gen.ignore_eos = f.ignore_eos;
    p->gen.special_text = !f.skip_special;
    return 0;
}

int params_set_max_tokens(const struct api_model *m, struct inputs *in, int i,
                          const struct max_tokens *max, struct err *e)
{
    size_t n_prompt = in->prompts[i].n;
    int64_t room = (int64_t)m->context_max - (int64_t)n_prompt;
    int64_t n = max->asked >= 0 ? max->asked : room < max->def ? room : max->def;
    if (room < 0 || (room == 0 && max->asked != 0))
        return err_field(e, ERR_CONTEXT_LENGTH, max->prompt,
                         "the prompt has %zu tokens; this model's maximum context length is %d "
                         "tokens for prompt and answer together: shorten the prompt",
                         n_prompt, m->context_max);
    if (n > room)
        return err_field(e, ERR_CONTEXT_LENGTH, max->field,
                         "the prompt has %zu tokens and %s is %lld, together %lld; this model's "
                         "maximum context length is %d tokens: shorten the prompt or lower %s",
                         n_prompt, max->field, (long long)n, (long long)n + (long long)n_prompt,
                         m->context_max, max->field);
    in->max_tokens[i] = (int)n;
    return 0;
}

int params_encode(const struct api_model *m, const char *text, size_t n, const char *path,
                  struct ids *out, struct err *e)
{
    // Past the context, ids are still counted for the error's text, but not for ever. This runs on the
    // loop thread: 5 ms for 32,768 tokens, 40 ms for 262,144, 60 to 75 ms to refuse 16 MB (one core of an
    // AMD EPYC, 2026-11-24), less than handing it to another thread would be worth.
    enum { COUNT_FACTOR = 4 };
    if (!m->tokenizer)
        return err_field(e, ERR_BAD_REQUEST, path,
                         "the checkpoint has no tokenizer.json, so text cannot be read; send token "
                         "ids to /v1/completions");
    size_t ids_max = (size_t)m->context_max * COUNT_FACTOR;
    struct err why;
    out->max = ids_max;
    if (!tokenizer_encode(m->tokenizer, text, n, TOKENIZER_SPECIAL, out, &why))
        return 0;
    if (why.code != ERR_TOO_LARGE)
        return err_field(e, why.code, path, "%s: %.300s", path, why.text);
    return err_field(e, ERR_CONTEXT_LENGTH, path,
                     "%s has more than %zu tokens; this model's maximum context length is %d "
                     "tokens: shorten the prompt",
                     path, ids_max, m->context_max);
}
