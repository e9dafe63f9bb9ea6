// Tests of device tasks and of background generations: between steps, in lulls, never in a client's way
// for longer than allowed. The gate holds the engine where a test wants it.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "clock.h"
#include "engine_rig.h"
#include "mem.h"

static int *prompt; // [1000]
static struct rig r;

static void setup(void)
{
    prompt = rig_prompt(1000, 1);
}

static void teardown(void)
{
    mem_free(prompt);
}

TestSuite(tasks, .init = setup, .fini = teardown);

// One task on a thread of its own.
struct call {
    struct engine_task task;
    pthread_t thread, ran_on;
    atomic_int runs, ended;
    atomic_bool cancel;
    enum err_code fails_with; // what fn answers
    int beside, result;
    int64_t begun_ns;
    struct err err;
};

static int run_fn(void *ud, const struct ops *ops, struct dev *dev, struct model *m, struct err *e)
{
    struct call *c = ud;
    c->ran_on = pthread_self();
    c->begun_ns = clock_ns();
    cr_assert(ops == &r.ops && dev == r.dev && m != NULL);
    atomic_fetch_add(&c->runs, 1);
    return c->fails_with ? err_set(e, c->fails_with, "the test says so") : 0;
}

static bool is_cancelled(void *ud)
{
    return atomic_load(&((struct call *)ud)->cancel);
}

static void *run_thread(void *ud)
{
    struct call *c = ud;
    c->result = engine_run(r.en, &c->task, &c->beside, &c->err);
    atomic_store(&c->ended, 1);
    return NULL;
}

static void begin(struct call *c, bool exclusive, int lull_ms)
{
    c->task = (struct engine_task){.fn = run_fn,
                                   .ud = c,
                                   .exclusive = exclusive,
                                   .lull_ms = lull_ms,
                                   .hold_ms = c->task.hold_ms,
                                   .pause_ms = c->task.pause_ms,
                                   .cancelled = is_cancelled};
    cr_assert(zero(pthread_create(&c->thread, NULL, run_thread, c)));
}

static void finish(struct call *c)
{
    cr_assert(zero(pthread_join(c->thread, NULL)));
}

static void run_now(struct call *c, bool exclusive)
{
    begin(c, exclusive, 60000);
    finish(c);
    cr_assert(zero(c->result), "%s", c->err.text);
}

Test(tasks, one_runs_on_the_engines_thread)
{
    struct call c = {0};
    rig_open(&r, &(struct rig_options){0});
    run_now(&c, false);
    cr_assert(atomic_load(&c.runs) == 1);
    cr_assert(eq(int, c.beside, 0));
    cr_assert(not(pthread_equal(c.ran_on, pthread_self())));
    cr_assert(not(pthread_equal(c.ran_on, c.thread)));
    rig_close(&r);
}

Test(tasks, one_runs_between_two_steps)
{
    struct call c = {0};
    static struct client g;
    rig_open(&r, &(struct rig_options){0});
    const struct gen_params p = rig_params(prompt, 10, 50);
    gate_close();
    client_start(&g, &r, &p);
    gate_wait();
    begin(&c, false, 0);
    usleep(50000);
    cr_assert(atomic_load(&c.runs) == 0, "a task ran inside a step");
    gate_steps(1);
    finish(&c);
    cr_assert(c.result == 0 && c.beside == 1);
    client_read(&g);
    cr_assert(eq(int, (int)g.status.state, GEN_RUNNING));
    gate_open();
    client_finish(&g);
    client_drop(&g);
    rig_close(&r);
}

Test(tasks, readers_are_told_before_one_runs)
{
    struct call c = {0};
    static struct client g;
    rig_open(&r, &(struct rig_options){.async = true});
    const struct gen_params p = rig_params(prompt, 10, 50);
    gate_close();
    client_start(&g, &r, &p);
    gate_wait();
    begin(&c, false, 0);
    usleep(50000); // it waits by now
    gate_steps(1);
    finish(&c);
    cr_assert(eq(int, g.wakes, 1));
    gate_open();
    client_finish(&g);
    client_drop(&g);
    rig_close(&r);
}

Test(tasks, an_exclusive_one_waits_for_a_lull)
{
    struct call c = {0};
    static struct client g;
    rig_open(&r, &(struct rig_options){0});
    const struct gen_params p = rig_params(prompt, 10, 20);
    gate_close();
    client_start(&g, &r, &p);
    gate_wait();
    begin(&c, true, 60000);
    gate_steps(10);
    gate_wait();
    cr_assert(atomic_load(&c.runs) == 0, "a task ran beside a generation");
    gate_open();
    finish(&c);
    client_finish(&g);
    cr_assert(c.result == 0 && c.beside == 0);
    cr_assert(ge(i64, c.begun_ns, g.status.last_ns));
    client_drop(&g);
    rig_close(&r);
}

Test(tasks, without_a_lull_it_says_what_runs_beside)
{
    struct call c = {0};
    static struct client g[2];
    rig_open(&r, &(struct rig_options){0});
    const struct gen_params p = rig_params(prompt, 10, 50);
    gate_close();
    client_start(&g[0], &r, &p);
    gate_wait();
    client_start(&g[1], &r, &p);
    begin(&c, true, 0);
    gate_steps(2);
    finish(&c);
    cr_assert(c.result == 0 && c.beside == 2, "%d", c.beside);
    gate_open();
    for (int i = 0; i < 2; i++) {
        client_finish(&g[i]);
        client_drop(&g[i]);
    }
    rig_close(&r);
}

// Between two samples clients are held and jobs are not; then the client's patience is over.
Test(tasks, clients_are_held_for_the_next_sample)
{
    enum { PAUSE_MS = 2000 }; // longer than a busy machine needs for what is done meanwhile
    struct call first = {.task = {.hold_ms = 60000, .pause_ms = PAUSE_MS}}, second = first;
    static struct client held, job;
    rig_open(&r, &(struct rig_options){0});
    struct gen_params p = rig_params(prompt, 10, 1), background = p;
    background.background = true;
    run_now(&first, true);
    client_start(&held, &r, &p);
    client_run(&job, &r, &background);
    run_now(&second, true);
    cr_assert(eq(int, second.beside, 0));
    client_read(&held);
    cr_assert(eq(int, (int)held.status.state, GEN_QUEUED));
    client_finish(&held);
    double ms = clock_ms_between(held.status.submitted_ns, held.status.started_ns);
    cr_assert(all(ge(dbl, ms, PAUSE_MS), lt(dbl, ms, 60000)));
    cr_assert(ge(i64, held.status.started_ns, second.begun_ns));
    client_drop(&held);
    client_drop(&job);
    rig_close(&r);
}

Test(tasks, a_hold_ends_by_itself)
{
    enum { HOLD_MS = 1000 };
    struct call c = {.task = {.hold_ms = HOLD_MS, .pause_ms = 600000}};
    static struct client g;
    rig_open(&r, &(struct rig_options){0});
    const struct gen_params p = rig_params(prompt, 10, 1);
    cr_assert(not(engine_holds_clients(r.en)));
    run_now(&c, true);
    cr_assert(engine_holds_clients(r.en));
    client_run(&g, &r, &p);
    cr_assert(not(engine_holds_clients(r.en)));
    cr_assert(ge(dbl, clock_ms_between(c.begun_ns, g.status.started_ns), HOLD_MS));
    client_drop(&g);
    rig_close(&r);
}

Test(tasks, a_waiting_one_can_be_cancelled)
{
    struct call c = {0};
    static struct client g;
    rig_open(&r, &(struct rig_options){0});
    const struct gen_params p = rig_params(prompt, 10, 20);
    gate_close();
    client_start(&g, &r, &p);
    gate_wait();
    begin(&c, true, 600000);
    usleep(30000);
    cr_assert(atomic_load(&c.ended) == 0);
    atomic_store(&c.cancel, true);
    finish(&c); // while the gate is still closed
    cr_assert(c.result == -1 && c.err.code == ERR_CANCELLED && c.runs == 0);
    gate_open();
    client_finish(&g);
    client_drop(&g);
    rig_close(&r);
}

Test(tasks, failing_and_losing_the_device)
{
    struct call fails = {.fails_with = ERR_TOO_LARGE}, loses = {.fails_with = ERR_DEVICE},
                late = {0};
    rig_open(&r, &(struct rig_options){0});
    begin(&fails, false, 0);
    finish(&fails);
    cr_assert(fails.result == -1 && fails.err.code == ERR_TOO_LARGE);
    cr_assert(engine_alive(r.en, 60000) && r.lost == 0);
    begin(&loses, false, 0);
    finish(&loses);
    cr_assert(loses.result == -1 && loses.err.code == ERR_DEVICE);
    while (engine_alive(r.en, 60000))
        usleep(1000);
    begin(&late, false, 0);
    finish(&late);
    cr_assert(late.result == -1 && late.err.code == ERR_DEVICE && late.runs == 0);
    rig_close(&r);
    cr_assert(eq(int, r.lost, 1));
}

static void *close_rig(void *ud)
{
    (void)ud;
    rig_close(&r);
    return NULL;
}

Test(tasks, the_end_of_the_engine_ends_them)
{
    struct call c = {0};
    static struct client g;
    pthread_t closer;
    rig_open(&r, &(struct rig_options){0});
    const struct gen_params p = rig_params(prompt, 10, 500);
    gate_close();
    client_start(&g, &r, &p);
    gate_wait();
    begin(&c, true, 600000);
    usleep(30000);
    cr_assert(zero(pthread_create(&closer, NULL, close_rig, NULL)));
    usleep(30000);
    gate_open();
    finish(&c);
    cr_assert(c.result == -1 && c.err.code == ERR_SHUTTING_DOWN && c.runs == 0);
    pthread_join(closer, NULL);
    client_drop(&g);
}

// --- background generations -----------------------------------------------------------------

Test(tasks, clients_start_before_jobs)
{
    static struct client running, job, client;
    rig_open(&r, &(struct rig_options){.sequences_max = 1});
    const struct gen_params p = rig_params(prompt, 10, 3);
    struct gen_params background = p;
    background.background = true;
    gate_close();
    client_start(&running, &r, &p);
    gate_wait();
    client_start(&job, &r, &background);
    client_start(&client, &r, &p);
    gate_open();
    client_finish(&running);
    client_finish(&job);
    client_finish(&client);
    cr_assert(le(i64, client.status.last_ns, job.status.started_ns));
    rig_check_empty(&r);
    client_drop(&running);
    client_drop(&job);
    client_drop(&client);
    rig_close(&r);
}

Test(tasks, the_queues_are_apart)
{
    static struct client g[3], refused;
    struct err e;
    rig_open(&r, &(struct rig_options){.sequences_max = 1, .queue_max = 1});
    const struct gen_params p = rig_params(prompt, 10, 3);
    struct gen_params background = p;
    background.background = true;
    gate_close();
    client_start(&g[0], &r, &p);
    gate_wait();
    client_start(&g[1], &r, &background);
    client_start(&g[2], &r, &p);
    cr_assert(eq(int, client_submit(&refused, &r, &p, &e), -1));
    cr_assert(eq(int, (int)e.code, ERR_BUSY));
    cr_assert(eq(int, client_submit(&refused, &r, &background, &e), -1));
    cr_assert(eq(int, (int)e.code, ERR_BUSY));
    gate_open();
    for (int i = 0; i < 3; i++) {
        client_finish(&g[i]);
        client_drop(&g[i]);
    }
    rig_check_empty(&r);
    rig_close(&r);
}

Test(tasks, a_waiting_background_gen_can_be_cancelled)
{
    static struct client running, job;
    rig_open(&r, &(struct rig_options){.sequences_max = 1});
    const struct gen_params p = rig_params(prompt, 10, 3);
    struct gen_params background = p;
    background.background = true;
    gate_close();
    client_start(&running, &r, &p);
    gate_wait();
    client_start(&job, &r, &background);
    gen_cancel(job.g);
    gate_open();
    client_finish(&running);
    client_finish(&job);
    cr_assert(eq(int, (int)job.status.state, GEN_FAILED));
    cr_assert(eq(int, (int)job.status.err.code, ERR_CANCELLED));
    rig_check_empty(&r);
    client_drop(&running);
    client_drop(&job);
    rig_close(&r);
}
