// cpu.h - the CPU backend's own device: what the processor can do, how many threads, scratch.
// Private to kernels/cpu and its tests; everyone else sees struct dev through ops.h.
//
// Owner and thread: the thread that opened the device. Loops that a decode step waits for are shared by
// cpu_share(), the rest open OpenMP regions with num_threads(cpu->threads); nothing here but cpu_fail()
// may be called inside either.
#ifndef CPU_H
#define CPU_H

#include <stdbool.h>
#include <stddef.h>

#include "crew.h"
#include "ops.h"

#ifdef _OPENMP
#include <omp.h>
#endif

// The files a processor can run: plain C, *_avx2.c (AVX2, FMA, F16C), *_avx512.c (F, BW, VL, DQ).
enum cpu_isa { CPU_BASE, CPU_AVX2, CPU_AVX512 };

enum { CPU_THREADS_MAX = 256, CPU_SLOTS = 4 };

struct cpu {
    enum cpu_isa isa; // found at open; a test may lower it between calls to compare the paths
    bool vnni, bf16;  // AVX512_VNNI, AVX512_BF16; only meaningful while isa is CPU_AVX512
    int threads;      // of every shared loop and parallel region, >= 1

    struct {
        void *p;
        size_t bytes;
    } scratch[CPU_SLOTS];
    size_t scratch_bytes, scratch_max; // all slots together; 0: no limit

    bool failed;
    char failure[200]; // the first failure since the last sync

    struct crew *crew; // cpu_share's; NULL until used
    void *linear;      // cpu_linear's own, freed by linear_free at close; both NULL until used
    void (*linear_free)(void *linear);
};

static inline struct cpu *cpu_of(struct dev *dev)
{
    return (struct cpu *)dev;
}

// Number of the calling thread inside a parallel region, 0 .. threads - 1; 0 outside.
static inline int cpu_thread(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

// Scratch of an operation while it runs: 64-aligned, at least `bytes`, contents undefined. A slot
// keeps its memory and grows when asked for more; an operation uses any of the CPU_SLOTS, and for
// per-thread scratch asks for threads * bytes (bytes a multiple of 64) and indexes by cpu_thread().
// NULL when memory or the cap is out: the failure is kept for sync(), and the operation returns.
void *cpu_scratch(struct dev *dev, int slot, size_t bytes);

// Keeps the first failure for sync(). printf-like; may be called inside a parallel region.
void cpu_fail(struct dev *dev, const char *format, ...) __attribute__((format(printf, 2, 3)));

// work for items 0 .. n - 1 on the device's threads (crew.h); on the caller's alone when there is one
// thread or one item.
void cpu_share(struct cpu *cpu, int n, crew_work *work, void *ud);

// "base", "avx2", "avx512"
const char *cpu_isa_name(enum cpu_isa isa);

#define X(op) void cpu_##op(struct dev *dev, const struct op##_args *a);
OPS(X)
#undef X

#endif
