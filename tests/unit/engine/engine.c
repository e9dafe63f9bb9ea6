// Tests of the life of gens in an engine: waiting, cancelling, refusing, shutting down. The gate holds
// the engine in the middle of things, so nothing here depends on time.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine_rig.h"
#include "mem.h"
#include "stats.h"

static int *prompt; // [1000]

static void setup(void)
{
    prompt = rig_prompt(1000, 1);
}

static void teardown(void)
{
    mem_free(prompt);
}

TestSuite(engine, .init = setup, .fini = teardown);

static void check_failed(struct client *c, enum err_code code)
{
    cr_assert(eq(int, (int)c->status.state, GEN_FAILED));
    cr_assert(eq(int, (int)c->status.err.code, (int)code), "%s", c->status.err.text);
    cr_assert(eq(int, (int)c->status.finish, GEN_FINISH_NONE));
}

static void check_refused(struct rig *r, const struct gen_params *p, enum err_code code,
                          const char *param, const char *word)
{
    static struct client c;
    struct err e = {0};
    cr_assert(eq(int, client_submit(&c, r, p, &e), -1), "taken instead of: %s", word);
    cr_assert(eq(int, (int)e.code, (int)code), "%s", e.text);
    cr_assert(eq(str, e.param, (char *)param));
    cr_assert(ne(ptr, strstr(e.text, word), NULL), "no %s in: %s", word, e.text);
}

Test(engine, a_gen_has_a_life)
{
    struct rig r;
    static struct client c;
    rig_open(&r, &(struct rig_options){0});
    cr_assert(engine_idle(r.en));
    const struct gen_params p = rig_params(prompt, 100, 5);
    gate_close();
    client_start(&c, &r, &p);
    cr_assert(not(engine_idle(r.en)));
    gate_wait();
    client_read(&c);
    cr_assert(eq(int, (int)c.status.state, GEN_RUNNING));
    cr_assert(eq(int, c.status.n_prompt, 100));
    gate_open();
    client_finish(&c);
    cr_assert(eq(int, (int)c.status.state, GEN_DONE));
    cr_assert(eq(int, (int)c.status.finish, GEN_FINISH_LENGTH));
    cr_assert(eq(int, c.status.n_output, 5));
    cr_assert(le(i64, c.status.submitted_ns, c.status.started_ns));
    cr_assert(le(i64, c.status.started_ns, c.status.first_ns));
    cr_assert(le(i64, c.status.first_ns, c.status.last_ns));
    cr_assert(eq(i64, stats_counter_value(STATS_PROMPT_TOKENS), 100));
    cr_assert(eq(i64, stats_counter_value(STATS_GENERATION_TOKENS), 5));
    cr_assert(eq(i64, stats_counter_value(STATS_STEPS), 5));
    cr_assert(eq(i64, stats_counter_value(STATS_REQUESTS_LENGTH), 1));
    rig_check_empty(&r);
    client_drop(&c);
    rig_close(&r);
}

Test(engine, limits_that_starve_are_refused_at_start)
{
    char why[256];
    struct err e = {0};
    struct dev *dev = ops_cpu.open(&(struct dev_options){.threads = 1}, why, sizeof why);
    const struct model_options m = {.dtype = DTYPE_F32,
                                    .context_max = 512,
                                    .batch_tokens = 70,
                                    .batch_rows = 70,
                                    .sequences_max = 8,
                                    .chunk = RIG_CHUNK,
                                    .inverse = inverse_auto(RIG_CHUNK, INVERSE_FP32)};
    struct model *model =
        model_load(TEST_SOURCE_DIR "/tests/golden/dense_a", &m, &ops_cpu, dev, &e);
    cr_assert(ne(ptr, model, NULL), "%s", e.text);
    struct engine *en =
        engine_create(model, &ops_cpu, dev, NULL, &(struct engine_options){.queue_max = 1}, &e);
    cr_assert(eq(ptr, en, NULL));
    cr_assert(eq(int, (int)e.code, ERR_BAD_REQUEST));
    cr_assert(ne(ptr, strstr(e.text, "batch_tokens is 70"), NULL), "%s", e.text);
    ops_cpu.close(dev);
}

Test(engine, what_can_never_run_is_refused)
{
    struct rig r;
    rig_open(&r, &(struct rig_options){.context_max = 512, .n_pages = 8});
    struct gen_params p = rig_params(prompt, 500, 13);
    check_refused(&r, &p, ERR_CONTEXT_LENGTH, "max_tokens", "together 513; the context holds 512");
    p.max_tokens = 2000000000;
    check_refused(&r, &p, ERR_CONTEXT_LENGTH, "max_tokens", "2000000500");
    p.max_tokens = -1;
    check_refused(&r, &p, ERR_BAD_REQUEST, "max_tokens", "-1");
    p = rig_params(prompt, 0, 5);
    check_refused(&r, &p, ERR_BAD_REQUEST, "prompt", "no tokens");
    p = rig_params((int[]){3, RIG_VOCAB}, 2, 5);
    check_refused(&r, &p, ERR_BAD_REQUEST, "prompt", "the id 1200 (at place 1)");
    p = rig_params((int[]){-7}, 1, 5);
    check_refused(&r, &p, ERR_BAD_REQUEST, "prompt", "the id -7");
    p = rig_params(prompt, 5, 5);
    p.bias_ids = (int[]){5000};
    p.bias = (float[]){1};
    p.n_bias = 1;
    check_refused(&r, &p, ERR_BAD_REQUEST, "logit_bias", "the id 5000");
    rig_check_empty(&r);
    rig_close(&r);
}

Test(engine, a_full_queue_is_busy)
{
    struct rig r;
    static struct client c[4];
    const struct gen_params p = rig_params(prompt, 10, 3);
    rig_open(&r, &(struct rig_options){.sequences_max = 1, .queue_max = 2});
    gate_close();
    client_start(&c[0], &r, &p);
    gate_wait(); // the first runs and waits no more
    client_start(&c[1], &r, &p);
    client_start(&c[2], &r, &p);
    cr_assert(eq(i64, stats_gauge_value(STATS_WAITING), 2));
    check_refused(&r, &p, ERR_BUSY, "", "2 requests are waiting");
    cr_assert(eq(i64, stats_counter_value(STATS_REQUESTS_REFUSED), 1));
    gate_open();
    for (int i = 0; i < 3; i++) {
        client_finish(&c[i]);
        cr_assert(eq(int, (int)c[i].status.state, GEN_DONE));
    }
    client_start(&c[3], &r, &p);
    client_finish(&c[3]);
    rig_check_empty(&r);
    for (int i = 0; i < 4; i++)
        client_drop(&c[i]);
    rig_close(&r);
}

// One that needs nearly all pages is not passed by a small one behind it.
Test(engine, first_in_first_out_while_pages_are_short)
{
    struct rig r;
    static struct client first, big, small;
    rig_open(&r, &(struct rig_options){.context_max = 512, .n_pages = 8});
    const struct gen_params p = rig_params(prompt, 100, 80), q = rig_params(prompt, 400, 100),
                            s = rig_params(prompt, 10, 2);
    gate_close();
    client_start(&first, &r, &p); // 3 pages of 8
    client_start(&big, &r, &q);   // 8 pages
    client_start(&small, &r, &s); // 1 page
    gate_steps(10);
    gate_wait();
    client_read(&big);
    client_read(&small);
    cr_assert(eq(int, (int)big.status.state, GEN_QUEUED));
    cr_assert(eq(int, (int)small.status.state, GEN_QUEUED));
    cr_assert(eq(i64, stats_gauge_value(STATS_KV_PAGES_USED), 3));
    gate_open();
    client_finish(&first);
    client_finish(&small);
    client_finish(&big);
    cr_assert(eq(int, (int)small.status.state, GEN_DONE));
    cr_assert(le(i64, first.status.last_ns, big.status.started_ns));
    cr_assert(le(i64, big.status.last_ns, small.status.started_ns));
    rig_check_empty(&r);
    client_drop(&first);
    client_drop(&big);
    client_drop(&small);
    rig_close(&r);
}

Test(engine, generating_goes_on_beside_a_long_prompt)
{
    struct rig r;
    static struct client talker, reader;
    const int steps = 5;
    const struct gen_params p = rig_params(prompt, 10, 100), q = rig_params(prompt, 900, 1);
    rig_open(&r, &(struct rig_options){.batch_tokens = RIG_CHUNK + 8});
    gate_close();
    client_start(&talker, &r, &p);
    gate_steps(1);
    gate_wait();
    client_start(&reader, &r, &q);
    gate_steps(1 + steps); // the step that waited was made before the reader came
    gate_wait();
    client_read(&talker);
    client_read(&reader);
    cr_assert(eq(int, talker.n, 2 + steps)); // a token every step
    cr_assert(eq(int, reader.n, 0));
    cr_assert(eq(int, gate_longest(), RIG_CHUNK + 1));
    cr_assert(eq(i64, stats_counter_value(STATS_PROMPT_TOKENS), 10 + steps * RIG_CHUNK));
    gate_open();
    client_finish(&reader);
    client_finish(&talker);
    client_drop(&talker);
    client_drop(&reader);
    rig_close(&r);
}

Test(engine, readers_are_told_at_once_or_behind_the_next_step)
{
    for (int async = 0; async < 2; async++) {
        struct rig r;
        static struct client c;
        const struct gen_params p = rig_params(prompt, 10, 4);
        rig_open(&r, &(struct rig_options){.async = async});
        gate_close();
        client_start(&c, &r, &p);
        gate_steps(1);
        gate_wait(); // a token is there and the next step not yet
        cr_assert(eq(int, c.wakes, !async));
        client_read(&c);
        cr_assert(eq(int, c.n, 1));
        gate_steps(1);
        gate_wait();
        cr_assert(eq(int, c.wakes, async ? 1 : 2));
        gate_open();
        client_finish(&c); // by its wakes alone
        cr_assert(eq(int, c.n, 4));
        client_drop(&c);
        rig_close(&r);
    }
}

Test(engine, cancelled_while_queued)
{
    struct rig r;
    static struct client running, head, second;
    const struct gen_params p = rig_params(prompt, 10, 200);
    rig_open(&r, &(struct rig_options){.sequences_max = 1});
    gate_close();
    client_start(&running, &r, &p);
    gate_wait();
    client_start(&head, &r, &p);
    client_start(&second, &r, &p);
    gen_cancel(second.g); // not the head: it must not wait for it
    gate_steps(1);
    gate_wait();
    client_finish(&second);
    check_failed(&second, ERR_CANCELLED);
    cr_assert(eq(i64, stats_gauge_value(STATS_WAITING), 1));
    client_read(&running);
    cr_assert(eq(int, (int)running.status.state, GEN_RUNNING)); // nobody else's
    gate_open();
    client_finish(&running);
    client_finish(&head);
    cr_assert(eq(int, (int)head.status.state, GEN_DONE));
    cr_assert(eq(i64, stats_counter_value(STATS_REQUESTS_CANCELLED), 1));
    rig_check_empty(&r);
    client_drop(&running);
    client_drop(&head);
    client_drop(&second);
    rig_close(&r);
}

Test(engine, cancelled_while_its_prompt_is_read)
{
    struct rig r;
    static struct client c;
    const struct gen_params p = rig_params(prompt, 900, 20);
    rig_open(&r, &(struct rig_options){.batch_tokens = RIG_CHUNK + 8});
    gate_close();
    client_start(&c, &r, &p);
    gate_steps(3);
    gate_wait();
    gen_cancel(c.g);
    gen_cancel(c.g);
    gate_steps(1);
    client_finish(&c);
    check_failed(&c, ERR_CANCELLED);
    cr_assert(eq(int, c.n, 0));
    cr_assert(eq(int, gate_count(), 4)); // the rest of the prompt was not computed
    rig_check_empty(&r);
    client_drop(&c);
    rig_close(&r);
}

Test(engine, cancelled_while_it_generates)
{
    struct rig r;
    static struct client c, other;
    const struct gen_params p = rig_params(prompt, 70, 200);
    rig_open(&r, &(struct rig_options){0});
    gate_close();
    client_start(&c, &r, &p);
    gate_wait();
    client_start(&other, &r, &p);
    gate_steps(5);
    gate_wait();
    gen_cancel(c.g);
    gate_steps(1);
    client_finish(&c);
    check_failed(&c, ERR_CANCELLED);
    cr_assert(eq(int, c.n, 6)); // what was there stays readable
    gate_wait();
    cr_assert(eq(i64, stats_gauge_value(STATS_RUNNING), 1));
    cr_assert(eq(i64, stats_gauge_value(STATS_SLOTS_USED), 1));
    gate_open();
    client_finish(&other);
    cr_assert(eq(int, (int)other.status.state, GEN_DONE));
    rig_check_empty(&r);
    client_drop(&c);
    client_drop(&other);
    rig_close(&r);
}

static void count(void *ud)
{
    atomic_fetch_add((atomic_int *)ud, 1);
}

Test(engine, released_in_every_phase)
{
    struct rig r;
    static struct client c[3];
    atomic_int released = 0;
    const struct gen_params p = rig_params(prompt, 100, 50);
    rig_open(&r, &(struct rig_options){.sequences_max = 2});
    gate_close();
    for (int i = 0; i < 3; i++) {
        client_start(&c[i], &r, &p);
        gate_wait();
    }
    gate_steps(3);
    gate_wait();
    for (int i = 0; i < 3; i++) {
        gen_release(c[i].g, count, &released);
        buf_fini(&c[i].text);
    }
    cr_assert(eq(int, released, 0)); // the engine still holds them all
    gate_open();
    static struct client last;
    client_run(&last, &r, &p); // behind the others
    cr_assert(eq(int, released, 3));
    rig_check_empty(&r);
    client_drop(&last);
    rig_close(&r);
}

Test(engine, draining_takes_no_more_and_ends_what_it_has)
{
    struct rig r;
    static struct client running, queued;
    const struct gen_params p = rig_params(prompt, 10, 5);
    rig_open(&r, &(struct rig_options){.sequences_max = 1});
    gate_close();
    client_start(&running, &r, &p);
    gate_wait();
    client_start(&queued, &r, &p);
    engine_drain(r.en);
    check_refused(&r, &p, ERR_SHUTTING_DOWN, "", "shutting down");
    cr_assert(not(engine_idle(r.en)));
    gate_open();
    client_finish(&running);
    client_finish(&queued);
    cr_assert(eq(int, (int)queued.status.state, GEN_DONE));
    rig_check_empty(&r);
    client_drop(&running);
    client_drop(&queued);
    rig_close(&r);
}

static void *destroy(void *arg)
{
    engine_destroy(arg);
    return NULL;
}

Test(engine, destroyed_while_gens_run_and_wait)
{
    struct rig r;
    static struct client c[4];
    pthread_t destroyer;
    const struct gen_params p = rig_params(prompt, 100, 400);
    rig_open(&r, &(struct rig_options){.sequences_max = 2});
    gate_close();
    for (int i = 0; i < 4; i++)
        client_start(&c[i], &r, &p);
    gate_steps(4);
    gate_wait();
    pthread_create(&destroyer, NULL, destroy, r.en);
    gate_open();
    pthread_join(destroyer, NULL);
    r.en = NULL;
    for (int i = 0; i < 4; i++) {
        client_finish(&c[i]);
        check_failed(&c[i], ERR_SHUTTING_DOWN);
        gen_cancel(c[i].g); // a gen outlives its engine
        client_drop(&c[i]);
    }
    cr_assert(eq(i64, stats_gauge_value(STATS_KV_PAGES_USED), 0));
    cr_assert(eq(i64, stats_gauge_value(STATS_WAITING), 0));
    rig_close(&r);
}

Test(engine, a_lost_device_fails_all_and_is_told_once)
{
    struct rig r;
    static struct client running, queued;
    const struct gen_params p = rig_params(prompt, 10, 50);
    rig_open(&r, &(struct rig_options){.sequences_max = 1});
    gate_close();
    client_start(&running, &r, &p);
    gate_steps(2);
    gate_wait();
    client_start(&queued, &r, &p);
    gate_break();
    gate_open();
    client_finish(&running);
    client_finish(&queued);
    check_failed(&running, ERR_DEVICE);
    check_failed(&queued, ERR_DEVICE);
    cr_assert(ne(ptr, strstr(queued.status.err.text, "the test broke the device"), NULL));
    check_refused(&r, &p, ERR_DEVICE, "", "the test broke the device");
    cr_assert(not(engine_alive(r.en, 1 << 30)));
    rig_check_empty(&r);
    client_drop(&running);
    client_drop(&queued);
    rig_close(&r);
    cr_assert(eq(int, r.lost, 1));
}

Test(engine, alive_when_idle_and_not_when_stuck)
{
    struct rig r;
    static struct client c;
    const struct gen_params p = rig_params(prompt, 10, 3);
    rig_open(&r, &(struct rig_options){0});
    cr_assert(engine_alive(r.en, 0)); // nothing to do is well
    gate_close();
    client_start(&c, &r, &p);
    gate_wait();
    cr_assert(not(engine_alive(r.en, 0)));
    cr_assert(engine_alive(r.en, 1 << 30));
    gate_open();
    client_finish(&c);
    cr_assert(engine_alive(r.en, 0));
    client_drop(&c);
    rig_close(&r);
}

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    cr_assert(ne(ptr, f, NULL));
    char *text = mem_zero(1 << 16, 1);
    cr_assert(gt(sz, fread(text, 1, (1 << 16) - 1, f), 0));
    fclose(f);
    return text;
}

static void check_has(const char *text, const char *line)
{
    cr_assert(ne(ptr, strstr(text, line), NULL), "no '%s' in\n%s", line, text);
}

Test(engine, the_trace_tells_every_decision)
{
    struct rig r;
    static struct client a, b, c;
    char path[] = "/tmp/deltaserve_trace_XXXXXX";
    close(mkstemp(path));
    struct gen_params p = rig_params(prompt, 100, 50), q = rig_params(prompt, 300, 3);
    rig_open(&r, &(struct rig_options){
                     .sequences_max = 2, .batch_tokens = 130, .batch_rows = 70, .trace = path});
    gate_close();
    client_start(&a, &r, &p);
    gate_wait();
    q.logprobs = 0;
    q.prompt_logprobs = true;
    client_start(&b, &r, &q);
    client_start(&c, &r, &q);
    gate_steps(2);
    gate_wait();
    gen_cancel(c.g);
    gate_open();
    client_finish(&a);
    client_finish(&b);
    client_finish(&c);
    rig_close(&r);
    char *text = read_file(path);
    check_has(text, "gen=1 admitted prompt=100 max=50 pages=3 slot=0");
    check_has(text, "gen=3 waits for=slot");
    check_has(text, "step=1 gen=1 prefill=100 from=0 of=100 cut=none");
    check_has(text, "step=2 gen=2 prefill=64 from=0 of=300 cut=rows");
    check_has(text, "step=2 tokens=65 decode=1 rows=65 prompt_rows=64");
    check_has(text, "gen=3 cancelled prompt=0/300 output=0");
    check_has(text, "gen=2 finished reason=length prompt=300/300 output=3");
    unlink(path);
    mem_free(text);
    client_drop(&a);
    client_drop(&b);
    client_drop(&c);
}

Test(engine, a_dump_says_who_does_what)
{
    struct rig r;
    static struct client a, b;
    char path[] = "/tmp/deltaserve_dump_XXXXXX";
    int file = mkstemp(path), saved = dup(STDERR_FILENO);
    const struct gen_params p = rig_params(prompt, 100, 50);
    rig_open(&r, &(struct rig_options){.sequences_max = 1, .context_max = 512, .n_pages = 8});
    gate_close();
    client_start(&a, &r, &p);
    gate_wait();
    client_start(&b, &r, &p);
    dup2(file, STDERR_FILENO);
    engine_dump(r.en);
    gate_steps(1);
    gate_wait();
    dup2(saved, STDERR_FILENO);
    gate_open();
    char *text = read_file(path);
    check_has(text, "running=1 of 1 pages_free=5 of 8 slots_free=0 of 1");
    check_has(text, "gen 1: decode prompt=100/100 output=1/50 pages=3 slot=0");
    check_has(text, "gen 2: waits prompt=100 max=50");
    check_has(text, "pages: 0-2 gen 1, 3-7 free\n");
    check_has(text, "slots: 0-0 gen 1\n");
    client_finish(&a);
    client_finish(&b);
    engine_dump(r.en); // an idle engine answers too, at the latest when it is destroyed
    client_drop(&a);
    client_drop(&b);
    rig_close(&r);
    close(file);
    unlink(path);
    mem_free(text);
}

Test(engine, the_residual_check_reaches_the_metrics)
{
    struct rig r;
    static struct client c;
    const struct gen_params p = rig_params(prompt, 200, 2);
    rig_open(&r, &(struct rig_options){.residuals = true});
    client_run(&c, &r, &p);
    // The engine reads the figures after the step that ended the last gen.
    rig_close(&r);
    cr_assert(eq(i64, stats_counter_value(STATS_INVERSE_NONFINITE), 0));
    cr_assert(gt(i64, stats_gauge_value(STATS_INVERSE_RESIDUAL_PPB), 0));
    client_drop(&c);
}
