// engine.c - see engine.h. One thread owns the device; gens reach it through an inbox under one lock
// and leave through their own locks. What runs next is decided in batcher.c and plan.c.
#define _GNU_SOURCE
#include "engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "batcher.h"
#include "clock.h"
#include "gen_engine.h"
#include "log.h"
#include "mem.h"
#include "stats.h"
#include "trace.h"

// A device task that somebody waits for; on the waiter's stack, behind the engine's lock.
struct task {
    const struct engine_task *what;
    int64_t since_ns;
    int beside, result;
    struct err err;
    bool begun, done;
    struct task *next;
};

struct engine {
    struct engine_options options;
    struct model_options
        model_options; // as they were at the start: a task may change the model's own
    struct model *model;
    const struct ops *ops;
    struct dev *dev;
    struct batcher *batcher;
    struct trace trace;
    pthread_t thread;
    _Atomic int64_t beat_ns; // the thread's last sign of life

    pthread_mutex_t lock; // guards the rest of this block
    pthread_cond_t work;  // signalled when the thread may have something to do
    pthread_cond_t ended; // broadcast when a task has ended
    struct gen_list inbox;
    int n_waiting;      // gens in inbox, waiting and background
    int n_background;   // those of them that are background
    struct task *tasks; // first in, first out
    int n_callers;      // threads in engine_run
    uint64_t tickets;
    bool draining, stopping, dump;
    struct err lost; // code ERR_DEVICE once the device is gone

    // The thread's alone.
    struct gen_list waiting;       // clients' gens taken from the inbox, not yet admitted
    struct gen_list background;    // jobs' gens likewise
    int64_t held_from_ns;          // clients are held back for exclusive tasks since then
    _Atomic int64_t held_until_ns; // and until then; 0: they are not. Read by others.
    int64_t pause_ns;              // but none of them longer than this
    enum plan_wait head_waits;     // what was last traced for the head of waiting
    uint64_t head_waits_ticket;    // and for which gen
};

// Move the inbox to the waiting gens, after sleeping until there is something to do. False: stop.
static bool wait_for_work(struct engine *en, bool *dump)
{
    pthread_mutex_lock(&en->lock);
    while (!en->stopping && !en->dump && !en->tasks && en->n_waiting == 0 &&
           batcher_running(en->batcher) == 0)
        pthread_cond_wait(&en->work, &en->lock);
    for (struct gen *g; (g = gen_list_pop(&en->inbox));)
        gen_list_add(g->params.background ? &en->background : &en->waiting, g);
    *dump = en->dump;
    en->dump = false;
    bool go = !en->stopping;
    pthread_mutex_unlock(&en->lock);
    atomic_store(&en->beat_ns, clock_ns());
    return go;
}

static void count_waiting(struct engine *en, int by, bool background)
{
    pthread_mutex_lock(&en->lock);
    en->n_waiting += by;
    en->n_background += background ? by : 0;
    stats_set(STATS_WAITING, en->n_waiting);
    pthread_mutex_unlock(&en->lock);
}

// Fail all gens of a list; they count as waiting until now.
static void refuse_all(struct engine *en, struct gen_list *l, const struct err *why)
{
    for (struct gen *g; (g = gen_list_pop(l));) {
        count_waiting(en, -1, g->params.background);
        batcher_refuse(en->batcher, g, why);
    }
}

static void drop_cancelled(struct engine *en)
{
    struct gen_list cancelled = {0};
    struct err e;
    err_set(&e, ERR_CANCELLED, "the client left");
    gen_list_cancelled(&en->waiting, &cancelled);
    gen_list_cancelled(&en->background, &cancelled);
    refuse_all(en, &cancelled, &e);
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
static void admit_list(struct engine *en, struct gen_list *list)
{
    for (struct gen *g; (g = list->first);) {
        enum plan_wait wait = batcher_admit(en->batcher, g);
        if (wait != PLAN_ADMIT) {
            trace_wait(en, g, wait);
            return;
        }
        gen_list_pop(list);
        count_waiting(en, -1, g->params.background);
    }
}

// When clients are held back no longer: by itself, or once the first of them has waited long enough.
static int64_t hold_end(const struct engine *en)
{
    const struct gen *g = en->waiting.first;
    if (!g)
        return en->held_until_ns;
    const int64_t came = g->status.submitted_ns;
    const int64_t enough = (came > en->held_from_ns ? came : en->held_from_ns) + en->pause_ns;
    return enough < en->held_until_ns ? enough : en->held_until_ns;
}

// Are clients held back so that exclusive tasks find the device quiet?
static bool holds_clients(struct engine *en)
{
    if (en->held_until_ns == 0)
        return false;
    const int64_t now = clock_ns();
    if (now < hold_end(en))
        return true;
    trace_line(&en->trace, "clients held_ms=%.1f", clock_ms_between(en->held_from_ns, now));
    en->held_until_ns = 0;
    return false;
}

// Clients first: a job's gens start when no client's gen waits to.
static void admit(struct engine *en)
{
    bool held = holds_clients(en);
    if (!held)
        admit_list(en, &en->waiting);
    if (held || !en->waiting.first)
        admit_list(en, &en->background);
    // Every gen that was taken fits an empty server, so somebody runs now or nobody waits.
    CHECK(batcher_running(en->batcher) > 0 ||
          (!en->background.first && (held || !en->waiting.first)));
}

// --- device tasks ---------------------------------------------------------------------------

static void unlink_task(struct engine *en, struct task *k)
{
    for (struct task **at = &en->tasks; *at; at = &(*at)->next) {
        if (*at == k) {
            *at = k->next;
            return;
        }
    }
}

// The engine's last touch of k. Lock held.
static void end_task(struct engine *en, struct task *k, int result)
{
    unlink_task(en, k);
    k->result = result;
    k->done = true;
    pthread_cond_broadcast(&en->ended);
}

// The next task if it may run now: at once, or an exclusive one when nothing runs or it has waited
// long enough.
static struct task *begin_task(struct engine *en)
{
    int running = batcher_running(en->batcher);
    pthread_mutex_lock(&en->lock);
    struct task *k = en->tasks;
    if (k && k->what->exclusive && running > 0 &&
        clock_ms_between(k->since_ns, clock_ns()) < k->what->lull_ms)
        k = NULL;
    if (k) {
        bool quiet = running == 0 && (k->what->exclusive || en->n_waiting == 0);
        k->begun = true;
        k->beside = quiet ? 0 : running + en->n_waiting;
    }
    pthread_mutex_unlock(&en->lock);
    return k;
}

// Run a task that is due. Fails with ERR_DEVICE only.
static int run_task(struct engine *en, struct err *e)
{
    struct task *k = begin_task(en);
    if (!k)
        return 0;
    batcher_tell(en->batcher);
    const struct engine_task *t = k->what;
    bool hold = t->exclusive && k->beside == 0;
    if (hold) {
        if (en->held_until_ns == 0)
            en->held_from_ns = clock_ns();
        en->held_until_ns = INT64_MAX; // of this task, however long it takes
    }
    struct err why = {0};
    en->ops->warm(en->dev, false);
    int result = t->fn(t->ud, en->ops, en->dev, en->model, &why);
    en->ops->warm(en->dev, true);
    if (hold) {
        en->held_until_ns = clock_ns() + (int64_t)t->hold_ms * 1000000;
        en->pause_ns = (int64_t)t->pause_ms * 1000000;
    }
    bool lost = result && why.code == ERR_DEVICE;
    if (lost)
        *e = why;
    pthread_mutex_lock(&en->lock);
    k->err = why;
    end_task(en, k, result);
    pthread_mutex_unlock(&en->lock);
    return lost ? -1 : 0;
}

// ms from now, of the clock that the engine's conditions wait by.
static struct timespec moment(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

// Only held clients are there: sleep until a task comes or they are held no longer.
static void rest(struct engine *en)
{
    struct timespec until = moment(hold_end(en));
    pthread_mutex_lock(&en->lock);
    if (!en->tasks && !en->stopping && !en->dump && !en->inbox.first)
        pthread_cond_timedwait(&en->work, &en->lock, &until);
    pthread_mutex_unlock(&en->lock);
}

// --- the thread -----------------------------------------------------------------------------

// End everything. New gens are refused from here on: stopping or lost is set.
static void fail_all(struct engine *en, const struct err *why)
{
    batcher_fail(en->batcher, why);
    pthread_mutex_lock(&en->lock);
    for (struct gen *g; (g = gen_list_pop(&en->inbox));)
        gen_list_add(&en->waiting, g);
    while (en->tasks) {
        en->tasks->err = *why;
        end_task(en, en->tasks, -1);
    }
    pthread_mutex_unlock(&en->lock);
    refuse_all(en, &en->waiting, why);
    refuse_all(en, &en->background, why);
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
    const struct gen_list *const lists[] = {&en->waiting, &en->background};
    for (int i = 0; i < 2; i++)
        for (const struct gen *g = lists[i]->first; g; g = g->next)
            fprintf(stderr, "gen %llu: waits prompt=%d max=%d age_ms=%.0f%s\n",
                    (unsigned long long)g->ticket, g->params.n_prompt, g->params.max_tokens,
                    clock_ms_between(g->status.submitted_ns, clock_ns()),
                    g->params.background ? " background" : "");
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
        if (run_task(en, &e) != 0 ||
            (batcher_running(en->batcher) > 0 && batcher_step(en->batcher, &e) != 0)) {
            lose_device(en, &e);
            return NULL;
        }
        if (batcher_running(en->batcher) == 0 && holds_clients(en))
            rest(en);
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
    pthread_cond_destroy(&en->ended);
    pthread_mutex_destroy(&en->lock);
    mem_free(en);
}

static void make_lock(struct engine *en)
{
    pthread_condattr_t by; // the clock of clock_ns
    CHECK(pthread_condattr_init(&by) == 0 && pthread_condattr_setclock(&by, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_mutex_init(&en->lock, NULL) == 0 && pthread_cond_init(&en->work, &by) == 0 &&
          pthread_cond_init(&en->ended, &by) == 0);
    pthread_condattr_destroy(&by);
}

struct engine *engine_create(struct model *m_take, const struct ops *ops, struct dev *dev,
                             const struct tokenizer *tk, const struct engine_options *o,
                             struct err *e)
{
    struct engine *en = mem_zero(1, sizeof *en);
    en->options = *o;
    en->model_options = *model_options(m_take);
    en->model = m_take;
    en->ops = ops;
    en->dev = dev;
    make_lock(en);
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
    pthread_mutex_lock(&en->lock);
    while (en->n_callers > 0) // of engine_run, who have been told and are on their way out
        pthread_cond_wait(&en->ended, &en->lock);
    pthread_mutex_unlock(&en->lock);
    free_engine(en);
}

bool engine_holds_clients(struct engine *en)
{
    return clock_ns() < atomic_load(&en->held_until_ns); // the thread may sleep past its end
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
    return &en->model_options;
}

void engine_dump(struct engine *en)
{
    pthread_mutex_lock(&en->lock);
    en->dump = true;
    pthread_cond_signal(&en->work);
    pthread_mutex_unlock(&en->lock);
}

// Is anything new taken? Lock held.
static int check_open(const struct engine *en, struct err *e)
{
    if (en->lost.code != ERR_OK)
        return err_set(e, ERR_DEVICE, "%s", en->lost.text);
    if (en->draining || en->stopping)
        return err_set(e, ERR_SHUTTING_DOWN, "the server is shutting down; try again later");
    return 0;
}

// Is there room in the queue? Jobs and clients do not take each other's places. Lock held.
static int check_queue(const struct engine *en, bool background, struct err *e)
{
    int n = background ? en->n_background : en->n_waiting - en->n_background;
    if (n < en->options.queue_max)
        return 0;
    stats_add(STATS_REQUESTS_REFUSED, 1);
    return err_set(e, ERR_BUSY, "%d requests are waiting already; try again later", n);
}

int gen_submit(struct engine *en, struct gen *g, struct err *e)
{
    if (batcher_check(en->batcher, &g->params, e) != 0)
        return -1;
    pthread_mutex_lock(&en->lock);
    int result = check_open(en, e);
    if (result == 0)
        result = check_queue(en, g->params.background, e);
    if (result == 0) {
        int64_t now = clock_ns();
        // A thread that slept is not late: its time runs from here.
        if (en->n_waiting == 0 && batcher_running(en->batcher) == 0)
            atomic_store(&en->beat_ns, now);
        gen_take(g, ++en->tickets, now);
        gen_list_add(&en->inbox, g);
        en->n_waiting++;
        en->n_background += g->params.background;
        stats_set(STATS_WAITING, en->n_waiting);
        pthread_cond_signal(&en->work);
    }
    pthread_mutex_unlock(&en->lock);
    return result;
}

int engine_run(struct engine *en, const struct engine_task *t, int *beside, struct err *e)
{
    enum { ASK_MS = 20 }; // whether the task was cancelled, while it waits
    struct task k = {.what = t, .since_ns = clock_ns()};
    pthread_mutex_lock(&en->lock);
    if (check_open(en, e) != 0) {
        pthread_mutex_unlock(&en->lock);
        return -1;
    }
    struct task **last = &en->tasks;
    while (*last)
        last = &(*last)->next;
    *last = &k;
    en->n_callers++;
    pthread_cond_signal(&en->work);
    while (!k.done) {
        struct timespec until = moment(clock_ns() + ASK_MS * 1000000);
        pthread_cond_timedwait(&en->ended, &en->lock, &until);
        if (!k.begun && t->cancelled && t->cancelled(t->ud)) {
            err_set(&k.err, ERR_CANCELLED, "the task was cancelled before it began");
            end_task(en, &k, -1);
        }
    }
    if (--en->n_callers == 0)
        pthread_cond_broadcast(&en->ended);
    pthread_mutex_unlock(&en->lock);
    if (beside)
        *beside = k.beside;
    if (k.result && e)
        *e = k.err;
    return k.result;
}
