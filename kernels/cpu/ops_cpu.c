// ops_cpu.c - the CPU's table of operations: opening, memory, failures. Each operation has its own
// file; each of its instruction-set variants too.
#define _GNU_SOURCE
#include <cpuid.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu.h"

enum { ALIGN = 64 };

// Rounded up to ALIGN, or 0 when that does not fit.
static size_t round_up(size_t bytes)
{
    size_t sum;
    if (__builtin_add_overflow(bytes, ALIGN - 1, &sum))
        return 0;
    return sum & ~(size_t)(ALIGN - 1);
}

// F16C has no name in __builtin_cpu_supports of every compiler we build with.
static bool has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

static void find_isa(struct cpu *cpu)
{
    __builtin_cpu_init();
    cpu->isa = CPU_BASE;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
        cpu->isa = CPU_AVX2;
    if (cpu->isa == CPU_AVX2 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")) {
        cpu->isa = CPU_AVX512;
        cpu->vnni = __builtin_cpu_supports("avx512vnni");
        cpu->bf16 = __builtin_cpu_supports("avx512bf16");
    }
}

static int count_threads(int wanted)
{
#ifdef _OPENMP
    int n = wanted ? wanted : omp_get_num_procs();
    return n < CPU_THREADS_MAX ? n : CPU_THREADS_MAX;
#else
    (void)wanted;
    return 1;
#endif
}

static struct dev *cpu_open(const struct dev_options *o, char *why, size_t why_size)
{
    if (o->index != 0) {
        snprintf(why, why_size, "cpu device %d does not exist; the only index is 0", o->index);
        return NULL;
    }
    if (o->threads < 0) {
        snprintf(why, why_size, "threads %d is negative; use 0 for all cores", o->threads);
        return NULL;
    }
    if (o->act != DTYPE_F32) {
        snprintf(why, why_size, "the cpu's activations are f32, not %s", dtype_name(o->act));
        return NULL;
    }
    struct cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu) {
        snprintf(why, why_size, "out of memory opening the cpu device");
        return NULL;
    }
    find_isa(cpu);
    cpu->threads = count_threads(o->threads);
    cpu->scratch_max = o->scratch_bytes;
    return (struct dev *)cpu;
}

static void cpu_close(struct dev *dev)
{
    if (!dev)
        return;
    struct cpu *cpu = cpu_of(dev);
    crew_destroy(cpu->crew);
    if (cpu->linear_free)
        cpu->linear_free(cpu->linear);
    for (int i = 0; i < CPU_SLOTS; i++)
        free(cpu->scratch[i].p);
    free(cpu);
}

// calloc, because the system gives large blocks as zero pages that cost nothing until they are
// written: a page pool is sized for the longest contexts and seldom full. The block's own address
// stands just before the aligned one.
static void *cpu_alloc(struct dev *dev, size_t bytes)
{
    (void)dev;
    size_t size;
    if (__builtin_add_overflow(bytes, ALIGN + sizeof(void *), &size))
        return NULL;
    char *block = calloc(1, size);
    if (!block)
        return NULL;
    char *p = block + sizeof(void *);
    p += -(uintptr_t)p % ALIGN;
    memcpy(p - sizeof block, &block, sizeof block);
    return p;
}

static void cpu_release(struct dev *dev, void *p)
{
    (void)dev;
    if (!p)
        return;
    char *block;
    memcpy(&block, (char *)p - sizeof block, sizeof block);
    free(block);
}

static void cpu_copy(struct dev *dev, void *dst, const void *src, size_t bytes)
{
    (void)dev;
    memcpy(dst, src, bytes);
}

static enum dtype cpu_act(struct dev *dev)
{
    (void)dev;
    return DTYPE_F32;
}

static size_t cpu_memory(struct dev *dev)
{
    (void)dev;
    const long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && bytes > 0 ? (size_t)pages * (size_t)bytes : 0;
}

// Nothing is recorded: a call is cheap beside the work it asks for.
static bool cpu_step_begin(struct dev *dev, const struct step_key *key)
{
    (void)dev;
    (void)key;
    return false;
}

static void cpu_nothing(struct dev *dev)
{
    (void)dev;
}

static void cpu_warm(struct dev *dev, bool warm)
{
    (void)dev;
    (void)warm;
}

void cpu_share(struct cpu *cpu, int n, crew_work *work, void *ud)
{
    if (cpu->crew && crew_threads(cpu->crew) != cpu->threads) { // a test has changed them
        crew_destroy(cpu->crew);
        cpu->crew = NULL;
    }
    if (!cpu->crew && cpu->threads > 1 && n > 1)
        cpu->crew = crew_create(cpu->threads);
    if (cpu->crew && n > 1)
        crew_run(cpu->crew, n, work, ud);
    else
        for (int i = 0; i < n; i++)
            work(ud, i, 0);
}

static const void *cpu_borrow(struct dev *dev, const void *host, size_t bytes)
{
    (void)dev;
    (void)bytes;
    return host;
}

static int cpu_sync(struct dev *dev, char *why, size_t why_size)
{
    struct cpu *cpu = cpu_of(dev);
    if (!cpu->failed)
        return 0;
    snprintf(why, why_size, "%s", cpu->failure);
    cpu->failed = false;
    return -1;
}

static void cpu_describe(struct dev *dev, char *text, size_t size)
{
    const struct cpu *cpu = cpu_of(dev);
    bool full = cpu->isa == CPU_AVX512;
    snprintf(text, size, "cpu, %s%s%s, %d thread%s", cpu_isa_name(cpu->isa),
             full && cpu->vnni ? " vnni" : "", full && cpu->bf16 ? " bf16" : "", cpu->threads,
             cpu->threads == 1 ? "" : "s");
}

void *cpu_scratch(struct dev *dev, int slot, size_t bytes)
{
    struct cpu *cpu = cpu_of(dev);
    if (bytes <= cpu->scratch[slot].bytes)
        return cpu->scratch[slot].p;
    size_t size = round_up(bytes), others = cpu->scratch_bytes - cpu->scratch[slot].bytes, all;
    if (!size || __builtin_add_overflow(others, size, &all) ||
        (cpu->scratch_max && all > cpu->scratch_max)) {
        cpu_fail(dev, "scratch: %zu bytes wanted beside %zu, the limit is %zu", bytes, others,
                 cpu->scratch_max);
        return NULL;
    }
    void *p = aligned_alloc(ALIGN, size);
    if (!p) {
        cpu_fail(dev, "scratch: no memory for %zu bytes", size);
        return NULL;
    }
    free(cpu->scratch[slot].p);
    cpu->scratch[slot].p = p;
    cpu->scratch[slot].bytes = size;
    cpu->scratch_bytes = all;
    return p;
}

void cpu_fail(struct dev *dev, const char *format, ...)
{
    struct cpu *cpu = cpu_of(dev);
    va_list args;
    va_start(args, format);
#pragma omp critical(cpu_fail)
    if (!cpu->failed) {
        cpu->failed = true;
        vsnprintf(cpu->failure, sizeof cpu->failure, format, args);
    }
    va_end(args);
}

const char *cpu_isa_name(enum cpu_isa isa)
{
    static const char *const NAMES[] = {
        [CPU_BASE] = "base", [CPU_AVX2] = "avx2", [CPU_AVX512] = "avx512"};
    return NAMES[isa];
}

const struct ops ops_cpu = {.name = "cpu",
                            .open = cpu_open,
                            .close = cpu_close,
                            .alloc = cpu_alloc,
                            .release = cpu_release,
                            .upload = cpu_copy,
                            .download = cpu_copy,
                            .copy = cpu_copy,
                            .sync = cpu_sync,
                            .act = cpu_act,
                            .memory = cpu_memory,
                            .step_begin = cpu_step_begin,
                            .step_end = cpu_nothing,
                            .warm_up = false,
                            .warm = cpu_warm,
                            .borrow = cpu_borrow,
                            .describe = cpu_describe,
#define X(op) .op = cpu_##op,
                            OPS(X)
#undef X
};
