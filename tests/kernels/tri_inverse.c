// tri_inverse.c - the inversion by every method and type against float64, on keys from uncorrelated to
// equal and on the gates of a real layer; what overflows must be reported; the table of errors.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_buffers.h"
#include "device_ceilings.h"
#include "key_draws.h"
#include "ops_check.h"

enum { KEY_DIM = 128, N_MAX = INVERSE_CHUNK_MAX };

// One matrix A: keys of mean cosine rho, and gates.
struct scenario {
    double rho;
    enum gate_kind gates; // GATES_NONE: the two below at every token
    double beta, g;
    int head;      // of the recording
    int run;       // this many tokens in the middle repeat one key
    bool positive; // keys pass SiLU before they are normalised
};

static const double RHO[] = {0, 0.15, 0.3, 0.5, 0.65, 0.8, 0.95, 1};
enum { N_RHO = sizeof RHO / sizeof *RHO, N_PER_RHO = 12 + 4 };
enum { N_STRESS = N_RHO * N_PER_RHO, N_SCENARIOS = N_STRESS + 4 };

// Every rho with three decays at four strengths and with four recorded heads (two that hardly forget,
// two that forget at once), and the odd ones.
static struct scenario scenario_at(int i)
{
    static const double BETA[] = {0.6, 0.835, 0.9, 1}, G[] = {0, -1e-3, -1e-2};
    static const int HEAD[] = {1, 8, 3, 13};
    static const struct scenario ODD[] = {{.rho = 0.1, .gates = GATES_SLOW, .run = 16},
                                          {.gates = GATES_SLOW, .positive = true},
                                          {.rho = 1, .gates = GATES_12},
                                          {.rho = 1, .gates = GATES_20}};
    if (i >= N_STRESS)
        return ODD[i - N_STRESS];
    const int k = i % N_PER_RHO;
    struct scenario s = {.rho = RHO[i / N_PER_RHO], .gates = GATES_NONE};
    if (k < 12) {
        s.beta = BETA[k % 4];
        s.g = G[k / 4];
    } else {
        s.gates = GATES_RECORDED;
        s.head = HEAD[k - 12];
    }
    return s;
}

static void draw_keys(struct check_case *c, const struct scenario *s, double *keys, int n)
{
    double common[KEY_DIM];
    keys_common(c, common, KEY_DIM);
    for (int t = 0; t < n; t++) {
        double *key = keys + t * KEY_DIM, sum = 0;
        keys_draw(c, key, common, KEY_DIM, s->rho);
        if (s->run && t > n / 4 && t <= n / 4 + s->run)
            memcpy(key, keys + n / 4 * KEY_DIM, KEY_DIM * sizeof *key);
        for (int i = 0; i < KEY_DIM && s->positive; i++) {
            const double x = key[i] * sqrt(KEY_DIM);
            key[i] = x / (1 + exp(-x));
            sum += key[i] * key[i];
        }
        for (int i = 0; i < KEY_DIM && s->positive; i++)
            key[i] /= sqrt(sum);
    }
}

// A[t][s] = beta_t (k_t . k_s) exp(G_t - G_s) below the diagonal; above it what must not be read.
static void draw_matrix(struct check_case *c, struct check_buf *b, size_t first,
                        const struct scenario *s, int n)
{
    static double keys[N_MAX * KEY_DIM], sums[N_MAX];
    double sum = 0;
    draw_keys(c, s, keys, n);
    for (int t = 0; t < n; t++) {
        struct gate gate = gate_of(s->gates, 64 + t, s->head);
        if (s->gates == GATES_NONE)
            gate = (struct gate){s->g, s->beta};
        sums[t] = sum += gate.g;
        for (int u = 0; u < t; u++) {
            double dot = 0;
            for (int i = 0; i < KEY_DIM; i++)
                dot += keys[t * KEY_DIM + i] * keys[u * KEY_DIM + i];
            check_set(b, first + (size_t)(t * n + u), gate.beta * dot * exp(sums[t] - sums[u]));
        }
        check_poison(b, first + (size_t)(t * n + t), (size_t)(n - t));
    }
}

// Square matrices in float64, of stride N_MAX.
typedef double matrix[N_MAX * N_MAX];

static void multiply(double *c, const double *a, const double *b, int n, double sign)
{
    static matrix sum;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double s = 0;
            for (int k = 0; k < n; k++)
                s += a[i * N_MAX + k] * b[k * N_MAX + j];
            sum[i * N_MAX + j] = sign * s;
        }
    for (int i = 0; i < n; i++)
        memcpy(c + i * N_MAX, sum + i * N_MAX, (size_t)n * sizeof *c);
}

static void invert_exactly(double *t, const double *a, int n)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double s = i == j;
            for (int k = 0; k < i; k++)
                s -= a[i * N_MAX + k] * t[k * N_MAX + j];
            t[i * N_MAX + j] = s;
        }
}

// What a truncated residual series must give, without computing any series: T0 is the band of T, E its
// residual, and T0 (I + E + ... + E^(S-1)) = T (I - E^S).
static void truncate_block(double *t, const double *a, int n, const struct inverse *v)
{
    static matrix e, power;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            e[i * N_MAX + j] = i - j < v->order ? t[i * N_MAX + j] : 0;
    static matrix band;
    memcpy(band, e, sizeof band);
    multiply(e, a, band, n, -1);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            e[i * N_MAX + j] += (i == j) - band[i * N_MAX + j];
    memcpy(power, e, sizeof power);
    for (int k = 1; k < v->residual; k++)
        multiply(power, power, e, n, 1);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            power[i * N_MAX + j] = (i == j) - power[i * N_MAX + j];
    multiply(t, t, power, n, 1);
}

static void merge_blocks(double *t, const double *a, int width)
{
    double *t21 = t + width * N_MAX;
    multiply(t21, a + width * N_MAX, t, width, 1);
    multiply(t21, t21 + width, t21, width, -1);
}

// What v gives in exact arithmetic, and T itself.
static void expect(double *t, double *exact, const double *a, int n, const struct inverse *v)
{
    invert_exactly(exact, a, n);
    memcpy(t, exact, sizeof(matrix));
    if (inverse_exact(v))
        return;
    for (int i = 0; i < n; i += v->block) {
        const int at = i * N_MAX + i;
        truncate_block(t + at, a + at, v->block, v);
    }
    for (int width = v->block; width < n; width *= 2)
        for (int i = 0; i < n; i += 2 * width)
            merge_blocks(t + i * N_MAX + i, a + i * N_MAX + i, width);
}

static void load_matrix(double *a, const struct check_buf *b, size_t first, int n)
{
    memset(a, 0, sizeof(matrix));
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            a[i * N_MAX + j] = check_get(b, first + (size_t)(i * n + j));
}

struct shape {
    int chunk;
    const char *method, *type;
    double error; // limit on |T - expected|
};

// Limits, over all scenarios: every entry of T is at most 1 in size and every step of these methods
// stays near that, so the error is some tens of the type's rounding (2^-24, 2^-11, 2^-8, 2^-15).
#define FP32_ERROR 2e-6
#define TF32_ERROR 3e-3
#define BF16_ERROR 3e-2
#define INT8_ERROR 3e-3
// The literal setting's series reaches 20 and more before it is summed.
#define PAPER_ERROR 2e-4

static const struct shape SHAPES[] = {
    {16, "auto", "fp32", FP32_ERROR},
    {32, "auto", "fp32", FP32_ERROR},
    {64, "auto", "fp32", FP32_ERROR},
    {128, "auto", "fp32", FP32_ERROR},
    {16, "substitution", "fp32", FP32_ERROR},
    {64, "substitution", "fp32", FP32_ERROR},
    {128, "substitution", "fp32", FP32_ERROR},
    {16, "merge", "fp32", FP32_ERROR},
    {64, "merge", "fp32", FP32_ERROR},
    {128, "merge", "fp32", FP32_ERROR},
    {64, "neumann:4,2,2", "fp32", FP32_ERROR},
    {64, "neumann:8,3,3", "fp32", FP32_ERROR},
    {64, "neumann:16,4,4", "fp32", FP32_ERROR},
    {64, "neumann:16,2,8", "fp32", FP32_ERROR},
    {64, "neumann:16,16,1", "fp32", FP32_ERROR},
    {64, "neumann:32,4,8", "fp32", FP32_ERROR},
    {64, "neumann:32,6,7", "fp32", FP32_ERROR},
    {64, "neumann:64,64,1", "fp32", FP32_ERROR},
    {64, "neumann:64,4,16", "fp32", 10 * FP32_ERROR},
    {64, "neumann:16,3,5", "fp32", FP32_ERROR},
    {64, "neumann:16,2,3", "fp32", PAPER_ERROR},
    {32, "paper", "fp32", PAPER_ERROR},
    {64, "paper", "fp32", PAPER_ERROR},
    {128, "paper", "fp32", 100 * PAPER_ERROR},
    {64, "substitution", "tf32", TF32_ERROR},
    {64, "substitution", "fp16", TF32_ERROR},
    {64, "substitution", "bf16", BF16_ERROR},
    {64, "substitution", "int8", INT8_ERROR},
    {64, "merge", "tf32", TF32_ERROR},
    {64, "merge", "fp16", TF32_ERROR},
    {64, "merge", "bf16", BF16_ERROR},
    {64, "merge", "int8", INT8_ERROR},
    {64, "auto", "tf32", TF32_ERROR},
    {64, "auto", "fp16", TF32_ERROR},
    {64, "auto", "bf16", BF16_ERROR},
    {64, "auto", "int8", INT8_ERROR},
    {16, "auto", "int8", INT8_ERROR},
    {128, "auto", "fp16", TF32_ERROR},
    {128, "auto", "int8", INT8_ERROR},
};

static struct inverse parse(const char *method, const char *type, int chunk)
{
    struct inverse v = {0};
    char why[200];
    check_true(!inverse_parse(&v, method, type, chunk, why, sizeof why), "tri_inverse: %s", why);
    return v;
}

static void make(struct check_case *c, int i)
{
    static matrix a, t, exact;
    const struct shape *s = &SHAPES[i];
    // All scenarios for the default, every third for the others: the test stays a matter of seconds.
    const int n = s->chunk, size = n * n, step = n == 64 && !strcmp(s->method, "auto") ? 1 : 3;
    struct tri_inverse_args *args = &c->args.tri_inverse;
    char name[60];
    args->n = N_SCENARIOS / step;
    args->chunk = n;
    args->inverse = parse(s->method, s->type, n);
    snprintf(c->name, sizeof c->name, "%d of %d x %d %s", args->n, n, n,
             inverse_name(&args->inverse, name, sizeof name));
    struct check_buf *in = check_input(c, "a", DTYPE_F32, (size_t)(args->n * size));
    struct check_buf *out = check_output(
        c, "t", DTYPE_F32, (size_t)(args->n * size),
        (struct check_limit){s->error, 0, s->error * s->error, "rounding of the type"});
    for (int m = 0; m < args->n; m++) {
        const struct scenario scenario = scenario_at(N_SCENARIOS - 1 - m * step);
        const size_t at = (size_t)(m * size);
        draw_matrix(c, in, at, &scenario, n);
        load_matrix(a, in, at, n);
        expect(t, exact, a, n, &args->inverse);
        for (int k = 0; k < size; k++)
            out->want[at + (size_t)k] = t[k / n * N_MAX + k % n];
    }
    args->a = in->dev;
    args->t_out = out->dev;
    if (n == 64) { // what forward substitution needs; A read and T written
        c->flops = args->n * (double)n * size / 3;
        c->bytes = 2.0 * sizeof(float) * args->n * size;
    }
}

// Parts of nine matrices: alone or not must not matter, and fewer calls keep the test short.
static bool part(struct check_case *c, int i)
{
    enum { SIZE = 9 };
    struct tri_inverse_args *a = &c->args.tri_inverse;
    const size_t first = (size_t)(i * SIZE), size = (size_t)(a->chunk * a->chunk);
    const int left = a->n - i * SIZE;
    a->a += first * size;
    a->t_out += first * size;
    a->n = left < SIZE ? left : SIZE;
    return left > 0;
}

// What one run over some scenarios left behind: the largest error against the exact T, and the report.
struct outcome {
    double error, rms;
    double errors[N_SCENARIOS]; // of each
    struct inverse_report report;
};

// Matrices of the scenarios first .. first + count - 1, multiplied by `gain`.
static struct outcome run(const struct ops *ops, struct dev *dev, const struct inverse *v, int n,
                          const int *range, double gain)
{
    static matrix a, t;
    const int first = range[0], count = range[1], size = n * n;
    struct check_case c = {.ops = ops, .dev = dev, .random = (uint64_t)first + 1};
    const struct check_limit none = {0};
    struct check_buf *in = check_input(&c, "a", DTYPE_F32, (size_t)(count * size));
    struct check_buf *out = check_output(&c, "t", DTYPE_F32, (size_t)(count * size), none);
    struct check_buf *report = check_output(&c, "report", DTYPE_INT32, 4, none);
    struct outcome r = {0};
    for (int m = 0; m < count; m++) {
        const struct scenario scenario = scenario_at(first + m);
        draw_matrix(&c, in, (size_t)(m * size), &scenario, n);
        for (int k = 0; k < size; k++)
            check_set(in, (size_t)(m * size + k), gain * check_get(in, (size_t)(m * size + k)));
    }
    memset(report->host, 0, sizeof r.report);
    check_upload(&c);
    ops->tri_inverse(dev, &(struct tri_inverse_args){.t_out = out->dev,
                                                     .a = in->dev,
                                                     .n = count,
                                                     .chunk = n,
                                                     .inverse = *v,
                                                     .report = report->dev});
    ops->download(dev, out->host, out->dev, (size_t)(count * size) * sizeof(float));
    ops->download(dev, &r.report, report->dev, sizeof r.report);
    for (int m = 0; m < count; m++) {
        load_matrix(a, in, (size_t)(m * size), n);
        invert_exactly(t, a, n);
        for (int k = 0; k < size; k++) {
            const double d =
                fabs(check_get(out, (size_t)(m * size + k)) - t[k / n * N_MAX + k % n]);
            r.errors[m] = d <= r.errors[m] ? r.errors[m] : d; // NaN stays
            r.rms += d * d / size / count;
        }
        r.error = r.errors[m] <= r.error ? r.error : r.errors[m];
    }
    r.rms = sqrt(r.rms);
    check_case_free(&c);
    return r;
}

static const int ALL[] = {0, N_SCENARIOS};
static const int EQUAL_KEYS[] = {N_STRESS - N_PER_RHO, 12};
static const int RHO_03[] = {2 * N_PER_RHO, 12};

static void check_reports(const struct ops *ops, struct dev *dev)
{
    const struct inverse sound = parse("auto", "fp32", 64), literal = parse("paper", "fp32", 64);
    struct outcome r = run(ops, dev, &sound, 64, ALL, 1);
    check_true(r.report.checked == N_SCENARIOS && r.report.nonfinite == 0,
               "tri_inverse: %u checked, %u not finite, want %d and 0", r.report.checked,
               r.report.nonfinite, N_SCENARIOS);
    check_true(r.report.residual_max > 0 && r.report.residual_max < 1e-5,
               "tri_inverse: residual %g of the sound default", r.report.residual_max);
    check_true(r.report.value_max > 0.5 && r.report.value_max < 1.01,
               "tri_inverse: an intermediate of the sound default reaches %g", r.report.value_max);
    // Spec of the method: 3 * 8 < 64, so correlated keys with slow decay err by 1 and more.
    r = run(ops, dev, &literal, 64, RHO_03, 1);
    check_true(r.error > 1 && r.error < 30, "tri_inverse: the literal setting errs by %g", r.error);
    check_true(r.report.residual_max > 0.1, "tri_inverse: residual %g of the literal setting",
               r.report.residual_max);
}

// What leaves the range of a type must be counted, never handed on unseen.
static void check_overflow(const struct ops *ops, struct dev *dev, enum inverse_executor executor)
{
    static const struct {
        const char *method, *type;
        int chunk;
        double gain;
        bool reported;
    } CASES[] = {
        // a residual series of 64 terms over a band of 2: its powers pass 65504
        {"neumann:128,2,64", "fp16", 128, 1, true},
        {"neumann:128,2,64", "int8", 128, 1, true},
        {"paper", "int8", 64, 1, true},           // reaches 20
        {"neumann:64,8,8", "fp16", 64, 1, false}, // powers of A would reach 6e7; masked, 1
        {"neumann:64,8,8", "int8", 64, 1, false},
        {"neumann:64,64,1", "fp16", 64, 1, false}, // the whole series, by masks: sound
        {"auto", "fp16", 64, 1e5, true},           // A itself out of range
        {"auto", "int8", 64, 3, true},
        {"auto", "fp32", 64, 1e30, true},
        {"merge", "bf16", 64, 1e30, true},
        {"substitution", "tf32", 64, 1e30, true},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct inverse v = parse(CASES[i].method, CASES[i].type, CASES[i].chunk);
        v.executor = executor;
        const struct outcome r = run(ops, dev, &v, CASES[i].chunk, EQUAL_KEYS, CASES[i].gain);
        check_true((r.report.nonfinite > 0) == CASES[i].reported,
                   "tri_inverse: %s %s of equal keys times %g: %u reported, error %g, largest "
                   "intermediate %g",
                   CASES[i].method, CASES[i].type, CASES[i].gain, r.report.nonfinite, r.error,
                   r.report.value_max);
    }
}

static void check_refusal(const struct ops *ops, struct dev *dev)
{
    char why[256] = "";
    const struct inverse v = inverse_auto(64, INVERSE_FP32);
    ops->tri_inverse(dev, &(struct tri_inverse_args){.n = 1, .chunk = 48, .inverse = v});
    check_true(ops->sync(dev, why, sizeof why) && strstr(why, "chunk 48"), "tri_inverse: '%s'",
               why);
}

// The library's products, on a device that has the choice: the same limits, the same reports.
static void check_cublas(const struct ops *ops, struct dev *dev)
{
    static const int SOME[] = {2 * N_PER_RHO, 2 * N_PER_RHO}; // mean cosines 0.3 and 0.5
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        const struct shape *s = &SHAPES[i];
        struct inverse v = parse(s->method, s->type, s->chunk);
        char name[60];
        const struct outcome fused = run(ops, dev, &v, s->chunk, SOME, 1);
        v.executor = INVERSE_CUBLAS;
        const struct outcome r = run(ops, dev, &v, s->chunk, SOME, 1);
        inverse_name(&v, name, sizeof name);
        check_true(inverse_exact(&v) ? r.error <= s->error
                                     : fabs(r.error - fused.error) <= 2 * s->error,
                   "tri_inverse: %d x %d %s errs by %g, the fused executor by %g, limit %g",
                   s->chunk, s->chunk, name, r.error, fused.error, s->error);
        check_true(r.report.nonfinite == fused.report.nonfinite &&
                       fabsf(r.report.value_max - fused.report.value_max) <
                           0.02f * fused.report.value_max,
                   "tri_inverse: %d x %d %s: %u not finite, fused %u; largest %g, fused %g",
                   s->chunk, s->chunk, name, r.report.nonfinite, fused.report.nonfinite,
                   r.report.value_max, fused.report.value_max);
    }
}

static void extra(const struct ops *ops, struct dev *dev)
{
    if (ops != &ops_cpu)
        check_cublas(ops, dev);
    check_refusal(ops, dev);
    check_reports(ops, dev);
    check_overflow(ops, dev, INVERSE_FUSED);
    if (ops != &ops_cpu)
        check_overflow(ops, dev, INVERSE_CUBLAS);
}

// What a device is timed on: 32,768 tokens of 32 heads, made of the scenarios again and again.
struct bench {
    float *a, *t; // [BENCH, 64, 64]
    double floor; // seconds: A's 16 x 16 tiles up to the diagonal read, T written
};

enum { BENCH = 32768 / 64 * 32, BENCH_SIZE = 64 * 64 };

static void bench_open(const struct ops *ops, struct dev *dev, struct bench *b)
{
    const size_t size = (size_t)BENCH * BENCH_SIZE, part = (size_t)N_SCENARIOS * BENCH_SIZE;
    struct check_case c = {.ops = ops, .dev = dev, .random = 1};
    struct check_buf *in = check_input(&c, "a", DTYPE_F32, part);
    for (int i = 0; i < N_SCENARIOS; i++) {
        const struct scenario scenario = scenario_at(i);
        draw_matrix(&c, in, (size_t)i * BENCH_SIZE, &scenario, 64);
    }
    b->a = ops->alloc(dev, size * sizeof(float));
    b->t = ops->alloc(dev, size * sizeof(float));
    for (size_t done = 0; b->a && b->t && done < size; done += part)
        ops->upload(dev, b->a + done, in->host,
                    (size - done < part ? size - done : part) * sizeof(float));
    b->floor = (double)size * sizeof(float) * (1 + 10.0 / 16) / device_bandwidth(ops, dev);
    check_case_free(&c);
}

static void bench_close(const struct ops *ops, struct dev *dev, struct bench *b)
{
    ops->release(dev, b->a);
    ops->release(dev, b->t);
}

static double bench_runs(const struct ops *ops, struct dev *dev, const struct tri_inverse_args *a,
                         int runs)
{
    char why[256];
    const double start = ceiling_clock(2);
    for (int i = 0; i < runs; i++)
        ops->tri_inverse(dev, a);
    check_true(!ops->sync(dev, why, sizeof why), "tri_inverse: %s", why);
    return ceiling_clock(2) - start;
}

// Seconds of one inversion of all matrices: the median of a few batches.
static double bench_time(const struct ops *ops, struct dev *dev, const struct bench *b,
                         const struct inverse *v)
{
    enum { BATCHES = 7 };
    const struct tri_inverse_args a = {
        .t_out = b->t, .a = b->a, .n = BENCH, .chunk = 64, .inverse = *v};
    double times[BATCHES];
    bench_runs(ops, dev, &a, 1);
    const double once = bench_runs(ops, dev, &a, 1);
    const int runs = once > 2e-3 ? 1 : (int)(4e-3 / once);
    for (int i = 0; i < BATCHES; i++) { // kept in order
        const double t = bench_runs(ops, dev, &a, runs) / runs;
        int at = i;
        for (; at > 0 && times[at - 1] > t; at--)
            times[at] = times[at - 1];
        times[at] = t;
    }
    return times[BATCHES / 2];
}

static void table_row(const struct ops *ops, struct dev *dev, const struct inverse *v,
                      const struct bench *bench)
{
    char name[60];
    printf("%-24s", inverse_name(v, name, sizeof name));
    const struct outcome all = run(ops, dev, v, 64, ALL, 1);
    double recorded = 0;
    for (int i = 0; i < N_RHO; i++) {
        double worst = 0;
        for (int k = 0; k < N_PER_RHO; k++) {
            double *to = k < 12 ? &worst : &recorded;
            const double d = all.errors[i * N_PER_RHO + k];
            *to = d <= *to ? *to : d;
        }
        printf(" %8.1e", worst);
    }
    printf(" %8.1e %8.1e %8.1e %8.2g %5u", recorded, all.rms, all.report.residual_max,
           all.report.value_max, all.report.nonfinite);
    if (bench) {
        const double t = bench_time(ops, dev, bench, v);
        printf(" %8.3f %6.2f", t * 1e3, t / bench->floor);
    }
    printf("\n");
}

static void table_rows(const struct ops *ops, struct dev *dev, enum inverse_executor executor,
                       const struct bench *bench)
{
    static const char *const METHODS[] = {"substitution", "merge", "auto", "neumann:64,4,16",
                                          "paper"};
    static const char *const TYPES[] = {"fp32", "tf32", "fp16", "bf16", "int8"};
    for (size_t i = 0; i < sizeof METHODS / sizeof *METHODS; i++)
        for (size_t k = 0; k < sizeof TYPES / sizeof *TYPES; k++) {
            struct inverse v = parse(METHODS[i], TYPES[k], 64);
            v.executor = executor;
            table_row(ops, dev, &v, bench);
        }
}

void inverse_table(const struct ops *ops, struct dev *dev)
{
    struct bench bench = {0};
    const bool timed = ops != &ops_cpu;
    if (timed)
        bench_open(ops, dev, &bench);
    printf(
        "Largest |T - exact T| of 64 x 64, keys of mean cosine rho, 12 pairs of beta and g each;\n"
        "recorded: gates of Qwen3.5-0.8B with every rho; rms, residual |I - (I + A) T|, largest\n"
        "intermediate and matrices not finite or out of range: over all %d.\n",
        N_SCENARIOS);
    if (timed)
        printf("ms: %d such matrices in float32 device memory; x: over the floor of %.3f ms, in "
               "which\n"
               "the memory moves A's 16 x 16 tiles up to the diagonal and T (%.3f ms for all of "
               "both).\n",
               BENCH, bench.floor * 1e3, bench.floor * 1e3 * 32 / 26);
    printf("\n%-24s", "rho");
    for (int i = 0; i < N_RHO; i++)
        printf(" %8g", RHO[i]);
    printf(" %8s %8s %8s %8s %5s%s\n", "recorded", "rms", "residual", "largest", "bad",
           timed ? "       ms      x" : "");
    table_rows(ops, dev, INVERSE_FUSED, timed ? &bench : NULL);
    if (timed)
        table_rows(ops, dev, INVERSE_CUBLAS, &bench);
    if (timed)
        bench_close(ops, dev, &bench);
}

const struct op_check check_tri_inverse = {
    .n_cases = sizeof SHAPES / sizeof *SHAPES, .make = make, .part = part, .extra = extra};
