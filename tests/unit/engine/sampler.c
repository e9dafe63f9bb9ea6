// Tests of server/engine/sampler.c over a table of operations that only writes down what it is given:
// which rows, which settings, which logits at which moment.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "sampler.h"

enum { VOCAB = 8, ROWS_MAX = 8, HISTORY_MAX = 64 };

// What the fake operations saw.
static struct {
    int sample_n, logprobs_n, top_n, n_tokens, allocs;
    struct sample_row rows[ROWS_MAX];
    int bias_ids[8], history[HISTORY_MAX], ids[ROWS_MAX];
    float bias[8], logits[ROWS_MAX * VOCAB];
    bool fail, no_memory;
    size_t bytes;
} seen;

static void *fake_alloc(struct dev *dev, size_t bytes)
{
    (void)dev;
    if (seen.no_memory && seen.allocs == 3)
        return NULL;
    seen.allocs++;
    seen.bytes += bytes;
    return calloc(1, bytes);
}

static void fake_release(struct dev *dev, void *p)
{
    (void)dev;
    seen.allocs--;
    free(p);
}

static void fake_copy(struct dev *dev, void *dst, const void *src, size_t bytes)
{
    (void)dev;
    memcpy(dst, src, bytes);
}

static int fake_sync(struct dev *dev, char *why, size_t why_size)
{
    (void)dev;
    if (seen.fail)
        snprintf(why, why_size, "the cable is out");
    return seen.fail ? -1 : 0;
}

// "Samples" the id that stands in the row's first logit, and ruins the logits.
static void fake_sample(struct dev *dev, const struct sample_args *a)
{
    (void)dev;
    seen.sample_n = a->n;
    seen.n_tokens = a->n_tokens;
    memcpy(seen.rows, a->rows, (size_t)a->n * sizeof *a->rows);
    memcpy(seen.bias_ids, a->bias_ids, sizeof seen.bias_ids);
    memcpy(seen.bias, a->bias, sizeof seen.bias);
    memcpy(seen.history, a->history, sizeof seen.history);
    for (int i = 0; i < a->n; i++) {
        a->ids[i] = (int)a->logits[i * VOCAB];
        for (int j = 0; j < VOCAB; j++)
            a->logits[i * VOCAB + j] = -99;
    }
}

// The "logprob" of an id is its logit; the best ids are 0, 1, ...
static void fake_logprobs(struct dev *dev, const struct logprobs_args *a)
{
    (void)dev;
    seen.logprobs_n = a->n;
    seen.top_n = a->top_n;
    memcpy(seen.ids, a->ids, (size_t)a->n * sizeof *a->ids);
    memcpy(seen.logits, a->logits, (size_t)a->n * VOCAB * sizeof *a->logits);
    for (int i = 0; i < a->n; i++) {
        a->logprob[i] = a->logits[i * VOCAB + a->ids[i]];
        for (int j = 0; j < a->top_n; j++) {
            a->top_ids[i * a->top_n + j] = j;
            a->top_logprob[i * a->top_n + j] = a->logits[i * VOCAB + j];
        }
    }
}

static const struct ops FAKE = {.alloc = fake_alloc,
                                .copy = fake_copy,
                                .release = fake_release,
                                .upload = fake_copy,
                                .download = fake_copy,
                                .sync = fake_sync,
                                .sample = fake_sample,
                                .logprobs = fake_logprobs};
static const struct sampler_limits LIMITS = {ROWS_MAX, 4, VOCAB, 7, HISTORY_MAX};
static const int PROMPT[] = {1, 2, 3, 4};

static struct gen_params params(int logprobs)
{
    return (struct gen_params){.prompt = PROMPT,
                               .n_prompt = 4,
                               .max_tokens = 4,
                               .logprobs = logprobs,
                               .sampling = {.repetition = 1, .seed = 42}};
}

static struct gen *running(const struct gen_params *p)
{
    struct gen *g = gen_create(p, NULL, NULL);
    gen_take(g, 1, 1);
    gen_begin(g, NULL, 1);
    return g;
}

static void end(struct gen *g)
{
    gen_end(g);
    gen_release(g, NULL, NULL);
}

// Row i of the logits is i, i + 0.5, i + 1, ... so that each place can be told.
static void fill(float logits[ROWS_MAX * VOCAB])
{
    for (int i = 0; i < ROWS_MAX; i++)
        for (int j = 0; j < VOCAB; j++)
            logits[i * VOCAB + j] = (float)i + (float)j / 2;
}

static int run(struct sampler *s, const struct sampler_step *st, struct err *e)
{
    sampler_begin(s, st);
    return sampler_end(s, st, e);
}

static struct sampler *create(void)
{
    struct err e;
    memset(&seen, 0, sizeof seen);
    struct sampler *s = sampler_create(&FAKE, NULL, &LIMITS, &e);
    cr_assert(ne(ptr, s, NULL));
    return s;
}

Test(sampler, prompt_rows_logprob_rows_plain_rows)
{
    struct sampler *s = create();
    struct gen_params with = params(3), without = params(-1);
    struct gen *a = running(&with), *b = running(&without);
    const struct sampler_row rows[] = {{a, 1}, {a, 2}, {a, 0}, {b, 0}};
    float logits[ROWS_MAX * VOCAB], raw[ROWS_MAX * VOCAB];
    fill(logits);
    fill(raw);
    struct err e;
    cr_assert(zero(run(s, &(struct sampler_step){rows, 2, 1, 1, logits}, &e)));

    cr_assert(eq(int, seen.sample_n, 2));
    cr_assert(eq(int, seen.n_tokens, 7));
    cr_assert(eq(int, seen.logprobs_n, 3));
    cr_assert(eq(int, seen.top_n, 3));
    cr_assert(eq(int, seen.ids[0], PROMPT[1]));
    cr_assert(eq(int, seen.ids[1], PROMPT[2]));
    cr_assert(eq(int, seen.ids[2], 2)); // sampled from row 2
    cr_assert(zero(memcmp(seen.logits, raw, 3 * VOCAB * sizeof *raw)),
              "logprobs are not those of the raw logits");

    cr_assert(eq(int, sampler_draw(s, 2).id, 2));
    cr_assert(eq(flt, sampler_draw(s, 2).logprob, 3)); // raw[2][2]
    cr_assert(eq(flt, sampler_draw(s, 2).top_logprob[1], 2.5f));
    cr_assert(eq(int, sampler_draw(s, 3).id, 3));
    cr_assert(eq(flt, sampler_draw(s, 0).logprob, 1)); // raw[0][PROMPT[1]]
    end(a);
    end(b);
    sampler_destroy(s);
    cr_assert(eq(int, seen.allocs, 0));
}

Test(sampler, no_rows_no_calls)
{
    struct sampler *s = create();
    struct err e;
    cr_assert(zero(run(s, &(struct sampler_step){0}, &e)));
    cr_assert(eq(int, seen.sample_n + seen.logprobs_n, 0));
    sampler_destroy(s);
}

Test(sampler, bias_and_history_have_their_own_places)
{
    struct sampler *s = create();
    struct gen_params p[3] = {params(-1), params(-1), params(-1)};
    p[0].bias_ids = (int[]){5, 6};
    p[0].bias = (float[]){1.5f, -2};
    p[0].n_bias = 2;
    p[0].sampling.presence = 0.5f; // looks at the output alone
    p[1].sampling.temperature = 0.7f;
    p[2].bias_ids = (int[]){3};
    p[2].bias = (float[]){9};
    p[2].n_bias = 1;
    p[2].sampling.repetition = 1.1f; // looks at the prompt too
    struct gen *g[3];
    struct sampler_row rows[3];
    for (int i = 0; i < 3; i++) {
        g[i] = running(&p[i]);
        rows[i] = (struct sampler_row){g[i], 0};
        gen_push(g[i], &(struct gen_draw){.id = 6}, false, 1);
    }
    gen_push(g[2], &(struct gen_draw){.id = 5}, false, 1);
    float logits[ROWS_MAX * VOCAB];
    struct err e;
    fill(logits);
    cr_assert(zero(run(s, &(struct sampler_step){rows, 0, 0, 3, logits}, &e)));

    const struct sample_row *r = seen.rows;
    cr_assert(eq(int, r[0].n_bias, 2));
    cr_assert(eq(int, r[1].n_bias, 0));
    cr_assert(eq(int, r[2].n_bias, 1));
    cr_assert(eq(int, seen.bias_ids[r[0].bias0 + 1], 6));
    cr_assert(eq(flt, seen.bias[r[0].bias0 + 1], -2));
    cr_assert(eq(int, seen.bias_ids[r[2].bias0], 3));
    cr_assert(eq(flt, seen.bias[r[2].bias0], 9));

    cr_assert(eq(int, r[0].n_prompt, 0));
    cr_assert(eq(int, r[0].n_output, 1));
    cr_assert(eq(int, seen.history[r[0].history0], 6));
    cr_assert(eq(int, r[1].n_prompt + r[1].n_output, 0));
    cr_assert(eq(int, r[2].n_prompt, 4));
    cr_assert(eq(int, r[2].n_output, 2));
    const int want[] = {1, 2, 3, 4, 6, 5};
    cr_assert(zero(memcmp(&seen.history[r[2].history0], want, sizeof want)));

    cr_assert(eq(u64, r[0].seed, 42));
    cr_assert(eq(u64, r[0].counter, 1));
    cr_assert(eq(u64, r[2].counter, 2));
    cr_assert(eq(flt, r[1].temperature, 0.7f));
    for (int i = 0; i < 3; i++)
        end(g[i]);
    sampler_destroy(s);
}

Test(sampler, a_lost_device_is_told)
{
    struct sampler *s = create();
    struct err e;
    seen.fail = true;
    cr_assert(eq(int, run(s, &(struct sampler_step){0}, &e), -1));
    cr_assert(eq(int, (int)e.code, ERR_DEVICE));
    cr_assert(ne(ptr, strstr(e.text, "the cable is out"), NULL));
    sampler_destroy(s);
}

Test(sampler, memory_that_is_out_is_told_and_given_back)
{
    struct err e;
    memset(&seen, 0, sizeof seen);
    seen.no_memory = true;
    cr_assert(eq(ptr, sampler_create(&FAKE, NULL, &LIMITS, &e), NULL));
    cr_assert(eq(int, (int)e.code, ERR_TOO_LARGE));
    cr_assert(eq(int, seen.allocs, 0));
}

// Everything but the raw logits is there twice, on the device and on the host.
Test(sampler, its_memory_is_what_the_plan_says)
{
    struct sampler *s = create();
    const size_t raw = (size_t)LIMITS.sampled_max * VOCAB * sizeof(float);
    cr_assert(eq(sz, sampler_bytes(&LIMITS), 2 * (seen.bytes - raw) + raw));
    sampler_destroy(s);
}
