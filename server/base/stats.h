// stats.h - counters, gauges and histograms behind GET /metrics (Prometheus text format 0.0.4).
// Any thread may add or set (relaxed atomics); stats_print may run at the same time and prints each
// value as it finds it. The set of metrics is fixed here at compile time.
#ifndef STATS_H
#define STATS_H

#include <stdint.h>

#include "buf.h"

// X(symbol, prometheus name, help)
#define STATS_COUNTERS(X)                                                                          \
    X(HTTP_REQUESTS, "deltaserve_http_requests_total", "HTTP requests answered")                   \
    X(HTTP_CLIENT_ERRORS, "deltaserve_http_client_errors_total", "answers with a 4xx status")      \
    X(HTTP_SERVER_ERRORS, "deltaserve_http_server_errors_total", "answers with a 5xx status")      \
    X(REQUESTS_STOP, "deltaserve_request_stop_total", "generations ended by a stop condition")     \
    X(REQUESTS_LENGTH, "deltaserve_request_length_total", "generations ended by max_tokens")       \
    X(REQUESTS_CANCELLED, "deltaserve_request_cancelled_total", "generations whose client left")   \
    X(REQUESTS_FAILED, "deltaserve_request_failed_total", "generations ended by an error")         \
    X(REQUESTS_REFUSED, "deltaserve_request_refused_total", "generations refused, queue full")     \
    X(PROMPT_TOKENS, "deltaserve_prompt_tokens_total", "prompt tokens computed")                   \
    X(GENERATION_TOKENS, "deltaserve_generation_tokens_total", "tokens generated")                 \
    X(STEPS, "deltaserve_steps_total", "model steps run")                                          \
    X(STEP_US, "deltaserve_step_microseconds_total", "time spent in model steps")                  \
    X(JOBS_SUCCEEDED, "deltaserve_jobs_succeeded_total", "jobs that left a result")                \
    X(JOBS_FAILED, "deltaserve_jobs_failed_total", "jobs ended by an error")                       \
    X(JOBS_CANCELLED, "deltaserve_jobs_cancelled_total", "running jobs that were cancelled")       \
    X(INVERSE_NONFINITE, "deltaserve_inverse_nonfinite_total",                                     \
      "chunk inverses that left the number range")

#define STATS_GAUGES(X)                                                                            \
    X(WAITING, "deltaserve_requests_waiting", "generations queued")                                \
    X(RUNNING, "deltaserve_requests_running", "generations in the batch")                          \
    X(JOBS_RUNNING, "deltaserve_jobs_running", "jobs under way")                                   \
    X(CONNECTIONS, "deltaserve_connections", "open HTTP connections")                              \
    X(KV_PAGES_USED, "deltaserve_kv_pages_used", "KV pages in use")                                \
    X(KV_PAGES, "deltaserve_kv_pages", "KV pages in all")                                          \
    X(SLOTS_USED, "deltaserve_state_slots_used", "recurrent state slots in use")                   \
    X(SLOTS, "deltaserve_state_slots", "recurrent state slots in all")                             \
    X(INVERSE_RESIDUAL_PPB, "deltaserve_inverse_residual_ppb",                                     \
      "largest |I - (I + A) T| seen by the residual check, in 1e-9")

#define STATS_HISTOGRAMS(X)                                                                        \
    X(TTFT, "deltaserve_time_to_first_token_seconds", "request read to first token")               \
    X(QUEUE, "deltaserve_request_queue_time_seconds", "submission to first step")                  \
    X(PREFILL, "deltaserve_request_prefill_time_seconds", "first step to first token")             \
    X(ITL, "deltaserve_inter_token_latency_seconds", "gap between tokens")                         \
    X(E2E, "deltaserve_e2e_request_latency_seconds", "request read to last token")

enum stats_counter {
#define X(symbol, name, help) STATS_##symbol,
    STATS_COUNTERS(X)
#undef X
        STATS_COUNTER_N
};
enum stats_gauge {
#define X(symbol, name, help) STATS_##symbol,
    STATS_GAUGES(X)
#undef X
        STATS_GAUGE_N
};
enum stats_histogram {
#define X(symbol, name, help) STATS_##symbol,
    STATS_HISTOGRAMS(X)
#undef X
        STATS_HISTOGRAM_N
};

void stats_add(enum stats_counter c, int64_t n);
void stats_set(enum stats_gauge g, int64_t value);
void stats_shift(enum stats_gauge g, int64_t by);  // gauge += by
void stats_max(enum stats_gauge g, int64_t value); // gauge = max(gauge, value)
void stats_observe(enum stats_histogram h, double seconds);
int64_t stats_counter_value(enum stats_counter c);
int64_t stats_gauge_value(enum stats_gauge g);

// Append every metric in Prometheus text format.
void stats_print(struct buf *out);

#endif
