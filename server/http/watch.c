// watch.c - what libmicrohttpd does not see by itself, looked at a few times a second while there are
// connections: clients that leave while their connection is suspended, streams that have been silent
// for a heartbeat, replies that wait until a time of their own, and clients that send a request so slowly
// that the idle timeout never falls.
#define _GNU_SOURCE
#include "exchange.h"

#include <sys/socket.h>

#include "clock.h"

enum {
    TICK_MS = 200,
    BODY_BYTES_MS_MIN = 4, // a body must come at 4 KB/s or faster, once idle_timeout_ms has passed
};

// A suspended connection is in nobody's epoll set. POLLRDHUP is also raised when bytes of a pipelined
// request are waiting, which reading ahead would not see. A client that closes only its sending half
// counts as gone, as it does for libmicrohttpd.
static bool find_left(struct http *h)
{
    nfds_t n = 0;
    for (struct exchange *x = h->active; x; x = x->next) {
        if (!x->suspended)
            continue;
        h->polled[n] = (struct pollfd){.fd = x->conn->fd, .events = POLLRDHUP};
        h->polled_exchange[n++] = x;
    }
    int found = n ? poll(h->polled, n, 0) : 0;
    for (nfds_t i = 0; found > 0 && i < n; i++) {
        if (!h->polled[i].revents)
            continue;
        h->polled_exchange[i]->left = true;
        stream_resume(h->polled_exchange[i]);
    }
    return found > 0;
}

static bool beat_hearts(struct http *h, int64_t now_ns)
{
    bool any = false;
    for (struct exchange *x = h->active; x; x = x->next) {
        if (!x->suspended || !x->reply.stream || h->o.heartbeat_ms == 0 ||
            clock_ms_between(x->sent_ns, now_ns) < h->o.heartbeat_ms)
            continue;
        buf_str(&x->reply.body, ": keep-alive\n\n");
        stream_resume(x);
        any = true;
    }
    return any;
}

static bool call_late(struct http *h, int64_t now_ns)
{
    bool any = false;
    for (struct exchange *x = h->active; x; x = x->next) {
        if (!x->suspended || x->reply.pull_at_ns == 0 || now_ns < x->reply.pull_at_ns)
            continue;
        x->reply.pull_at_ns = 0;
        stream_resume(x);
        any = true;
    }
    return any;
}

static bool is_trickling(const struct conn *c, const struct http *h, int64_t now_ns)
{
    const struct exchange *x = c->exchange;
    double idle_ms = h->o.idle_timeout_ms;
    if (!x || x->stage == EXCHANGE_HEAD)
        return clock_ms_between(c->since_ns, now_ns) > 2 * idle_ms;
    if (x->stage != EXCHANGE_BODY)
        return false;
    return clock_ms_between(x->begun_ns, now_ns) >
           idle_ms + (double)(x->body.n / BODY_BYTES_MS_MIN);
}

static void end_tricklers(struct http *h, int64_t now_ns)
{
    for (struct conn *c = h->conns; c; c = c->next)
        if (is_trickling(c, h, now_ns))
            shutdown(c->fd, SHUT_RDWR); // libmicrohttpd sees the end of input and closes
}

static void on_tick(uv_timer_t *timer)
{
    struct http *h = timer->data;
    int64_t now_ns = clock_ns();
    bool left = find_left(h);
    bool beaten = beat_hearts(h, now_ns);
    bool called = call_late(h, now_ns);
    end_tricklers(h, now_ns);
    if (left || beaten || called)
        http_pump(h);
}

void watch_start(struct http *h)
{
    if (uv_is_active((uv_handle_t *)&h->tick))
        return;
    uint64_t ms = TICK_MS;
    if (h->o.heartbeat_ms && (uint64_t)h->o.heartbeat_ms < 4 * ms)
        ms = (uint64_t)h->o.heartbeat_ms / 4 + 1;
    uv_timer_start(&h->tick, on_tick, ms, ms);
}

void watch_stop(struct http *h)
{
    uv_timer_stop(&h->tick);
}
