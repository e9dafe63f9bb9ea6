// Tests of server/base/stats.c.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <string.h>

#include "stats.h"

static void expect(const char *line)
{
    struct buf b = {0};
    stats_print(&b);
    cr_assert(ne(ptr, strstr(b.data, line), NULL), "no line %s in\n%s", line, b.data);
    buf_fini(&b);
}

Test(stats, counters_and_gauges)
{
    stats_add(STATS_STEPS, 2);
    stats_add(STATS_STEPS, 3);
    cr_assert(eq(i64, stats_counter_value(STATS_STEPS), 5));
    stats_set(STATS_RUNNING, 7);
    stats_shift(STATS_RUNNING, -3);
    cr_assert(eq(i64, stats_gauge_value(STATS_RUNNING), 4));
    stats_max(STATS_RUNNING, 2);
    cr_assert(eq(i64, stats_gauge_value(STATS_RUNNING), 4));
    stats_max(STATS_RUNNING, 9);
    expect("\n# TYPE deltaserve_steps_total counter\ndeltaserve_steps_total 5\n");
    expect("\n# TYPE deltaserve_requests_running gauge\ndeltaserve_requests_running 9\n");
}

Test(stats, histograms_count_upwards)
{
    stats_observe(STATS_ITL, 0.0005);
    stats_observe(STATS_ITL, 0.001); // a bound belongs to its bucket
    stats_observe(STATS_ITL, 0.3);
    stats_observe(STATS_ITL, 1e6);
    expect("deltaserve_inter_token_latency_seconds_bucket{le=\"0.001\"} 2\n");
    expect("deltaserve_inter_token_latency_seconds_bucket{le=\"0.25\"} 2\n");
    expect("deltaserve_inter_token_latency_seconds_bucket{le=\"0.5\"} 3\n");
    expect("deltaserve_inter_token_latency_seconds_bucket{le=\"300\"} 3\n");
    expect("deltaserve_inter_token_latency_seconds_bucket{le=\"+Inf\"} 4\n");
    expect("deltaserve_inter_token_latency_seconds_sum 1000000.301500\n");
    expect("deltaserve_inter_token_latency_seconds_count 4\n");
}

Test(stats, every_metric_has_help_type_and_value)
{
    struct buf b = {0};
    stats_print(&b);
    int help = 0, type = 0;
    for (const char *s = b.data; (s = strstr(s, "# HELP ")); s++)
        help++;
    for (const char *s = b.data; (s = strstr(s, "# TYPE ")); s++)
        type++;
    cr_assert(eq(int, help, STATS_COUNTER_N + STATS_GAUGE_N + STATS_HISTOGRAM_N));
    cr_assert(eq(int, type, help));
    cr_assert(eq(int, b.data[b.n - 1], '\n'));
    buf_fini(&b);
}

static void *add_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10000; i++) {
        stats_add(STATS_PROMPT_TOKENS, 1);
        stats_observe(STATS_E2E, 0.01);
        stats_max(STATS_WAITING, i);
    }
    return NULL;
}

Test(stats, threads_lose_nothing)
{
    pthread_t threads[3];
    struct buf b = {0};
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, add_many, NULL);
    for (int i = 0; i < 20; i++) {
        stats_print(&b);
        buf_clear(&b);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    cr_assert(eq(i64, stats_counter_value(STATS_PROMPT_TOKENS), 30000));
    cr_assert(eq(i64, stats_gauge_value(STATS_WAITING), 9999));
    expect("deltaserve_e2e_request_latency_seconds_count 30000\n");
    buf_fini(&b);
}
