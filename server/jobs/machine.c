// machine.c - see machine.h. The loops are as simple as they can be: sums over a buffer that no cache
// holds, copies of it, and independent multiply-adds on registers.
#define _GNU_SOURCE
#include "machine.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "err.h"
#include "mem.h"

enum { THREADS_MAX = 256, PASSES = 4, ROUNDS = 1 << 24, CHAINS = 8 };
static const size_t READ_BYTES = (size_t)512 << 20;

struct share {
    pthread_t thread;
    uint64_t *data;
    size_t n;
    double result; // so that no sum is dropped
};

static void *read_memory(void *arg)
{
    struct share *s = arg;
    enum { LINE = 8, STREAMS = 8, AHEAD = 4 * LINE };
    uint64_t sum[LINE] = {0};
    const size_t n = s->n / STREAMS / LINE * LINE; // of a stream; several are read faster than one
    for (size_t i = 0; i < n; i += LINE)
        for (size_t stream = 0; stream < STREAMS; stream++) {
            const uint64_t *p = s->data + stream * n + i;
            __builtin_prefetch(p + AHEAD);
            for (int j = 0; j < LINE; j++)
                sum[j] += p[j];
        }
    for (int j = 1; j < 8; j++)
        sum[0] += sum[j];
    s->result = (double)sum[0];
    return NULL;
}

// The first half onto the second.
static void *copy_memory(void *arg)
{
    struct share *s = arg;
    memcpy(s->data + s->n / 2, s->data, s->n / 2 * sizeof *s->data);
    s->result = (double)s->data[s->n - 1];
    return NULL;
}

// CHAINS independent sums hide the four cycles of one on two units. They start from different numbers:
// from equal ones a compiler may compute one and copy it.
#define EACH(do)                                                                                   \
    do                                                                                             \
    (a) do(b) do(c) do(d) do(e) do(f) do(g) do(h)

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static void *multiply_add_512(void *arg)
{
    struct share *s = arg;
    float seed = 0;
    __m512 by = _mm512_set1_ps(0.999f), plus = _mm512_set1_ps(0.001f);
#define START(x) __m512 x = _mm512_set1_ps(seed += 0.125f);
#define STEP(x) x = _mm512_fmadd_ps(x, by, plus);
#define ADD(x) sum = _mm512_add_ps(sum, x);
    EACH(START)
    for (int i = 0; i < ROUNDS; i++) {
        EACH(STEP)
    }
    __m512 sum = plus;
    EACH(ADD)
    s->result = _mm512_reduce_add_ps(sum);
    return NULL;
#undef START
#undef STEP
#undef ADD
}

__attribute__((target("avx2,fma"))) static void *multiply_add_256(void *arg)
{
    struct share *s = arg;
    float seed = 0;
    __m256 by = _mm256_set1_ps(0.999f), plus = _mm256_set1_ps(0.001f);
#define START(x) __m256 x = _mm256_set1_ps(seed += 0.125f);
#define STEP(x) x = _mm256_fmadd_ps(x, by, plus);
#define ADD(x) sum = _mm256_add_ps(sum, x);
    EACH(START)
    for (int i = 0; i < ROUNDS; i++) {
        EACH(STEP)
    }
    __m256 sum = plus;
    EACH(ADD)
    s->result = _mm256_cvtss_f32(sum);
    return NULL;
#undef START
#undef STEP
#undef ADD
}
#endif

static void *multiply_add_plain(void *arg)
{
    struct share *s = arg;
    float seed = 0, by = 0.999f, plus = 0.001f;
#define START(x) float x = seed += 0.125f;
#define STEP(x) x = x * by + plus;
#define ADD(x) sum += x;
    EACH(START)
    for (int i = 0; i < ROUNDS; i++) {
        EACH(STEP)
    }
    float sum = 0;
    EACH(ADD)
    s->result = (double)sum;
    return NULL;
}

double machine_seconds(int threads)
{
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Seconds until every thread, the caller among them, has done its share.
static double run_once(void *(*work)(void *), uint64_t *data, size_t bytes, int threads)
{
    static volatile double sink;
    struct share shares[THREADS_MAX];
    const size_t n = bytes / sizeof *data / (size_t)threads;
    for (int i = 0; i < threads; i++)
        shares[i] = (struct share){.data = data ? data + (size_t)i * n : NULL, .n = n};
    const double begin = machine_seconds(threads);
    for (int i = 1; i < threads; i++)
        CHECK(!pthread_create(&shares[i].thread, NULL, work, &shares[i]));
    work(&shares[0]);
    for (int i = 1; i < threads; i++)
        CHECK(!pthread_join(shares[i].thread, NULL));
    const double seconds = machine_seconds(threads) - begin;
    for (int i = 0; i < threads; i++)
        sink = shares[i].result;
    (void)sink;
    return seconds;
}

// The best of PASSES.
static double run(void *(*work)(void *), uint64_t *data, int threads)
{
    double best = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        const double seconds = run_once(work, data, data ? READ_BYTES : 0, threads);
        best = pass && best < seconds ? best : seconds;
    }
    return best;
}

double machine_read(void *data, size_t bytes, int threads)
{
    return (double)bytes / run_once(read_memory, data, bytes, threads);
}

struct machine machine_measure(int threads)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct machine m = {.threads = threads ? threads : (int)cores, .vectors = "none"};
    void *(*work)(void *) = multiply_add_plain;
    double lanes = 1;
    CHECK(m.threads >= 1 && m.threads <= THREADS_MAX);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        work = multiply_add_512;
        lanes = 16;
        m.vectors = "avx512";
    } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        work = multiply_add_256;
        lanes = 8;
        m.vectors = "avx2";
    }
#endif
    uint64_t *data = mem_alloc(READ_BYTES);
    memset(data, 1, READ_BYTES);
    m.bytes_per_s = (double)READ_BYTES / run(read_memory, data, m.threads);
    // Half of the buffer is read and half is written.
    m.copy_bytes_per_s = (double)READ_BYTES / run(copy_memory, data, m.threads);
    mem_free(data);
    m.flops_per_s = 2.0 * lanes * CHAINS * ROUNDS * m.threads / run(work, NULL, m.threads);
    return m;
}
