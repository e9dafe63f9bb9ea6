// crew.c - see crew.h. One atomic word says which loop is on and which item is next; an item is claimed
// by compare-and-swap on that word, so a claim can only succeed in the loop whose fields were read.
#define _GNU_SOURCE
#include "crew.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

enum {
    CREW_SPIN = 5000,     // looks at the word, about 60 us, before a helper sleeps
    CREW_PATIENCE = 2000, // looks before the caller lets others run
    HELPERS_MAX = 255,
};

static const uint64_t CLOSED = 0xFFFFFFFF; // item number of a word that gives nothing

struct crew {
    _Atomic uint64_t word; // loop number << 32 | next item
    atomic_int n, done;    // items of this loop, and how many of them are finished
    _Atomic(crew_work *) work;
    _Atomic(void *) ud;
    atomic_int sleepers;
    atomic_bool quit;
    pthread_mutex_t lock; // of going to sleep
    pthread_cond_t wake;
    struct helper {
        struct crew *crew;
        int worker;
        pthread_t thread;
    } helpers[HELPERS_MAX];
    int n_helpers, threads;
};

static void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

// Claim and do items until the loop gives no more.
static void take_items(struct crew *c, int worker)
{
    for (;;) {
        uint64_t word = atomic_load(&c->word);
        const uint64_t item = word & CLOSED;
        crew_work *work = atomic_load_explicit(&c->work, memory_order_relaxed);
        void *ud = atomic_load_explicit(&c->ud, memory_order_relaxed);
        if (item == CLOSED || item >= (uint64_t)atomic_load_explicit(&c->n, memory_order_relaxed))
            return;
        if (!atomic_compare_exchange_weak(&c->word, &word, word + 1))
            continue;
        work(ud, (int)item, worker);
        atomic_fetch_add(&c->done, 1);
    }
}

// Until the loop is not `seen` any more. false: the crew is being destroyed.
static bool wait_for_loop(struct crew *c, uint64_t seen)
{
    for (int i = 0; i < CREW_SPIN; i++) {
        if (atomic_load(&c->word) >> 32 != seen)
            return !atomic_load(&c->quit);
        pause_cpu();
    }
    pthread_mutex_lock(&c->lock);
    atomic_fetch_add(&c->sleepers, 1); // before the last look: the caller looks in the other order
    while (atomic_load(&c->word) >> 32 == seen && !atomic_load(&c->quit))
        pthread_cond_wait(&c->wake, &c->lock);
    atomic_fetch_sub(&c->sleepers, 1);
    pthread_mutex_unlock(&c->lock);
    return !atomic_load(&c->quit);
}

static void *help(void *arg)
{
    struct helper *h = arg;
    struct crew *c = h->crew;
    uint64_t seen = 0;
    while (wait_for_loop(c, seen)) {
        seen = atomic_load(&c->word) >> 32;
        take_items(c, h->worker);
    }
    return NULL;
}

struct crew *crew_create(int threads)
{
    struct crew *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    atomic_store(&c->word, CLOSED);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    c->threads = threads;
    for (int i = 0; i < threads - 1 && i < HELPERS_MAX; i++) {
        struct helper *h = &c->helpers[i];
        *h = (struct helper){.crew = c, .worker = i + 1};
        if (pthread_create(&h->thread, NULL, help, h))
            break;
        c->n_helpers++;
    }
    return c;
}

int crew_threads(const struct crew *c)
{
    return c->threads;
}

static void wake_sleepers(struct crew *c)
{
    if (atomic_load(&c->sleepers) == 0)
        return;
    pthread_mutex_lock(&c->lock);
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

void crew_destroy(struct crew *c)
{
    if (!c)
        return;
    atomic_store(&c->quit, true);
    atomic_fetch_add(&c->word, (uint64_t)1 << 32);
    wake_sleepers(c);
    for (int i = 0; i < c->n_helpers; i++)
        pthread_join(c->helpers[i].thread, NULL);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void crew_run(struct crew *c, int n, crew_work *work, void *ud)
{
    // The word is closed here, so nobody reads the fields as those of a loop that is on.
    const uint64_t loop = (atomic_load(&c->word) >> 32) + 1;
    atomic_store_explicit(&c->n, n, memory_order_relaxed);
    atomic_store_explicit(&c->work, work, memory_order_relaxed);
    atomic_store_explicit(&c->ud, ud, memory_order_relaxed);
    atomic_store_explicit(&c->done, 0, memory_order_relaxed);
    atomic_store(&c->word, loop << 32);
    wake_sleepers(c);
    take_items(c, 0);
    for (int i = 0; atomic_load(&c->done) < n; i++) {
        if (i < CREW_PATIENCE)
            pause_cpu();
        else
            sched_yield(); // a helper was put aside in the middle of an item
    }
    atomic_store(&c->word, loop << 32 | CLOSED);
}
