// eval_score.c - see eval_score.h. Exponentials in float32 (they are the time), sums in float64.
#include "eval_score.h"

#include <math.h>
#include <string.h>

#include "err.h"
#include "mem.h"

struct scorer scorer_open(int vocab, int rows_max)
{
    const size_t rows = (size_t)rows_max, n = rows * (size_t)vocab;
    return (struct scorer){.vocab = vocab,
                           .rows_max = rows_max,
                           .logits = mem_alloc(n * sizeof(float)),
                           .share = mem_alloc(n * sizeof(float)),
                           .log_z = mem_alloc(rows * sizeof(double)),
                           .top = mem_alloc(rows * SCORE_TOP * sizeof(int))};
}

void scorer_close(struct scorer *s)
{
    mem_free(s->logits);
    mem_free(s->share);
    mem_free(s->log_z);
    mem_free(s->top);
    *s = (struct scorer){0};
}

int score_argmax(const float *logits, int vocab)
{
    int best = 0;
    for (int i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

static double log_sum(const float *logits, int vocab)
{
    const float most = logits[score_argmax(logits, vocab)];
    double sum = 0;
    for (int i = 0; i < vocab; i++)
        sum += (double)expf(logits[i] - most);
    return (double)most + log(sum);
}

double score_logprob(const float *logits, int vocab, int id)
{
    return (double)logits[id] - log_sum(logits, vocab);
}

static void find_top(const float *logits, int vocab, int top[SCORE_TOP])
{
    int n = 0;
    for (int i = 0; i < vocab; i++) {
        if (n == SCORE_TOP && !(logits[i] > logits[top[n - 1]]))
            continue;
        int at = n < SCORE_TOP ? n++ : n - 1;
        for (; at > 0 && logits[i] > logits[top[at - 1]]; at--)
            top[at] = top[at - 1];
        top[at] = i;
    }
    for (; n < SCORE_TOP; n++) // a vocabulary of less
        top[n] = -1;
}

void scorer_reference(struct scorer *s, const float *logits, int rows)
{
    const size_t vocab = (size_t)s->vocab;
    CHECK(rows <= s->rows_max);
    s->rows = rows;
    memcpy(s->logits, logits, (size_t)rows * vocab * sizeof *logits);
    for (int r = 0; r < rows; r++) {
        const float *row = s->logits + (size_t)r * vocab;
        float *share = s->share + (size_t)r * vocab;
        s->log_z[r] = log_sum(row, s->vocab);
        const float log_z = (float)s->log_z[r];
        for (size_t i = 0; i < vocab; i++)
            share[i] = expf(row[i] - log_z);
        find_top(row, s->vocab, s->top + r * SCORE_TOP);
    }
}

struct score scorer_compare(const struct scorer *s, const float *logits, int i, int target)
{
    CHECK(i < s->rows);
    const float *reference = s->logits + (size_t)i * (size_t)s->vocab;
    const float *share = s->share + (size_t)i * (size_t)s->vocab;
    const int *want = s->top + i * SCORE_TOP;
    const double log_z = log_sum(logits, s->vocab);
    double moved = 0;
    int top[SCORE_TOP];
    for (int k = 0; k < s->vocab; k++)
        moved += (double)share[k] * ((double)reference[k] - (double)logits[k]);
    find_top(logits, s->vocab, top);
    struct score out = {.nll = log_z - (double)logits[target],
                        .kl = moved - s->log_z[i] + log_z,
                        .top1 = top[0] == want[0]};
    for (int a = 0; a < SCORE_TOP; a++)
        for (int b = 0; b < SCORE_TOP; b++)
            out.top5 = (uint8_t)(out.top5 + (want[a] >= 0 && want[a] == top[b]));
    return out;
}
