// jobs_events.c - GET /v1/jobs/{id}/events: server-sent events that go on where the client left off, or
// a page of them as JSON.
#define _GNU_SOURCE
#include "jobs_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAGE_EVENTS = 256, // read at a time
    PAGE_BYTES = 256 << 10,
    LIST_MAX = 1000,
    LIST_DEFAULT = 100,
};
#define NUMBER_MAX ((int64_t)1 << 53)

// The number of the last event that the client has: Last-Event-ID, which a browser's EventSource sends
// by itself, or ?after=.
static int read_after(const struct request *q, int64_t *after, struct err *e)
{
    const char *last = q->header(q, "Last-Event-ID");
    *after = 0;
    if (!last)
        return jobs_query_count(q, "after", NUMBER_MAX, after, e);
    char *end = NULL;
    long long n = strtoll(last, &end, 10);
    if (end == last || *end || n < 0 || n > NUMBER_MAX)
        return err_field(e, ERR_BAD_REQUEST, "Last-Event-ID",
                         "Last-Event-ID is '%.40s'; send the id of an event", last);
    *after = n;
    return 0;
}

// --- a page of JSON -------------------------------------------------------------------------

struct page {
    struct buf *out;
    int n;
    int64_t last;
};

static void write_entry(void *ud, int64_t number, int64_t at_ms, const char *kind, const char *data)
{
    struct page *p = ud;
    buf_format(p->out,
               "%s{\"id\":%lld,\"object\":\"job.event\",\"created_at\":%lld,\"event\":\"%s\","
               "\"data\":",
               p->n++ ? "," : "", (long long)number, (long long)(at_ms / 1000), kind);
    buf_str(p->out, data);
    buf_str(p->out, "}");
    p->last = number;
}

static int reply_page(struct api_server *s, const struct request *q, int64_t after, struct reply *r,
                      struct err *e)
{
    int64_t limit = LIST_DEFAULT;
    bool more;
    if (jobs_query_count(q, "limit", LIST_MAX, &limit, e))
        return -1;
    struct page p = {.out = &r->body, .last = after};
    const struct store_page page = {
        .id = q->vars[0], .after = after, .limit = (int)limit, .bytes_max = 16 << 20};
    buf_str(&r->body, "{\"object\":\"list\",\"data\":[");
    if (store_events(jobs_store(s->jobs), &page, write_entry, &p, &more, e))
        return -1;
    buf_format(&r->body, "],\"has_more\":%s,\"last_id\":%lld}", more ? "true" : "false",
               (long long)p.last);
    return 0;
}

// --- a stream -------------------------------------------------------------------------------

struct stream {
    struct api_server *server;
    struct jobs_watch watch;
    int64_t after;
    struct buf *out; // during a pull
};

static void write_event(void *ud, int64_t number, int64_t at_ms, const char *kind, const char *data)
{
    struct stream *st = ud;
    (void)at_ms;
    buf_format(st->out, "id: %lld\nevent: %s\ndata: ", (long long)number, kind);
    buf_str(st->out, data);
    buf_str(st->out, "\n\n");
    st->after = number;
}

static enum pull pull_events(void *ud, struct reply *r, struct buf *out)
{
    struct stream *st = ud;
    struct jobs *jobs = st->server->jobs;
    struct job j;
    struct err e;
    bool more;
    const struct store_page page = {
        .id = st->watch.id, .after = st->after, .limit = PAGE_EVENTS, .bytes_max = PAGE_BYTES};
    // The state first: events that follow the look at it are then read, or wake us.
    if (jobs_get(jobs, st->watch.id, &j, &e))
        return PULL_END; // deleted meanwhile
    bool last = job_is_final(j.status) || jobs_stopping(jobs);
    job_fini(&j);
    st->out = out;
    if (store_events(jobs_store(jobs), &page, write_event, st, &more, &e)) {
        struct reply error = {0};
        reply_error(&error, &e);
        buf_format(out, "data: %s\n\n", error.body.data);
        buf_fini(&error.body);
        return PULL_END;
    }
    (void)r;
    if (more)
        return PULL_MORE;
    if (last)
        return PULL_END;
    return out->n ? PULL_MORE : PULL_WAIT;
}

static void stop_stream(void *ud)
{
    struct stream *st = ud;
    jobs_unwatch(st->server->jobs, &st->watch);
}

static void ignore_event(void *ud, int64_t number, int64_t at_ms, const char *kind,
                         const char *data)
{
    (void)ud, (void)number, (void)at_ms, (void)kind, (void)data;
}

// Does a client that has everything come again? 204 tells an EventSource to stop.
static bool has_all(struct api_server *s, const struct job *j, int64_t after)
{
    bool more = false;
    struct err e;
    const struct store_page page = {.id = j->id, .after = after, .limit = 0};
    return after > 0 && job_is_final(j->status) &&
           store_events(jobs_store(s->jobs), &page, ignore_event, NULL, &more, &e) == 0 && !more;
}

static void reply_stream(struct api_server *s, const struct request *q, int64_t after,
                         struct reply *r)
{
    struct stream *st = arena_alloc(q->arena, 1, sizeof *st);
    st->server = s;
    st->after = after;
    st->watch.wake = jobs_wake;
    st->watch.ud = r;
    snprintf(st->watch.id, sizeof st->watch.id, "%s", q->vars[0]);
    jobs_watch(s->jobs, &st->watch);
    r->stream = true;
    r->pull = pull_events;
    r->gone = stop_stream;
    r->ud = st;
}

static bool wants_json(const struct request *q)
{
    const char *format = q->query(q, "format"), *accept = q->header(q, "Accept");
    if (format)
        return !strcmp(format, "json");
    return accept && strstr(accept, "application/json") && !strstr(accept, "text/event-stream");
}

int jobs_events(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct job j;
    int64_t after;
    const char *format = q->query(q, "format");
    if (format && strcmp(format, "json") && strcmp(format, "sse"))
        return err_field(e, ERR_BAD_REQUEST, "format", "format is '%.40s'; there are sse and json",
                         format);
    if (read_after(q, &after, e) || jobs_get(s->jobs, q->vars[0], &j, e))
        return -1;
    bool all = has_all(s, &j, after);
    job_fini(&j);
    if (wants_json(q))
        return reply_page(s, q, after, r, e);
    if (all)
        r->status = 204;
    else
        reply_stream(s, q, after, r);
    return 0;
}
