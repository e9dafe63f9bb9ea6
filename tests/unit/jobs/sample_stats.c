// sample_stats.c - quantiles, intervals that hold what they say, the rule that ends sampling.
#include "sample_stats.h"

#include <criterion/criterion.h>
#include <math.h>

Test(sample_stats, quantiles_are_linear_between_neighbours)
{
    const double x[] = {1, 2, 4, 8, 16};
    cr_assert(stat_quantile(x, 5, 0) == 1);
    cr_assert(stat_quantile(x, 5, 0.5) == 4);
    cr_assert(stat_quantile(x, 5, 1) == 16);
    cr_assert(fabs(stat_quantile(x, 5, 0.125) - 1.5) < 1e-12);
    cr_assert(stat_quantile(x, 1, 0.99) == 1);
}

Test(sample_stats, a_quantile_takes_ten_samples_beyond_it)
{
    cr_assert(stat_quantile_samples(0.99) == 1000);
    cr_assert(stat_quantile_samples(0.9) == 100);
    cr_assert(stat_quantile_samples(0.5) == 20);
}

Test(sample_stats, sorting_puts_what_is_no_number_last)
{
    double x[] = {3, NAN, 1, 2};
    stat_sort(x, 4);
    cr_assert(x[0] == 1 && x[1] == 2 && x[2] == 3 && isnan(x[3]));
}

Test(sample_stats, the_same_seed_gives_the_same_digits)
{
    const double x[] = {5, 3, 9, 1, 7};
    const struct stat_interval a = stat_median_interval(x, NULL, 5, 7);
    const struct stat_interval b = stat_median_interval(x, NULL, 5, 7);
    cr_assert(a.low == b.low && a.high == b.high);
    cr_assert(a.low >= 1 && a.high <= 9 && a.low <= 5 && a.high >= 5);
}

// Of 300 draws of 40 samples, the 95 % interval of the median must hold the true one about 285 times;
// 265 and 298 are more than six standard errors away.
Test(sample_stats, the_median_lies_in_its_interval_as_often_as_it_says)
{
    uint64_t random = 3;
    int inside = 0;
    for (int i = 0; i < 300; i++) {
        double x[40];
        for (int k = 0; k < 40; k++)
            x[k] = 10 + stat_normal(&random);
        const struct stat_interval v = stat_median_interval(x, NULL, 40, (uint64_t)i);
        inside += v.low <= 10 && v.high >= 10;
    }
    cr_assert(inside >= 265 && inside <= 299, "%d of 300", inside);
}

Test(sample_stats, the_mean_lies_in_its_interval)
{
    uint64_t random = 4;
    int inside = 0;
    for (int i = 0; i < 100; i++) {
        double x[64];
        for (int k = 0; k < 64; k++)
            x[k] = stat_normal(&random);
        const struct stat_interval v = stat_mean_interval(x, 64, (uint64_t)i);
        inside += v.low <= 0 && v.high >= 0;
    }
    cr_assert(inside >= 82 && inside <= 100, "%d of 100", inside);
}

// What differs between rounds must widen the interval, however alike the samples of a round are.
Test(sample_stats, rounds_that_differ_widen_the_interval)
{
    double x[90];
    int round[90];
    uint64_t random = 5;
    for (int i = 0; i < 90; i++) {
        round[i] = i / 30;
        x[i] = 100 + 5 * round[i] + 0.1 * stat_normal(&random);
    }
    const struct stat_interval v = stat_median_interval(x, round, 90, 1);
    cr_assert(v.low < 101 && v.high > 109, "%g to %g", v.low, v.high);
}

// Ten rounds, three of them beside something that takes half the machine.
static double noisy_run(double *x, int *round, int n, uint64_t *random)
{
    double least = INFINITY;
    for (int i = 0; i < n; i++) {
        round[i] = i * 10 / n;
        x[i] = 100 * (1 + 0.2 * stat_uniform(random) * stat_uniform(random));
        x[i] *= round[i] % 4 == 3 ? 1.5 : 1;
        least = fmin(least, x[i]);
    }
    return least;
}

Test(sample_stats, the_least_of_another_run_is_in_its_interval)
{
    enum { N = 60 };
    double x[N];
    int round[N], inside = 0;
    uint64_t random = 11;
    for (int i = 0; i < 200; i++) {
        noisy_run(x, round, N, &random);
        const struct stat_interval v = stat_least_interval(x, round, N);
        inside += noisy_run(x, round, N, &random) <= v.high;
        cr_assert(v.low >= 100 && v.high < 105, "%g to %g", v.low, v.high);
    }
    cr_assert(inside >= 190, "%d of 200", inside);
}

Test(sample_stats, the_fourth_of_ten_rounds_ends_the_interval_of_the_least)
{
    double x[20];
    int round[20];
    for (int i = 0; i < 20; i++) {
        round[i] = i / 2;
        x[i] = 50 - round[i] + 10 * (i % 2);
    }
    const struct stat_interval v = stat_least_interval(x, round, 20);
    cr_assert(v.low == 41 && v.high == 44, "%g to %g", v.low, v.high);
    const struct stat_interval alone = stat_least_interval(x, NULL, 20); // fifths of four samples
    cr_assert(alone.low == 41 && alone.high == 45, "%g to %g", alone.low, alone.high);
    const struct stat_interval one = stat_least_interval(x, NULL, 1);
    cr_assert(one.low == 50 && one.high == 50);
}

Test(sample_stats, a_summary_leaves_its_samples_alone)
{
    const double x[] = {4, 2, 8, 6};
    const struct stat_summary s = stat_summarise(x, NULL, 4, 1);
    cr_assert(s.n == 4 && s.mean == 5 && s.median == 5 && s.min == 2 && s.max == 8);
    cr_assert(fabs(s.noise - 3 / 1.349 / 5) < 1e-12);
    cr_assert(x[0] == 4 && x[3] == 6);
}

Test(sample_stats, sampling_ends_when_little_moves_or_the_time_is_up)
{
    const struct stat_rule rule = {.samples_min = 5,
                                   .samples_max = 100,
                                   .seconds_min = 0.1,
                                   .seconds_max = 1,
                                   .noise_max = 0.01};
    const double quiet[] = {10, 10, 10, 10.01, 10, 10}, loud[] = {10, 20, 5, 14, 9, 30};
    cr_assert(stat_rule_ask(&rule, quiet, 4, 0.5) == STAT_GO_ON, "too few");
    cr_assert(stat_rule_ask(&rule, quiet, 6, 0.05) == STAT_GO_ON, "too early");
    cr_assert(stat_rule_ask(&rule, quiet, 6, 0.5) == STAT_SETTLED);
    cr_assert(stat_rule_ask(&rule, loud, 6, 0.5) == STAT_GO_ON);
    cr_assert(stat_rule_ask(&rule, loud, 6, 1.1) == STAT_NOISY, "the unmet condition is told");
    cr_assert(stat_rule_ask(&rule, loud, 1, 2) == STAT_NOISY, "one sample of seconds");
    cr_assert(stat_rule_ask(&rule, loud, 0, 2) == STAT_GO_ON, "none at all is no answer");
}

// Many samples know their median although each is noisy.
Test(sample_stats, enough_noisy_samples_settle)
{
    const struct stat_rule rule = {5, 100000, 0, 100, 0.01};
    static double x[20000];
    uint64_t random = 6;
    for (int i = 0; i < 20000; i++)
        x[i] = 10 + stat_normal(&random);
    cr_assert(stat_rule_ask(&rule, x, 100, 1) == STAT_GO_ON);
    cr_assert(stat_rule_ask(&rule, x, 20000, 1) == STAT_SETTLED);
}
