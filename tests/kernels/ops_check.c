// ops_check.c - the runner of the operations' cases: check, poison, repeat, perf, inverse.
//
// Usage: ops_check [check|poison|repeat|perf] [operation|all] [threads] [--device cpu|cuda] [--act TYPE]
//        ops_check inverse
// check (the default) runs check, poison and repeat. Exit 1 on any failure; the last line is
// "N passed, N failed". One process, so that a device is opened once. perf on the CPU with one thread
// counts processor time, so that what else the machine does hardly shows; on a device a sample is
// many runs and one wait, with the caches warm, and again with the caches swept before each run.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_buffers.h"
#include "cpu.h"
#include "device_ceilings.h"

enum { MODE_CHECK = 1, MODE_POISON = 2, MODE_REPEAT = 4, MODE_PERF = 8 };

struct entry {
    const char *name;
    const struct op_check *check;
    void (*run)(struct check_case *c);
};

#define X(op)                                                                                      \
    static void run_##op(struct check_case *c)                                                     \
    {                                                                                              \
        c->ops->op(c->dev, &c->args.op);                                                           \
    }
OPS(X)
#undef X

static const struct entry ENTRIES[] = {
#define X(op) {#op, &check_##op, run_##op},
    OPS(X)
#undef X
};
enum { N_ENTRIES = sizeof ENTRIES / sizeof *ENTRIES };

static int n_passed, n_failed;

bool check_true(bool ok, const char *format, ...)
{
    if (ok) {
        n_passed++;
        return true;
    }
    n_failed++;
    va_list args;
    va_start(args, format);
    printf("FAILED ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    return false;
}

// Every output's device side, in the order of the list; free with free_images.
struct images {
    void *p[32];
    int n;
};

static void free_images(struct images *s)
{
    for (int i = 0; i < s->n; i++)
        free(s->p[i]);
    s->n = 0;
}

static void take_images(struct check_case *c, struct images *s)
{
    s->n = 0;
    for (struct check_buf *b = c->bufs; b; b = b->next) {
        if (s->n == (int)(sizeof s->p / sizeof *s->p))
            abort();
        s->p[s->n++] = check_download(c, b);
    }
}

static void sync_case(struct check_case *c, const char *label)
{
    char why[256];
    if (c->ops->sync(c->dev, why, sizeof why))
        check_true(false, "%s: the device reports: %s", label, why);
}

static void run_fresh(struct check_case *c, const struct entry *e, const char *label)
{
    check_upload(c);
    e->run(c);
    sync_case(c, label);
}

static bool same_kind(double got, double want)
{
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got);
    return (isinf(want) || isinf(got)) ? got == want : true;
}

static void compare(const struct check_buf *b, const void *data, const char *label)
{
    double squares = 0, norm = 0, worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < b->n; i++) {
        double got = check_load(data, b->type, i), want = check_held(b->type, b->want[i]);
        if (!same_kind(got, want)) {
            check_true(false, "%s: %s[%zu] is %g, want %g", label, b->name, i, got, want);
            return;
        }
        if (!isfinite(want))
            continue;
        double d = fabs(got - want), over = d - (b->limit.abs + b->limit.rel * fabs(want));
        squares += d * d;
        norm += want * want;
        if (over > worst) {
            worst = over;
            at = i;
        }
    }
    check_true(worst == 0, "%s: %s[%zu] is %.9g, want %.9g (abs %g, rel %g: %s)", label, b->name,
               at, check_load(data, b->type, at), b->want[at], b->limit.abs, b->limit.rel,
               b->limit.why);
    check_true(squares <= b->limit.nmse * norm, "%s: %s: nmse %.3g, limit %.3g (%s)", label,
               b->name, squares / norm, b->limit.nmse, b->limit.why);
}

static void check_values(struct check_case *c, const struct images *s, const char *label)
{
    int i = 0;
    for (struct check_buf *b = c->bufs; b; b = b->next, i++)
        if (b->want)
            compare(b, (const char *)s->p[i] + CHECK_GUARD, label);
}

static void check_surroundings(struct check_case *c, const struct images *s, const char *label)
{
    int i = 0;
    for (struct check_buf *b = c->bufs; b; b = b->next, i++) {
        const char *data = (const char *)s->p[i] + CHECK_GUARD;
        check_true(check_guards(b, s->p[i]), "%s: wrote outside %s", label, b->name);
        if (b->role == CHECK_INPUT)
            check_true(!memcmp(data, b->host, b->n * dtype_bytes(b->type)),
                       "%s: changed its input %s", label, b->name);
        else if (b->want)
            for (size_t k = 0; k < b->n; k++)
                if (isnan(check_load(data, b->type, k)) && !isnan(b->want[k])) {
                    check_true(false, "%s: %s[%zu] is NaN or unset", label, b->name, k);
                    break;
                }
    }
}

static void check_same(struct check_case *c, const struct images *s, const char *label)
{
    struct images again;
    take_images(c, &again);
    int i = 0;
    for (struct check_buf *b = c->bufs; b; b = b->next, i++) {
        size_t bytes = b->n * dtype_bytes(b->type), at = 0;
        const char *one = (const char *)s->p[i] + CHECK_GUARD;
        const char *two = (const char *)again.p[i] + CHECK_GUARD;
        while (at < bytes && one[at] == two[at])
            at++;
        at /= dtype_bytes(b->type);
        check_true(at * dtype_bytes(b->type) == bytes, "%s: %s[%zu] differs: %.9g, %.9g", label,
                   b->name, at, at < b->n ? check_load(one, b->type, at) : 0,
                   at < b->n ? check_load(two, b->type, at) : 0);
    }
    free_images(&again);
}

static void check_parts(struct check_case *c, const struct entry *e, const struct images *s,
                        const char *label)
{
    char text[320];
    if (!e->check->part) {
        check_true(e->check->part_why != NULL, "%s: neither part nor part_why", e->name);
        return;
    }
    snprintf(text, sizeof text, "%s: in parts", label);
    const union check_args whole = c->args;
    check_upload(c);
    for (int i = 0; e->check->part(c, i); i++) {
        e->run(c);
        c->args = whole;
    }
    c->args = whole;
    sync_case(c, text);
    check_same(c, s, text);
}

static void check_repeat(struct check_case *c, const struct entry *e, const struct images *s,
                         const char *label)
{
    char text[320];
    snprintf(text, sizeof text, "%s: second run", label);
    run_fresh(c, e, text);
    check_same(c, s, text);
    if (c->ops != &ops_cpu) {
        check_parts(c, e, s, label);
        return;
    }
    struct cpu *cpu = cpu_of(c->dev);
    const int threads = cpu->threads;
    cpu->threads = threads == 1 ? 3 : 1;
    snprintf(text, sizeof text, "%s: %d threads", label, cpu->threads);
    run_fresh(c, e, text);
    check_same(c, s, text);
    check_parts(c, e, s, label);
    cpu->threads = threads;
}

// What distinguishes this run of a case: the CPU's instruction set, a device's name and activations.
static const char *variant(const struct check_case *c, char *text, size_t size)
{
    if (c->ops == &ops_cpu)
        snprintf(text, size, "%s", cpu_isa_name(cpu_of(c->dev)->isa));
    else
        snprintf(text, size, "%s %s", c->ops->name, dtype_name(check_act(c)));
    return text;
}

static void check_variant(struct check_case *c, const struct entry *e, int modes)
{
    char label[256], text[40];
    struct images s;
    snprintf(label, sizeof label, "%s %s (%s)", e->name, c->name, variant(c, text, sizeof text));
    run_fresh(c, e, label);
    take_images(c, &s);
    if (modes & MODE_CHECK)
        check_values(c, &s, label);
    if (modes & MODE_POISON)
        check_surroundings(c, &s, label);
    if (modes & MODE_REPEAT)
        check_repeat(c, e, &s, label);
    free_images(&s);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Seconds of one run: the median of as many as fit in a third of a second, after a warm-up.
static double time_cpu(struct check_case *c, const struct entry *e)
{
    enum { RUNS_MAX = 301 };
    double times[RUNS_MAX];
    const int threads = cpu_of(c->dev)->threads;
    run_fresh(c, e, c->name);
    int n = 0;
    double start = ceiling_clock(threads);
    for (; n < RUNS_MAX && (n < 5 || ceiling_clock(threads) - start < 0.3); n++) {
        double t = ceiling_clock(threads);
        e->run(c);
        sync_case(c, c->name);
        times[n] = ceiling_clock(threads) - t;
    }
    qsort(times, (size_t)n, sizeof *times, by_value);
    return times[n / 2];
}

enum { SWEEP_BYTES = 160 << 20 }; // read and written: beyond any cache

// Seconds of `runs` runs and one wait; with a sweep before each when there is one.
static double time_batch(struct check_case *c, const struct entry *e, int runs, char *sweep)
{
    sync_case(c, c->name);
    double t = ceiling_clock(2);
    for (int i = 0; i < runs; i++) {
        if (sweep)
            c->ops->copy(c->dev, sweep, sweep + SWEEP_BYTES / 2, SWEEP_BYTES / 2);
        if (e)
            e->run(c);
    }
    sync_case(c, c->name);
    return ceiling_clock(2) - t;
}

// Median of several batches, each of at least 3 ms.
static double time_device(struct check_case *c, const struct entry *e, char *sweep)
{
    enum { BATCHES = 9, RUNS_MAX = 256 };
    double times[BATCHES];
    int runs = 2;
    run_fresh(c, e, c->name);
    while (runs < RUNS_MAX && time_batch(c, e, runs, sweep) < 3e-3)
        runs *= 2;
    for (int i = 0; i < BATCHES; i++) {
        times[i] = time_batch(c, e, runs, sweep);
        if (sweep)
            times[i] -= time_batch(c, NULL, runs, sweep);
        times[i] /= runs;
    }
    qsort(times, BATCHES, sizeof *times, by_value);
    return times[BATCHES / 2];
}

struct rates {
    double bytes, flops; // a second, at most
};

static void print_time(const struct check_case *c, const struct entry *e, double t, const char *how,
                       struct rates most)
{
    const double memory = c->bytes > 0 ? c->bytes / most.bytes : 0;
    const double math = c->flops > 0 ? c->flops / most.flops : 0, floor = fmax(memory, math);
    char text[40];
    printf("%-12s %-44s %-9s %-4s %10.1f us %8.2f GB/s %9.2f GFLOP/s  floor %9.1f us (%s) %6.2fx\n",
           e->name, c->name, variant(c, text, sizeof text), how, t * 1e6, c->bytes / t * 1e-9,
           c->flops / t * 1e-9, floor * 1e6, memory > math ? "memory" : "math", t / floor);
}

static void perf_variant(struct check_case *c, const struct entry *e)
{
    if (c->flops <= 0 && c->bytes <= 0)
        return;
    if (c->ops == &ops_cpu) {
        const int threads = cpu_of(c->dev)->threads;
        double t = time_cpu(c, e);
        print_time(
            c, e, t, "",
            (struct rates){ceiling_bandwidth((size_t)c->bytes, threads), ceiling_flops(threads)});
        return;
    }
    const struct rates most = {device_bandwidth(c->ops, c->dev),
                               device_rate(c->ops, c->dev, check_act(c))};
    char *sweep = c->ops->alloc(c->dev, SWEEP_BYTES);
    print_time(c, e, time_device(c, e, NULL), "warm", most);
    if (sweep)
        print_time(c, e, time_device(c, e, sweep), "cold", most);
    c->ops->release(c->dev, sweep);
}

// On the CPU every instruction set there is.
static void check_case_all(struct check_case *c, const struct entry *e, int modes)
{
    if (c->ops != &ops_cpu) {
        check_variant(c, e, modes);
        return;
    }
    struct cpu *cpu = cpu_of(c->dev);
    const enum cpu_isa best = cpu->isa;
    for (int isa = CPU_BASE; isa <= (int)best; isa++) {
        cpu->isa = (enum cpu_isa)isa;
        check_variant(c, e, modes);
    }
    cpu->isa = best;
}

static void run_entry(const struct ops *ops, struct dev *dev, const struct entry *e, int modes)
{
    const int n_cases = e->check->n_cases + (modes & MODE_PERF ? e->check->n_perf : 0);
    for (int i = 0; i < n_cases; i++) {
        struct check_case c = {.ops = ops, .dev = dev, .random = (uint64_t)i + 1};
        e->check->make(&c, i);
        if (modes & MODE_PERF)
            perf_variant(&c, e);
        else
            check_case_all(&c, e, modes);
        check_case_free(&c);
    }
    if (e->check->extra && (modes & MODE_CHECK))
        e->check->extra(ops, dev);
    if (e->check->perf_extra && (modes & MODE_PERF))
        e->check->perf_extra(ops, dev);
}

static int run_all(const struct ops *ops, struct dev *dev, const char *only, int modes)
{
    int found = 0;
    for (int i = 0; i < N_ENTRIES; i++) {
        const struct entry *e = &ENTRIES[i];
        if (strcmp(only, "all") && strcmp(only, e->name))
            continue;
        found++;
        int failed = n_failed, passed = n_passed;
        run_entry(ops, dev, e, modes);
        if (!(modes & MODE_PERF))
            printf("%-12s %3d cases, %6d passed, %d failed\n", e->name, e->check->n_cases,
                   n_passed - passed, n_failed - failed);
    }
    if (!found) {
        printf("no operation is named '%s'\n", only);
        return 1;
    }
    if (!(modes & MODE_PERF))
        printf("%d passed, %d failed\n", n_passed, n_failed);
    return n_failed != 0;
}

// Built for ThreadSanitizer the kernels have one thread (CMakeLists.txt) and everything here takes
// twenty times as long: there is nothing to find, unless an operation is asked for by name.
static bool is_pointless(int argc)
{
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(THREAD_SANITIZER)
    return argc < 3;
#else
    (void)argc;
    return false;
#endif
}

static int usage(void)
{
    printf("usage: ops_check [check|poison|repeat|perf] [operation|all] [threads] [--device %s] "
           "[--act f32|bf16|f16] | ops_check inverse\n",
#ifdef WITH_CUDA
           "cpu|cuda"
#else
           "cpu"
#endif
    );
    return 2;
}

struct command {
    const char *mode, *only;
    const struct ops *ops;
    struct dev_options options;
};

static const struct ops *find_ops(const char *name)
{
#ifdef WITH_CUDA
    if (!strcmp(name, "cuda"))
        return &ops_cuda;
#endif
    return strcmp(name, "cpu") ? NULL : &ops_cpu;
}

static int read_command(struct command *c, int argc, char **argv)
{
    *c = (struct command){.mode = "check", .only = "all", .ops = &ops_cpu};
    int place = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--device") && i + 1 < argc) {
            if (!(c->ops = find_ops(argv[++i])))
                return -1;
        } else if (!strcmp(argv[i], "--act") && i + 1 < argc) {
            if (!dtype_named(argv[++i], &c->options.act) || c->options.act > DTYPE_BF16)
                return -1; // no type that activations have
        } else if (place == 0) {
            c->mode = argv[i];
            place++;
        } else if (place == 1) {
            c->only = argv[i];
            place++;
        } else {
            c->options.threads = (int)strtol(argv[i], NULL, 10);
        }
    }
    return c->options.threads >= 0 && c->options.threads <= CPU_THREADS_MAX ? 0 : -1;
}

static int run_command(const struct command *c, struct dev *dev)
{
    static const struct {
        const char *name;
        int modes;
    } MODES[] = {{"check", MODE_CHECK | MODE_POISON | MODE_REPEAT},
                 {"poison", MODE_POISON},
                 {"repeat", MODE_REPEAT},
                 {"perf", MODE_PERF}};
    if (!strcmp(c->mode, "inverse")) {
        inverse_table(c->ops, dev);
        delta_rule_table(c->ops, dev);
        return 0;
    }
    for (size_t i = 0; i < sizeof MODES / sizeof *MODES; i++)
        if (!strcmp(c->mode, MODES[i].name))
            return run_all(c->ops, dev, c->only, MODES[i].modes);
    return usage();
}

int main(int argc, char **argv)
{
    enum { SKIPPED = 77 }; // what CTest takes for a skip
    if (is_pointless(argc)) {
        printf("skipped: under ThreadSanitizer the kernels run on one thread\n");
        return SKIPPED;
    }
    struct command c;
    char text[256];
    if (read_command(&c, argc, argv))
        return usage();
    struct dev *dev = c.ops->open(&c.options, text, sizeof text);
    if (!dev) {
        printf("ops_check: %s\n", text);
        return 1;
    }
    c.ops->describe(dev, text, sizeof text);
    printf("%s\n", text);
    const int status = run_command(&c, dev);
    c.ops->close(dev);
    return status;
}
