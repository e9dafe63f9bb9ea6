// Many gens of all kinds, submitted, read, cancelled and released at random moments by two
// makers at once: nothing is lost, nothing is left.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine_rig.h"
#include "mem.h"
#include "sanitized.h"
#include "stats.h"

enum { MAKERS = 2, GENS = SANITIZED ? 40 : 100, PROMPT_MAX = 400, HELD_MAX = 12 };

struct maker {
    struct rig *rig;
    unsigned seed;
    const int *prompt; // [PROMPT_MAX]
    struct client held[HELD_MAX];
    int n_held;
    int taken, refused;
    atomic_int *released;
};

static unsigned next(struct maker *m, unsigned below)
{
    m->seed = m->seed * 1664525u + 1013904223u;
    return (m->seed >> 8) % below;
}

static void count(void *ud)
{
    atomic_fetch_add((atomic_int *)ud, 1);
}

static const struct detok_stop STOPS[] = {{"e", 1}, {"never seen", 10}};

static struct gen_params random_params(struct maker *m)
{
    struct gen_params p =
        rig_params(m->prompt, 1 + (int)next(m, next(m, 3) ? 60 : PROMPT_MAX), (int)next(m, 30));
    p.logprobs = (int)next(m, 4) - 1;
    p.prompt_logprobs = next(m, 3) == 0;
    p.sampling.temperature = next(m, 2) ? 5 : 0;
    p.sampling.top_k = (int)next(m, 50);
    p.sampling.seed = next(m, 1000);
    p.sampling.presence = next(m, 2) ? 0.5f : 0;
    p.sampling.repetition = next(m, 3) ? 1 : 1.1f;
    p.stops = STOPS;
    p.n_stops = (int)next(m, 3);
    return p;
}

// Give up the held gen i in a random way.
static void part(struct maker *m, int i)
{
    struct client *c = &m->held[i];
    switch (next(m, 4)) {
    case 0: // in whatever phase it is
        break;
    case 1:
        gen_cancel(c->g);
        client_finish(c);
        break;
    default:
        client_finish(c);
        cr_assert(eq(int, (int)c->status.state, GEN_DONE), "%s", c->status.err.text);
    }
    gen_release(c->g, count, m->released);
    buf_fini(&c->text);
    m->n_held--;
}

static void *make(void *arg)
{
    struct maker *m = arg;
    for (int i = 0; i < GENS; i++) {
        // Clients do not move: their gens hold their addresses. So the last is given up first.
        while (m->n_held == HELD_MAX || (m->n_held > 0 && next(m, 3) == 0))
            part(m, m->n_held - 1);
        const struct gen_params p = random_params(m);
        struct err e;
        if (client_submit(&m->held[m->n_held], m->rig, &p, &e) == 0) {
            m->taken++;
            m->n_held++;
        } else {
            cr_assert(eq(int, (int)e.code, ERR_BUSY), "%s", e.text);
            m->refused++;
        }
    }
    while (m->n_held > 0)
        part(m, m->n_held - 1);
    return NULL;
}

Test(soak, two_makers_many_gens)
{
    struct rig r;
    int *prompt = rig_prompt(PROMPT_MAX, 2);
    atomic_int released = 0;
    static struct maker makers[MAKERS];
    pthread_t threads[MAKERS];
    rig_open(&r, &(struct rig_options){.sequences_max = 5,
                                       .batch_tokens = 96,
                                       .context_max = 512,
                                       .n_pages = 12,
                                       .queue_max = 8,
                                       .text = true});
    for (int i = 0; i < MAKERS; i++) {
        makers[i] =
            (struct maker){.rig = &r, .seed = (unsigned)i, .prompt = prompt, .released = &released};
        cr_assert(zero(pthread_create(&threads[i], NULL, make, &makers[i])));
    }
    int taken = 0, refused = 0;
    for (int i = 0; i < MAKERS; i++) {
        pthread_join(threads[i], NULL);
        taken += makers[i].taken;
        refused += makers[i].refused;
    }
    rig_close(&r);
    cr_assert(eq(int, taken + refused, MAKERS * GENS));
    cr_assert(eq(int, released, taken));
    int64_t ended =
        stats_counter_value(STATS_REQUESTS_STOP) + stats_counter_value(STATS_REQUESTS_LENGTH) +
        stats_counter_value(STATS_REQUESTS_CANCELLED) + stats_counter_value(STATS_REQUESTS_FAILED);
    cr_assert(eq(i64, ended, taken));
    cr_assert(eq(i64, stats_counter_value(STATS_REQUESTS_REFUSED), refused));
    cr_assert(gt(i64, stats_counter_value(STATS_REQUESTS_CANCELLED), 0));
    cr_assert(gt(i64, stats_counter_value(STATS_REQUESTS_STOP), 0));
    cr_assert(eq(i64, stats_gauge_value(STATS_WAITING), 0));
    cr_assert(eq(i64, stats_gauge_value(STATS_RUNNING), 0));
    cr_assert(eq(i64, stats_gauge_value(STATS_KV_PAGES_USED), 0));
    cr_assert(eq(i64, stats_gauge_value(STATS_SLOTS_USED), 0));
    mem_free(prompt);
}
