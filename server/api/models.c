// models.c - GET /v1/models and /v1/models/{id}: the one model served, under each of its names.
#include <string.h>

#include "parts.h"

// The fields that clients of several servers look for: max_model_len, context_length, meta.
static void write_model(const struct api_server *s, const char *id, struct buf *out)
{
    const struct api_model *m = &s->model;
    buf_str(out, "{\"id\":");
    json_quote(out, id, strlen(id));
    buf_format(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"deltaserve\",\"root\":",
               (long long)s->created);
    json_quote(out, s->model_id, strlen(s->model_id));
    buf_format(out,
               ",\"parent\":null,\"max_model_len\":%d,\"context_length\":%d,"
               "\"meta\":{\"n_vocab\":%d,\"n_ctx_train\":%d,\"n_embd\":%d,\"n_params\":%lld,"
               "\"size\":%zu}}",
               m->context_max, m->context_max, m->config->vocab_size,
               m->config->max_position_embeddings, m->config->hidden_size,
               (long long)m->memory->n_params, m->memory->weights + m->memory->mapped);
}

int models_list(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    (void)q;
    if (!api_model_of(s, e))
        return -1;
    buf_str(&r->body, "{\"object\":\"list\",\"data\":[");
    write_model(s, s->model_id, &r->body);
    for (int i = 0; i < s->n_aliases; i++) {
        buf_str(&r->body, ",");
        write_model(s, s->aliases[i], &r->body);
    }
    buf_str(&r->body, "]}");
    return 0;
}

int models_get(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    if (!api_model_of(s, e) || api_check_name(s, q->tail, e))
        return -1;
    write_model(s, q->tail, &r->body);
    return 0;
}
