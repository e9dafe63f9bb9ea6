// logprobs.c - log-softmax of one id and of the largest, from raw logits.
// Computes: logit - log(sum exp(logit)) over ids < n_tokens; sum in double, in the order of ids.
// Bound by: one exp a vocabulary entry. NaN logits count as -inf; a row of them gives -inf.
#include <math.h>

#include "cpu.h"
#include "expf.h"

static float clean(float x)
{
    return isnan(x) ? -INFINITY : x;
}

static float log_sum_exp(const float *logits, int n)
{
    enum { BLOCK = 1024 };
    float most = -INFINITY;
    double total = 0;
    for (int i = 0; i < n; i++)
        most = clean(logits[i]) > most ? clean(logits[i]) : most;
    if (!isfinite(most))
        return most;
    for (int from = 0; from < n; from += BLOCK) {
        float e[BLOCK];
        const int count = n - from < BLOCK ? n - from : BLOCK;
        for (int i = 0; i < count; i++)
            e[i] = expf_fast(clean(logits[from + i]) - most);
        for (int i = 0; i < count; i++)
            total += e[i];
    }
    return most + (float)log(total);
}

// The top_n largest in order, lower id first on ties: insertion into a short sorted list.
static void find_top(const struct logprobs_args *a, const float *logits, float lse, size_t row)
{
    int *ids = a->top_ids + row * (size_t)a->top_n;
    float *top = a->top_logprob + row * (size_t)a->top_n;
    int n = 0;
    for (int i = 0; i < a->n_tokens; i++) {
        const float x = clean(logits[i]);
        if (n == a->top_n && !(x > top[n - 1]))
            continue;
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
    a->logprob[row] = clean(logits[a->ids[row]]) - lse;
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
