// stream.c - replies that are pulled: asked for when the socket can take more, suspended when there is
// nothing, resumed by reply_wake from any thread, by a heartbeat, or by the end of the server.
//
// libmicrohttpd allows suspending only inside its own callbacks, so every pull happens there:
// stream_advance in the access handler until the reply's head is known, read_stream after that.
#define _GNU_SOURCE
#include "exchange.h"

#include <string.h>

#include "clock.h"

// --- waiting and waking ---------------------------------------------------------------------

static void suspend(struct exchange *x)
{
    x->suspended = true;
    MHD_suspend_connection(x->mhd);
}

void stream_resume(struct exchange *x)
{
    if (!x->suspended)
        return;
    x->suspended = false;
    MHD_resume_connection(x->mhd);
}

// Between a pull that finds nothing and its suspend, another thread may call this: the loop thread
// looks at the list only after libmicrohttpd has returned, so it finds the connection suspended.
void stream_wake(struct reply *r)
{
    struct exchange *x = r->http;
    struct http *h = x->http;
    bool first = false;
    pthread_mutex_lock(&h->wake_lock);
    if (!x->woken) {
        first = !h->woken;
        x->woken = true;
        x->woken_next = h->woken;
        h->woken = x;
    }
    pthread_mutex_unlock(&h->wake_lock);
    if (first)
        http_signal_async(h);
}

void stream_wake_all(struct http *h)
{
    // One at a time: sends coalesce, so all must be taken, but resuming needs no lock.
    for (;;) {
        pthread_mutex_lock(&h->wake_lock);
        struct exchange *x = h->woken;
        if (x) {
            h->woken = x->woken_next;
            x->woken = false;
        }
        pthread_mutex_unlock(&h->wake_lock);
        if (!x)
            return;
        stream_resume(x);
    }
}

void stream_forget(struct exchange *x)
{
    struct http *h = x->http;
    pthread_mutex_lock(&h->wake_lock);
    for (struct exchange **at = &h->woken; x->woken && *at; at = &(*at)->woken_next) {
        if (*at == x) {
            *at = x->woken_next;
            break;
        }
    }
    pthread_mutex_unlock(&h->wake_lock);
}

// --- pulling --------------------------------------------------------------------------------

static void set_cut_error(struct err *e)
{
    err_set(e, ERR_SHUTTING_DOWN, "the server was stopped before the reply was complete");
}

// The last event of a stream that the server ends.
static void append_cut_event(struct exchange *x)
{
    struct reply error = {0};
    struct err e = {0};
    set_cut_error(&e);
    reply_error(&error, &e);
    buf_format(&x->reply.body, "data: %s\n\n", error.body.data);
    buf_fini(&error.body);
}

static enum pull pull(struct exchange *x)
{
    struct reply *r = &x->reply;
    if (!x->cut)
        return r->pull(r->ud, r, &r->body);
    append_cut_event(x);
    return PULL_END;
}

// libmicrohttpd asks for the next bytes of a stream; 0 with the connection suspended means later.
static ssize_t read_stream(void *cls, uint64_t position, char *out, size_t max)
{
    struct exchange *x = cls;
    struct buf *body = &x->reply.body;
    (void)position;
    if (x->left)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (x->sent_bytes == body->n) {
        // Only now is more asked for, so a slow reader holds no more than one pull's worth.
        buf_clear(body);
        x->sent_bytes = 0;
        enum pull got = x->ended ? PULL_END : pull(x);
        x->ended = got == PULL_END;
        if (body->n == 0 && got == PULL_END)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (body->n == 0) {
            if (got == PULL_WAIT)
                suspend(x);
            return 0;
        }
    }
    size_t n = body->n - x->sent_bytes;
    if (n > max)
        n = max;
    memcpy(out, body->data + x->sent_bytes, n);
    x->sent_bytes += n;
    x->total_bytes += n;
    x->sent_ns = clock_ns();
    return (ssize_t)n;
}

static enum MHD_Result start_stream(struct exchange *x)
{
    struct reply *r = &x->reply;
    if (!strcmp(r->content_type, "application/json"))
        r->content_type = "text/event-stream; charset=utf-8";
    enum { BLOCK_BYTES = 4096 }; // for HTTP/1.0; chunks are built in place
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_stream, x, NULL);
    CHECK(response != NULL);
    MHD_add_response_header(response, "Cache-Control", "no-cache");
    MHD_add_response_header(response, "X-Accel-Buffering", "no"); // nginx would hold events back
    return exchange_send(x, response);
}

static enum MHD_Result send_cut(struct exchange *x)
{
    struct err e = {0};
    set_cut_error(&e);
    x->reply.n_headers = 0; // what the handler had to say of its reply no longer holds
    reply_error(&x->reply, &e);
    return exchange_send_body(x);
}

// Nothing is sent before the first pull that appends, so a failure until then still has its own
// status. A stream that is silent for a heartbeat is started without waiting longer.
enum MHD_Result stream_advance(struct exchange *x)
{
    struct reply *r = &x->reply;
    if (x->cut)
        return send_cut(x);
    while (!(r->stream && r->body.n)) { // not after a heartbeat
        enum pull got = pull(x);
        x->ended = got == PULL_END;
        if (got == PULL_END && !r->stream)
            return exchange_send_body(x);
        if (got == PULL_END)
            break;
        if (got == PULL_WAIT && !(r->stream && r->body.n)) {
            suspend(x);
            return MHD_YES;
        }
        if (got == PULL_MORE && !r->body.n)
            return MHD_YES; // called again in the loop's next round
    }
    return start_stream(x);
}
