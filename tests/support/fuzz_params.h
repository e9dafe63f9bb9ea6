// fuzz_params.h - what the fuzz targets of the two parsers share: a server without an engine, and what
// must hold of every request that is taken.
#ifndef FUZZ_PARAMS_H
#define FUZZ_PARAMS_H

#include <math.h>
#include <string.h>

#include "params.h"

enum { FUZZ_CONTEXT = 512, FUZZ_CHOICES = 4 };

static inline struct api_server *fuzz_server(void)
{
    static struct config config = {
        .vocab_size = 6144, .temperature = NAN, .top_p = NAN, .top_k = -1};
    static struct api_server server = {
        .model_id = "m", .n_max = FUZZ_CHOICES, .max_tokens_default = 24};
    if (!server.model.tokenizer) {
        struct err e = {0};
        server.model.config = &config;
        server.model.context_max = FUZZ_CONTEXT;
        server.model.tokenizer = tokenizer_load(TEST_SOURCE_DIR "/models/bundled", &e);
        CHECK(server.model.tokenizer != NULL);
    }
    return &server;
}

static inline void fuzz_check_params(const struct params *p)
{
    const struct sample_row *row = &p->gen.sampling;
    const struct inputs *in = p->inputs;
    CHECK(p->n >= 1 && in->n_prompts >= 1 && p->n * in->n_prompts <= FUZZ_CHOICES);
    for (int i = 0; i < in->n_prompts; i++) {
        CHECK(in->prompts[i].n >= 1 && in->max_tokens[i] >= 0);
        CHECK(in->prompts[i].n + (size_t)in->max_tokens[i] <= FUZZ_CONTEXT);
        for (size_t k = 0; k < in->prompts[i].n; k++)
            CHECK(in->prompts[i].data[k] >= 0 && in->prompts[i].data[k] < 6144);
    }
    for (int i = 0; i < p->gen.n_stops; i++)
        CHECK(p->gen.stops[i].n >= 1 && p->gen.stops[i].n <= DETOK_STOP_BYTES_MAX);
    for (int i = 0; i < p->gen.n_bias; i++)
        CHECK(p->gen.bias_ids[i] >= 0 && p->gen.bias_ids[i] < 6144 && isfinite(p->gen.bias[i]));
    CHECK(row->temperature >= 0 && row->temperature <= 2 && row->top_p > 0 && row->top_p <= 1);
    CHECK(row->min_p >= 0 && row->min_p < 1 && row->repetition > 0 && row->top_k >= 0);
    CHECK(isfinite(row->presence) && isfinite(row->frequency) && isfinite(row->repetition));
    CHECK(p->gen.logprobs >= -1 && p->gen.logprobs <= LOGPROBS_MAX);
}

typedef int fuzz_parse_fn(struct api_server *s, json_t *body, struct params *p, struct err *e);

// One request's body: refused with a sentence, or sound.
static inline void fuzz_params(fuzz_parse_fn *parse, const uint8_t *data, size_t n)
{
    struct err e = {0};
    struct params p;
    json_t *body = json_parse((const char *)data, n, JSON_DEPTH_MAX, &e);
    if (body && parse(fuzz_server(), body, &p, &e) == 0) {
        fuzz_check_params(&p);
        inputs_drop(p.inputs);
    } else {
        CHECK(e.code != ERR_OK && *e.text && err_http(e.code) >= 400 && err_http(e.code) < 500);
    }
    json_decref(body);
}

#endif
