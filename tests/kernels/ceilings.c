// ceilings.c - what this machine can do at best: bytes a second for a working set of a given size,
// float32 multiply-adds a second. ops_check perf divides by these, so they are measured in its run.
#define _POSIX_C_SOURCE 200809L
#include <immintrin.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu.h"
#include "ops_check.h"

double ceiling_clock(int threads)
{
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct share {
    float *p; // [n]
    size_t n;
    long rounds;
    float sums[16]; // kept, so that the work is not removed
};

// Half the traffic of the kernels is reading, half writing: scaling in place is both.
#define SWEEP(step, load, store, multiply, set)                                                    \
    do {                                                                                           \
        for (size_t i = 0; i < n; i += 4 * (step)) {                                               \
            store(p + i, multiply(load(p + i), set(0.999f)));                                      \
            store(p + i + (step), multiply(load(p + i + (step)), set(0.999f)));                    \
            store(p + i + 2 * (step), multiply(load(p + i + 2 * (step)), set(0.999f)));            \
            store(p + i + 3 * (step), multiply(load(p + i + 3 * (step)), set(0.999f)));            \
        }                                                                                          \
    } while (0)

static void sweep_base(float *p, size_t n)
{
    SWEEP(4, _mm_load_ps, _mm_store_ps, _mm_mul_ps, _mm_set1_ps);
}

static __attribute__((target("avx2"))) void sweep_avx2(float *p, size_t n)
{
    SWEEP(8, _mm256_load_ps, _mm256_store_ps, _mm256_mul_ps, _mm256_set1_ps);
}

static __attribute__((target("avx512f"))) void sweep_avx512(float *p, size_t n)
{
    SWEEP(16, _mm512_load_ps, _mm512_store_ps, _mm512_mul_ps, _mm512_set1_ps);
}

// Sums must be registers, or this measures the cache: twelve of them cover the latency of two units.
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 12")
#endif
#define CHAINS(vec, set, multiply_add)                                                             \
    do {                                                                                           \
        const vec x = set(0.999f), y = set(0.001f);                                                \
        vec a[12];                                                                                 \
        UNROLL for (int j = 0; j < 12; j++) a[j] = set((float)j);                                  \
        for (long r = 0; r < rounds; r++)                                                          \
            UNROLL for (int j = 0; j < 12; j++) a[j] = multiply_add(a[j], x, y);                   \
        UNROLL for (int j = 1; j < 12; j++) a[0] = multiply_add(a[j], x, a[0]);                    \
        memcpy(out, &a[0], sizeof a[0]);                                                           \
    } while (0)

static void chains_base(long rounds, float *out)
{
#define MULTIPLY_ADD(a, b, c) _mm_add_ps(_mm_mul_ps(a, b), c)
    CHAINS(__m128, _mm_set1_ps, MULTIPLY_ADD);
#undef MULTIPLY_ADD
}

static __attribute__((target("avx2,fma"))) void chains_avx2(long rounds, float *out)
{
    CHAINS(__m256, _mm256_set1_ps, _mm256_fmadd_ps);
}

static __attribute__((target("avx512f"))) void chains_avx512(long rounds, float *out)
{
    CHAINS(__m512, _mm512_set1_ps, _mm512_fmadd_ps);
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
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
    if (has_avx512())
        chains_avx512(s->rounds, s->sums);
    else if (has_avx2())
        chains_avx2(s->rounds, s->sums);
    else
        chains_base(s->rounds, s->sums);
    return NULL;
}
static double time_threads(void *(*work)(void *), struct share *shares, int threads)
{
    pthread_t ids[CPU_THREADS_MAX];
    double start = ceiling_clock(threads);
    for (int i = 1; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, &shares[i]))
            abort();
    work(&shares[0]);
    for (int i = 1; i < threads; i++)
        pthread_join(ids[i], NULL);
    return ceiling_clock(threads) - start;
}

double ceiling_bandwidth(size_t bytes, int threads)
{
    size_t n = bytes / sizeof(float) / (size_t)threads;
    n = n < 4096 ? 4096 : n > (64u << 20) ? 64u << 20 : n & ~(size_t)63; // whole steps of sweep
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
    const double lanes = has_avx512() ? 16 : has_avx2() ? 8 : 4;
    known = 2 * lanes * 12 * (double)rounds * threads / best;
    return known;
}
