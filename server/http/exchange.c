// exchange.c - the life of an exchange: libmicrohttpd's three callbacks, the request's body, the
// hand-over to the handler, the end with its log line.
#define _GNU_SOURCE
#include "exchange.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "log.h"
#include "mem.h"
#include "stats.h"

// --- begin ----------------------------------------------------------------------------------

// A sane id of the client's goes into our logs and headers as it is, so: printable, no spaces, no
// quotes. Otherwise 16 hex digits: a counter through splitmix64 from a random start.
static void choose_id(struct exchange *x, const char *given)
{
    size_t n = given ? strlen(given) : 0;
    bool sane = n >= 1 && n <= REQUEST_ID_MAX;
    for (size_t i = 0; sane && i < n; i++)
        sane = given[i] > ' ' && given[i] <= '~' && !strchr("\"'\\", given[i]);
    if (sane) {
        memcpy(x->id, given, n + 1);
        return;
    }
    uint64_t z = x->http->ids += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    snprintf(x->id, sizeof x->id, "%016llx", (unsigned long long)(z ^ (z >> 31)));
}

// The request line has been read; uri is as it was sent.
void *exchange_begin(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct http *h = cls;
    struct exchange *x = mem_zero(1, sizeof *x);
    x->http = h;
    x->mhd = mhd;
    x->conn = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    x->conn->exchange = x;
    x->begun_ns = clock_ns();
    x->body.max = h->o.body_bytes_max;
    x->reply = (struct reply){
        .status = 200, .content_type = "application/json", .http = x, .wake = stream_wake};
    if (target_parse(&x->target, &x->arena, uri, strlen(uri), &x->refusal))
        x->target.path = x->target.raw_path = "-";
    return x;
}

// --- answer ---------------------------------------------------------------------------------

// From here the exchange holds up a drain and is counted.
static void activate(struct exchange *x)
{
    struct http *h = x->http;
    x->active = true;
    x->next = h->active;
    if (h->active)
        h->active->prev = x;
    h->active = x;
}

enum MHD_Result exchange_send(struct exchange *x, struct MHD_Response *r)
{
    CHECK(r != NULL);
    struct reply *reply = &x->reply;
    bool ok = MHD_add_response_header(r, "Content-Type", reply->content_type) == MHD_YES &&
              MHD_add_response_header(r, "x-request-id", x->id) == MHD_YES;
    for (int i = 0; i < reply->n_headers; i++)
        ok = MHD_add_response_header(r, reply->headers[i].name, reply->headers[i].value) ==
                 MHD_YES &&
             ok;
    if (x->http->state != HTTP_SERVING)
        ok = MHD_add_response_header(r, "Connection", "close") == MHD_YES && ok;
    CHECK(ok); // names and values are ours; a line break in one is our bug
    x->stage = EXCHANGE_SENDING;
    reply->started = true;
    enum MHD_Result result = MHD_queue_response(x->mhd, (unsigned)reply->status, r);
    MHD_destroy_response(r);
    return result;
}

enum MHD_Result exchange_send_body(struct exchange *x)
{
    x->total_bytes = x->reply.body.n;
    return exchange_send(x, MHD_create_response_from_buffer(
                                x->reply.body.n, x->reply.body.data ? x->reply.body.data : "",
                                MHD_RESPMEM_PERSISTENT));
}

static enum MHD_Result send_error(struct exchange *x, const struct err *e)
{
    reply_error(&x->reply, e);
    if (e->code == ERR_UNAUTHORIZED)
        reply_header(&x->reply, "WWW-Authenticate", "Bearer");
    if (e->code == ERR_METHOD)
        reply_header(&x->reply, "Allow", x->allow);
    return exchange_send_body(x);
}

static const char *header_of(const struct request *q, const char *name)
{
    return routes_header(q->http, name);
}

static const char *query_of(const struct request *q, const char *name)
{
    const struct exchange *x = q->http;
    return target_query(&x->target, q->arena, name);
}

static enum MHD_Result call_handler(struct exchange *x)
{
    struct request *q = &x->request;
    q->path = x->target.path;
    q->body = x->body.data ? x->body.data : "";
    q->n_body = x->body.n;
    q->id = x->id;
    q->received_ns = x->sent_ns = clock_ns();
    q->header = header_of;
    q->query = query_of;
    q->arena = &x->arena;
    q->http = x;
    struct err e = {0};
    if (x->route->handler(x->http->server, q, &x->reply, &e)) {
        // Nothing of a failed handler's reply is kept, and gone is not called.
        buf_fini(&x->reply.body);
        x->reply = (struct reply){.http = x, .wake = stream_wake};
        return send_error(x, &e);
    }
    if (!x->reply.pull)
        return exchange_send_body(x);
    x->stage = EXCHANGE_PULLING;
    return stream_advance(x);
}

static enum MHD_Result answer(struct exchange *x)
{
    activate(x);
    if (!x->refusal.code && x->http->state != HTTP_SERVING)
        err_set(&x->refusal, ERR_SHUTTING_DOWN, "shutting down");
    return x->refusal.code ? send_error(x, &x->refusal) : call_handler(x);
}

// --- read -----------------------------------------------------------------------------------

static enum MHD_Result take_head(struct exchange *x, const char *method, const char *version)
{
    choose_id(x, routes_header(x, "x-request-id"));
    routes_admit(x, method, version);
    x->stage = EXCHANGE_BODY;
    return x->refuse_now ? answer(x) : MHD_YES;
}

// libmicrohttpd queues no response between two pieces of a body, so this one is written past it, to a
// socket on which nothing else is under way, and the connection is closed.
static enum MHD_Result refuse_midway(struct exchange *x)
{
    activate(x);
    x->refuse_now = true;
    reply_error(&x->reply, &x->refusal);
    struct buf head = {0};
    buf_format(&head,
               "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: application/json\r\n"
               "Content-Length: %zu\r\nx-request-id: %s\r\n\r\n%s",
               x->reply.status, x->reply.status == 413 ? "Content Too Large" : "Too Many Requests",
               x->reply.body.n, x->id, x->reply.body.data);
    if (send(x->conn->fd, head.data, head.n, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        x->total_bytes = x->reply.body.n;
    buf_fini(&head);
    return MHD_NO;
}

// Only a chunked body can grow beyond what its head declared.
static bool charge(struct exchange *x, size_t n)
{
    struct http *h = x->http;
    size_t need = x->body.n + n;
    if (need > h->o.body_bytes_max) {
        err_set(&x->refusal, ERR_TOO_LARGE, "a request body may have %zu bytes",
                h->o.body_bytes_max);
        return false;
    }
    if (need > x->body_charged &&
        need - x->body_charged > h->o.bodies_bytes_max - h->bodies_bytes) {
        err_set(&x->refusal, ERR_BUSY, "too many bytes of requests are being read; retry");
        return false;
    }
    if (need > x->body_charged) {
        h->bodies_bytes += need - x->body_charged;
        x->body_charged = need;
    }
    return true;
}

static enum MHD_Result take_body(struct exchange *x, const char *data, size_t *n_data)
{
    if (!x->refusal.code) {
        if (!charge(x, *n_data))
            return refuse_midway(x);
        buf_add(&x->body, data, *n_data);
    }
    *n_data = 0;
    return MHD_YES;
}

enum MHD_Result exchange_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *n_data, void **con_cls)
{
    (void)cls, (void)mhd, (void)url; // url is decoded in a way that loses bytes; see target.h
    struct exchange *x = *con_cls;
    if (x->left)
        return MHD_NO;
    switch (x->stage) {
    case EXCHANGE_HEAD:
        return take_head(x, method, version);
    case EXCHANGE_BODY:
        return *n_data ? take_body(x, data, n_data) : answer(x);
    case EXCHANGE_PULLING:
        return stream_advance(x);
    case EXCHANGE_SENDING:
        return MHD_YES;
    }
    return MHD_NO;
}

// --- end ------------------------------------------------------------------------------------

static const char *end_of(const struct exchange *x, enum MHD_RequestTerminationCode code)
{
    if (x->cut)
        return "stopped";
    if (x->left)
        return "left";
    if (x->refuse_now)
        return "refused";
    switch (code) {
    case MHD_REQUEST_TERMINATED_COMPLETED_OK:
        return "ok";
    case MHD_REQUEST_TERMINATED_TIMEOUT_REACHED:
        return "timeout";
    case MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN:
        return "stopped";
    default:
        return "left";
    }
}

static void log_access(const struct exchange *x, enum MHD_RequestTerminationCode code)
{
    // A client that left before the first byte got no status; 499 is nginx's name for that.
    int status = x->stage == EXCHANGE_PULLING ? err_http(ERR_CANCELLED) : x->reply.status;
    stats_add(STATS_HTTP_REQUESTS, 1);
    if (status >= 500)
        stats_add(STATS_HTTP_SERVER_ERRORS, 1);
    else if (status >= 400)
        stats_add(STATS_HTTP_CLIENT_ERRORS, 1);
    log_event(LOG_INFO, "request",
              "method=%.20s path=%.200s status=%d ms=%.1f bytes=%zu id=%s end=%s",
              x->request.method, x->target.raw_path, status,
              clock_ms_between(x->begun_ns, clock_ns()), x->total_bytes, x->id, end_of(x, code));
}

static void deactivate(struct exchange *x)
{
    if (x->prev)
        x->prev->next = x->next;
    else
        x->http->active = x->next;
    if (x->next)
        x->next->prev = x->prev;
}

void exchange_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                        enum MHD_RequestTerminationCode code)
{
    (void)cls, (void)mhd;
    struct exchange *x = *con_cls;
    if (!x)
        return;
    *con_cls = NULL;
    if (x->reply.gone)
        x->reply.gone(x->reply.ud);
    stream_forget(x); // after gone nobody calls reply_wake
    if (x->active) {
        log_access(x, code);
        deactivate(x);
    }
    x->http->bodies_bytes -= x->body_charged;
    x->conn->exchange = NULL;
    x->conn->since_ns = clock_ns();
    buf_fini(&x->body);
    buf_fini(&x->reply.body);
    arena_fini(&x->arena);
    mem_free(x);
}
