// sample.c - one token from each row of logits.
// Computes: struct sample_row's order (ops.h): bias, penalties, then argmax at temperature 0, else
// temperature, top_k, top_p, min_p and one draw by Philox 4x32-10 (Salmon et al. 2011).
// Bound by: passes over the vocabulary, each under a nanosecond an entry. Nothing is sorted: the row is
// cut where the number (top_k) or the weight (top_p) of what is larger reaches what is asked for. One
// pass adds up buckets of a sixteenth of a nat, the bucket where it happens is taken out and its cut
// found by halving the range of bit patterns.
// Measured, 248320 entries, one core: argmax 0.2 ms, plain draw 2.1, top_k 20 with top_p 3.3, top_p
// alone 3.1. AMD EPYC (Zen 4), 2026-11-23, thread time.
#include <math.h>
#include <string.h>

#include "cpu.h"
#include "expf.h"
#include "logits.h"

enum { BUCKETS = 512 };

// One row at work. After temperature, logits hold (logit - largest) / temperature <= 0.
struct row {
    float *logits, *weights;           // [n]
    float *some_logits, *some_weights; // [n], one bucket's
    int n;
};

static void philox_round(uint32_t c[4], const uint32_t k[2])
{
    const uint64_t a = (uint64_t)0xD2511F53 * c[0], b = (uint64_t)0xCD9E8D57 * c[2];
    const uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b,
                              (uint32_t)(a >> 32) ^ c[3] ^ k[1], (uint32_t)a};
    memcpy(c, next, sizeof next);
}

// Uniform in [0, 1), 53 bits, a function of seed and counter alone.
static double uniform(uint64_t seed, uint64_t counter)
{
    uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0};
    uint32_t k[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int i = 0; i < 10; i++) {
        philox_round(c, k);
        k[0] += 0x9E3779B9;
        k[1] += 0xBB67AE85;
    }
    return (double)(((uint64_t)c[0] << 32 | c[1]) >> 11) * 0x1p-53;
}

// Penalties see how often a token stands in the output: counts [vocab], all zero.
static void penalise(const struct sample_args *a, const struct sample_row *r, float *logits,
                     int *counts)
{
    const int *history = a->history + r->history0;
    const int n = r->n_prompt + r->n_output;
    for (int i = r->n_prompt; i < n; i++)
        counts[history[i]]++;
    for (int i = 0; i < n; i++) {
        const int id = history[i];
        if (counts[id] < 0)
            continue; // done already
        float *x = &logits[id];
        *x = *x > 0 ? *x / r->repetition : *x * r->repetition;
        *x -= r->frequency * (float)counts[id] + (counts[id] > 0 ? r->presence : 0);
        counts[id] = -1;
    }
}

static int argmax(const float *logits, int n)
{
    const float most = vocab_largest(logits, n);
    int i = 0;
    while (vocab_clean(logits[i]) != most)
        i++;
    return i;
}

static int bucket_of(float x)
{
    const float b = x * -16.0f;
    return b < BUCKETS - 1 ? (int)b : BUCKETS - 1;
}

// Where a row is cut: entries of order `at` and more stay; mass is that of the larger ones alone.
struct cut {
    int32_t at;
    double mass;
};

// By halving: 32 passes over n entries. `before`: mass of what is larger than all of these.
static struct cut cut_entries(const float *logits, const float *weights, int n, double before,
                              double want)
{
    struct cut cut = {INT32_MIN, before};
    for (int bit = 31; bit >= 0; bit--) {
        const int32_t next = (int32_t)((uint32_t)cut.at + (1u << bit));
        double mass = before;
        for (int i = 0; i < n; i++)
            if (vocab_order(logits[i]) >= next)
                mass += weights ? weights[i] : 1.0;
        if (mass >= want)
            cut.at = next;
    }
    for (int i = 0; i < n; i++)
        if (vocab_order(logits[i]) > cut.at)
            cut.mass += weights ? weights[i] : 1.0;
    return cut;
}

// The cut at which the weight (or the number) of what stays reaches `want`.
static struct cut find_cut(const struct row *w, double want, bool by_weight)
{
    double mass[BUCKETS] = {0}, before = 0;
    for (int i = 0; i < w->n; i++)
        mass[bucket_of(w->logits[i])] += by_weight ? w->weights[i] : 1.0;
    int bucket = 0, n = 0;
    while (bucket < BUCKETS - 1 && before + mass[bucket] < want)
        before += mass[bucket++];
    for (int i = 0; i < w->n; i++)
        if (bucket_of(w->logits[i]) == bucket) {
            w->some_logits[n] = w->logits[i];
            w->some_weights[n++] = w->weights[i];
        }
    return cut_entries(w->some_logits, by_weight ? w->some_weights : NULL, n, before, want);
}

// Keep what is larger than the cut, and of the ties at it the lowest ids until the mass is reached;
// the others' weight becomes 0.
static void keep(const struct row *w, double want, bool by_weight)
{
    struct cut cut = find_cut(w, want, by_weight);
    for (int i = 0; i < w->n; i++) {
        const int32_t order = vocab_order(w->logits[i]);
        if (order > cut.at)
            continue;
        if (order < cut.at || cut.mass >= want)
            w->weights[i] = 0;
        else
            cut.mass += by_weight ? w->weights[i] : 1.0;
    }
}

static double total(const float *weights, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += weights[i];
    return sum;
}

static int draw(const float *weights, int n, double u)
{
    const double want = u * total(weights, n);
    double sum = 0;
    int last = 0;
    for (int i = 0; i < n; i++) {
        if (weights[i] <= 0)
            continue;
        last = i;
        sum += weights[i];
        if (sum > want)
            return i;
    }
    return last;
}

static int sample_row(const struct sample_row *r, const struct row *w)
{
    const float most = vocab_largest(w->logits, w->n);
    if (r->temperature == 0 || !isfinite(most))
        return argmax(w->logits, w->n);
    for (int i = 0; i < w->n; i++) {
        w->logits[i] = vocab_clean((vocab_clean(w->logits[i]) - most) / r->temperature);
        w->weights[i] = expf_fast(w->logits[i]);
    }
    if (r->top_k > 0 && r->top_k < w->n)
        keep(w, r->top_k, false);
    if (r->top_p < 1)
        keep(w, fmax(r->top_p, 0) * total(w->weights, w->n), true);
    for (int i = 0; r->min_p > 0 && i < w->n; i++)
        if (w->weights[i] < r->min_p) // the largest weight is 1
            w->weights[i] = 0;
    return draw(w->weights, w->n, uniform(r->seed, r->counter));
}

static void bias_row(const struct sample_args *a, const struct sample_row *r, float *logits)
{
    for (int i = r->bias0; i < r->bias0 + r->n_bias; i++)
        logits[a->bias_ids[i]] += a->bias[i];
}

void cpu_sample(struct dev *dev, const struct sample_args *a)
{
    const int threads = cpu_of(dev)->threads;
    const size_t n = ((size_t)a->vocab + 15) / 16 * 16;
    float *memory = cpu_scratch(dev, 0, (size_t)threads * 3 * n * sizeof *memory);
    int *counts = cpu_scratch(dev, 1, (size_t)threads * n * sizeof *counts);
    if (!memory || !counts)
        return;
#pragma omp parallel for num_threads(threads) if (a->n > 1) schedule(dynamic)
    for (int i = 0; i < a->n; i++) {
        const struct sample_row *r = &a->rows[i];
        const size_t own = (size_t)cpu_thread() * n;
        const struct row w = {a->logits + (size_t)i * (size_t)a->vocab, memory + 3 * own,
                              memory + 3 * own + n, memory + 3 * own + 2 * n, a->n_tokens};
        bias_row(a, r, w.logits);
        if (r->n_prompt + r->n_output > 0) {
            memset(counts + own, 0, n * sizeof *counts);
            penalise(a, r, w.logits, counts + own);
        }
        a->ids[i] = sample_row(r, &w);
    }
}
