// api.c - the table of paths, and what all handlers need: the model's facts, the body, names, ids.
#define _GNU_SOURCE
#include "api.h"

#include <string.h>
#include <unistd.h>

#include "parts.h"

const struct route API_ROUTES[] = {
    {"GET", "/", page_handle, true},
    {"POST", "/v1/completions", completions_handle, false},
    {"POST", "/v1/chat/completions", chat_handle, false},
    {"GET", "/v1/models", models_list, false},
    {"GET", "/v1/models/*", models_get, false},
    {"POST", "/tokenize", tokenize_handle, false},
    {"POST", "/detokenize", detokenize_handle, false},
    {"GET", "/tokenizer_info", tokenizer_info_handle, false},
    {"GET", "/v1/job-types", jobs_types, false},
    {"POST", "/v1/jobs", jobs_create, false},
    {"GET", "/v1/jobs", jobs_list, false},
    {"GET", "/v1/jobs/{id}", jobs_one, false},
    {"DELETE", "/v1/jobs/{id}", jobs_delete_one, false},
    {"POST", "/v1/jobs/{id}/cancel", jobs_cancel_one, false},
    {"GET", "/v1/jobs/{id}/events", jobs_events, false},
    {"GET", "/v1/jobs/{id}/result", jobs_result_one, false},
    {"POST", "/v1/jobs/{id}/compare", jobs_compare, false},
    {"GET", "/v1/jobs/{id}/artifacts", jobs_artifacts, false},
    {"GET", "/v1/jobs/{id}/artifacts/{name}", jobs_artifact, false},
    {"GET", "/version", health_version, false},
    {"GET", "/metrics", health_metrics, false},
    {"GET", "/health", health_ready, true},
    {"GET", "/readyz", health_ready, true},
    {"GET", "/livez", health_live, true},
};
const int API_ROUTES_N = sizeof API_ROUTES / sizeof *API_ROUTES;

void api_ready(struct api_server *s, struct engine *engine, const struct tokenizer *tk)
{
    const struct model_memory *memory = engine_memory(engine);
    int context = engine_model_options(engine)->context_max;
    int64_t pages_hold = (int64_t)memory->n_pages * PAGE_TOKENS;
    s->model = (struct api_model){
        .engine = engine,
        .tokenizer = tk,
        .config = engine_config(engine),
        .context_max = pages_hold < context ? (int)pages_hold : context,
        .memory = memory,
    };
    atomic_store(&s->ready, true);
}

void api_dump(struct api_server *s)
{
    if (atomic_load(&s->ready))
        engine_dump(s->model.engine);
}

const struct api_model *api_model_of(struct api_server *s, struct err *e)
{
    if (atomic_load(&s->ready))
        return &s->model;
    err_set(e, ERR_LOADING, "the model is loading");
    return NULL;
}

int api_check_name(const struct api_server *s, const char *name, struct err *e)
{
    if (!name || s->any_model || !strcmp(name, s->model_id))
        return 0;
    for (int i = 0; i < s->n_aliases; i++)
        if (!strcmp(name, s->aliases[i]))
            return 0;
    return err_field(e, ERR_MODEL_NOT_FOUND, "model",
                     "model '%.100s' is not served here; ask for '%.200s' (GET /v1/models)", name,
                     s->model_id);
}

json_t *api_parse_body(const struct request *q, struct arena *memory, struct err *e)
{
    json_t *body = json_parse_in(memory, q->body, q->n_body, JSON_DEPTH_MAX, e);
    if (!body || json_is_object(body))
        return body;
    char found[64];
    err_set(e, ERR_BAD_REQUEST, "the body is %s; send a JSON object",
            json_describe(body, found, sizeof found));
    if (!memory)
        json_decref(body);
    return NULL;
}

// splitmix64 from a random start: different, not secret.
uint64_t api_random(struct api_server *s)
{
    if (s->random == 0)
        CHECK(getentropy(&s->random, sizeof s->random) == 0);
    uint64_t z = s->random += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static int add_bytes(const char *bytes, size_t n, void *out)
{
    buf_add(out, bytes, n);
    return 0;
}

void api_write_json(struct buf *out, const json_t *v)
{
    CHECK(json_dump_callback(v, add_bytes, out, JSON_COMPACT | JSON_ENCODE_ANY) == 0);
}

static bool asks_for_nothing(const json_t *v)
{
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_NULL:
    case JSON_FALSE:
        return true;
    case JSON_INTEGER:
    case JSON_REAL:
        return json_number_value(v) == 0;
    case JSON_STRING:
        return json_string_length(v) == 0;
    case JSON_ARRAY:
        return json_array_size(v) == 0;
    case JSON_OBJECT:
        return json_object_size(v) == 0;
    default:
        return false;
    }
}

int api_refuse(const struct unsupported *fields, json_t *body, struct err *e)
{
    for (const struct unsupported *f = fields; f->field; f++)
        if (!asks_for_nothing(json_object_get(body, f->field)))
            return err_field(e, ERR_UNSUPPORTED, f->field, "%s is not supported; %s", f->field,
                             f->advice);
    return 0;
}
