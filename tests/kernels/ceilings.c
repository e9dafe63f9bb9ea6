// ceilings.c - what this machine can do at best: bytes a second for a working set of a given size,
// float32 multiply-adds a second. ops_check perf divides by these, so they are measured in its run.
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu.h"
#include "ops_check.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct share {
    float *p; // [n]
    size_t n;
    long rounds;
    float sum; // kept, so that the work is not removed
};

// Half the traffic of the kernels is reading, half writing: scaling in place is both.
static inline __attribute__((always_inline)) void sweep(float *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] *= 0.999999f;
}

// 64-byte vectors become what the processor has; 12 chains cover the latency of two FMA units.
typedef float wide __attribute__((vector_size(64)));

static inline __attribute__((always_inline)) float chains(long rounds)
{
    wide a[12], x, y;
    for (int i = 0; i < 16; i++) {
        x[i] = 0.999f;
        y[i] = 0.001f;
    }
    for (int j = 0; j < 12; j++)
        a[j] = y * (float)j;
    for (long r = 0; r < rounds; r++)
        for (int j = 0; j < 12; j++)
            a[j] = a[j] * x + y;
    float sum = 0;
    for (int j = 0; j < 12; j++)
        sum += a[j][0];
    return sum;
}

// The two loops above once for each instruction set.
#define LEVEL(name, set)                                                                           \
    static __attribute__((target(set))) void sweep_##name(float *p, size_t n)                      \
    {                                                                                              \
        sweep(p, n);                                                                               \
    }                                                                                              \
    static __attribute__((target(set))) float chains_##name(long rounds)                           \
    {                                                                                              \
        return chains(rounds);                                                                     \
    }
LEVEL(base, "sse2")
LEVEL(avx2, "avx2,fma")
LEVEL(avx512, "avx512f,avx512vl,avx512dq,avx512bw")
#undef LEVEL

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static void *run_sweep(void *arg)
{
    struct share *s = arg;
    void (*best)(float *, size_t) = has_avx512() ? sweep_avx512
                                    : has_avx2() ? sweep_avx2
                                                 : sweep_base;
    for (long r = 0; r < s->rounds; r++)
        best(s->p, s->n);
    return NULL;
}

static void *run_chains(void *arg)
{
    struct share *s = arg;
    float (*best)(long) = has_avx512() ? chains_avx512 : has_avx2() ? chains_avx2 : chains_base;
    s->sum = best(s->rounds);
    return NULL;
}
static double time_threads(void *(*work)(void *), struct share *shares, int threads)
{
    pthread_t ids[CPU_THREADS_MAX];
    double start = now();
    for (int i = 1; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, &shares[i]))
            abort();
    work(&shares[0]);
    for (int i = 1; i < threads; i++)
        pthread_join(ids[i], NULL);
    return now() - start;
}

double ceiling_bandwidth(size_t bytes, int threads)
{
    size_t n = bytes / sizeof(float) / (size_t)threads;
    n = n < 4096 ? 4096 : n > (64u << 20) ? 64u << 20 : n;
    struct share shares[CPU_THREADS_MAX] = {0};
    long rounds = (long)((16u << 20) / n) + 2;
    for (int i = 0; i < threads; i++) {
        shares[i] =
            (struct share){.p = aligned_alloc(64, n * sizeof(float)), .n = n, .rounds = rounds};
        if (!shares[i].p)
            abort();
        memset(shares[i].p, 0, n * sizeof(float));
    }
    double best = 1e9;
    for (int i = 0; i < 4; i++) {
        double t = time_threads(run_sweep, shares, threads);
        best = t < best ? t : best;
    }
    for (int i = 0; i < threads; i++)
        free(shares[i].p);
    return 2.0 * sizeof(float) * (double)n * (double)rounds * threads / best;
}

double ceiling_flops(int threads)
{
    static double known;
    static int known_threads;
    if (known_threads == threads)
        return known;
    struct share shares[CPU_THREADS_MAX] = {0};
    const long rounds = 2000000;
    for (int i = 0; i < threads; i++)
        shares[i].rounds = rounds;
    double best = 1e9;
    for (int i = 0; i < 4; i++) {
        double t = time_threads(run_chains, shares, threads);
        best = t < best ? t : best;
    }
    known_threads = threads;
    known = 2.0 * 16 * 12 * (double)rounds * threads / best;
    return known;
}
