// Tests of server/engine/gen.c without an engine: the test plays its part. Text comes from the bundled
// tokenizer, one id a byte, so that every border between tokens is tried.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "gen_engine.h"
#include "mem.h"

static struct tokenizer *tokenizer;
static int byte_ids[256];

static void setup(void)
{
    struct err e = {0};
    tokenizer = tokenizer_load(TEST_SOURCE_DIR "/models/bundled", &e);
    cr_assert(ne(ptr, tokenizer, NULL), "%s", e.text);
    for (int id = 0; id < tokenizer_count(tokenizer); id++) {
        size_t n = 0;
        const char *bytes = tokenizer_bytes(tokenizer, id, &n);
        if (n == 1)
            byte_ids[(unsigned char)bytes[0]] = id;
    }
}

static void teardown(void)
{
    tokenizer_destroy(tokenizer);
}

TestSuite(gen, .init = setup, .fini = teardown);

static void count(void *ud)
{
    ++*(int *)ud;
}

static const int PROMPT[] = {5, 6, 7};

static struct gen_params params(int max_tokens)
{
    return (struct gen_params){
        .prompt = PROMPT, .n_prompt = 3, .max_tokens = max_tokens, .logprobs = -1};
}

// A gen as the engine has it once it runs.
static struct gen *running(const struct gen_params *p, int *wakes)
{
    struct gen *g = gen_create(p, wakes ? count : NULL, wakes);
    gen_take(g, 1, 100);
    gen_begin(g, tokenizer, 200);
    return g;
}

static void push(struct gen *g, const char *text)
{
    for (; *text && g->finish == GEN_FINISH_NONE; text++)
        gen_push(g, &(struct gen_draw){.id = byte_ids[(unsigned char)*text]}, false, 300);
}

static void push_and_tell(struct gen *g, const char *text)
{
    push(g, text);
    gen_tell(g);
}

struct reader {
    struct gen_cursor cursor;
    struct buf text;
    struct gen_token tokens[64];
    int n;
    struct gen_status status;
};

static void read_all(struct gen *g, struct reader *r)
{
    r->n += gen_read(g, &r->cursor, &r->text, r->tokens + r->n, 64 - r->n, &r->status);
}

static const char *text_of(const struct reader *r)
{
    return r->text.data ? r->text.data : "";
}

Test(gen, readers_see_all_from_where_they_stand)
{
    struct gen_params p = params(10);
    struct gen *g = running(&p, NULL);
    struct reader one = {0}, two = {0};
    push(g, "ab");
    read_all(g, &one);
    cr_assert(eq(str, (char *)text_of(&one), "ab"));
    cr_assert(eq(int, one.n, 2));
    cr_assert(eq(int, (int)one.status.state, GEN_RUNNING));
    cr_assert(eq(i64, one.status.submitted_ns, 100));
    cr_assert(eq(i64, one.status.started_ns, 200));
    cr_assert(eq(i64, one.status.first_ns, 300));
    push(g, "cd");
    read_all(g, &one);
    read_all(g, &two);
    cr_assert(eq(str, (char *)text_of(&one), "abcd"));
    cr_assert(eq(str, (char *)text_of(&two), "abcd"));
    cr_assert(eq(int, two.n, 4));
    cr_assert(eq(sz, two.tokens[2].text_end, 3));
    gen_end(g);
    gen_release(g, NULL, NULL);
    buf_fini(&one.text);
    buf_fini(&two.text);
}

Test(gen, a_small_array_is_filled_again)
{
    struct gen_params p = params(10);
    struct gen *g = running(&p, NULL);
    struct gen_cursor c = {0};
    struct gen_token t[2];
    struct gen_status s;
    push(g, "abc");
    cr_assert(eq(int, gen_read(g, &c, NULL, t, 2, &s), 2));
    cr_assert(eq(int, gen_read(g, &c, NULL, t, 2, &s), 1));
    cr_assert(eq(int, t[0].id, byte_ids['c']));
    cr_assert(eq(int, gen_read(g, &c, NULL, t, 2, &s), 0));
    gen_end(g);
    gen_release(g, NULL, NULL);
}

Test(gen, text_that_does_not_fit_is_kept)
{
    struct gen_params p = params(10);
    struct gen *g = running(&p, NULL);
    struct reader r = {.text = {.max = 2}};
    push(g, "abc");
    read_all(g, &r);
    cr_assert(eq(sz, r.text.n, 0));
    r.text.max = 3;
    read_all(g, &r);
    cr_assert(eq(str, (char *)text_of(&r), "abc"));
    gen_end(g);
    gen_release(g, NULL, NULL);
    buf_fini(&r.text);
}

Test(gen, one_wake_between_two_reads)
{
    struct gen_params p = params(10);
    int wakes = 0;
    struct gen *g = running(&p, &wakes);
    struct reader r = {0};
    push(g, "a");
    cr_assert(eq(int, wakes, 0));
    gen_tell(g);
    cr_assert(eq(int, wakes, 1));
    push_and_tell(g, "bc");
    cr_assert(eq(int, wakes, 1));
    read_all(g, &r);
    gen_tell(g); // of nothing
    cr_assert(eq(int, wakes, 1));
    push_and_tell(g, "d");
    cr_assert(eq(int, wakes, 2));
    gen_end(g);
    cr_assert(eq(int, wakes, 2));
    read_all(g, &r);
    cr_assert(eq(int, (int)r.status.state, GEN_DONE));
    gen_release(g, NULL, NULL);
    buf_fini(&r.text);
}

Test(gen, nothing_new_wakes_nobody)
{
    const struct detok_stop stop = {"xyz", 3};
    struct gen_params p = params(10);
    p.stops = &stop;
    p.n_stops = 1;
    int wakes = 0;
    struct gen *g = running(&p, &wakes);
    struct reader r = {0};
    push_and_tell(g, "xy"); // may become the stop string: held back, and its tokens with it
    cr_assert(eq(int, wakes, 0));
    read_all(g, &r);
    cr_assert(eq(int, r.n, 0));
    cr_assert(eq(int, r.status.n_output, 2));
    push_and_tell(g, "q");
    cr_assert(eq(int, wakes, 1));
    read_all(g, &r);
    cr_assert(eq(str, (char *)text_of(&r), "xyq"));
    cr_assert(eq(int, r.n, 3));
    gen_end(g);
    gen_release(g, NULL, NULL);
    buf_fini(&r.text);
}

Test(gen, a_stop_string_ends_it_and_is_cut)
{
    const struct detok_stop stops[] = {{"never", 5}, {"bc", 2}};
    struct gen_params p = params(10);
    p.stops = stops;
    p.n_stops = 2;
    int wakes = 0;
    struct gen *g = running(&p, &wakes);
    struct reader r = {0};
    push(g, "abcd");
    cr_assert(eq(int, (int)g->finish, GEN_FINISH_STOP));
    gen_end(g);
    cr_assert(eq(int, wakes, 1)); // 'a'; the end while that is unread wakes no second time
    read_all(g, &r);
    cr_assert(eq(str, (char *)text_of(&r), "a"));
    cr_assert(eq(int, (int)r.status.finish, GEN_FINISH_STOP));
    cr_assert(eq(int, r.status.stop, 1));
    cr_assert(eq(int, r.status.stop_id, -1));
    cr_assert(eq(int, r.n, 3)); // all tokens show, the cut ones too
    cr_assert(eq(sz, r.tokens[1].text_end, 2));
    cr_assert(eq(sz, r.tokens[2].text_end, 3));
    gen_release(g, NULL, NULL);
    buf_fini(&r.text);
}

Test(gen, an_end_id_counts_and_has_no_text)
{
    const struct detok_stop stop = {"bcd", 3};
    struct gen_params p = params(10);
    p.stops = &stop;
    p.n_stops = 1;
    struct gen *g = running(&p, NULL);
    struct reader r = {0};
    push(g, "ab");
    gen_push(g, &(struct gen_draw){.id = byte_ids['c']}, true, 400);
    cr_assert(eq(int, (int)g->finish, GEN_FINISH_STOP));
    gen_end(g);
    read_all(g, &r);
    cr_assert(eq(str, (char *)text_of(&r), "ab")); // the held 'b' came out
    cr_assert(eq(int, r.status.n_output, 3));
    cr_assert(eq(int, r.status.stop_id, byte_ids['c']));
    cr_assert(eq(int, r.status.stop, -1));
    cr_assert(eq(sz, r.tokens[2].text_end, 2));
    cr_assert(eq(i64, r.tokens[1].made_ns, 300));
    cr_assert(eq(i64, r.tokens[2].made_ns, 400));
    gen_release(g, NULL, NULL);
    buf_fini(&r.text);
}

Test(gen, max_tokens_ends_it)
{
    struct gen_params p = params(2);
    struct gen *g = running(&p, NULL);
    struct reader r = {0};
    push(g, "a\xC3"); // half a character: U+FFFD at the end
    cr_assert(eq(int, (int)g->finish, GEN_FINISH_LENGTH));
    gen_end(g);
    read_all(g, &r);
    cr_assert(eq(str, (char *)text_of(&r), "a\xEF\xBF\xBD"));
    cr_assert(eq(int, (int)r.status.finish, GEN_FINISH_LENGTH));
    cr_assert(eq(int, r.n, 2));
    gen_release(g, NULL, NULL);
    buf_fini(&r.text);
}

Test(gen, characters_are_whole)
{
    struct gen_params p = params(10);
    struct gen *g = running(&p, NULL);
    struct reader r = {0};
    push(g, "\xE2\x82");
    read_all(g, &r);
    cr_assert(eq(sz, r.text.n, 0));
    cr_assert(eq(int, r.n, 0));
    push(g, "\xAC");
    read_all(g, &r);
    cr_assert(eq(str, (char *)text_of(&r), "\xE2\x82\xAC"));
    cr_assert(eq(int, r.n, 3));
    cr_assert(eq(sz, r.tokens[2].text_end, 3));
    gen_end(g);
    gen_release(g, NULL, NULL);
    buf_fini(&r.text);
}

Test(gen, logprobs_are_kept)
{
    struct gen_params p = params(2);
    p.logprobs = 2;
    p.prompt_logprobs = true;
    struct gen *g = running(&p, NULL);
    const struct gen_draw d = {
        .id = 9, .logprob = -1.5f, .top_ids = (int[]){9, 4}, .top_logprob = (float[]){-1.5f, -2}};
    gen_push_prompt(g, 1, &d);
    gen_push_prompt(g, 2, &d);
    cr_assert(eq(ptr, (void *)gen_prompt_tokens(g), NULL));
    gen_push(g, &d, false, 300);
    const struct gen_token *prompt = gen_prompt_tokens(g);
    cr_assert(ne(ptr, (void *)prompt, NULL));
    cr_assert(isnan(prompt[0].logprob));
    cr_assert(eq(int, prompt[0].id, PROMPT[0]));
    cr_assert(eq(flt, prompt[2].logprob, -1.5f));
    cr_assert(eq(int, prompt[2].top[1].id, 4));
    gen_push(g, &d, false, 300);
    gen_end(g);
    struct reader r = {0};
    read_all(g, &r);
    cr_assert(eq(int, r.n, 2));
    cr_assert(eq(flt, r.tokens[1].top[1].logprob, -2));
    gen_release(g, NULL, NULL);
    buf_fini(&r.text);
}

Test(gen, no_prompt_figures_of_a_prompt_that_was_not_finished)
{
    struct gen_params p = params(2);
    p.logprobs = 0;
    p.prompt_logprobs = true;
    struct gen *g = running(&p, NULL);
    struct err e;
    err_set(&e, ERR_CANCELLED, "the client left");
    gen_fail(g, &e);
    cr_assert(eq(ptr, (void *)gen_prompt_tokens(g), NULL));
    gen_release(g, NULL, NULL);
}

Test(gen, release_frees_once_whoever_is_last)
{
    struct gen_params p = params(4);
    struct err e;
    int released = 0, wakes = 0;
    err_set(&e, ERR_CANCELLED, "the client left");

    gen_release(gen_create(&p, NULL, NULL), count, &released); // never submitted
    cr_assert(eq(int, released, 1));

    struct gen *g = gen_create(&p, count, &wakes); // queued
    gen_take(g, 1, 1);
    gen_release(g, count, &released);
    cr_assert(eq(int, released, 1));
    cr_assert(atomic_load(&g->cancelled));
    gen_fail(g, &e);
    cr_assert(eq(int, released, 2));

    g = running(&p, &wakes); // running
    gen_release(g, count, &released);
    push_and_tell(g, "ab");
    cr_assert(eq(int, released, 2));
    gen_fail(g, &e);
    cr_assert(eq(int, released, 3));
    cr_assert(eq(int, wakes, 0), "a released gen woke its maker");

    g = running(&p, NULL); // ended
    push(g, "abcd");
    gen_end(g);
    gen_release(g, count, &released);
    cr_assert(eq(int, released, 4));
}

Test(gen, cancelled_ones_leave_a_list_in_order)
{
    struct gen_params p = params(1);
    struct gen_list list = {0}, out = {0};
    struct gen *g[5];
    for (int i = 0; i < 5; i++) {
        g[i] = gen_create(&p, NULL, NULL);
        gen_list_add(&list, g[i]);
    }
    gen_cancel(g[0]);
    gen_cancel(g[3]);
    gen_cancel(g[3]);
    cr_assert(eq(int, gen_list_cancelled(&list, &out), 2));
    cr_assert(eq(ptr, gen_list_pop(&out), g[0]));
    cr_assert(eq(ptr, gen_list_pop(&out), g[3]));
    cr_assert(eq(ptr, gen_list_pop(&out), NULL));
    for (int i = 1; i < 5; i++)
        if (i != 3)
            cr_assert(eq(ptr, gen_list_pop(&list), g[i]));
    cr_assert(eq(ptr, gen_list_pop(&list), NULL));
    for (int i = 0; i < 5; i++)
        gen_release(g[i], NULL, NULL);
}

// The engine's side of one gen, on its own thread.
static void *play_engine(void *arg)
{
    struct gen *g = arg;
    struct err e;
    gen_begin(g, tokenizer, 200);
    while (g->finish == GEN_FINISH_NONE && !atomic_load(&g->cancelled))
        push(g, "a");
    if (g->finish != GEN_FINISH_NONE) {
        gen_end(g);
    } else {
        err_set(&e, ERR_CANCELLED, "the client left");
        gen_fail(g, &e);
    }
    return NULL;
}

Test(gen, reader_and_engine_at_once)
{
    for (int round = 0; round < 60; round++) {
        struct gen_params p = params(round < 30 ? 200 : 100000);
        int released = 0;
        struct gen *g = gen_create(&p, NULL, NULL);
        struct gen_cursor c = {0};
        struct gen_status s = {0};
        struct buf text = {0};
        struct gen_token t[7];
        int n = 0;
        pthread_t engine;
        gen_take(g, 1, 100);
        cr_assert(zero(pthread_create(&engine, NULL, play_engine, g)));
        while (round < 30 ? s.state < GEN_DONE || n < 200 : n < round)
            n += gen_read(g, &c, &text, t, 7, &s);
        gen_release(g, count, &released);
        pthread_join(engine, NULL);
        cr_assert(eq(int, released, 1));
        cr_assert(ge(sz, text.n, (size_t)n));
        buf_fini(&text);
    }
}
