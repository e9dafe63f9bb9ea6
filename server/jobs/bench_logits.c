// bench_logits.c - sample and logprobs over rows of logits. Sampling is timed greedily, so that its answer is
// known.
#include <math.h>
#include <string.h>

#include "bench.h"
#include "mem.h"

enum { TOP = 5, HISTORY = 64 };

static size_t rows_of(const struct bench_case *c)
{
    return (size_t)c->at.batch;
}

static size_t vocab_of(const struct bench_case *c)
{
    return (size_t)c->at.shape.vocab;
}

// --- sample ---------------------------------------------------------------------------------

enum { S_LOGITS, S_ROWS, S_BIAS_IDS, S_BIAS, S_HISTORY, S_IDS, S_FIRST };

static void sample_prepare(struct bench_case *c)
{
    const size_t n = rows_of(c), ints = sizeof(struct sample_row) / sizeof(int32_t);
    bench_buf(c, BENCH_STATE, DTYPE_F32, n * vocab_of(c));
    bench_buf(c, BENCH_INPUT, DTYPE_INT32, n * ints);
    bench_buf(c, BENCH_INPUT, DTYPE_INT32, 1);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, 1);
    bench_buf(c, BENCH_INPUT, DTYPE_INT32, n * HISTORY);
    bench_buf(c, BENCH_OUTPUT, DTYPE_INT32, n);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, n * vocab_of(c));
    bench_normal(c, S_LOGITS, 3);
    memcpy(c->bufs[S_FIRST].host, c->bufs[S_LOGITS].host, n * vocab_of(c) * sizeof(float));
    struct sample_row *rows = c->bufs[S_ROWS].host;
    for (size_t i = 0; i < n; i++) {
        // A penalty of nothing keeps the largest logit where it is, and costs the same.
        rows[i] = (struct sample_row){.temperature = 0,
                                      .top_p = 0.95F,
                                      .top_k = 20,
                                      .presence = 0,
                                      .repetition = 1,
                                      .seed = i,
                                      .history0 = (int)i * HISTORY,
                                      .n_prompt = HISTORY / 2,
                                      .n_output = HISTORY / 2};
        for (size_t k = 0; k < HISTORY; k++)
            bench_set(c, S_HISTORY, i * HISTORY + k, (double)(k * 977 % vocab_of(c)));
    }
    c->flops = 3 * (double)(n * vocab_of(c));
    c->bytes = sizeof(float) * (double)(n * vocab_of(c));
}

static void sample_bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    c->args.sample = (struct sample_args){.ids = bench_dev(c, S_IDS),
                                          .logits = bench_dev(c, S_LOGITS),
                                          .rows = bench_dev(c, S_ROWS),
                                          .bias_ids = bench_dev(c, S_BIAS_IDS),
                                          .bias = bench_dev(c, S_BIAS),
                                          .history = bench_dev(c, S_HISTORY),
                                          .n = c->at.batch,
                                          .vocab = c->at.shape.vocab,
                                          .n_tokens = c->at.shape.vocab};
}

static void sample_run(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    ops->sample(dev, &c->args.sample);
}

static void sample_judge(struct bench_case *c)
{
    for (size_t r = 0; r < rows_of(c); r++) {
        size_t best = 0;
        for (size_t i = 1; i < vocab_of(c); i++)
            if (bench_get(c, S_FIRST, r * vocab_of(c) + i) >
                bench_get(c, S_FIRST, r * vocab_of(c) + best))
                best = i;
        bench_raise(c, bench_get(c, S_IDS, r) != (double)best);
    }
    c->limit = 0;
    c->measure = "rows whose token is not the most likely one";
    c->why = "temperature 0 takes the largest logit";
}

const struct bench_op bench_sample = {
    .name = "sample",
    .title = "the next token of each sequence from its logits, temperature 0",
    .uses = BENCH_BATCH,
    .prepare = sample_prepare,
    .bind = sample_bind,
    .run = sample_run,
    .judge = sample_judge,
};

// --- logprobs -------------------------------------------------------------------------------

enum { L_LOGITS, L_IDS, L_LOGPROB, L_TOP_IDS, L_TOP };

static void logprobs_prepare(struct bench_case *c)
{
    const size_t n = rows_of(c);
    bench_buf(c, BENCH_INPUT, DTYPE_F32, n * vocab_of(c));
    bench_buf(c, BENCH_INPUT, DTYPE_INT32, n);
    bench_buf(c, BENCH_OUTPUT, DTYPE_F32, n);
    bench_buf(c, BENCH_OUTPUT, DTYPE_INT32, n * TOP);
    bench_buf(c, BENCH_OUTPUT, DTYPE_F32, n * TOP);
    bench_normal(c, L_LOGITS, 3);
    for (size_t i = 0; i < n; i++)
        bench_set(c, L_IDS, i, (double)(i * 977 % vocab_of(c)));
    c->flops = 4 * (double)(n * vocab_of(c));
    c->bytes = sizeof(float) * (double)(n * vocab_of(c));
}

static void logprobs_bind(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    (void)ops;
    (void)dev;
    c->args.logprobs = (struct logprobs_args){.logprob = bench_dev(c, L_LOGPROB),
                                              .top_ids = bench_dev(c, L_TOP_IDS),
                                              .top_logprob = bench_dev(c, L_TOP),
                                              .logits = bench_dev(c, L_LOGITS),
                                              .ids = bench_dev(c, L_IDS),
                                              .n = c->at.batch,
                                              .vocab = c->at.shape.vocab,
                                              .n_tokens = c->at.shape.vocab,
                                              .top_n = TOP};
}

static void logprobs_run(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    ops->logprobs(dev, &c->args.logprobs);
}

static void logprobs_judge(struct bench_case *c)
{
    for (size_t r = 0; r < rows_of(c); r++) {
        const size_t first = r * vocab_of(c);
        double sum = 0, best = -INFINITY;
        for (size_t i = 0; i < vocab_of(c); i++) {
            sum += exp(bench_get(c, L_LOGITS, first + i));
            best = fmax(best, bench_get(c, L_LOGITS, first + i));
        }
        const double own = bench_get(c, L_LOGITS, first + (size_t)bench_get(c, L_IDS, r));
        bench_raise(c, fabs(bench_get(c, L_LOGPROB, r) - (own - log(sum))));
        bench_raise(c, fabs(bench_get(c, L_TOP, r * TOP) - (best - log(sum))));
    }
    c->limit = 1e-4;
    c->measure = "max |error| of a log-probability, nats";
    c->why = "float32 sums of a vocabulary's terms";
}

const struct bench_op bench_logprobs = {
    .name = "logprobs",
    .title = "log-probabilities of a token and of the five most likely, each sequence",
    .uses = BENCH_BATCH,
    .prepare = logprobs_prepare,
    .bind = logprobs_bind,
    .run = logprobs_run,
    .judge = logprobs_judge,
};
