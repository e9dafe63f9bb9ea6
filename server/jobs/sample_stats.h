// sample_stats.h - what samples say: order statistics, bootstrap intervals, when to stop measuring.
// Pure functions of the caller's arrays, any thread. Random draws come from a seed, so a report can be
// computed again from its samples with the same digits.
#ifndef SAMPLE_STATS_H
#define SAMPLE_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// splitmix64 (Steele, Lea, Flood 2014): the next number of a stream; uniform is in [0, 1), normal has
// mean 0 and variance 1 (Box-Muller).
uint64_t stat_random(uint64_t *state);
double stat_uniform(uint64_t *state);
double stat_normal(uint64_t *state);

void stat_sort(double *x, int n); // ascending, NaN last

// The p-quantile (0 <= p <= 1) of n >= 1 sorted numbers, linear between neighbours.
double stat_quantile(const double *sorted, int n, double p);

// How many samples a quantile takes before it means anything: ten of them beyond it. p 0.99: 1000.
int stat_quantile_samples(double p);

struct stat_interval {
    double low, high; // 95 %, percentile bootstrap
};

// Of a median. The samples were taken in rounds, round[i] = 0 .. n_rounds - 1: whole rounds are drawn
// with replacement, then samples within them, because what differs between two runs of a benchmark is
// mostly what differs between two of its rounds. round NULL: one round.
struct stat_interval stat_median_interval(const double *x, const int *round, int n, uint64_t seed);

// Of the least of n >= 1 times: low is that, high what the least of another such run stays below (97.5 %
// of draws of as many rounds, each with its own least). What else a machine does only adds time, so
// two runs of the same thing differ less in their least than in their medians. round NULL or one
// round: fifths of the samples stand for rounds.
struct stat_interval stat_least_interval(const double *x, const int *round, int n);

// Of a mean of n >= 1 numbers; for a paired comparison of texts, x holds differences, one a block of
// text (tokens beside each other are not independent).
struct stat_interval stat_mean_interval(const double *x, int n, uint64_t seed);

struct stat_summary {
    int n;
    double mean, median, p10, p90, min, max;
    double noise;                  // robust relative deviation: (q3 - q1) / 1.349 / median
    struct stat_interval interval; // of the median
};

// n >= 1. x is left as it was.
struct stat_summary stat_summarise(const double *x, const int *round, int n, uint64_t seed);

// When to stop taking samples of one thing, after nvbench: enough samples and time, and either little
// noise or a median that is known well enough; else at the time limit, and the report says so.
struct stat_rule {
    int samples_min, samples_max;
    double seconds_min, seconds_max;
    double noise_max; // of the noise, or of the median's relative standard error
};

enum stat_verdict { STAT_GO_ON, STAT_SETTLED, STAT_NOISY }; // NOISY: out of time or samples, unmet

enum stat_verdict stat_rule_ask(const struct stat_rule *r, const double *x, int n, double seconds);

#endif
