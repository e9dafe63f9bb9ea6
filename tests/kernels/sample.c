// sample.c - drawing against a plain sampler in float64 that sorts: the same ids for the same seeds
// and counters, and over many draws the distribution that the settings ask for.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rows.h"

enum { ROWS = 24, VOCAB_MAX = 4096, HISTORY = 40, BIASES = 5 };

static const struct setting {
    const char *name;
    int vocab, n_tokens, top_k;
    float temperature, top_p, min_p, presence, frequency, repetition;
    bool bias, ties;
    double size;
} SETTINGS[] = {
    {"argmax", 300, 290, 0, 0, 1, 0, 0, 0, 1, false, false, 3},
    {"argmax, ties", 300, 290, 5, 0, 0.5f, 0, 0, 0, 1, false, true, 2},
    {"plain", 300, 290, 0, 1, 1, 0, 0, 0, 1, false, false, 2},
    {"cold", 300, 290, 0, 1e-3f, 1, 0, 0, 0, 1, false, false, 2},
    {"hot", 300, 290, 0, 50, 1, 0, 0, 0, 1, false, false, 2},
    {"one token", 1, 1, 1, 1, 0.5f, 0.5f, 0, 0, 1, false, false, 2},
    {"top_k 1", 300, 290, 1, 1, 1, 0, 0, 0, 1, false, true, 2},
    {"top_k 20", 4096, 4000, 20, 0.7f, 1, 0, 0, 0, 1, false, false, 3},
    {"top_k, ties", 300, 290, 20, 1, 1, 0, 0, 0, 1, false, true, 1},
    {"top_k beyond", 300, 290, 1000, 1, 1, 0, 0, 0, 1, false, false, 1},
    {"top_p", 4096, 4000, 0, 1, 0.9f, 0, 0, 0, 1, false, false, 2},
    {"top_p small", 4096, 4000, 0, 1, 1e-6f, 0, 0, 0, 1, false, false, 2},
    {"top_p, ties", 300, 290, 0, 1, 0.6f, 0, 0, 0, 1, false, true, 1},
    {"min_p", 4096, 4000, 0, 1, 1, 0.1f, 0, 0, 1, false, false, 2},
    {"all three", 4096, 4000, 50, 0.8f, 0.9f, 0.02f, 0, 0, 1, false, false, 3},
    {"penalties", 300, 290, 0, 0.5f, 1, 0, 0.7f, 0.3f, 1.3f, false, false, 2},
    {"negative penalties", 300, 290, 0, 0.5f, 1, 0, -0.7f, -0.3f, 0.8f, false, false, 2},
    {"penalties, argmax", 300, 290, 0, 0, 1, 0, 1.5f, 0.5f, 1.1f, false, false, 1},
    {"bias", 300, 290, 30, 1, 0.95f, 0, 0.5f, 0, 1.1f, true, false, 2},
    // perf
    {"argmax", 248320, 248077, 0, 0, 1, 0, 0, 0, 1, false, false, 3},
    {"plain", 248320, 248077, 0, 1, 1, 0, 0, 0, 1, false, false, 3},
    {"top_k 20, top_p", 248320, 248077, 20, 0.7f, 0.95f, 0, 0, 0, 1, false, false, 3},
    {"top_p", 248320, 248077, 0, 1, 0.9f, 0, 0, 0, 1, false, false, 3},
};
enum { TIMED = 4, N = sizeof SETTINGS / sizeof *SETTINGS - TIMED };

// Philox 4x32-10 as its authors state it, key = seed, counter = {counter, 0}; the known answers below.
static void philox(uint32_t c[4], uint32_t k0, uint32_t k1)
{
    for (int i = 0; i < 10; i++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const uint64_t p = 0xD2511F53ull * c[0], q = 0xCD9E8D57ull * c[2];
        const uint32_t a = (uint32_t)(q >> 32) ^ c[1] ^ k0, b = (uint32_t)(p >> 32) ^ c[3] ^ k1;
        c[0] = a;
        c[1] = (uint32_t)q;
        c[2] = b;
        c[3] = (uint32_t)p;
    }
}

static double uniform(uint64_t seed, uint64_t counter)
{
    uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0};
    philox(c, (uint32_t)seed, (uint32_t)(seed >> 32));
    return (double)(((uint64_t)c[0] << 32 | c[1]) >> 11) / 9007199254740992.0;
}

struct token {
    double x, p;
    int id;
};

static int by_size(const void *a, const void *b)
{
    const struct token *s = a, *t = b;
    if (s->x != t->x)
        return s->x < t->x ? 1 : -1;
    return s->id - t->id;
}

static int by_id(const void *a, const void *b)
{
    return ((const struct token *)a)->id - ((const struct token *)b)->id;
}

// Leaves the tokens that may be drawn in list, by id, with probabilities that add up to 1.
static int keep(const struct sample_row *r, struct token *list, int n)
{
    double total = 0, sum = 0;
    qsort(list, (size_t)n, sizeof *list, by_size);
    const double most = list[0].x;
    if (r->top_k > 0 && r->top_k < n)
        n = r->top_k;
    for (int i = 0; i < n; i++)
        total += list[i].p = exp((list[i].x - most) / r->temperature);
    int kept = 0;
    for (; kept < n && (kept == 0 || sum < (double)r->top_p * total); kept++)
        sum += list[kept].p;
    while (kept > 1 && list[kept - 1].p < (double)r->min_p)
        sum -= list[--kept].p;
    for (int i = 0; i < kept; i++)
        list[i].p /= sum;
    qsort(list, (size_t)kept, sizeof *list, by_id);
    return kept;
}

// The logits as the penalties leave them, each formula from ops.h.
static void adjust(const struct sample_args *a, const struct sample_row *r, double *x)
{
    for (int i = 0; i < r->n_bias; i++)
        x[a->bias_ids[r->bias0 + i]] += a->bias[r->bias0 + i];
    for (int id = 0; id < a->vocab; id++) {
        int n_prompt = 0, n_output = 0;
        for (int i = 0; i < r->n_prompt + r->n_output; i++)
            if (a->history[r->history0 + i] == id)
                *(i < r->n_prompt ? &n_prompt : &n_output) += 1;
        if (n_prompt + n_output > 0)
            x[id] = x[id] > 0 ? x[id] / r->repetition : x[id] * r->repetition;
        x[id] -= r->frequency * (double)n_output + (n_output > 0 ? r->presence : 0);
    }
}

static int expect(const struct sample_args *a, const struct sample_row *r, const float *logits)
{
    static struct token list[VOCAB_MAX];
    static double x[VOCAB_MAX];
    for (int i = 0; i < a->vocab; i++)
        x[i] = isnan(logits[i]) ? -INFINITY : logits[i];
    adjust(a, r, x);
    for (int i = 0; i < a->n_tokens; i++)
        list[i] = (struct token){(double)(float)x[i], 0, i};
    if (r->temperature == 0) {
        qsort(list, (size_t)a->n_tokens, sizeof *list, by_size);
        return list[0].id;
    }
    const int n = keep(r, list, a->n_tokens);
    const double u = uniform(r->seed, r->counter);
    double sum = 0;
    int i = 0;
    while (i < n - 1 && (sum += list[i].p) <= u)
        i++;
    return list[i].id;
}

static void fill_rows(struct check_case *c, struct sample_row *rows, const struct setting *s)
{
    for (int i = 0; i < ROWS; i++) {
        rows[i] = (struct sample_row){.temperature = s->temperature,
                                      .top_p = s->top_p,
                                      .min_p = s->min_p,
                                      .top_k = s->top_k,
                                      .presence = s->presence,
                                      .frequency = s->frequency,
                                      .repetition = s->repetition,
                                      .seed = (uint64_t)i << 33 | (uint64_t)check_below(c, 1000),
                                      .counter = (uint64_t)check_below(c, 1 << 20) << (i % 3 * 16),
                                      .history0 = i,
                                      .n_prompt = i % 3 * 5,
                                      .n_output = i % 4 * 4};
        if (s->bias)
            rows[i].n_bias = i % (BIASES + 1);
    }
}

static void fill_logits(struct check_case *c, struct check_buf *logits, const struct setting *s)
{
    check_fill_normal(c, logits, s->size);
    for (size_t k = 0; k < logits->n; k++) {
        if (s->ties)
            check_set(logits, k, nearbyint(check_get(logits, k)));
        if ((int)(k % (size_t)s->vocab) >= s->n_tokens)
            check_set(logits, k, k % 2 ? 100 : NAN); // never to be drawn
        else if (s->vocab > 1 && k % 53 == 7)
            check_set(logits, k, k % 2 ? NAN : -INFINITY);
    }
}

static void make(struct check_case *c, int i)
{
    const struct setting *s = &SETTINGS[i];
    struct sample_args *a = &c->args.sample;
    struct check_buf *logits = check_work(c, "logits", DTYPE_F32, (size_t)(ROWS * s->vocab));
    struct check_buf *rows = check_input(c, "rows", DTYPE_INT8, ROWS * sizeof(struct sample_row));
    struct check_buf *history = check_input(c, "history", DTYPE_INT32, ROWS + HISTORY);
    struct check_buf *bias_ids = check_input(c, "bias_ids", DTYPE_INT32, BIASES);
    struct check_buf *bias = check_input(c, "bias", DTYPE_F32, BIASES);
    struct check_buf *ids =
        check_output(c, "ids", DTYPE_INT32, ROWS, (struct check_limit){0, 0, 0, "the same draw"});
    fill_logits(c, logits, s);
    fill_rows(c, rows->host, s);
    check_fill_normal(c, bias, 5);
    for (int k = 0; k < BIASES; k++)
        check_set(bias_ids, (size_t)k, check_below(c, s->n_tokens));
    for (int k = 0; k < ROWS + HISTORY; k++)
        check_set(history, (size_t)k, check_below(c, s->n_tokens < 20 ? s->n_tokens : 20));
    *a = (struct sample_args){.rows = rows->host,
                              .bias_ids = bias_ids->host,
                              .bias = bias->host,
                              .history = history->host,
                              .n = ROWS,
                              .vocab = s->vocab,
                              .n_tokens = s->n_tokens};
    for (int r = 0; r < ROWS && i < N; r++)
        ids->want[r] = expect(a, &a->rows[r], (const float *)logits->host + r * s->vocab);
    c->bytes = i >= N ? 4.0 * ROWS * s->vocab : 0;
    snprintf(c->name, sizeof c->name, "%s vocab=%d/%d", s->name, s->n_tokens, s->vocab);
    a->ids = ids->dev;
    a->logits = logits->dev;
    a->rows = rows->dev;
    a->bias_ids = bias_ids->dev;
    a->bias = bias->dev;
    a->history = history->dev;
}

static bool part(struct check_case *c, int i)
{
    struct sample_args *a = &c->args.sample;
    const bool more = i < a->n;
    a->ids += i;
    a->logits += (size_t)i * (size_t)a->vocab;
    a->rows += i;
    a->n = 1;
    return more;
}

// Rows of logits in host memory on the device: ids and nothing else.
static void sample_host(const struct ops *ops, struct dev *dev, const struct sample_args *host)
{
    struct sample_args a = *host;
    const size_t n = (size_t)a.n, logits = n * (size_t)a.vocab * sizeof *a.logits;
    float *dev_logits = ops->alloc(dev, logits);
    struct sample_row *rows = ops->alloc(dev, n * sizeof *rows);
    int *ids = ops->alloc(dev, n * sizeof *ids);
    if (!dev_logits || !rows || !ids)
        abort();
    ops->upload(dev, dev_logits, host->logits, logits);
    ops->upload(dev, rows, host->rows, n * sizeof *rows);
    a.logits = dev_logits;
    a.rows = rows;
    a.ids = ids;
    ops->sample(dev, &a);
    ops->download(dev, host->ids, ids, n * sizeof *ids);
    ops->release(dev, dev_logits);
    ops->release(dev, rows);
    ops->release(dev, ids);
}

// Draws of a small vocabulary against their probabilities: chi-square below the 99.9 % point of 7
// degrees of freedom. The seeds are fixed, so this passes always or never.
static void check_distribution(const struct ops *ops, struct dev *dev)
{
    enum { V = 8, DRAWS = 20000 };
    static const float LOGITS[V] = {0.0f, 1.0f, -1.0f, 0.5f, 2.0f, -0.5f, 0.25f, 1.5f};
    static float logits[DRAWS][V];
    static struct sample_row rows[DRAWS];
    static int ids[DRAWS];
    int counts[V] = {0};
    double total = 0, chi = 0;
    for (int i = 0; i < DRAWS; i++) {
        rows[i] = (struct sample_row){
            .temperature = 1, .top_p = 1, .repetition = 1, .seed = 7, .counter = (uint64_t)i};
        memcpy(logits[i], LOGITS, sizeof LOGITS);
    }
    sample_host(
        ops, dev,
        &(struct sample_args){
            .ids = ids, .logits = *logits, .rows = rows, .n = DRAWS, .vocab = V, .n_tokens = V});
    for (int i = 0; i < DRAWS; i++)
        counts[ids[i]]++;
    for (int i = 0; i < V; i++)
        total += exp(LOGITS[i]);
    for (int i = 0; i < V; i++) {
        const double want = DRAWS * exp(LOGITS[i]) / total;
        chi += (counts[i] - want) * (counts[i] - want) / want;
    }
    check_true(chi < 24.32, "sample: chi-square of %d draws is %.2f, limit 24.32", DRAWS, chi);
}

// Known answers of the generator, from its authors' test vectors.
static void check_philox(void)
{
    uint32_t zero[4] = {0}, ones[4] = {~0u, ~0u, ~0u, ~0u};
    philox(zero, 0, 0);
    philox(ones, ~0u, ~0u);
    check_true(zero[0] == 0x6627e8d5 && zero[1] == 0xe169c58d && zero[2] == 0xbc57ac4c &&
                   zero[3] == 0x9b00dbd8,
               "sample: Philox of zeros");
    check_true(ones[0] == 0x408f276d && ones[1] == 0x41c83b0e && ones[2] == 0xa20bc7c6 &&
                   ones[3] == 0x6d5451fd,
               "sample: Philox of ones");
}

// Rows without a finite logit give some token and nothing else happens.
static void check_hopeless(const struct ops *ops, struct dev *dev)
{
    static const float VALUES[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++)
        for (int greedy = 0; greedy < 2; greedy++) {
            float logits[5];
            int id = -1;
            const struct sample_row row = {.temperature = greedy ? 0 : 1,
                                           .top_p = 0.9f,
                                           .top_k = 3,
                                           .min_p = 0.1f,
                                           .repetition = 1};
            for (int k = 0; k < 5; k++)
                logits[k] = VALUES[i];
            sample_host(
                ops, dev,
                &(struct sample_args){
                    .ids = &id, .logits = logits, .rows = &row, .n = 1, .vocab = 5, .n_tokens = 4});
            check_true(id >= 0 && id < 4, "sample: %g everywhere gives id %d", VALUES[i], id);
        }
}

static void extra(const struct ops *ops, struct dev *dev)
{
    check_philox();
    check_distribution(ops, dev);
    check_hopeless(ops, dev);
}

const struct op_check check_sample = {
    .n_cases = N, .n_perf = TIMED, .make = make, .part = part, .extra = extra};
