// test_server.c - see test_server.h.
#define _GNU_SOURCE
#include "test_server.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "mem.h"

// What stands behind a pulled reply: a thread that produces events, as the engine does.
struct source {
    struct test_server *server;
    struct reply *reply;
    pthread_t thread;
    bool has_thread, stream, begun;
    int events, gap_us;
    size_t bytes; // of one event
    pthread_mutex_t lock;
    int produced, taken;
    bool cancelled;
};

static long number(const struct request *q, const char *name, long otherwise)
{
    const char *text = q->query(q, name);
    return text ? strtol(text, NULL, 10) : otherwise;
}

static void *produce(void *ud)
{
    struct source *s = ud;
    for (bool more = true; more;) {
        if (s->gap_us)
            usleep((useconds_t)s->gap_us);
        pthread_mutex_lock(&s->lock);
        if (s->produced < s->events)
            s->produced++;
        more = s->produced < s->events && !s->cancelled;
        pthread_mutex_unlock(&s->lock);
        reply_wake(s->reply);
    }
    return NULL;
}

static void append_event(const struct source *s, struct buf *out, int index)
{
    buf_format(out, "data: %d ", index);
    for (size_t i = 0; i < s->bytes; i++)
        buf_str(out, "x");
    buf_str(out, "\n\n");
}

static enum pull pull_source(void *ud, struct reply *r, struct buf *out)
{
    struct source *s = ud;
    atomic_fetch_add(&s->server->pulls, 1);
    pthread_mutex_lock(&s->lock);
    bool any = s->taken < s->produced;
    int index = s->taken;
    s->taken += any;
    bool last = s->taken == s->events;
    pthread_mutex_unlock(&s->lock);
    if (s->stream && any)
        append_event(s, out, index);
    if (!s->stream && last)
        buf_format(out, "{\"events\":%d}", s->events);
    (void)r;
    return last ? PULL_END : any ? PULL_MORE : PULL_WAIT;
}

static void source_gone(void *ud)
{
    struct source *s = ud;
    pthread_mutex_lock(&s->lock);
    s->cancelled = true;
    pthread_mutex_unlock(&s->lock);
    if (s->has_thread)
        pthread_join(s->thread, NULL);
    atomic_fetch_sub(&s->server->live, 1);
    atomic_fetch_add(&s->server->gone, 1);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

static struct source *source_create(struct test_server *server, struct reply *r)
{
    struct source *s = mem_zero(1, sizeof *s);
    s->server = server;
    s->reply = r;
    pthread_mutex_init(&s->lock, NULL);
    atomic_fetch_add(&server->live, 1);
    r->pull = pull_source;
    r->gone = source_gone;
    r->ud = s;
    return s;
}

static int handle_open(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)q, (void)e;
    atomic_fetch_add(&((struct test_server *)server)->handled, 1);
    buf_str(&r->body, "{\"ok\":true}");
    return 0;
}

static int handle_hello(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)e;
    atomic_fetch_add(&((struct test_server *)server)->handled, 1);
    const char *name = q->query(q, "name");
    buf_format(&r->body, "{\"method\":\"%s\",\"path\":\"%s\",\"name\":\"%s\",\"id\":\"%s\"}",
               q->method, q->path, name ? name : "", q->id);
    reply_header(r, "x-test", q->header(q, "X-Question") ? q->header(q, "X-Question") : "none");
    return 0;
}

static int handle_things(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)server, (void)e;
    buf_format(&r->body, "{\"tail\":\"%s\"}", q->tail);
    return 0;
}

static int handle_parts(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)server, (void)e;
    buf_format(&r->body, "{\"vars\":[\"%s\",\"%s\"],\"tail\":\"%s\"}", q->vars[0], q->vars[1],
               q->tail);
    return 0;
}

// Waits until its own time, once, without anybody waking it.
static enum pull pull_timed(void *ud, struct reply *r, struct buf *out)
{
    struct source *s = ud;
    atomic_fetch_add(&s->server->pulls, 1);
    if (s->taken++ == 0) {
        r->pull_at_ns = clock_ns() + (int64_t)s->gap_us * 1000;
        return PULL_WAIT;
    }
    buf_format(out, "{\"pulls\":%d}", s->taken);
    return PULL_END;
}

static int handle_timed(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)e;
    struct source *s = source_create(server, r);
    s->gap_us = (int)number(q, "gap_us", 0);
    r->pull = pull_timed;
    return 0;
}

static int handle_echo(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)e;
    atomic_fetch_add(&((struct test_server *)server)->handled, 1);
    buf_add(&r->body, q->body, q->n_body);
    return 0;
}

static int handle_source(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)e;
    struct source *s = source_create(server, r);
    s->events = (int)number(q, "events", 3);
    s->bytes = (size_t)number(q, "bytes", 8);
    s->gap_us = (int)number(q, "gap_us", 0);
    s->stream = r->stream = !strcmp(q->path, "/stream");
    s->has_thread = pthread_create(&s->thread, NULL, produce, s) == 0;
    return 0;
}

static int handle_held(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)e;
    struct source *s = source_create(server, r);
    s->events = 2; // the second never comes
    s->produced = !strcmp(q->path, "/held");
    s->stream = r->stream = !strcmp(q->method, "GET");
    return 0;
}

static int handle_failure(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)server;
    buf_str(&r->body, "half a reply");
    reply_header(r, "x-half", "yes");
    if (!strcmp(q->path, "/refused"))
        return err_set(e, ERR_BUSY, "the queue is full");
    return err_set(e, ERR_INTERNAL, "secret detail");
}

static enum pull pull_lost(void *ud, struct reply *r, struct buf *out)
{
    (void)ud, (void)out;
    struct err e = {0};
    err_set(&e, ERR_DEVICE, "secret detail");
    r->stream = false;
    reply_error(r, &e);
    return PULL_END;
}

static int handle_lost(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)q, (void)e;
    source_create(server, r);
    r->stream = true;
    r->pull = pull_lost;
    return 0;
}

static const struct route ROUTES[] = {
    {"GET", "/open", handle_open, true},
    {"GET", "/hello", handle_hello, false},
    {"GET", "/things/*", handle_things, false},
    {"GET", "/things/fixed", handle_hello, false},
    {"DELETE", "/things/*", handle_hello, false},
    {"POST", "/echo", handle_echo, false},
    {"POST", "/later", handle_source, false},
    {"GET", "/stream", handle_source, false},
    {"GET", "/held", handle_held, false},
    {"GET", "/silent", handle_held, false},
    {"POST", "/silent", handle_held, false},
    {"GET", "/refused", handle_failure, false},
    {"GET", "/broken", handle_failure, false},
    {"GET", "/lost", handle_lost, false},
    {"GET", "/parts/{a}", handle_parts, false},
    {"GET", "/parts/{a}/of/{b}", handle_parts, false},
    {"POST", "/parts/{a}", handle_parts, false},
    {"GET", "/parts/{a}/of/{b}/*", handle_parts, false},
    {"GET", "/parts/fixed", handle_hello, false},
    {"POST", "/timed", handle_timed, false},
};

static void on_signal(void *ud, int signum)
{
    struct test_server *s = ud;
    (void)signum;
    atomic_fetch_add(&s->signals, 1);
}

void test_server_options(struct test_server *s)
{
    memset(s, 0, sizeof *s);
    s->options = (struct http_options){
        .host = "127.0.0.1",
        .connections_max = 256,
        .header_bytes_max = 32768,
        .body_bytes_max = 1 << 20,
        .idle_timeout_ms = 60000,
        .drain_timeout_ms = 60000,
        .on_signal = on_signal,
        .ud = s,
    };
}

static void *run(void *ud)
{
    http_run(ud);
    return NULL;
}

void test_server_start(struct test_server *s)
{
    struct err e = {0};
    s->http = http_create(&s->options, ROUTES, sizeof ROUTES / sizeof *ROUTES, s, &e);
    cr_assert(s->http != NULL, "%s", e.text);
    s->port = http_port(s->http);
    cr_assert(pthread_create(&s->thread, NULL, run, s->http) == 0);
}

void test_server_join(struct test_server *s)
{
    pthread_join(s->thread, NULL);
    http_destroy(s->http);
    s->http = NULL;
    cr_assert(atomic_load(&s->live) == 0, "%d replies were not told that they are gone",
              atomic_load(&s->live));
}

void test_server_stop(struct test_server *s)
{
    http_stop(s->http);
    test_server_join(s);
}

bool test_server_wait(atomic_int *value, int what)
{
    int64_t begun_ns = clock_ns();
    while (atomic_load(value) != what) {
        if (clock_ms_between(begun_ns, clock_ns()) > 60000)
            return false;
        usleep(1000);
    }
    return true;
}
