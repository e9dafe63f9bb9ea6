// api_rig.c - see api_rig.h.
#define _GNU_SOURCE
#include "api_rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "mem.h"

// The http room's part: whether a reply was woken since the last pull.
static struct {
    pthread_mutex_t lock;
    pthread_cond_t change;
    int wakes;
} http = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};

static void count_wake(struct reply *r)
{
    (void)r;
    pthread_mutex_lock(&http.lock);
    http.wakes++;
    pthread_cond_broadcast(&http.change);
    pthread_mutex_unlock(&http.lock);
}

static int broken_sync(struct dev *dev, char *why, size_t why_size)
{
    (void)dev;
    snprintf(why, why_size, "the test broke the device");
    return -1;
}

static struct model *load(struct rig *r, const char *name)
{
    struct model_options m = {
        .dtype = DTYPE_F32,
        .context_max = 256,
        .batch_tokens = 256,
        .batch_rows = 256,
        .sequences_max = 4,
        .chunk = 64,
        .inverse = inverse_auto(64, INVERSE_FP32),
    };
    char dir[512];
    struct err e = {0};
    snprintf(dir, sizeof dir, "%s/%s/%s", TEST_SOURCE_DIR,
             strcmp(name, "bundled") ? "tests/golden" : "models", name);
    r->tokenizer = tokenizer_load(dir, &e);
    cr_assert(r->tokenizer || e.code == ERR_NOT_FOUND, "%s", e.text);
    struct model *model = model_load(dir, &m, &r->ops, r->dev, &e);
    cr_assert(ne(ptr, model, NULL), "%s", e.text);
    return model;
}

void rig_open(struct rig *r, const struct rig_options *o)
{
    char why[256] = "";
    struct err e = {0};
    *r = (struct rig){.ops = ops_cpu};
    r->dev = r->ops.open(&(struct dev_options){.threads = 1}, why, sizeof why);
    cr_assert(ne(ptr, r->dev, NULL), "%s", why);
    struct model *model = load(r, o->model);
    if (o->break_device)
        r->ops.sync = broken_sync;
    struct engine_options options = {.queue_max = o->queue_max ? o->queue_max : 100};
    r->engine = engine_create(model, &r->ops, r->dev, r->tokenizer, &options, &e);
    cr_assert(ne(ptr, r->engine, NULL), "%s", e.text);
    r->server.model_id = o->model;
    r->server.created = 1700000000;
    r->server.version = "1.2.3";
    r->server.commit = "abc";
    r->server.device = "test device";
    r->server.n_max = o->n_max ? o->n_max : 4;
    r->server.max_tokens_default = 24;
    r->server.thinking_by_default = o->thinking_by_default;
    api_ready(&r->server, r->engine, r->tokenizer);
}

void rig_close(struct rig *r)
{
    engine_destroy(r->engine);
    tokenizer_destroy(r->tokenizer);
    r->ops.close(r->dev);
}

void rig_wait_idle(struct rig *r)
{
    int64_t start = clock_ns();
    while (!engine_idle(r->engine)) {
        cr_assert(clock_ms_between(start, clock_ns()) < 60000, "the engine is not idle");
        usleep(1000);
    }
}

static const char *no_value(const struct request *q, const char *name)
{
    (void)q, (void)name;
    return NULL;
}

static const struct route *find_route(const char *method, const char *path, const char **tail)
{
    for (int i = 0; i < API_ROUTES_N; i++) {
        const struct route *route = &API_ROUTES[i];
        size_t n = strlen(route->path);
        bool wild = n > 2 && !strcmp(route->path + n - 2, "/*");
        *tail = wild ? path + n - 1 : "";
        if (!strcmp(route->method, method) &&
            (wild ? !strncmp(route->path, path, n - 1) : !strcmp(route->path, path)))
            return route;
    }
    cr_assert(false, "no route for %s %s", method, path);
    return NULL;
}

// Keep what was appended as sent; the head of a reply goes with its first bytes.
static void send_body(struct call *c)
{
    if (c->reply.body.n)
        c->reply.started = true;
    buf_add(&c->body, c->reply.body.data, c->reply.body.n);
    buf_clear(&c->reply.body);
}

static void finish(struct call *c)
{
    c->ended = true;
    c->status = c->reply.status;
    send_body(c);
    if (!c->reply.stream && !strncmp(c->reply.content_type, "application/json", 16)) {
        struct err e = {0};
        c->json = json_parse(c->body.data, c->body.n, 64, &e);
        cr_assert(ne(ptr, c->json, NULL), "%s in %s", e.text, c->body.data);
    }
}

void call_begin(struct call *c, struct rig *r, const char *method, const char *path,
                const char *body)
{
    *c = (struct call){0};
    struct request *q = &c->request;
    *q = (struct request){.method = method,
                          .path = path,
                          .body = body ? body : "",
                          .n_body = body ? strlen(body) : 0,
                          .id = "test",
                          .received_ns = clock_ns(),
                          .header = no_value,
                          .query = no_value,
                          .arena = &c->arena};
    c->reply =
        (struct reply){.status = 200, .content_type = "application/json", .wake = count_wake};
    const struct route *route = find_route(method, path, &q->tail);
    if (route->handler(&r->server, q, &c->reply, &c->err)) {
        buf_fini(&c->reply.body);
        c->reply = (struct reply){0};
        reply_error(&c->reply, &c->err);
    }
    if (!c->reply.pull)
        finish(c);
}

void call_pull(struct call *c)
{
    size_t sent = c->body.n;
    while (!c->ended && c->body.n == sent) {
        pthread_mutex_lock(&http.lock);
        int seen = http.wakes;
        pthread_mutex_unlock(&http.lock);
        enum pull got = c->reply.pull(c->reply.ud, &c->reply, &c->reply.body);
        if (got == PULL_END) {
            finish(c);
            return;
        }
        cr_assert(c->reply.stream || !c->reply.body.n, "half a reply was sent");
        send_body(c);
        pthread_mutex_lock(&http.lock);
        while (got == PULL_WAIT && http.wakes == seen)
            pthread_cond_wait(&http.change, &http.lock);
        pthread_mutex_unlock(&http.lock);
    }
}

void call_run(struct call *c, struct rig *r, const char *method, const char *path, const char *body)
{
    call_begin(c, r, method, path, body);
    while (!c->ended)
        call_pull(c);
}

void call_end(struct call *c)
{
    if (c->reply.gone)
        c->reply.gone(c->reply.ud);
    json_decref(c->json);
    buf_fini(&c->reply.body);
    buf_fini(&c->body);
    arena_fini(&c->arena);
    *c = (struct call){0};
}

json_t *json_at(json_t *v, const char *path)
{
    char name[64];
    const char *all = path;
    while (v && *path) {
        size_t n = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)n, path);
        v = json_is_array(v) ? json_array_get(v, (size_t)strtoul(name, NULL, 10))
                             : json_object_get(v, name);
        path += n + (path[n] == '.');
    }
    cr_assert(ne(ptr, v, NULL), "there is no %s", all);
    return v;
}

json_t *call_at(const struct call *c, const char *path)
{
    cr_assert(ne(ptr, c->json, NULL), "no JSON: %s", c->body.data ? c->body.data : "");
    cr_assert(eq(int, c->status, 200), "%s", c->body.data);
    return json_at(c->json, path);
}

json_t *call_events(const struct call *c)
{
    json_t *events = json_array();
    bool done = false;
    for (const char *at = c->body.data; at && *at;) {
        const char *end = strstr(at, "\n\n");
        cr_assert(ne(ptr, (void *)end, NULL), "an event without its end: %s", at);
        cr_assert(zero(strncmp(at, "data: ", 6)), "%s", at);
        cr_assert(not(done), "something behind [DONE]");
        struct err e = {0};
        size_t n = (size_t)(end - at) - 6;
        done = n == 6 && !memcmp(at + 6, "[DONE]", 6);
        json_t *v = done ? NULL : json_parse(at + 6, n, 64, &e);
        cr_assert(v || done, "%s in %s", e.text, at);
        if (v)
            json_array_append_new(events, v);
        at = end + 2;
    }
    json_t *last = json_array_get(events, json_array_size(events) - 1);
    cr_assert(done != (json_object_get(last, "error") != NULL), "[DONE] or an error must be last");
    return events;
}

char *events_text(json_t *events, int index, const char *path)
{
    struct buf text = {0};
    size_t i;
    json_t *event;
    json_array_foreach(events, i, event)
    {
        json_t *v = json_array_get(json_object_get(event, "choices"), 0);
        if (!v || json_integer_value(json_object_get(v, "index")) != index)
            continue;
        char name[64];
        const char *at = path;
        while (v && *at) {
            size_t n = strcspn(at, ".");
            snprintf(name, sizeof name, "%.*s", (int)n, at);
            v = json_object_get(v, name);
            at += n + (at[n] == '.');
        }
        if (v)
            buf_add(&text, json_string_value(v), json_string_length(v));
    }
    return buf_take(&text);
}
