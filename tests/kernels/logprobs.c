// logprobs.c - log-softmax in float64; ties, NaN, ids without a token (their logits are the largest).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rows.h"

static const struct {
    int n, vocab, n_tokens, top_n;
    double size;
    bool ties;
} SHAPES[] = {{1, 1, 1, 0, 1, false},
              {3, 100, 90, 20, 5, false},
              {2, 17, 5, 20, 1, false},
              {4, 1025, 1024, 5, 2, true},
              {2, 3000, 2999, 1, 300, false},
              {1, 248320, 248077, 20, 3, false},
              {16, 248320, 248077, 20, 3, false}};
enum { N = 5, TIMED = 2 };

static double value(const struct check_buf *logits, size_t i)
{
    const double x = check_get(logits, i);
    return isnan(x) ? -INFINITY : x;
}

// The j-th largest in the order of ops.h: what is larger, or equal with a lower id, stands before.
static void expect_top(const struct check_buf *logits, size_t at, int shape, double lse,
                       double *ids, double *top)
{
    const int n_tokens = SHAPES[shape].n_tokens, top_n = SHAPES[shape].top_n;
    double last = INFINITY;
    int last_id = -1;
    for (int j = 0; j < top_n; j++) {
        int best = -1;
        for (int i = 0; i < n_tokens; i++) {
            const double x = value(logits, at + (size_t)i);
            if ((x < last || (x == last && i > last_id)) &&
                (best < 0 || x > value(logits, at + (size_t)best)))
                best = i;
        }
        ids[j] = best < 0 ? 0 : best;
        top[j] = best < 0 ? -INFINITY : value(logits, at + (size_t)best) - lse;
        last = best < 0 ? -INFINITY : value(logits, at + (size_t)best);
        last_id = best < 0 ? n_tokens : best;
    }
}

static double log_sum(const struct check_buf *logits, size_t at, int n)
{
    double most = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++)
        most = fmax(most, value(logits, at + (size_t)i));
    for (int i = 0; i < n; i++)
        sum += exp(value(logits, at + (size_t)i) - most);
    return most + log(sum);
}

static void fill(struct check_case *c, struct check_buf *logits, int i)
{
    const int vocab = SHAPES[i].vocab;
    check_fill_normal(c, logits, SHAPES[i].size);
    for (size_t k = 0; k < logits->n; k++) {
        if ((int)(k % (size_t)vocab) >= SHAPES[i].n_tokens)
            check_set(logits, k, 1e30);
        else if (SHAPES[i].ties)
            check_set(logits, k, nearbyint(check_get(logits, k)));
        else if (k % 97 == 13)
            check_set(logits, k, k % 2 ? NAN : -INFINITY);
    }
}

static void make(struct check_case *c, int i)
{
    const int n = SHAPES[i].n, vocab = SHAPES[i].vocab, top_n = SHAPES[i].top_n;
    // size: log-sum-exp rounds to float32 at the size of the largest logit, and so does the difference
    const struct check_limit limit = {1e-6 * (10 + 4 * SHAPES[i].size), 1e-6, 1e-10,
                                      "roundings at the size of the logits"},
                             exact = {0, 0, 0, "an order"};
    struct check_buf *logits = check_input(c, "logits", DTYPE_F32, (size_t)(n * vocab));
    struct check_buf *ids = check_input(c, "ids", DTYPE_INT32, (size_t)n);
    struct check_buf *logprob = check_output(c, "logprob", DTYPE_F32, (size_t)n, limit);
    struct check_buf *top = check_output(c, "top_logprob", DTYPE_F32, (size_t)(n * top_n), limit);
    struct check_buf *top_ids = check_output(c, "top_ids", DTYPE_INT32, (size_t)(n * top_n), exact);
    fill(c, logits, i);
    for (int r = 0; r < n; r++) {
        const size_t at = (size_t)(r * vocab);
        const int id = check_below(c, SHAPES[i].n_tokens);
        check_set(ids, (size_t)r, id);
        if (i >= N)
            continue;
        const double lse = log_sum(logits, at, SHAPES[i].n_tokens);
        logprob->want[r] = value(logits, at + (size_t)id) - lse;
        expect_top(logits, at, i, lse, top_ids->want + r * top_n, top->want + r * top_n);
    }
    snprintf(c->name, sizeof c->name, "rows=%d vocab=%d/%d top=%d size=%g%s", n, SHAPES[i].n_tokens,
             vocab, top_n, SHAPES[i].size, SHAPES[i].ties ? " ties" : "");
    c->args.logprobs =
        (struct logprobs_args){logprob->dev, top_ids->dev,       top->dev, logits->dev, ids->dev, n,
                               vocab,        SHAPES[i].n_tokens, top_n};
    c->bytes = i >= N ? 4.0 * n * vocab : 0;
}

static bool part(struct check_case *c, int i)
{
    struct logprobs_args *a = &c->args.logprobs;
    const bool more = i < a->n;
    a->logprob += i;
    a->top_ids += i * a->top_n;
    a->top_logprob += i * a->top_n;
    a->logits += (size_t)i * (size_t)a->vocab;
    a->ids += i;
    a->n = 1;
    return more;
}

// An id's figure is the same bits alone and among the largest.
static void extra(const struct ops *ops, struct dev *dev)
{
    enum { VOCAB = 500, TOP = 20 };
    float logits[TOP][VOCAB], top[TOP][TOP], one[TOP];
    int top_ids[TOP][TOP], ids[TOP] = {0};
    for (int i = 0; i < TOP * VOCAB; i++)
        logits[i / VOCAB][i % VOCAB] = (float)(i % VOCAB * 7919 % 500) * 0.013f - 3;
    struct logprobs_args a = {.logprob = ops->alloc(dev, sizeof one),
                              .top_ids = ops->alloc(dev, sizeof top_ids),
                              .top_logprob = ops->alloc(dev, sizeof top),
                              .logits = ops->alloc(dev, sizeof logits),
                              .ids = ops->alloc(dev, sizeof ids),
                              .n = TOP,
                              .vocab = VOCAB,
                              .n_tokens = VOCAB,
                              .top_n = TOP};
    if (!a.logprob || !a.top_ids || !a.top_logprob || !a.logits || !a.ids)
        abort();
    ops->upload(dev, (void *)(uintptr_t)a.logits, logits, sizeof logits);
    for (int round = 0; round < 2; round++) { // the first finds the ids, the second asks for each
        ops->upload(dev, (void *)(uintptr_t)a.ids, ids, sizeof ids);
        ops->logprobs(dev, &a);
        ops->download(dev, top_ids, a.top_ids, sizeof top_ids);
        memcpy(ids, top_ids[0], sizeof ids);
    }
    ops->download(dev, one, a.logprob, sizeof one);
    ops->download(dev, top, a.top_logprob, sizeof top);
    for (int j = 0; j < TOP; j++)
        check_true(!memcmp(&one[j], &top[j][j], sizeof *one), "logprobs: id %d differs in the list",
                   ids[j]);
    ops->release(dev, a.logprob);
    ops->release(dev, a.top_ids);
    ops->release(dev, a.top_logprob);
    ops->release(dev, (void *)(uintptr_t)a.logits);
    ops->release(dev, (void *)(uintptr_t)a.ids);
}

const struct op_check check_logprobs = {
    .n_cases = N, .n_perf = TIMED, .make = make, .part = part, .extra = extra};
