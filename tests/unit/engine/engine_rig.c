// engine_rig.c - see engine_rig.h.
#include "engine_rig.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"
#include "stats.h"

static struct {
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool closed, waits, broken;
    int allowed, count, longest;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};

// Signalled by every wake of every client: tests have few.
static pthread_mutex_t wake_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;

// Every step begins with embed, once.
static void gated_embed(struct dev *dev, const struct embed_args *a)
{
    pthread_mutex_lock(&gate.lock);
    gate.waits = gate.closed && gate.allowed == 0;
    pthread_cond_broadcast(&gate.change);
    while (gate.closed && gate.allowed == 0)
        pthread_cond_wait(&gate.change, &gate.lock);
    gate.waits = false;
    gate.allowed -= gate.closed;
    gate.count++;
    gate.longest = a->t > gate.longest ? a->t : gate.longest;
    pthread_mutex_unlock(&gate.lock);
    ops_cpu.embed(dev, a);
}

static int gated_sync(struct dev *dev, char *why, size_t why_size)
{
    pthread_mutex_lock(&gate.lock);
    bool broken = gate.broken;
    pthread_mutex_unlock(&gate.lock);
    if (!broken)
        return ops_cpu.sync(dev, why, why_size);
    snprintf(why, why_size, "the test broke the device");
    return -1;
}

static void gate_set(bool closed, int allowed)
{
    pthread_mutex_lock(&gate.lock);
    gate.closed = closed;
    gate.allowed = allowed;
    pthread_cond_broadcast(&gate.change);
    pthread_mutex_unlock(&gate.lock);
}

void gate_close(void)
{
    gate_set(true, 0);
}

void gate_open(void)
{
    gate_set(false, 0);
}

void gate_wait(void)
{
    pthread_mutex_lock(&gate.lock);
    while (!gate.waits)
        pthread_cond_wait(&gate.change, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

void gate_steps(int n)
{
    for (int i = 0; i < n; i++) {
        gate_wait();
        pthread_mutex_lock(&gate.lock);
        gate.allowed = 1;
        gate.waits = false;
        pthread_cond_broadcast(&gate.change);
        pthread_mutex_unlock(&gate.lock);
    }
}

void gate_break(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.broken = true;
    pthread_mutex_unlock(&gate.lock);
}

int gate_count(void)
{
    pthread_mutex_lock(&gate.lock);
    int n = gate.count;
    pthread_mutex_unlock(&gate.lock);
    return n;
}

int gate_longest(void)
{
    pthread_mutex_lock(&gate.lock);
    int t = gate.longest;
    pthread_mutex_unlock(&gate.lock);
    return t;
}

static void count_lost(void *ud, const struct err *e)
{
    struct rig *r = ud;
    r->lost += e->code == ERR_DEVICE;
}

static struct model *load(struct rig *r, const struct rig_options *o)
{
    // Bytes of a page of dense_a in F32: one layer, keys and values, one head of 256.
    const size_t page_bytes = (size_t)PAGE_TOKENS * 2 * 256 * sizeof(float);
    struct model_options m = {
        .dtype = o->dtype,
        .context_max = o->context_max ? o->context_max : 1024,
        .batch_tokens = o->batch_tokens ? o->batch_tokens : 512,
        .batch_rows = o->batch_rows     ? o->batch_rows
                      : o->batch_tokens ? o->batch_tokens
                                        : 512,
        .sequences_max = o->sequences_max ? o->sequences_max : 8,
        .kv_bytes = (size_t)o->n_pages * page_bytes,
        .chunk = RIG_CHUNK,
        .inverse = inverse_auto(RIG_CHUNK, INVERSE_FP32),
        .residual_every = o->residuals,
    };
    char dir[512];
    const char *name = o->model ? o->model : "dense_a";
    snprintf(dir, sizeof dir, "%s/%s/%s", TEST_SOURCE_DIR,
             strcmp(name, "bundled") ? "tests/golden" : "models", name);
    struct err e = {0};
    struct model *model = model_load(dir, &m, &r->ops, r->dev, &e);
    cr_assert(ne(ptr, model, NULL), "%s", e.text);
    if (o->n_pages)
        cr_assert(eq(int, model_memory(model)->n_pages, o->n_pages));
    return model;
}

void rig_open(struct rig *r, const struct rig_options *o)
{
    char why[256] = "";
    struct err e = {0};
    *r = (struct rig){.ops = ops_cpu};
    r->ops.embed = gated_embed;
    r->ops.sync = gated_sync;
    r->ops.async = o->async;
    r->dev = r->ops.open(&(struct dev_options){.threads = 1}, why, sizeof why);
    cr_assert(ne(ptr, r->dev, NULL), "%s", why);
    if (o->text) {
        r->tokenizer = tokenizer_load(TEST_SOURCE_DIR "/models/bundled", &e);
        cr_assert(ne(ptr, r->tokenizer, NULL), "%s", e.text);
    }
    const struct engine_options options = {.queue_max = o->queue_max ? o->queue_max : 100,
                                           .trace = o->trace,
                                           .device_lost = count_lost,
                                           .ud = r};
    r->en = engine_create(load(r, o), &r->ops, r->dev, r->tokenizer, &options, &e);
    cr_assert(ne(ptr, r->en, NULL), "%s", e.text);
}

void rig_close(struct rig *r)
{
    engine_destroy(r->en);
    tokenizer_destroy(r->tokenizer);
    r->ops.close(r->dev);
}

struct gen_params rig_params(const int *prompt, int n_prompt, int max_tokens)
{
    return (struct gen_params){.prompt = prompt,
                               .n_prompt = n_prompt,
                               .max_tokens = max_tokens,
                               .logprobs = -1,
                               .sampling = {.top_p = 1, .repetition = 1}};
}

static void wake(void *ud)
{
    struct client *c = ud;
    pthread_mutex_lock(&wake_lock);
    c->wakes++;
    pthread_cond_broadcast(&woken);
    pthread_mutex_unlock(&wake_lock);
}

int client_submit(struct client *c, struct rig *r, const struct gen_params *p, struct err *e)
{
    *c = (struct client){.params = *p};
    c->g = gen_create(p, wake, c);
    if (gen_submit(r->en, c->g, e) == 0)
        return 0;
    client_drop(c);
    return -1;
}

void client_start(struct client *c, struct rig *r, const struct gen_params *p)
{
    struct err e = {0};
    cr_assert(zero(client_submit(c, r, p, &e)), "%s", e.text);
}

void client_read(struct client *c)
{
    for (int n = 1; n > 0; c->n += n)
        n = gen_read(c->g, &c->cursor, &c->text, c->tokens + c->n, RIG_TOKENS_MAX - c->n,
                     &c->status);
}

void client_finish(struct client *c)
{
    for (;;) {
        pthread_mutex_lock(&wake_lock);
        int seen = c->wakes;
        pthread_mutex_unlock(&wake_lock);
        client_read(c);
        if (c->status.state >= GEN_DONE)
            break;
        pthread_mutex_lock(&wake_lock);
        while (c->wakes == seen)
            pthread_cond_wait(&woken, &wake_lock);
        pthread_mutex_unlock(&wake_lock);
    }
    cr_assert(eq(int, c->n, c->status.n_output), "a gen ended and not all tokens can be read");
}

void client_drop(struct client *c)
{
    gen_release(c->g, NULL, NULL);
    buf_fini(&c->text);
    c->g = NULL;
}

void client_run(struct client *c, struct rig *r, const struct gen_params *p)
{
    client_start(c, r, p);
    client_finish(c);
    cr_assert(eq(int, (int)c->status.state, GEN_DONE), "%s", c->status.err.text);
}

int *rig_prompt(int n, unsigned seed)
{
    int *ids = mem_zero((size_t)n, sizeof *ids);
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int)((seed >> 8) % RIG_VOCAB);
    }
    return ids;
}

void rig_check_empty(struct rig *r)
{
    cr_assert(engine_idle(r->en));
    cr_assert(eq(i64, stats_gauge_value(STATS_WAITING), 0));
    cr_assert(eq(i64, stats_gauge_value(STATS_RUNNING), 0));
    cr_assert(eq(i64, stats_gauge_value(STATS_KV_PAGES_USED), 0));
    cr_assert(eq(i64, stats_gauge_value(STATS_SLOTS_USED), 0));
}

static bool same_bits(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

void client_check_same(const struct client *a, const struct client *b, const char *what)
{
    cr_assert(eq(int, a->n, b->n), "%s", what);
    for (int i = 0; i < a->n; i++) {
        const struct gen_token *x = &a->tokens[i], *y = &b->tokens[i];
        cr_assert(eq(int, x->id, y->id), "%s: token %d", what, i);
        cr_assert(same_bits(x->logprob, y->logprob), "%s: token %d: %.9g and %.9g", what, i,
                  (double)x->logprob, (double)y->logprob);
        for (int j = 0; j < a->params.logprobs && j < b->params.logprobs; j++) {
            cr_assert(eq(int, x->top[j].id, y->top[j].id), "%s: token %d", what, i);
            cr_assert(same_bits(x->top[j].logprob, y->top[j].logprob), "%s: token %d", what, i);
        }
    }
}
