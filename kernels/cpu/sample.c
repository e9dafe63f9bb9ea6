// sample.c - one token from each row of logits.
// Computes: struct sample_row's order (ops.h): bias, penalties, then argmax at temperature 0, else
// temperature, top_k, top_p, min_p and one draw by Philox 4x32-10 (Salmon et al. 2011).
// Bound by: passes over the vocabulary. Nothing is sorted: top_k and top_p ask for the value below
// which a row is cut, and that is found by halving the range of float32 bit patterns, 32 passes.
#include <math.h>
#include <string.h>

#include "cpu.h"
#include "expf.h"

// Bit patterns of floats in the order of their values.
static uint32_t order_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

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

static float clean(float x)
{
    return isnan(x) ? -INFINITY : x;
}

// Penalties see how often a token stands in the output; the scratch counts are left at zero.
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
    for (int i = 0; i < n; i++)
        counts[history[i]] = 0;
}

static int argmax(const float *logits, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (clean(logits[i]) > clean(logits[best]))
            best = i;
    return best;
}

// Number (weights NULL) or total weight of the tokens whose order is at least `from`.
static double mass_from(const float *logits, const float *weights, int n, uint32_t from)
{
    double mass = 0;
    for (int i = 0; i < n; i++)
        if (order_of(logits[i]) >= from)
            mass += weights ? weights[i] : 1.0;
    return mass;
}

// The largest order from which the mass reaches `want`.
static uint32_t find_cut(const float *logits, const float *weights, int n, double want)
{
    uint32_t low = 0;
    for (uint32_t bit = 0x80000000; bit; bit >>= 1)
        if (mass_from(logits, weights, n, low | bit) >= want)
            low |= bit;
    return low;
}

// Keep what lies above the cut, and of the ties at the cut the lowest ids until the mass is reached;
// the others' weight becomes 0.
static void keep_from(const float *logits, float *weights, int n, uint32_t cut, double want,
                      bool by_weight)
{
    double mass = 0;
    for (int i = 0; i < n; i++)
        if (order_of(logits[i]) > cut)
            mass += by_weight ? weights[i] : 1.0;
    for (int i = 0; i < n; i++) {
        const uint32_t order = order_of(logits[i]);
        if (order < cut || (order == cut && mass >= want))
            weights[i] = 0;
        else if (order == cut)
            mass += by_weight ? weights[i] : 1.0;
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

static int sample_row(const struct sample_row *r, float *logits, float *weights, int n)
{
    const float most = logits[argmax(logits, n)];
    if (r->temperature == 0 || !isfinite(most))
        return argmax(logits, n);
    for (int i = 0; i < n; i++) {
        logits[i] = (clean(logits[i]) - most) / r->temperature;
        weights[i] = expf_fast(logits[i]);
    }
    if (r->top_k > 0 && r->top_k < n)
        keep_from(logits, weights, n, find_cut(logits, NULL, n, r->top_k), r->top_k, false);
    if (r->top_p < 1) {
        // The mass asked for is at most what is there, so that rounding never keeps nothing.
        const double want = fmax(r->top_p, 0) * total(weights, n);
        keep_from(logits, weights, n, find_cut(logits, weights, n, want), want, true);
    }
    for (int i = 0; r->min_p > 0 && i < n; i++)
        if (weights[i] < r->min_p) // the largest weight is 1
            weights[i] = 0;
    return draw(weights, n, uniform(r->seed, r->counter));
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
    float *weights = cpu_scratch(dev, 0, (size_t)threads * n * sizeof *weights);
    int *counts = cpu_scratch(dev, 1, (size_t)threads * n * sizeof *counts);
    if (!weights || !counts)
        return;
    memset(counts, 0, (size_t)threads * n * sizeof *counts);
#pragma omp parallel for num_threads(threads) if (a->n > 1) schedule(dynamic)
    for (int i = 0; i < a->n; i++) {
        const struct sample_row *r = &a->rows[i];
        float *logits = a->logits + (size_t)i * (size_t)a->vocab;
        const size_t own = (size_t)cpu_thread() * n;
        bias_row(a, r, logits);
        if (r->n_prompt + r->n_output > 0)
            penalise(a, r, logits, counts + own);
        a->ids[i] = sample_row(r, logits, weights + own, a->n_tokens);
    }
}
