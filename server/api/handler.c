// handler.c - what handlers do with a reply. See handler.h.
#include "handler.h"

#include <string.h>

#include "json.h"
#include "log.h"

void reply_header(struct reply *r, const char *name, const char *value)
{
    CHECK(r->n_headers < REPLY_HEADERS_MAX);
    r->headers[r->n_headers].name = name;
    r->headers[r->n_headers].value = value;
    r->n_headers++;
}

void reply_wake(struct reply *r)
{
    r->wake(r);
}

// What a client is told of a 5xx: enough to decide whether to retry, nothing of our insides.
static const char *general_text(enum err_code code)
{
    switch (code) {
    case ERR_DEVICE:
        return "the device that ran the model is lost; the server is restarting, retry later";
    case ERR_LOADING:
        return "the model is loading; retry later";
    case ERR_PAUSED:
        return "a job measures this node and holds clients back; use another one, or wait";
    case ERR_SHUTTING_DOWN:
        return "the server is shutting down; retry with another one";
    case ERR_TIMEOUT:
        return "the request took too long; retry, or ask for less";
    case ERR_STORAGE:
        return "the store of jobs is full; delete jobs that are not needed (DELETE /v1/jobs/{id}), "
               "or start the server with more room (--jobs-max-bytes, a larger disk)";
    default:
        return "internal error; please report it with this reply's x-request-id";
    }
}

static const char *retry_after(enum err_code code)
{
    switch (code) {
    case ERR_BUSY:
    case ERR_PAUSED:
    case ERR_SHUTTING_DOWN:
        return "1";
    case ERR_LOADING:
        return "5";
    default:
        return NULL;
    }
}

static void quote_or_null(struct buf *out, const char *s)
{
    if (s && *s)
        json_quote(out, s, strlen(s));
    else
        buf_str(out, "null");
}

void reply_error(struct reply *r, const struct err *e)
{
    r->status = err_http(e->code);
    r->content_type = "application/json";
    if (r->status == 500)
        log_event(LOG_ERROR, "reply_failed", "code=%s text=\"%s\"", err_slug(e->code), e->text);
    if (retry_after(e->code))
        reply_header(r, "Retry-After", retry_after(e->code));
    buf_clear(&r->body);
    buf_str(&r->body, "{\"error\":{\"message\":");
    quote_or_null(&r->body, r->status >= 500 ? general_text(e->code) : e->text);
    buf_str(&r->body, ",\"type\":");
    quote_or_null(&r->body, err_type(e->code));
    buf_str(&r->body, ",\"param\":");
    quote_or_null(&r->body, e->param);
    buf_str(&r->body, ",\"code\":");
    quote_or_null(&r->body, err_slug(e->code));
    buf_str(&r->body, "}}");
}
