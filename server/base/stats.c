// stats.c - see stats.h.
#include "stats.h"

#include <stdatomic.h>

// Upper bounds in seconds: wide enough for a 128k-token prefill, fine enough for one decode step.
static const double BOUNDS[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                0.5,   1,      2.5,   5,    10,    30,   60,  300};
enum { N_BOUNDS = sizeof BOUNDS / sizeof *BOUNDS };

static _Atomic int64_t counters[STATS_COUNTER_N];
static _Atomic int64_t gauges[STATS_GAUGE_N];
static struct {
    _Atomic int64_t buckets[N_BOUNDS + 1];
    _Atomic int64_t sum_us;
} histograms[STATS_HISTOGRAM_N];

void stats_add(enum stats_counter c, int64_t n)
{
    atomic_fetch_add_explicit(&counters[c], n, memory_order_relaxed);
}

void stats_set(enum stats_gauge g, int64_t value)
{
    atomic_store_explicit(&gauges[g], value, memory_order_relaxed);
}

void stats_shift(enum stats_gauge g, int64_t by)
{
    atomic_fetch_add_explicit(&gauges[g], by, memory_order_relaxed);
}

void stats_max(enum stats_gauge g, int64_t value)
{
    int64_t seen = atomic_load_explicit(&gauges[g], memory_order_relaxed);
    while (seen < value &&
           !atomic_compare_exchange_weak_explicit(&gauges[g], &seen, value, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

void stats_observe(enum stats_histogram h, double seconds)
{
    int i = 0;
    while (i < N_BOUNDS && seconds > BOUNDS[i])
        i++;
    atomic_fetch_add_explicit(&histograms[h].buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histograms[h].sum_us, (int64_t)(seconds * 1e6),
                              memory_order_relaxed);
}

int64_t stats_counter_value(enum stats_counter c)
{
    return atomic_load_explicit(&counters[c], memory_order_relaxed);
}

int64_t stats_gauge_value(enum stats_gauge g)
{
    return atomic_load_explicit(&gauges[g], memory_order_relaxed);
}

static void print_value(struct buf *out, const char *name, const char *help, const char *type,
                        int64_t value)
{
    buf_format(out, "# HELP %s %s\n# TYPE %s %s\n%s %lld\n", name, help, name, type, name,
               (long long)value);
}

static void print_histogram(struct buf *out, int h, const char *name, const char *help)
{
    int64_t total = 0;
    buf_format(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    for (int i = 0; i <= N_BOUNDS; i++) {
        total += atomic_load_explicit(&histograms[h].buckets[i], memory_order_relaxed);
        if (i < N_BOUNDS)
            buf_format(out, "%s_bucket{le=\"%g\"} %lld\n", name, BOUNDS[i], (long long)total);
        else
            buf_format(out, "%s_bucket{le=\"+Inf\"} %lld\n", name, (long long)total);
    }
    double sum = (double)atomic_load_explicit(&histograms[h].sum_us, memory_order_relaxed) / 1e6;
    buf_format(out, "%s_sum %.6f\n%s_count %lld\n", name, sum, name, (long long)total);
}

void stats_print(struct buf *out)
{
#define X(symbol, name, help)                                                                      \
    print_value(out, name, help, "counter", stats_counter_value(STATS_##symbol));
    STATS_COUNTERS(X)
#undef X
#define X(symbol, name, help)                                                                      \
    print_value(out, name, help, "gauge", stats_gauge_value(STATS_##symbol));
    STATS_GAUGES(X)
#undef X
#define X(symbol, name, help) print_histogram(out, STATS_##symbol, name, help);
    STATS_HISTOGRAMS(X)
#undef X
}
