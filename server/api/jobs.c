// jobs.c - /v1/job-types and the records of /v1/jobs: submit, list, get, wait, cancel, delete.
#define _GNU_SOURCE
#include "jobs_parts.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

enum {
    WAIT_S_MAX = 600, // of ?wait= and Prefer: wait=
    LIST_MAX = 100,
    LIST_DEFAULT = 20,
    KEY_BYTES_MAX = 255,
};

// --- shared ---------------------------------------------------------------------------------

int jobs_query_number(const struct request *q, const char *name, double min, double max,
                      double *value, struct err *e)
{
    const char *text = q->query(q, name);
    if (!text)
        return 0;
    char *end = NULL;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= min && v <= max))
        return err_field(e, ERR_BAD_REQUEST, name, "%s is '%.40s'; give a number from %g to %g",
                         name, text, min, max);
    *value = v;
    return 0;
}

int jobs_query_count(const struct request *q, const char *name, int64_t max, int64_t *value,
                     struct err *e)
{
    double v = (double)*value;
    if (jobs_query_number(q, name, 0, (double)max, &v, e))
        return -1;
    if (v != floor(v))
        return err_field(e, ERR_BAD_REQUEST, name, "%s is %g; give a whole number", name, v);
    *value = (int64_t)v;
    return 0;
}

int jobs_query_id(const struct request *q, const char *name, const char **id, struct err *e)
{
    *id = q->query(q, name);
    if (!*id || job_id_is_valid(*id))
        return 0;
    return err_field(e, ERR_BAD_REQUEST, name, "%s is '%.40s'; give the id of a job", name, *id);
}

void jobs_header(struct reply *r, struct arena *a, const char *name, const char *format, ...)
{
    char value[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(value, sizeof value, format, args);
    va_end(args);
    CHECK(n >= 0 && n < (int)sizeof value);
    reply_header(r, name, arena_string(a, value, (size_t)n));
}

void jobs_wake(void *reply)
{
    reply_wake(reply);
}

// --- a job, perhaps later -------------------------------------------------------------------

// A reply that is one job's object, at once or when there is something to say.
struct waiting {
    struct api_server *server;
    struct arena *arena;
    struct jobs_watch watch;
    char seen[64];    // the ETag that the client has: any other one answers it; "": only the end
    bool with_result; // the object of a finished job holds its result
    int early_status; // of a job that is not finished: 200, or 202
    int64_t until_ns;
};

// The place in the queue is part of what is seen, and changes without the job.
static void format_etag(char etag[static 64], const struct job *j, int position)
{
    snprintf(etag, 64, "\"%s-%lld.%d\"", j->id, (long long)j->version, position + 1);
}

static void write_job(struct waiting *w, const struct job *j, struct reply *r)
{
    char etag[64];
    struct jobs *jobs = w->server->jobs;
    int position = store_position(jobs_store(jobs), j);
    format_etag(etag, j, position);
    jobs_header(r, w->arena, "ETag", "%s", etag);
    if (!strcmp(etag, w->seen)) {
        r->status = 304;
        return;
    }
    json_t *o = job_json(j, position);
    if (job_is_final(j->status) && w->with_result) {
        struct err e;
        json_t *result = jobs_result(jobs, j->id, &e);
        json_object_set_new(o, "result", result ? result : json_null());
    }
    if (!job_is_final(j->status)) {
        r->status = w->early_status;
        reply_header(r, "Retry-After", "1");
    }
    job_write(&r->body, o);
    json_decref(o);
}

static enum pull pull_job(void *ud, struct reply *r, struct buf *out)
{
    struct waiting *w = ud;
    struct job j;
    struct err e;
    char etag[64];
    (void)out;
    if (jobs_get(w->server->jobs, w->watch.id, &j, &e)) {
        reply_error(r, &e);
        return PULL_END;
    }
    format_etag(etag, &j, store_position(jobs_store(w->server->jobs), &j));
    bool news = job_is_final(j.status) || (*w->seen && strcmp(etag, w->seen) != 0);
    bool ready = news || clock_ns() >= w->until_ns || jobs_stopping(w->server->jobs);
    if (ready)
        write_job(w, &j, r);
    else
        r->pull_at_ns = w->until_ns;
    job_fini(&j);
    return ready ? PULL_END : PULL_WAIT;
}

static void stop_waiting(void *ud)
{
    struct waiting *w = ud;
    jobs_unwatch(w->server->jobs, &w->watch);
}

// Answer with job id after at most wait_s seconds.
static void reply_later(struct waiting *w, const char *id, double wait_s, struct reply *r)
{
    snprintf(w->watch.id, sizeof w->watch.id, "%s", id);
    w->watch.wake = jobs_wake;
    w->watch.ud = r;
    w->until_ns = clock_ns() + (int64_t)(wait_s * 1e9);
    jobs_watch(w->server->jobs, &w->watch);
    r->pull = pull_job;
    r->gone = stop_waiting;
    r->ud = w;
}

static struct waiting *new_waiting(struct api_server *s, const struct request *q)
{
    struct waiting *w = arena_alloc(q->arena, 1, sizeof *w);
    w->server = s;
    w->arena = q->arena;
    w->early_status = 200;
    return w;
}

// --- types ----------------------------------------------------------------------------------

static json_t *describe_type(const struct job_node *node, const struct job_type *t)
{
    struct err e;
    json_t *empty = json_object();
    json_t *defaults = t->expand(node, empty, &e); // NULL: its spec cannot be empty
    json_t *o = json_pack("{s:s, s:s, s:s, s:b, s:o, s:O?, s:o}", "name", t->name, "object",
                          "job_type", "title", t->title, "exclusive", t->exclusive, "schema",
                          t->schema(node), "defaults", defaults, "estimated_seconds",
                          defaults ? json_real(t->estimate(node, defaults)) : json_null());
    json_decref(empty);
    json_decref(defaults);
    return o;
}

int jobs_types(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    const struct job_node *node = jobs_node(s->jobs, e);
    (void)q;
    if (!node)
        return -1;
    const struct jobs_options *o = jobs_options(s->jobs);
    json_t *data = json_array();
    for (int i = 0; i < JOB_TYPES_N; i++)
        json_array_append_new(data, describe_type(node, JOB_TYPES[i]));
    json_t *list = json_pack("{s:s, s:o, s:s, s:{s:i, s:i, s:i}}", "object", "list", "data", data,
                             "compare_url", // two results beside each other: at once, so no job
                             "/v1/jobs/{id}/compare?with={id}&tolerance={t}&ignore={column}",
                             "limits", "queued_jobs", o->queue_max, "timeout_s", o->timeout_max_s,
                             "client_pause_ms", o->pause_ms);
    job_write(&r->body, list);
    json_decref(list);
    return 0;
}

// --- submit ---------------------------------------------------------------------------------

// The seconds of "Prefer: wait=N" (RFC 7240); 0 without it. What cannot be honoured is ignored, as the
// RFC has it.
static double preferred_wait(const struct request *q)
{
    const char *prefer = q->header(q, "Prefer");
    const char *wait = prefer ? strcasestr(prefer, "wait=") : NULL;
    double s = wait ? strtod(wait + 5, NULL) : 0;
    return s > 0 ? fmin(s, WAIT_S_MAX) : 0;
}

static int read_key(const struct request *q, const char **key, struct err *e)
{
    *key = q->header(q, "Idempotency-Key");
    size_t n = *key ? strlen(*key) : 1;
    bool sane = n >= 1 && n <= KEY_BYTES_MAX;
    for (size_t i = 0; *key && sane && i < n; i++)
        sane = (*key)[i] > ' ' && (*key)[i] <= '~';
    if (sane)
        return 0;
    return err_field(e, ERR_BAD_REQUEST, "Idempotency-Key",
                     "the Idempotency-Key has %zu bytes; send 1 to %d printable characters without "
                     "spaces, such as a UUID",
                     n, KEY_BYTES_MAX);
}

static void write_plan(const struct job_request *r, struct buf *out)
{
    json_t *o =
        json_pack("{s:s, s:s, s:O, s:f, s:i, s:f, s:b}", "object", "job.plan", "type",
                  r->type->name, "spec", r->spec, "estimated_seconds", r->estimated_s, "priority",
                  r->priority, "timeout_s", r->timeout_s, "exclusive", r->exclusive);
    job_write(out, o);
    json_decref(o);
}

static int add_bytes(const char *bytes, size_t n, void *out)
{
    buf_add(out, bytes, n);
    return 0;
}

// Equal bodies have equal text, whatever their spaces and the order of their keys.
static void write_canonical(const json_t *body, struct buf *out)
{
    CHECK(json_dump_callback(body, add_bytes, out, JSON_COMPACT | JSON_SORT_KEYS) == 0);
}

static int submit(struct api_server *s, const struct request *q, const struct job_request *jr,
                  json_t *body, struct reply *r, struct err *e)
{
    struct job_submission sub = {.request = jr};
    struct job j;
    bool created;
    if (read_key(q, &sub.key, e))
        return -1;
    struct buf text = {0};
    write_canonical(body, &text);
    sub.text = text.data;
    int failed = jobs_submit(s->jobs, &sub, &j, &created, e);
    buf_fini(&text);
    if (failed)
        return -1;
    struct waiting *w = new_waiting(s, q);
    double wait_s = preferred_wait(q);
    w->early_status = 202;
    w->with_result = wait_s > 0;
    jobs_header(r, q->arena, "Location", "/v1/jobs/%s", j.id);
    reply_later(w, j.id, wait_s, r);
    job_fini(&j);
    return 0;
}

int jobs_create(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct job_request jr;
    const struct job_node *node = jobs_node(s->jobs, e);
    json_t *body = node ? api_parse_body(q, NULL, e) : NULL;
    if (!body)
        return -1;
    int failed = job_request_read(node, jobs_options(s->jobs)->timeout_max_s, body, &jr, e);
    if (!failed) {
        if (jr.validate_only)
            write_plan(&jr, &r->body);
        else
            failed = submit(s, q, &jr, body, r, e);
        job_request_fini(&jr);
    }
    json_decref(body);
    return failed;
}

// --- list -----------------------------------------------------------------------------------

static int read_filter(const struct request *q, struct store_filter *f, struct err *e)
{
    const char *status = q->query(q, "status");
    int64_t limit = LIST_DEFAULT;
    *f = (struct store_filter){.type = q->query(q, "type"), .status = -1};
    if (f->type && !job_type_find(f->type))
        return err_field(e, ERR_BAD_REQUEST, "type",
                         "type '%.64s' is not a kind of job; see GET /v1/job-types", f->type);
    if (status && (f->status = job_status_parse(status)) < 0)
        return err_field(e, ERR_BAD_REQUEST, "status",
                         "status '%.40s' is none of queued, running, cancelling, succeeded, "
                         "failed, cancelled, expired",
                         status);
    if (jobs_query_id(q, "after", &f->after, e) ||
        jobs_query_count(q, "limit", LIST_MAX, &limit, e))
        return -1;
    f->limit = limit ? (int)limit : 1;
    return 0;
}

// The running one may be ahead of the store.
static json_t *list_entry(struct api_server *s, const struct job *stored)
{
    struct job j;
    struct err e;
    if (jobs_get(s->jobs, stored->id, &j, &e))
        job_copy(&j, stored); // deleted meanwhile
    json_t *o = job_json(&j, store_position(jobs_store(s->jobs), &j));
    job_fini(&j);
    return o;
}

int jobs_list(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct store *store = jobs_store(s->jobs);
    struct store_filter f;
    struct job jobs[LIST_MAX];
    int n;
    bool more;
    if (read_filter(q, &f, e) || store_list(store, &f, jobs, &n, &more, e))
        return -1;
    json_t *data = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(data, list_entry(s, &jobs[i]));
    json_t *list =
        json_pack("{s:s, s:o, s:b, s:s?, s:s?}", "object", "list", "data", data, "has_more", more,
                  "first_id", n ? jobs[0].id : NULL, "last_id", n ? jobs[n - 1].id : NULL);
    job_write(&r->body, list);
    json_decref(list);
    for (int i = 0; i < n; i++)
        job_fini(&jobs[i]);
    return 0;
}

// --- one job --------------------------------------------------------------------------------

int jobs_one(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct job j;
    double wait_s = 0;
    const char *seen = q->header(q, "If-None-Match");
    if (jobs_query_number(q, "wait", 0, WAIT_S_MAX, &wait_s, e) ||
        jobs_get(s->jobs, q->vars[0], &j, e))
        return -1;
    struct waiting *w = new_waiting(s, q);
    if (seen && strlen(seen) < sizeof w->seen)
        snprintf(w->seen, sizeof w->seen, "%s", seen);
    reply_later(w, j.id, wait_s, r);
    job_fini(&j);
    return 0;
}

static void reply_job(struct api_server *s, const struct job *j, struct reply *r)
{
    json_t *o = job_json(j, store_position(jobs_store(s->jobs), j));
    r->status = 202;
    job_write(&r->body, o);
    json_decref(o);
}

int jobs_cancel_one(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct job j;
    if (jobs_cancel(s->jobs, q->vars[0], &j, e))
        return -1;
    reply_job(s, &j, r);
    job_fini(&j);
    return 0;
}

int jobs_delete_one(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct job j;
    bool removed;
    if (jobs_delete(s->jobs, q->vars[0], &removed, e))
        return -1;
    if (removed) {
        r->status = 204;
        return 0;
    }
    if (jobs_get(s->jobs, q->vars[0], &j, e))
        return -1;
    reply_job(s, &j, r);
    job_fini(&j);
    return 0;
}
