// sample_stats.c - see sample_stats.h.
#include "sample_stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "mem.h"

enum { RESAMPLES = 2000 };

uint64_t stat_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

double stat_uniform(uint64_t *state)
{
    return (double)(stat_random(state) >> 11) * 0x1p-53;
}

double stat_normal(uint64_t *state)
{
    const double u = 1 - stat_uniform(state), v = stat_uniform(state);
    return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
}

// 0 .. n - 1
static int draw(uint64_t *state, int n)
{
    return (int)(stat_uniform(state) * n);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y))
        return isnan(x) - isnan(y);
    return (x > y) - (x < y);
}

void stat_sort(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_size);
}

double stat_quantile(const double *sorted, int n, double p)
{
    CHECK(n >= 1);
    const double at = p * (n - 1);
    const int i = (int)at;
    if (i + 1 >= n)
        return sorted[n - 1];
    return sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]);
}

int stat_quantile_samples(double p)
{
    return (int)ceil(10 / fmin(p, 1 - p) - 1e-6);
}

static double *sorted_copy(const double *x, int n)
{
    double *y = mem_alloc((size_t)n * sizeof *y);
    memcpy(y, x, (size_t)n * sizeof *y);
    stat_sort(y, n);
    return y;
}

static struct stat_interval middle_95(double *drawn)
{
    stat_sort(drawn, RESAMPLES);
    return (struct stat_interval){stat_quantile(drawn, RESAMPLES, 0.025),
                                  stat_quantile(drawn, RESAMPLES, 0.975)};
}

// Samples by round: those of round r are x[first[r]] .. x[first[r + 1] - 1].
struct rounds {
    double *x;
    int *first, n;
};

static struct rounds by_round(const double *x, const int *round, int n)
{
    struct rounds r = {.x = mem_alloc((size_t)n * sizeof *x), .n = 1};
    for (int i = 0; round && i < n; i++)
        r.n = round[i] + 1 > r.n ? round[i] + 1 : r.n;
    r.first = mem_zero((size_t)r.n + 1, sizeof *r.first);
    int filled = 0;
    for (int k = 0; k < r.n; k++) {
        r.first[k] = filled;
        for (int i = 0; i < n; i++)
            if (!round || round[i] == k)
                r.x[filled++] = x[i];
    }
    r.first[r.n] = filled;
    CHECK(filled == n);
    return r;
}

// One resample: as many rounds as there are, as many samples of each as it has.
static int resample(const struct rounds *r, double *out, int out_max, uint64_t *state)
{
    int n = 0;
    for (int k = 0; k < r->n; k++) {
        const int pick = draw(state, r->n), first = r->first[pick];
        const int size = r->first[pick + 1] - first;
        for (int i = 0; i < size && n < out_max; i++)
            out[n++] = r->x[first + draw(state, size)];
    }
    return n;
}

struct stat_interval stat_median_interval(const double *x, const int *round, int n, uint64_t seed)
{
    CHECK(n >= 1);
    struct rounds r = by_round(x, round, n);
    int longest = 0;
    for (int k = 0; k < r.n; k++)
        longest = r.first[k + 1] - r.first[k] > longest ? r.first[k + 1] - r.first[k] : longest;
    const int most = longest * r.n;
    double *drawn = mem_alloc((size_t)most * sizeof *drawn);
    double *medians = mem_alloc(RESAMPLES * sizeof *medians);
    for (int i = 0; i < RESAMPLES; i++) {
        int got = 0;
        while (got == 0) // a draw of rounds that are all empty
            got = resample(&r, drawn, most, &seed);
        stat_sort(drawn, got);
        medians[i] = stat_quantile(drawn, got, 0.5);
    }
    const struct stat_interval interval = middle_95(medians);
    mem_free(r.x);
    mem_free(r.first);
    mem_free(drawn);
    mem_free(medians);
    return interval;
}

// round[i] of samples that were taken in one go: fifths of them.
static int *make_rounds(int n)
{
    enum { PARTS = 5 };
    int *round = mem_alloc((size_t)n * sizeof *round);
    for (int i = 0; i < n; i++)
        round[i] = (int)((int64_t)i * PARTS / n);
    return round;
}

// All of n draws of one of n rounds miss the k best ones with probability ((n - k) / n)^n.
static int rounds_hardly_missed(int n)
{
    int k = 1;
    while (pow((double)(n - k) / n, n) > 0.025)
        k++;
    return k;
}

struct stat_interval stat_least_interval(const double *x, const int *round, int n)
{
    CHECK(n >= 1);
    struct rounds r = by_round(x, round, n);
    int *made = r.n == 1 ? make_rounds(n) : NULL;
    if (made) {
        mem_free(r.x);
        mem_free(r.first);
        r = by_round(x, made, n);
    }
    double *least = mem_alloc((size_t)r.n * sizeof *least);
    int filled = 0;
    for (int k = 0; k < r.n; k++) {
        if (r.first[k] == r.first[k + 1])
            continue;
        stat_sort(r.x + r.first[k], r.first[k + 1] - r.first[k]);
        least[filled++] = r.x[r.first[k]];
    }
    stat_sort(least, filled);
    const struct stat_interval v = {least[0], least[rounds_hardly_missed(filled) - 1]};
    mem_free(least);
    mem_free(made);
    mem_free(r.x);
    mem_free(r.first);
    return v;
}

struct stat_interval stat_mean_interval(const double *x, int n, uint64_t seed)
{
    CHECK(n >= 1);
    double *means = mem_alloc(RESAMPLES * sizeof *means);
    for (int i = 0; i < RESAMPLES; i++) {
        double sum = 0;
        for (int k = 0; k < n; k++)
            sum += x[draw(&seed, n)];
        means[i] = sum / n;
    }
    const struct stat_interval interval = middle_95(means);
    mem_free(means);
    return interval;
}

static double noise_of(const double *sorted, int n)
{
    const double median = stat_quantile(sorted, n, 0.5);
    const double spread = stat_quantile(sorted, n, 0.75) - stat_quantile(sorted, n, 0.25);
    return median > 0 ? spread / 1.349 / median : 0; // 1.349 sigma between a normal's quartiles
}

struct stat_summary stat_summarise(const double *x, const int *round, int n, uint64_t seed)
{
    CHECK(n >= 1);
    double *sorted = sorted_copy(x, n), sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i];
    const struct stat_summary s = {.n = n,
                                   .mean = sum / n,
                                   .median = stat_quantile(sorted, n, 0.5),
                                   .p10 = stat_quantile(sorted, n, 0.1),
                                   .p90 = stat_quantile(sorted, n, 0.9),
                                   .min = sorted[0],
                                   .max = sorted[n - 1],
                                   .noise = noise_of(sorted, n),
                                   .interval = stat_median_interval(x, round, n, seed)};
    mem_free(sorted);
    return s;
}

enum stat_verdict stat_rule_ask(const struct stat_rule *r, const double *x, int n, double seconds)
{
    // What takes seconds a sample is not measured as often as what takes microseconds.
    const bool overdue = seconds >= r->seconds_max, enough = n >= 2 && n >= r->samples_min;
    if (!enough)
        return overdue && n >= 1 ? STAT_NOISY : STAT_GO_ON;
    if (seconds >= r->seconds_min) {
        double *sorted = sorted_copy(x, n);
        const double noise = noise_of(sorted, n);
        mem_free(sorted);
        // The standard error of a median is 1.2533 sigma / sqrt(n).
        if (noise <= r->noise_max || 1.2533 * noise / sqrt(n) <= r->noise_max)
            return STAT_SETTLED;
    }
    return overdue || n >= r->samples_max ? STAT_NOISY : STAT_GO_ON;
}
