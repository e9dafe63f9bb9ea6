// usage.c - see usage.h. Times of several choices are of all together: from the first that began to
// the last that ended.
#include "usage.h"

#include <stdio.h>

#include "clock.h"

struct totals {
    int64_t n_prompt, n_cached, n_computed, n_output, n_reasoning;
    int64_t n_later; // output tokens after the first of each choice
    double queue_ms, prompt_ms, predicted_ms;
};

static int64_t earlier(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static struct totals add_up(const struct answer *a)
{
    struct totals t = {0};
    int64_t submitted = 0, started = 0, first = 0, last = 0;
    for (int i = 0; i < a->n_choices; i++) {
        const struct choice *c = &a->choices[i];
        const struct gen_status *s = &c->status;
        // Choices of one prompt share it, and OpenAI counts it once; each computes it on its own.
        if (i % a->params.n == 0) {
            t.n_prompt += s->n_prompt;
            t.n_cached += s->n_cached;
        }
        t.n_computed += s->n_prompt - s->n_cached;
        t.n_output += s->n_output;
        t.n_reasoning += c->n_reasoning;
        t.n_later += s->n_output > 1 ? s->n_output - 1 : 0;
        submitted = earlier(submitted, s->submitted_ns);
        started = earlier(started, s->started_ns);
        first = earlier(first, s->first_ns);
        last = later(last, s->last_ns);
    }
    if (!first) // nothing was generated: the prompt's end is the answer's
        first = a->ended_ns ? a->ended_ns : started;
    t.queue_ms = started ? clock_ms_between(submitted, started) : 0;
    t.prompt_ms = started ? clock_ms_between(started, first) : 0;
    t.predicted_ms = last > first ? clock_ms_between(first, last) : 0;
    return t;
}

void usage_write(const struct answer *a, struct buf *out)
{
    struct totals t = add_up(a);
    buf_format(out,
               "{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,"
               "\"prompt_tokens_details\":{\"cached_tokens\":%lld},"
               "\"completion_tokens_details\":{\"reasoning_tokens\":%lld,"
               "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}",
               (long long)t.n_prompt, (long long)t.n_output, (long long)(t.n_prompt + t.n_output),
               (long long)t.n_cached, (long long)t.n_reasoning);
}

static double per_second(int64_t n, double ms)
{
    return ms > 0 ? (double)n / ms * 1e3 : 0;
}

// The first token of a choice belongs to the prompt's time, so the rate of the others leaves it out.
void usage_write_timings(const struct answer *a, struct buf *out)
{
    struct totals t = add_up(a);
    buf_format(out,
               "{\"queue_ms\":%.3f,\"cache_n\":%lld,\"prompt_n\":%lld,\"prompt_ms\":%.3f,"
               "\"prompt_per_second\":%.3f,\"predicted_n\":%lld,\"predicted_ms\":%.3f,"
               "\"predicted_per_second\":%.3f}",
               t.queue_ms, (long long)t.n_cached, (long long)t.n_computed, t.prompt_ms,
               per_second(t.n_computed, t.prompt_ms), (long long)t.n_output, t.predicted_ms,
               per_second(t.n_later, t.predicted_ms));
}

void usage_add_headers(const struct answer *a, struct reply *r)
{
    enum { HEADER_MAX = 128 };
    struct totals t = add_up(a);
    char *processing = arena_alloc(a->request->arena, HEADER_MAX, 1);
    char *timing = arena_alloc(a->request->arena, HEADER_MAX, 1);
    snprintf(processing, HEADER_MAX, "%.0f", clock_ms_between(a->request->received_ns, clock_ns()));
    snprintf(timing, HEADER_MAX, "queue;dur=%.1f, prefill;dur=%.1f, decode;dur=%.1f", t.queue_ms,
             t.prompt_ms, t.predicted_ms);
    reply_header(r, "openai-processing-ms", processing);
    reply_header(r, "Server-Timing", timing);
}
