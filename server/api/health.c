// health.c - is the server there, is it ready, what version, what has it done.
#include <string.h>

#include "parts.h"
#include "stats.h"

// /livez: the loop answers. A supervisor restarts what does not.
int health_live(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)server, (void)q, (void)e;
    buf_str(&r->body, "{\"status\":\"ok\"}");
    return 0;
}

// /readyz, /health: the model is loaded and the engine makes progress, so work may be sent here. With
// ?strict also: it would begin at once, no exclusive job holds clients back.
int health_ready(void *server, struct request *q, struct reply *r, struct err *e)
{
    enum { STEP_MS_MAX = 120000 }; // longer than any step that is under way
    struct api_server *s = server;
    if (!api_model_of(s, e))
        return -1;
    if (!engine_alive(s->model.engine, STEP_MS_MAX))
        return err_set(e, ERR_DEVICE, "the engine is lost, or no step has ended for %d s",
                       STEP_MS_MAX / 1000);
    if (q->query(q, "strict") && engine_holds_clients(s->model.engine))
        return err_set(e, ERR_PAUSED, "an exclusive job holds clients back");
    buf_str(&r->body, "{\"status\":\"ok\"}");
    return 0;
}

int health_version(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    (void)q, (void)e;
    buf_str(&r->body, "{\"version\":");
    json_quote(&r->body, s->version, strlen(s->version));
    buf_str(&r->body, ",\"commit\":");
    json_quote(&r->body, s->commit, strlen(s->commit));
    buf_str(&r->body, ",\"device\":");
    json_quote(&r->body, s->device, strlen(s->device));
    buf_str(&r->body, "}");
    return 0;
}

int health_metrics(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)server, (void)q, (void)e;
    r->content_type = "text/plain; version=0.0.4; charset=utf-8";
    stats_print(&r->body);
    return 0;
}
