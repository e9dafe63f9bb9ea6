// Tests of server/engine/plan.c: single steps as a table, then whole lives of random loads against the
// promises of plan.h.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

enum { SEQS_MAX = 8 };

struct plan_case {
    const char *name;
    struct plan_limits limits;
    struct plan_seq seqs[SEQS_MAX];     // n_prompt 0 ends them
    struct plan_piece pieces[SEQS_MAX]; // t 0 ends them
};

// Sequences: served, prompt, done. Pieces: sequence, tokens.
#define READS(served, prompt, done)                                                                \
    {                                                                                              \
        served, prompt, done, false                                                                \
    }
#define ASKS_ROWS(served, prompt, done)                                                            \
    {                                                                                              \
        served, prompt, done, true                                                                 \
    }
#define GENERATES(served, prompt)                                                                  \
    {                                                                                              \
        served, prompt, prompt, false                                                              \
    }
#define WHOLE(seq, t)                                                                              \
    {                                                                                              \
        seq, t, PLAN_WHOLE                                                                         \
    }
#define CUT(seq, t)                                                                                \
    {                                                                                              \
        seq, t, PLAN_TOKENS                                                                        \
    }
#define CUT_BY_ROWS(seq, t)                                                                        \
    {                                                                                              \
        seq, t, PLAN_ROWS                                                                          \
    }

// Limits: tokens, rows, chunk.
static const struct plan_case CASES[] = {
    {"a short prompt is one piece", {128, 128, 64}, {READS(0, 10, 0)}, {WHOLE(0, 10)}},
    {"a long prompt is cut at a multiple of the chunk",
     {150, 150, 64},
     {READS(0, 1000, 0)},
     {CUT(0, 128)}},
    {"it goes on where it was cut", {150, 150, 64}, {READS(0, 1000, 960)}, {WHOLE(0, 40)}},
    {"a prompt of exactly the budget is whole",
     {128, 128, 64},
     {READS(0, 128, 0)},
     {WHOLE(0, 128)}},
    {"the last piece needs no whole chunk of room",
     {100, 100, 64},
     {READS(0, 164, 64)},
     {WHOLE(0, 100)}},
    {"decode rows come out of the budget first and stand last",
     {130, 130, 64},
     {GENERATES(0, 5), READS(0, 1000, 0), GENERATES(0, 7), GENERATES(0, 9)},
     {CUT(1, 64), WHOLE(0, 1), WHOLE(2, 1), WHOLE(3, 1)}},
    {"decode alone",
     {128, 128, 64},
     {GENERATES(0, 5), GENERATES(0, 6)},
     {WHOLE(0, 1), WHOLE(1, 1)}},
    {"two long prompts get equal shares",
     {256, 256, 64},
     {READS(0, 1000, 0), READS(0, 1000, 64)},
     {CUT(0, 128), CUT(1, 128)}},
    {"a chunk that cannot be shared goes to the oldest",
     {192, 192, 64},
     {READS(9, 1000, 0), READS(3, 1000, 0)},
     {CUT(0, 128), CUT(1, 64)}},
    {"what a short prompt leaves of its share goes to the oldest",
     {256, 256, 64},
     {READS(0, 1000, 0), READS(0, 20, 0)},
     {CUT(0, 192), WHOLE(1, 20)}},
    {"a short prompt does not wait behind a long one",
     {128, 128, 64},
     {READS(0, 100000, 0), READS(0, 30, 0)},
     {CUT(0, 64), WHOLE(1, 30)}},
    {"of prompts served at the same time the oldest goes first",
     {130, 130, 64},
     {READS(4, 1000, 0), READS(4, 1000, 0), READS(4, 1000, 0)},
     {CUT(0, 64), CUT(1, 64)}},
    {"the one that got nothing goes first next time",
     {130, 130, 64},
     {READS(5, 1000, 64), READS(5, 1000, 64), READS(4, 1000, 0)},
     {CUT(0, 64), CUT(2, 64)}},
    {"a newcomer goes behind those that wait",
     {66, 66, 64},
     {READS(5, 1000, 64), READS(4, 1000, 64), READS(5, 1000, 0)},
     {CUT(1, 64)}},
    {"rows cut a prompt that wants all of its logits",
     {512, 130, 64},
     {ASKS_ROWS(0, 1000, 0)},
     {CUT_BY_ROWS(0, 128)}},
    {"rows are shared with the rows that are sampled",
     {512, 130, 64},
     {ASKS_ROWS(0, 1000, 0), GENERATES(0, 3), GENERATES(0, 4)},
     {CUT_BY_ROWS(0, 64), WHOLE(1, 1), WHOLE(2, 1)}},
    {"rows do not limit a prompt that wants one",
     {512, 65, 64},
     {READS(0, 500, 0)},
     {WHOLE(0, 500)}},
    {"of two that want rows one goes first",
     {512, 67, 64},
     {ASKS_ROWS(1, 1000, 0), ASKS_ROWS(1, 1000, 0)},
     {CUT_BY_ROWS(0, 64)}},
    {"and the other next time",
     {512, 67, 64},
     {ASKS_ROWS(2, 1000, 64), ASKS_ROWS(1, 1000, 0)},
     {CUT_BY_ROWS(1, 64)}},
    {"rows that are short for one leave tokens to another",
     {512, 130, 64},
     {ASKS_ROWS(0, 1000, 0), READS(0, 1000, 0)},
     {CUT_BY_ROWS(0, 128), CUT(1, 384)}},
    {"nothing to do", {128, 128, 64}, {READS(0, 0, 0)}, {CUT(0, 0)}},
};

static int count_seqs(const struct plan_case *c)
{
    int n = 0;
    while (n < SEQS_MAX && c->seqs[n].n_prompt)
        n++;
    return n;
}

Test(plan, one_step)
{
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        const struct plan_case *c = &CASES[i];
        struct plan_piece pieces[SEQS_MAX] = {{0}};
        int n = plan_step(c->seqs, count_seqs(c), &c->limits, pieces), want = 0;
        while (want < SEQS_MAX && c->pieces[want].t)
            want++;
        cr_assert(eq(int, n, want), "%s", c->name);
        for (int k = 0; k < n; k++) {
            cr_assert(eq(int, pieces[k].seq, c->pieces[k].seq), "%s, piece %d", c->name, k);
            cr_assert(eq(int, pieces[k].t, c->pieces[k].t), "%s, piece %d", c->name, k);
            cr_assert(eq(int, (int)pieces[k].cut, (int)c->pieces[k].cut), "%s, piece %d", c->name,
                      k);
        }
    }
}

Test(plan, admission)
{
    cr_assert(eq(int, (int)plan_admit(3, 3, 1), PLAN_ADMIT));
    cr_assert(eq(int, (int)plan_admit(4, 3, 1), PLAN_WAIT_PAGES));
    cr_assert(eq(int, (int)plan_admit(1, 3, 0), PLAN_WAIT_SLOT));
}

Test(plan, limits_that_starve_are_refused)
{
    struct err e = {0};
    cr_assert(zero(plan_check(&(struct plan_limits){128, 128, 64}, 64, &e)));
    cr_assert(eq(int, plan_check(&(struct plan_limits){127, 128, 64}, 64, &e), -1));
    cr_assert(eq(int, (int)e.code, ERR_BAD_REQUEST));
    cr_assert(ne(ptr, strstr(e.text, "batch_tokens is 127"), NULL), "%s", e.text);
    cr_assert(eq(int, plan_check(&(struct plan_limits){128, 127, 64}, 64, &e), -1));
    cr_assert(ne(ptr, strstr(e.text, "batch_rows is 127"), NULL), "%s", e.text);
}

// One life of a random load.
struct world {
    struct plan_limits limits;
    struct plan_seq seqs[SEQS_MAX];
    int waited[SEQS_MAX]; // steps in a row without a piece
    int left[SEQS_MAX];   // tokens to generate
    int n;
    uint64_t step;
};

static void arrive(struct world *w)
{
    while (w->n < SEQS_MAX && rand() % 3) {
        w->seqs[w->n] = (struct plan_seq){.served = w->step,
                                          .n_prompt = 1 + rand() % (rand() % 4 ? 200 : 3000),
                                          .prompt_rows = rand() % 4 == 0};
        w->waited[w->n] = 0;
        w->left[w->n++] = rand() % 40;
    }
}

// Check a step's sums and borders, and move the world on by it.
static void check_step(struct world *w)
{
    struct plan_piece pieces[SEQS_MAX];
    w->step++;
    int n = plan_step(w->seqs, w->n, &w->limits, pieces);
    int tokens = 0, rows = 0, last_prompt = -1, last_decode = -1;
    for (int i = 0; i < w->n; i++)
        w->waited[i]++;
    for (int k = 0; k < n; k++) {
        struct plan_seq *s = &w->seqs[pieces[k].seq];
        bool decode = s->n_done == s->n_prompt;
        int *last = decode ? &last_decode : &last_prompt;
        cr_assert(gt(int, pieces[k].seq, *last)); // once each, in order of arrival
        cr_assert(decode || last_decode < 0, "a prompt stands behind a decode row");
        *last = pieces[k].seq;
        w->waited[pieces[k].seq] = 0;
        s->served = w->step;
        tokens += pieces[k].t;
        rows += s->prompt_rows && !decode ? pieces[k].t : 1;
        if (decode)
            continue;
        s->n_done += pieces[k].t;
        cr_assert(le(int, s->n_done, s->n_prompt));
        cr_assert(s->n_done == s->n_prompt || s->n_done % w->limits.chunk == 0);
        cr_assert(eq(int, s->n_done == s->n_prompt, pieces[k].cut == PLAN_WHOLE));
    }
    cr_assert(le(int, tokens, w->limits.tokens));
    cr_assert(le(int, rows, w->limits.rows));
    for (int i = 0; i < w->n; i++) {
        bool decode = w->seqs[i].n_done == w->seqs[i].n_prompt;
        cr_assert(le(int, decode ? w->waited[i] : 0, 0), "a decode row was left out");
        // Every prompt gets a chunk within as many steps as there are sequences.
        cr_assert(le(int, w->waited[i], SEQS_MAX));
    }
}

static void leave(struct world *w)
{
    int kept = 0;
    for (int i = 0; i < w->n; i++) {
        bool over = w->seqs[i].n_done == w->seqs[i].n_prompt && w->left[i]-- <= 0;
        if (over || rand() % 50 == 0) // done, or cancelled in any phase
            continue;
        w->seqs[kept] = w->seqs[i];
        w->waited[kept] = w->waited[i];
        w->left[kept++] = w->left[i];
    }
    w->n = kept;
}

Test(plan, whole_lives)
{
    static const int CHUNKS[] = {16, 32, 64, 128};
    srand(1);
    for (int life = 0; life < 200; life++) {
        int chunk = CHUNKS[rand() % 4];
        struct world w = {.limits = {.tokens = chunk + SEQS_MAX + rand() % 300,
                                     .rows = chunk + SEQS_MAX + rand() % 100,
                                     .chunk = chunk}};
        struct err e;
        cr_assert(zero(plan_check(&w.limits, SEQS_MAX, &e)));
        for (int step = 0; step < 100; step++) {
            arrive(&w);
            check_step(&w);
            leave(&w);
        }
    }
}
