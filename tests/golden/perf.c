// perf.c - tokens a second by context length, where the time goes, and how far from the floor: the
// larger of (operations / multiply-add rate) and (bytes / memory bandwidth), both measured in the same
// run. Every figure is wall time of the fastest of several runs from token ids to the sampled id on the
// host, with what surrounds model_forward, but for those in a row, which are told as a whole. Where the
// time goes is measured in runs of its own, since waiting for each operation is dear on a device. --quick yes:
// decode alone, at the two shortest depths, to compare one build with another in turns on one machine, whose
// cards differ more than most changes do.
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "device_ceilings.h"
#include "machine.h"
#include "mem.h"
#include "model_work.h"
#include "modes.h"
#include "ops_timed.h"
#include "rig.h"
#include "tally.h"

enum {
    CONTEXT_MAX = 131072,
    LENGTHS = 4,
    LENGTHS_QUICK = 2,
    DECODE_STEPS = 32, // at least
    SPLIT_STEPS = 8,
    RECORD_STEPS = 2, // the first runs, the second is recorded
    BATCHES = 3,
    STEP_TOKENS = 8192
};
static const struct plan {
    int contexts[LENGTHS], batches[BATCHES];
    int batch_tokens;
} ON_CPU = {{512, 2048, 8192, 32768}, {1, 8}, RIG_BATCH_TOKENS},
  ON_DEVICE = {{2048, 8192, 32768, CONTEXT_MAX}, {1, 8, 64}, STEP_TOKENS};
#define BEST_MS 500 // short prompts and generated tokens are repeated this long
enum { ROW_PROMPTS = 64, ROW_TOKENS = 8192 };
#define ROW_MS 5000 // or fewer prompts than ROW_PROMPTS

struct bench {
    struct rig rig;
    const struct plan *plan;
    int *sampled;              // device [RIG_SEQUENCES_MAX]
    struct sample_row *greedy; // device [RIG_SEQUENCES_MAX]
    struct machine machine;
    struct model_work work;
    int ids[CONTEXT_MAX];
    int n_lengths, lengths[LENGTHS]; // those that the model's context allows
    int64_t prefill_ns[LENGTHS][OPS_TIMED_N], decode_ns[LENGTHS][OPS_TIMED_N]; // a token, batch 1
};

// Seconds that `steps` steps take at least, and which of the two floors it is.
static double floor_seconds(const struct machine *m, double flops, double bytes, const char **which)
{
    double compute = flops / m->flops_per_s, memory = bytes / m->bytes_per_s;
    *which = compute > memory ? "operations" : "bytes";
    return compute > memory ? compute : memory;
}

// Times of the fastest run so far: the mean of a shared machine says more about its other users.
static void take_best(double *best, int64_t begin_ns, int64_t out[OPS_TIMED_N], int tokens)
{
    double seconds = clock_ms_between(begin_ns, clock_ns()) / 1e3;
    const struct op_time *times = ops_timed_read();
    if (*best > 0 && seconds >= *best)
        return;
    *best = seconds;
    for (int i = 0; out && i < OPS_TIMED_N; i++)
        out[i] = times[i].ns / tokens;
}

// What the engine does after a step: sample (here the likeliest), and wait for the ids.
static void finish_step(struct bench *b, int rows)
{
    int ids[RIG_SEQUENCES_MAX];
    struct rig *r = &b->rig;
    if (rows) {
        r->ops->sample(r->dev, &(struct sample_args){.ids = b->sampled,
                                                     .logits = model_logits(r->m),
                                                     .rows = b->greedy,
                                                     .n = rows,
                                                     .vocab = r->vocab,
                                                     .n_tokens = r->vocab});
        r->ops->download(r->dev, ids, b->sampled, (size_t)rows * sizeof *ids);
    }
    rig_wait(r);
}

static void run_prompt(struct bench *b, int length)
{
    rig_reset(&b->rig);
    for (int i = 0; i < length; i += b->rig.batch_tokens) {
        int t = length - i < b->rig.batch_tokens ? length - i : b->rig.batch_tokens;
        const struct feed f = {.ids = b->ids + i, .t = t, .last = i + t == length};
        finish_step(b, rig_enqueue(&b->rig, &f, 1));
    }
}

static void split_prompt(struct bench *b, int length, int64_t split[OPS_TIMED_N])
{
    double best = 0;
    ops_timed_switch(true);
    int64_t begin = clock_ns();
    ops_timed_reset();
    run_prompt(b, length);
    take_best(&best, begin, split, length);
    ops_timed_switch(false);
}

static void prefill(struct bench *b, int length)
{
    double best = 0;
    int64_t first = clock_ns();
    do {
        int64_t begin = clock_ns();
        run_prompt(b, length);
        take_best(&best, begin, NULL, length);
    } while (clock_ms_between(first, clock_ns()) < BEST_MS);
    double flops, bytes;
    model_work_prefill(&b->work, length, b->rig.batch_tokens, &flops, &bytes);
    const char *which = NULL;
    double least = floor_seconds(&b->machine, flops, bytes, &which);
    printf("  %7d %9.0f tok/s %9.2f ms, floor %9.2f ms (%s), ratio %.2f\n", length, length / best,
           best * 1e3, least * 1e3, which, best / least);
}

// What a server can do that is never idle: the best of short runs is at clocks that a device does not keep.
static void prefill_row(struct bench *b)
{
    if (b->rig.pages_max * PAGE_TOKENS < ROW_TOKENS || b->plan == &ON_CPU)
        return;
    int prompts = 0;
    int64_t begin = clock_ns();
    while (prompts < ROW_PROMPTS && clock_ms_between(begin, clock_ns()) < ROW_MS) {
        run_prompt(b, ROW_TOKENS);
        prompts++;
    }
    double seconds = clock_ms_between(begin, clock_ns()) / 1e3;
    printf("  %7d %9.0f tok/s in a row: %d prompts in %.2f s\n", ROW_TOKENS,
           prompts * ROW_TOKENS / seconds, prompts, seconds);
}

// One token of each sequence behind `depth` - 1 others. The caches need not hold anything that was computed:
// what they hold does not change the time.
static void run_token(struct bench *b, const struct feed *f, int batch, int depth)
{
    for (int i = 0; i < batch; i++)
        b->rig.pos[i] = depth - 1;
    finish_step(b, rig_enqueue(&b->rig, f, batch));
}

static void split_token(struct bench *b, const struct feed *f, int depth, int64_t *split)
{
    double best = 0;
    ops_timed_switch(true);
    for (int i = 0; i < SPLIT_STEPS; i++) {
        int64_t begin = clock_ns();
        ops_timed_reset();
        run_token(b, f, 1, depth);
        take_best(&best, begin, split, 1);
    }
    ops_timed_switch(false);
}

static void decode(struct bench *b, int depth, int batch, int64_t *split)
{
    struct feed f[RIG_SEQUENCES_MAX];
    if (b->rig.pages_max * PAGE_TOKENS < depth) {
        printf("  %7d %6d       n/a: the KV pages of %d sequences do not fit\n", depth, batch,
               batch);
        return;
    }
    rig_reset(&b->rig);
    for (int i = 0; i < batch; i++)
        f[i] = (struct feed){.seq = i, .ids = b->ids + i, .t = 1, .decode = true, .last = true};
    for (int i = 0; i < RECORD_STEPS; i++)
        run_token(b, f, batch, depth);
    double best = 0;
    int steps = 0;
    const int64_t first = clock_ns();
    do {
        int64_t begin = clock_ns();
        run_token(b, f, batch, depth);
        take_best(&best, begin, NULL, 1);
    } while (++steps < DECODE_STEPS || clock_ms_between(first, clock_ns()) < BEST_MS);
    const double row = clock_ms_between(first, clock_ns()) / 1e3 / steps;
    if (split)
        split_token(b, f, depth, split);
    const char *which = NULL;
    double flops, bytes;
    model_work_decode(&b->work, depth, batch, &flops, &bytes);
    double least = floor_seconds(&b->machine, flops, bytes, &which);
    printf("  %7d %6d %9.1f tok/s %9.3f ms a step, floor %7.3f ms (%s), ratio %.2f; in a row %9.1f "
           "tok/s\n",
           depth, batch, batch / best, best * 1e3, least * 1e3, which, best / least, batch / row);
}

static void print_split(const struct bench *b, const char *title,
                        int64_t split[LENGTHS][OPS_TIMED_N])
{
    int64_t sums[LENGTHS] = {0};
    printf("%s\n  %-12s", title, "");
    for (int i = 0; i < b->n_lengths; i++)
        printf("%16d", b->lengths[i]);
    printf("\n");
    for (int i = 0; i < b->n_lengths; i++)
        for (int op = 0; op < OPS_TIMED_N; op++)
            sums[i] += split[i][op];
    for (int op = 0; op < OPS_TIMED_N; op++) {
        if (!split[0][op])
            continue;
        printf("  %-12s", ops_timed_read()[op].name);
        for (int i = 0; i < b->n_lengths; i++)
            printf("%10.2f %4.1f%%", (double)split[i][op] / 1e3,
                   100.0 * (double)split[i][op] / (double)sums[i]);
        printf("\n");
    }
}

// The point of a state of fixed size: what a generated token costs in the linear layers does not grow.
static void print_growth(const struct bench *b)
{
    printf("decode, us a token by depth: parts that keep a state, parts that keep every token\n");
    for (int i = 0; i < b->n_lengths; i++) {
        const int64_t *ns = b->decode_ns[i];
        double delta = (double)(ns[OPS_TIMED_delta_decode]);
        double attention = (double)(ns[OPS_TIMED_attn_prep] + ns[OPS_TIMED_attention]);
        printf("  %7d   delta net %9.2f   attention %9.2f\n", b->lengths[i], delta / 1e3,
               attention / 1e3);
    }
}

static void print_memory(const struct bench *b)
{
    const struct model_memory *p = model_memory(b->rig.m);
    printf(
        "memory: weights %.1f MB (%.1f of them mapped), scratch %.1f MB; a sequence by context:\n",
        (double)(p->weights + p->mapped) / 1e6, (double)p->mapped / 1e6, (double)p->scratch / 1e6);
    for (int i = 0; i < b->n_lengths; i++)
        printf("  %7d   state %.3f MB   KV %.3f MB\n", b->lengths[i],
               (double)p->state_bytes_per_sequence / 1e6,
               (double)p->kv_bytes_per_token * b->lengths[i] / 1e6);
}

static void print_head(const struct bench *b, const struct mode_options *o)
{
    char text[256];
    b->rig.ops->describe(b->rig.dev, text, sizeof text);
    printf("model %s, %s, %lld parameters\ndevice %s\n", o->model, dtype_name(o->dtype),
           (long long)model_memory(b->rig.m)->n_params, text);
    if (b->plan == &ON_CPU)
        printf("machine: %d threads read %.1f GB/s and do %.1f GFLOP/s in float32 (%s)\n",
               b->machine.threads, b->machine.bytes_per_s / 1e9, b->machine.flops_per_s / 1e9,
               b->machine.vectors);
}

static struct machine measure(struct bench *b, const struct mode_options *o)
{
    if (b->plan == &ON_CPU)
        return machine_measure(o->threads);
    return (struct machine){.bytes_per_s = device_bandwidth(b->rig.ops, b->rig.dev),
                            .flops_per_s = device_rate(b->rig.ops, b->rig.dev, o->dtype),
                            .vectors = "products"};
}

static int open_bench(struct bench *b, const struct mode_options *o)
{
    struct config c;
    if (rig_config(o->model, &c))
        return -1;
    int context = b->plan->contexts[LENGTHS - 1], sequences = 1;
    for (int i = 0; i < BATCHES; i++)
        sequences = b->plan->batches[i] > sequences ? b->plan->batches[i] : sequences;
    const struct rig_options ro = {
        .dtype = o->dtype,
        .state = o->state,
        .threads = o->threads,
        .sequences = sequences,
        .type = b->plan == &ON_CPU ? "fp32" : "fp16",
        .context = c.max_position_embeddings < context ? c.max_position_embeddings : context,
        .batch_tokens = b->plan->batch_tokens,
    };
    if (rig_open(&b->rig, o->model, &ro, ops_timed(rig_ops)))
        return -1;
    ops_timed_switch(false);
    struct rig *r = &b->rig;
    b->machine = measure(b, o);
    b->work = model_work_of(model_config(r->m), model_options(r->m), model_memory(r->m));
    b->sampled = r->ops->alloc(r->dev, RIG_SEQUENCES_MAX * sizeof(int));
    b->greedy = r->ops->alloc(r->dev, RIG_SEQUENCES_MAX * sizeof *b->greedy);
    CHECK(b->sampled && b->greedy);
    for (int i = 0; i < RIG_SEQUENCES_MAX; i++)
        r->ops->upload(r->dev, &b->greedy[i],
                       &(struct sample_row){.top_p = 1, .repetition = 1, .seed = 1},
                       sizeof *b->greedy);
    for (int i = 0; i < CONTEXT_MAX; i++)
        b->ids[i] = (int)((unsigned)i * 2654435761u % (unsigned)c.vocab_size);
    return 0;
}

static void measure_all(struct bench *b)
{
    const struct plan *p = b->plan;
    const int lengths = tally_quick ? LENGTHS_QUICK : LENGTHS;
    rig_deal(&b->rig, 1);
    for (int i = 0; i < lengths; i++)
        if (p->contexts[i] <= b->rig.pages_max * PAGE_TOKENS)
            b->lengths[b->n_lengths++] = p->contexts[i];
    print_memory(b);
    if (!tally_quick)
        printf("prefill by prompt length, steps of %d tokens\n", b->rig.batch_tokens);
    for (int i = 0; i < b->n_lengths && !tally_quick; i++) {
        prefill(b, b->lengths[i]);
        split_prompt(b, b->lengths[i], b->prefill_ns[i]);
    }
    if (!tally_quick)
        prefill_row(b);
    printf("decode by depth and batch\n");
    for (int k = 0; k < BATCHES && p->batches[k]; k++) {
        rig_deal(&b->rig, p->batches[k]);
        for (int i = 0; i < b->n_lengths; i++)
            decode(b, b->lengths[i], p->batches[k],
                   k == 0 && !tally_quick ? b->decode_ns[i] : NULL);
    }
}

int mode_perf(const struct mode_options *o)
{
    struct bench *b = mem_zero(1, sizeof *b);
    b->plan = rig_ops == &ops_cpu ? &ON_CPU : &ON_DEVICE;
    if (open_bench(b, o)) {
        mem_free(b);
        return 1;
    }
    print_head(b, o);
    measure_all(b);
    if (!tally_quick) {
        print_split(b, "prefill, us a token and share by operation", b->prefill_ns);
        print_split(b, "decode at batch 1, us a token and share by operation", b->decode_ns);
        print_growth(b);
    }
    b->rig.ops->release(b->rig.dev, b->sampled);
    b->rig.ops->release(b->rig.dev, b->greedy);
    rig_close(&b->rig);
    mem_free(b);
    return 0;
}
