// types_check.c - how far the answers of bf16 and int8 weights are from float32's: mean Kullback-Leibler
// divergence of the next token's distribution and how often the most likely token is the same.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "golden_file.h"
#include "mem.h"
#include "rig.h"
#include "tally.h"

enum { TOKENS_MAX = 300 };

// sum p (log p - log q), with p and q the softmax of the two rows.
static double divergence(const float *a, const float *b, int n)
{
    double max_a = a[0], max_b = b[0], sum_a = 0, sum_b = 0, sum = 0;
    for (int i = 1; i < n; i++) {
        max_a = a[i] > max_a ? a[i] : max_a;
        max_b = b[i] > max_b ? b[i] : max_b;
    }
    for (int i = 0; i < n; i++) {
        sum_a += exp(a[i] - max_a);
        sum_b += exp(b[i] - max_b);
    }
    for (int i = 0; i < n; i++)
        sum +=
            exp(a[i] - max_a) / sum_a * ((a[i] - max_a - log(sum_a)) - (b[i] - max_b - log(sum_b)));
    return sum;
}

// Logits of every token of the first n of ids, [n, vocab]; the caller frees. NULL: not loaded.
static float *logits_of(const char *dir, enum dtype type, const int *ids, int n, int *vocab)
{
    struct rig r;
    if (rig_open(&r, dir,
                 &(struct rig_options){.dtype = type, .threads = 1, .sequences = 1, .context = 512},
                 rig_ops))
        return NULL;
    size_t bytes = (size_t)n * (size_t)r.vocab * sizeof(float);
    const float *logits = rig_step(&r, &(struct feed){.ids = ids, .t = n, .all = true}, 1);
    float *copy = memcpy(mem_alloc(bytes), logits, bytes);
    *vocab = r.vocab;
    rig_close(&r);
    return copy;
}

struct limit {
    const char *name, *model, *file;
    double kl_bf16, top_bf16, kl_int8, top_int8;
};

// A limit is about three times what was measured (2026-11-23: dense_a 1.8e-3, 0.980 and 0.15, 0.880;
// ratio3 6.5e-5, 0.975 and 4.7e-3, 0.855; bundled 6.6e-6, 1.000 and 5.5e-4, 0.993). dense_a and ratio3
// have random weights: logits of standard deviation 16 and 4 and nothing that pulls towards a right
// answer, so a rounding error moves them far more than a trained model; they are there to notice a
// change. A KL of 2e-3 is 0.003 bits a token, far below what a reader or a benchmark sees.
static const struct limit LIMITS[] = {
    {"dense_a", "tests/golden/dense_a", "tests/golden/dense_a/golden.json", 1e-2, 0.95, 0.5, 0.75},
    {"ratio3", "tests/golden/ratio3", "tests/golden/ratio3/golden.json", 2e-4, 0.95, 1.5e-2, 0.75},
    {"bundled", "models/bundled", "tests/golden/bundled.json", 1e-4, 0.97, 5e-3, 0.95},
};

static void compare(struct tally *t, const struct limit *l, const char *dir, enum dtype type,
                    const struct golden_case *c, const float *want)
{
    int n = c->n < TOKENS_MAX ? c->n : TOKENS_MAX, vocab = 0, same = 0;
    double sum = 0, kl_max = type == DTYPE_BF16 ? l->kl_bf16 : l->kl_int8;
    double top_min = type == DTYPE_BF16 ? l->top_bf16 : l->top_int8;
    float *got = logits_of(dir, type, c->prompt, n, &vocab);
    for (int i = 0; got && i < n; i++) {
        size_t row = (size_t)i * (size_t)vocab;
        sum += divergence(want + row, got + row, vocab);
        same += rig_argmax(want + row, vocab) == rig_argmax(got + row, vocab);
    }
    tally_add(t, got && sum / n <= kl_max && (double)same / n >= top_min,
              "%s, %s against f32: mean KL %.1e (limit %.1e), top-1 %.3f (limit %.2f)", l->name,
              dtype_name(type), sum / n, kl_max, (double)same / n, top_min);
    mem_free(got);
}

static void check_limit(struct tally *t, const struct limit *l)
{
    char dir[1024], file[1024];
    struct golden g;
    struct err e;
    snprintf(dir, sizeof dir, "%s/%s", TEST_SOURCE_DIR, l->model);
    snprintf(file, sizeof file, "%s/%s", TEST_SOURCE_DIR, l->file);
    if (golden_open(&g, file, &e)) {
        tally_skip(t, "%s: %s", l->name, e.text);
        return;
    }
    const struct golden_case *c = &g.cases[0];
    for (int i = 1; i < g.n; i++)
        if (g.cases[i].n > c->n && g.cases[i].n <= TOKENS_MAX + 100)
            c = &g.cases[i];
    int vocab = 0;
    float *want =
        logits_of(dir, DTYPE_F32, c->prompt, c->n < TOKENS_MAX ? c->n : TOKENS_MAX, &vocab);
    if (want) {
        compare(t, l, dir, DTYPE_BF16, c, want);
        compare(t, l, dir, DTYPE_INT8, c, want);
    } else {
        tally_add(t, false, "%s: cannot be loaded", l->name);
    }
    mem_free(want);
    golden_close(&g);
}

void check_types(struct tally *t)
{
    for (size_t i = 0; i < sizeof LIMITS / sizeof *LIMITS; i++)
        if (!tally_quick || i == 1)
            check_limit(t, &LIMITS[i]);
}
