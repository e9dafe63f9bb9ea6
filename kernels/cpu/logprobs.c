// logprobs.c - log-softmax of one id and of the largest, from raw logits.
// Computes: logit - log(sum exp(logit)) over ids < n_tokens; sum in double.
// Bound by: one exp a vocabulary entry; 248320 entries and the 20 largest 0.7 ms on one core of an AMD
// EPYC (Zen 4), 2026-11-23. NaN logits count as -inf; a row of them gives -inf.
#include <math.h>

#include "cpu.h"
#include "expf.h"
#include "logits.h"

static float log_sum_exp(const float *logits, int n)
{
    enum { BLOCK = 1024, LANES = 4 };
    const float most = vocab_largest(logits, n);
    double total[LANES] = {0};
    if (!isfinite(most))
        return most;
    for (int from = 0; from < n; from += BLOCK) {
        float e[BLOCK] = {0};
        const int count = n - from < BLOCK ? n - from : BLOCK;
        for (int i = 0; i < count; i++)
            e[i] = expf_fast(vocab_clean(logits[from + i]) - most);
        for (int i = 0; i < BLOCK; i += LANES)
            for (int j = 0; j < LANES; j++)
                total[j] += e[i + j];
    }
    return most + (float)log((total[0] + total[1]) + (total[2] + total[3]));
}

// The top_n largest in order, lower id first on ties: insertion into a short sorted list.
static void find_top(const struct logprobs_args *a, const float *logits, float lse, size_t row)
{
    int *ids = a->top_ids + row * (size_t)a->top_n;
    float *top = a->top_logprob + row * (size_t)a->top_n;
    int n = 0;
    for (int i = 0; i < a->n_tokens; i++) {
        if (n == a->top_n && !(logits[i] > top[n - 1])) // NaN is not either
            continue;
        const float x = vocab_clean(logits[i]);
        int at = n < a->top_n ? n++ : n - 1;
        for (; at > 0 && x > top[at - 1]; at--) {
            top[at] = top[at - 1];
            ids[at] = ids[at - 1];
        }
        top[at] = x;
        ids[at] = i;
    }
    for (int j = 0; j < n; j++)
        top[j] -= lse;
    for (int j = n; j < a->top_n; j++) { // fewer tokens than asked for
        ids[j] = 0;
        top[j] = -INFINITY;
    }
}

static void logprobs_row(const struct logprobs_args *a, size_t row)
{
    const float *logits = a->logits + row * (size_t)a->vocab;
    const float lse = log_sum_exp(logits, a->n_tokens);
    a->logprob[row] = vocab_clean(logits[a->ids[row]]) - lse;
    if (a->top_n > 0)
        find_top(a, logits, lse, row);
}

void cpu_logprobs(struct dev *dev, const struct logprobs_args *a)
{
    const int threads = cpu_of(dev)->threads;
    (void)threads; // without OpenMP
#pragma omp parallel for num_threads(threads) if (a->n > 1) schedule(static)
    for (int i = 0; i < a->n; i++)
        logprobs_row(a, (size_t)i);
}
