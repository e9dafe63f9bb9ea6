// forward.c - one step: prompt tokens and generated tokens compute the same thing, and a step that
// breaks a limit stops the process instead of touching memory that is not its own.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <string.h>

#include "qwen35_model.h"
#include "tiny_checkpoint.h"

enum { TOKENS = 40 };

static struct dev *dev;
static char dir[256];

static struct model *load_tiny(enum dtype dtype)
{
    char why[256];
    struct err e;
    const struct model_options o = {.dtype = dtype,
                                    .context_max = 128,
                                    .batch_tokens = 64,
                                    .batch_rows = 4,
                                    .sequences_max = 2,
                                    .chunk = 16,
                                    .inverse = inverse_auto(16, INVERSE_FP32),
                                    .residual_every = 1};
    dev = ops_cpu.open(&(struct dev_options){.threads = 1}, why, sizeof why);
    cr_assert(dev != NULL);
    tiny_write(dir, &(struct tiny){0});
    struct model *m = model_load(dir, &o, &ops_cpu, dev, &e);
    cr_assert(m != NULL, "%s", e.text);
    tiny_remove(dir);
    return m;
}

static void unload(struct model *m)
{
    model_destroy(m);
    ops_cpu.close(dev);
}

// One sequence in slot 1, pages 2 and 1; logits of the last token.
static struct step one_step(const struct span *span, const int *ids)
{
    static const int pages[2] = {2, 1};
    static int row;
    row = span->t - 1;
    return (struct step){.ids = ids,
                         .batch = {.spans = span,
                                   .host_spans = span,
                                   .n_spans = 1,
                                   .t = span->t,
                                   .t_prefill = span->decode ? 0 : span->t,
                                   .pages = pages,
                                   .pages_max = 2},
                         .rows = &row,
                         .n_rows = 1};
}

static void step(struct model *m, int pos0, int t, int decode, float *logits)
{
    int ids[64];
    for (int i = 0; i < t; i++)
        ids[i] = (pos0 + i) * 7 % TINY_VOCAB;
    const struct span span = {.t = t, .pos0 = pos0, .slot = 1, .decode = decode};
    const struct step s = one_step(&span, ids);
    model_forward(m, &s);
    ops_cpu.download(dev, logits, model_logits(m), TINY_VOCAB * sizeof *logits);
}

Test(forward, decode_is_prefill)
{
    float chunks[TINY_VOCAB], steps[TINY_VOCAB], again[TINY_VOCAB];
    struct model *m = load_tiny(DTYPE_F32);
    step(m, 0, TOKENS, 0, chunks);
    for (int i = 0; i < TOKENS; i++)
        step(m, i, 1, 1, steps); // pos0 = 0 starts from an empty state
    for (int i = 0; i < TINY_VOCAB; i++)
        cr_assert(fabsf(chunks[i] - steps[i]) < 1e-4f, "%d: %g %g", i, (double)chunks[i],
                  (double)steps[i]); // float32 sums in another order, values about 1
    step(m, 0, TOKENS, 0, again);
    cr_assert(!memcmp(chunks, again, sizeof chunks));
    unload(m);
}

Test(forward, inverse_can_change)
{
    float before[TINY_VOCAB], after[TINY_VOCAB];
    struct inverse_report report;
    struct model *m = load_tiny(DTYPE_F32);
    step(m, 0, TOKENS, 0, before);
    model_inverse_report(m, &report);
    cr_assert_eq(report.checked, 2 * 3); // value heads, chunks of 16 in 40 tokens
    cr_assert(report.residual_max < 1e-4f && report.nonfinite == 0);
    model_set_inverse(m, 32, (struct inverse){.method = INVERSE_SUBSTITUTION});
    step(m, 0, TOKENS, 0, after);
    for (int i = 0; i < TINY_VOCAB; i++)
        cr_assert(fabsf(before[i] - after[i]) < 1e-4f);
    unload(m);
}

static void broken(int id, struct span span)
{
    int ids[128] = {0};
    ids[0] = id;
    struct model *m = load_tiny(DTYPE_BF16);
    const struct step s = one_step(&span, ids);
    model_forward(m, &s);
    unload(m);
}

Test(forward, id_past_the_vocabulary, .signal = SIGABRT)
{
    broken(TINY_VOCAB, (struct span){.t = 1});
}

Test(forward, negative_id, .signal = SIGABRT)
{
    broken(-1, (struct span){.t = 1});
}

Test(forward, too_many_tokens, .signal = SIGABRT)
{
    broken(0, (struct span){.t = 65});
}

Test(forward, past_the_context, .signal = SIGABRT)
{
    broken(0, (struct span){.t = 2, .pos0 = 127});
}

Test(forward, no_such_slot, .signal = SIGABRT)
{
    broken(0, (struct span){.t = 1, .slot = 2});
}

Test(forward, limits_can_be_reached)
{
    broken(TINY_VOCAB - 1, (struct span){.t = 64, .pos0 = 64, .slot = 1});
}

Test(memory, overflow)
{
    struct slab s = {0};
    cr_assert(slab_take(&s, 3, 5) == NULL && s.used == SLAB_ALIGN && !s.overflow);
    slab_take(&s, SIZE_MAX / 2, 3);
    cr_assert(s.overflow && s.used == SLAB_ALIGN);
    s = (struct slab){.used = SIZE_MAX - 100};
    slab_take(&s, 1, 128);
    cr_assert(s.overflow);
    s = (struct slab){0};
    slab_take(&s, 1, SIZE_MAX - 10);
    cr_assert(s.overflow);
}
