// engine.c - see engine.h. One thread owns the device; gens reach it through an inbox under one lock
// and leave through their own locks. What runs next is decided in batcher.c and plan.c.
#include "engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "batcher.h"
#include "clock.h"
#include "gen_engine.h"
#include "log.h"
#include "mem.h"
#include "stats.h"
#include "trace.h"

struct engine {
    struct engine_options options;
    struct model *model;
    struct batcher *batcher;
    struct trace trace;
    pthread_t thread;
    _Atomic int64_t beat_ns; // the thread's last sign of life

    pthread_mutex_t lock; // guards the rest of this block
    pthread_cond_t work;  // signalled when the thread may have something to do
    struct gen_list inbox;
    int n_waiting; // gens in inbox and in waiting
    uint64_t tickets;
    bool draining, stopping, dump;
    struct err lost; // code ERR_DEVICE once the device is gone

    // The thread's alone.
    struct gen_list waiting;    // taken from the inbox, not yet admitted
    enum plan_wait head_waits;  // what was last traced for the head of waiting
    uint64_t head_waits_ticket; // and for which gen
};

// Move the inbox to the waiting gens, after sleeping until there is something to do. False: stop.
static bool wait_for_work(struct engine *en, bool *dump)
{
    pthread_mutex_lock(&en->lock);
    while (!en->stopping && !en->dump && en->n_waiting == 0 && batcher_running(en->batcher) == 0)
        pthread_cond_wait(&en->work, &en->lock);
    for (struct gen *g; (g = gen_list_pop(&en->inbox));)
        gen_list_add(&en->waiting, g);
    *dump = en->dump;
    en->dump = false;
    bool go = !en->stopping;
    pthread_mutex_unlock(&en->lock);
    atomic_store(&en->beat_ns, clock_ns());
    return go;
}

static void count_waiting(struct engine *en, int by)
{
    pthread_mutex_lock(&en->lock);
    en->n_waiting += by;
    stats_set(STATS_WAITING, en->n_waiting);
    pthread_mutex_unlock(&en->lock);
}

// Fail all gens of a list; they count as waiting until now.
static void refuse_all(struct engine *en, struct gen_list *l, int n, const struct err *why)
{
    count_waiting(en, -n);
    for (struct gen *g; (g = gen_list_pop(l));)
        batcher_refuse(en->batcher, g, why);
}

static void drop_cancelled(struct engine *en)
{
    struct gen_list cancelled = {0};
    struct err e;
    err_set(&e, ERR_CANCELLED, "the client left");
    int n = gen_list_cancelled(&en->waiting, &cancelled);
    if (n)
        refuse_all(en, &cancelled, n, &e);
    batcher_drop_cancelled(en->batcher);
}

// One line when the head begins to wait for something, not one a step.
static void trace_wait(struct engine *en, const struct gen *head, enum plan_wait wait)
{
    if (en->head_waits == wait && en->head_waits_ticket == head->ticket)
        return;
    en->head_waits = wait;
    en->head_waits_ticket = head->ticket;
    trace_line(&en->trace, "gen=%llu waits for=%s", (unsigned long long)head->ticket,
               wait == PLAN_WAIT_PAGES ? "pages" : "slot");
}

// First in, first out, without overtaking: a gen that needs many pages is not passed for ever by
// gens that need few.
static void admit(struct engine *en)
{
    for (struct gen *g; (g = en->waiting.first);) {
        enum plan_wait wait = batcher_admit(en->batcher, g);
        if (wait != PLAN_ADMIT) {
            trace_wait(en, g, wait);
            break;
        }
        gen_list_pop(&en->waiting);
        count_waiting(en, -1);
    }
    // Every gen that was taken fits an empty server, so somebody runs now or nobody waits.
    CHECK(batcher_running(en->batcher) > 0 || !en->waiting.first);
}

// End everything. New gens are refused from here on: stopping or lost is set.
static void fail_all(struct engine *en, const struct err *why)
{
    batcher_fail(en->batcher, why);
    pthread_mutex_lock(&en->lock);
    for (struct gen *g; (g = gen_list_pop(&en->inbox));)
        gen_list_add(&en->waiting, g);
    int n = en->n_waiting;
    pthread_mutex_unlock(&en->lock);
    refuse_all(en, &en->waiting, n, why);
}

static void lose_device(struct engine *en, const struct err *e)
{
    log_event(LOG_ERROR, "device_lost", "%s", e->text);
    pthread_mutex_lock(&en->lock);
    en->lost = *e;
    pthread_mutex_unlock(&en->lock);
    fail_all(en, e);
    if (en->options.device_lost)
        en->options.device_lost(en->options.ud, e);
}

static void dump_all(struct engine *en)
{
    batcher_dump(en->batcher, stderr);
    for (const struct gen *g = en->waiting.first; g; g = g->next)
        fprintf(stderr, "gen %llu: waits prompt=%d max=%d age_ms=%.0f\n",
                (unsigned long long)g->ticket, g->params.n_prompt, g->params.max_tokens,
                clock_ms_between(g->status.submitted_ns, clock_ns()));
}

static void *run(void *arg)
{
    struct engine *en = arg;
    struct err e = {0};
    bool dump = false;
    while (wait_for_work(en, &dump)) {
        drop_cancelled(en);
        admit(en);
        if (dump)
            dump_all(en);
        if (batcher_running(en->batcher) > 0 && batcher_step(en->batcher, &e) != 0) {
            lose_device(en, &e);
            return NULL;
        }
    }
    err_set(&e, ERR_SHUTTING_DOWN, "the server is shutting down; try again later");
    fail_all(en, &e);
    return NULL;
}

static void free_engine(struct engine *en)
{
    batcher_destroy(en->batcher);
    trace_close(&en->trace);
    model_destroy(en->model);
    pthread_cond_destroy(&en->work);
    pthread_mutex_destroy(&en->lock);
    mem_free(en);
}

struct engine *engine_create(struct model *m_take, const struct ops *ops, struct dev *dev,
                             const struct tokenizer *tk, const struct engine_options *o,
                             struct err *e)
{
    struct engine *en = mem_zero(1, sizeof *en);
    en->options = *o;
    en->model = m_take;
    CHECK(pthread_mutex_init(&en->lock, NULL) == 0 && pthread_cond_init(&en->work, NULL) == 0);
    atomic_init(&en->beat_ns, clock_ns());
    const struct batcher_parts parts = {m_take, ops, dev, tk, &en->trace};
    if (trace_open(&en->trace, o->trace, e) != 0)
        goto failed;
    en->batcher = batcher_create(&parts, e);
    if (!en->batcher)
        goto failed;
    int code = pthread_create(&en->thread, NULL, run, en);
    if (code == 0)
        return en;
    err_set(e, ERR_INTERNAL, "cannot start the engine thread: %s", strerror(code));
failed:
    free_engine(en);
    return NULL;
}

void engine_drain(struct engine *en)
{
    pthread_mutex_lock(&en->lock);
    en->draining = true;
    pthread_mutex_unlock(&en->lock);
}

bool engine_idle(struct engine *en)
{
    // Running first would be wrong: a gen may go from waiting to running between the two looks.
    pthread_mutex_lock(&en->lock);
    bool idle = en->n_waiting == 0 && batcher_running(en->batcher) == 0;
    pthread_mutex_unlock(&en->lock);
    return idle;
}

void engine_destroy(struct engine *en)
{
    if (!en)
        return;
    pthread_mutex_lock(&en->lock);
    en->stopping = true;
    pthread_cond_signal(&en->work);
    pthread_mutex_unlock(&en->lock);
    pthread_join(en->thread, NULL);
    free_engine(en);
}

bool engine_alive(struct engine *en, int limit_ms)
{
    pthread_mutex_lock(&en->lock);
    bool lost = en->lost.code != ERR_OK;
    pthread_mutex_unlock(&en->lock);
    if (lost)
        return false;
    return engine_idle(en) || clock_ms_between(atomic_load(&en->beat_ns), clock_ns()) <= limit_ms;
}

const struct config *engine_config(const struct engine *en)
{
    return model_config(en->model);
}

size_t engine_sampler_bytes(const struct model *m)
{
    return batcher_sampler_bytes(m);
}

const struct model_memory *engine_memory(const struct engine *en)
{
    return model_memory(en->model);
}

const struct model_options *engine_model_options(const struct engine *en)
{
    return model_options(en->model);
}

void engine_dump(struct engine *en)
{
    pthread_mutex_lock(&en->lock);
    en->dump = true;
    pthread_cond_signal(&en->work);
    pthread_mutex_unlock(&en->lock);
}

// Is there room in the queue? Lock held.
static int check_open(const struct engine *en, struct err *e)
{
    if (en->lost.code != ERR_OK)
        return err_set(e, ERR_DEVICE, "%s", en->lost.text);
    if (en->draining || en->stopping)
        return err_set(e, ERR_SHUTTING_DOWN, "the server is shutting down; try again later");
    if (en->n_waiting >= en->options.queue_max) {
        stats_add(STATS_REQUESTS_REFUSED, 1);
        return err_set(e, ERR_BUSY, "%d requests are waiting already; try again later",
                       en->n_waiting);
    }
    return 0;
}

int gen_submit(struct engine *en, struct gen *g, struct err *e)
{
    if (batcher_check(en->batcher, &g->params, e) != 0)
        return -1;
    pthread_mutex_lock(&en->lock);
    int result = check_open(en, e);
    if (result == 0) {
        int64_t now = clock_ns();
        // A thread that slept is not late: its time runs from here.
        if (en->n_waiting == 0 && batcher_running(en->batcher) == 0)
            atomic_store(&en->beat_ns, now);
        gen_take(g, ++en->tickets, now);
        gen_list_add(&en->inbox, g);
        en->n_waiting++;
        stats_set(STATS_WAITING, en->n_waiting);
        pthread_cond_signal(&en->work);
    }
    pthread_mutex_unlock(&en->lock);
    return result;
}
