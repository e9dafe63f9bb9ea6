// golden_check.c - is it Qwen3.5? Float32 logits, prompt log-probabilities and greedy tokens against
// what transformers computed, whatever the chunk, the inverse, the pieces and the company.
//
// Limit 1e-3 on a logit or a log-probability: both sides sum in float32 in different orders; with
// logits of standard deviation 16 and sums of up to 512 terms over four layers, an independent
// implementation differs by 1.5e-4 at most. A wrong term shows as 1e-1 or more.
#include <math.h>
#include <stdio.h>

#include "golden_file.h"
#include "mem.h"
#include "rig.h"
#include "tally.h"

#define LIMIT 1e-3

// One thread: the runs are many and short, and rows_check.c shows that more give the same bits.
enum { PATH_BYTES = 1024, BATCH = 8, THREADS = 1 };

struct suite {
    const char *name, *model, *file; // below the source directory
    bool large;                      // the quick run leaves its company and variants to the others
};

static const struct suite SUITES[] = {
    {"dense_a", "tests/golden/dense_a", "tests/golden/dense_a/golden.json", false},
    {"ratio3", "tests/golden/ratio3", "tests/golden/ratio3/golden.json", false},
    {"ratio4", "tests/golden/ratio4", "tests/golden/ratio4/golden.json", false},
    {"bundled", "models/bundled", "tests/golden/bundled.json", true},
};
enum { N_SUITES = sizeof SUITES / sizeof *SUITES };

// A way to run a prompt that must not change the answer beyond rounding.
struct variant {
    int chunk;
    const char *method;
    int piece; // prompt tokens a step
};

static const struct variant VARIANTS[] = {
    {64, "substitution", RIG_BATCH_TOKENS},
    {64, "merge", RIG_BATCH_TOKENS},
    {16, "auto", RIG_BATCH_TOKENS},
    {16, "substitution", RIG_BATCH_TOKENS},
    {16, "merge", RIG_BATCH_TOKENS},
    {32, "auto", RIG_BATCH_TOKENS},
    {32, "substitution", RIG_BATCH_TOKENS},
    {32, "merge", RIG_BATCH_TOKENS},
    {128, "auto", RIG_BATCH_TOKENS},
    {128, "substitution", RIG_BATCH_TOKENS},
    {128, "merge", RIG_BATCH_TOKENS},
    {64, "neumann:8,2,4", RIG_BATCH_TOKENS},
    {32, "neumann:32,4,8", RIG_BATCH_TOKENS},
    {64, "auto", 1},
    {64, "auto", 3},
    {64, "auto", 61},
    {64, "auto", 64},
};
enum { N_VARIANTS = sizeof VARIANTS / sizeof *VARIANTS };

static double distance(const float *a, const float *b, int n)
{
    double worst = 0;
    for (int i = 0; i < n; i++)
        worst = !(fabs((double)a[i] - b[i]) <= worst) ? fabs((double)a[i] - b[i]) : worst;
    return worst;
}

// Entry 0 has no figure.
static double logprob_distance(const double *got, const struct golden_case *c)
{
    double worst = 0;
    for (int i = 1; c->logprobs && i < c->n; i++)
        worst = !(fabs(got[i] - c->logprobs[i]) <= worst) ? fabs(got[i] - c->logprobs[i]) : worst;
    return worst;
}

static int greedy_tokens(void)
{
    return tally_brief ? 2 : GOLDEN_GREEDY;
}

// How many of the case's greedy tokens come out, one decode step each, from the prompt's logits on.
static int greedy(struct rig *r, int seq, const struct golden_case *c, const float *logits)
{
    for (int i = 0; i < greedy_tokens(); i++) {
        int id = rig_argmax(logits, r->vocab);
        if (id != c->greedy[i])
            return i;
        logits = rig_step(
            r, &(struct feed){.seq = seq, .ids = &id, .t = 1, .decode = true, .last = true}, 1);
    }
    return greedy_tokens();
}

static void check_case(struct tally *t, struct rig *r, const struct suite *s,
                       const struct golden_case *c)
{
    double *lp = mem_zero((size_t)c->n, sizeof *lp);
    rig_reset(r);
    const float *logits =
        rig_prompt(r, 0, c->prompt, c->n, r->batch_tokens, c->logprobs ? lp : NULL);
    double worst = distance(logits, c->last, r->vocab), worst_lp = logprob_distance(lp, c);
    int same = greedy(r, 0, c, logits);
    tally_add(
        t, worst <= LIMIT && worst_lp <= LIMIT && same == greedy_tokens(),
        "%s, %d tokens: logits within %.1e, prompt logprobs %.1e (limit %.0e), greedy %d of %d",
        s->name, c->n, worst, worst_lp, LIMIT, same, greedy_tokens());
    mem_free(lp);
}

// The longest recorded case that is not too slow to be run many times.
static const struct golden_case *middle_case(const struct golden *g)
{
    const struct golden_case *best = &g->cases[0];
    for (int i = 0; i < g->n; i++)
        if (g->cases[i].n <= 300 && g->cases[i].n > best->n)
            best = &g->cases[i];
    return best;
}

static void check_variant(struct tally *t, const struct suite *s, const char *dir,
                          const struct variant *v, const struct golden_case *c)
{
    struct rig r;
    const struct rig_options o = {.dtype = DTYPE_F32,
                                  .threads = THREADS,
                                  .sequences = 1,
                                  .context = 512,
                                  .chunk = v->chunk,
                                  .method = v->method};
    if (rig_open(&r, dir, &o, rig_ops)) {
        tally_add(t, false, "%s, chunk %d, %s: cannot be loaded", s->name, v->chunk, v->method);
        return;
    }
    const int piece = v->piece < r.batch_tokens ? v->piece : r.batch_tokens;
    double *lp = mem_zero((size_t)c->n, sizeof *lp);
    const float *logits = rig_prompt(&r, 0, c->prompt, c->n, piece, lp);
    double worst = distance(logits, c->last, r.vocab), worst_lp = logprob_distance(lp, c);
    tally_add(t, worst <= LIMIT && worst_lp <= LIMIT,
              "%s, %d tokens, chunk %d, %s, pieces of %d: logits within %.1e, logprobs %.1e",
              s->name, c->n, v->chunk, v->method, piece, worst, worst_lp);
    mem_free(lp);
    rig_close(&r);
}

// Feed every prompt in pieces of different sizes, so that the sequences meet at different places; ids
// become the first greedy tokens. Returns the largest distance of a prompt's last logits.
static double batch_prompts(struct rig *r, const struct golden_case *const *cases, int *ids)
{
    double worst = 0;
    for (bool more = true; more;) {
        struct feed f[BATCH];
        int n = 0;
        more = false;
        for (int i = 0; i < BATCH; i++) {
            int left = cases[i]->n - r->pos[i], piece = 5 + 8 * i;
            if (left)
                f[n++] = (struct feed){.seq = i,
                                       .ids = cases[i]->prompt + r->pos[i],
                                       .t = left < piece ? left : piece,
                                       .last = left <= piece};
            more = more || left > piece;
        }
        const float *logits = rig_step(r, f, n);
        for (int i = 0; i < n; i++)
            if (f[i].last) {
                double d = distance(logits, cases[f[i].seq]->last, r->vocab);
                worst = !(d <= worst) ? d : worst;
                ids[f[i].seq] = rig_argmax(logits, r->vocab);
                logits += r->vocab;
            }
    }
    return worst;
}

// All decode together. Returns how many tokens are the recorded ones.
static int batch_greedy(struct rig *r, const struct golden_case *const *cases, int *ids)
{
    int same = 0;
    for (int i = 0; i < greedy_tokens(); i++) {
        struct feed f[BATCH];
        for (int j = 0; j < BATCH; j++) {
            same += ids[j] == cases[j]->greedy[i];
            f[j] = (struct feed){.seq = j, .ids = &ids[j], .t = 1, .decode = true, .last = true};
        }
        const float *logits = rig_step(r, f, BATCH);
        for (int j = 0; j < BATCH; j++)
            ids[j] = rig_argmax(logits + (size_t)j * (size_t)r->vocab, r->vocab);
    }
    return same;
}

static void check_batch(struct tally *t, const struct suite *s, const char *dir,
                        const struct golden *g)
{
    struct rig r;
    const struct rig_options o = {
        .dtype = DTYPE_F32, .threads = THREADS, .sequences = BATCH, .context = 512};
    const struct golden_case *cases[BATCH];
    int ids[BATCH];
    if (rig_open(&r, dir, &o, rig_ops)) {
        tally_add(t, false, "%s, batch: cannot be loaded", s->name);
        return;
    }
    for (int i = 0, n = 0; n < BATCH; i = (i + 1) % g->n)
        if (g->cases[i].n <= 200 || g->n == 1)
            cases[n++] = &g->cases[i];
    double worst = batch_prompts(&r, cases, ids);
    int same = batch_greedy(&r, cases, ids);
    tally_add(t, worst <= LIMIT && same == BATCH * greedy_tokens(),
              "%s, batch of %d: logits within %.1e, greedy %d of %d", s->name, BATCH, worst, same,
              BATCH * greedy_tokens());
    rig_close(&r);
}

static void check_suite(struct tally *t, const struct suite *s, const char *dir,
                        const struct golden *g)
{
    struct rig r;
    if (rig_open(&r, dir,
                 &(struct rig_options){
                     .dtype = DTYPE_F32, .threads = THREADS, .sequences = 1, .context = 4096},
                 rig_ops)) {
        tally_add(t, false, "%s: cannot be loaded", s->name);
        return;
    }
    CHECK(r.vocab == g->vocab);
    for (int i = 0; i < g->n; i++)
        if (!tally_quick || (g->cases[i].n <= 65 && (!tally_brief || g->cases[i].n > 64)))
            check_case(t, &r, s, &g->cases[i]);
    rig_close(&r);
    if (tally_quick && s->large)
        return;
    if (!tally_brief)
        check_batch(t, s, dir, g);
    const struct golden_case *c = middle_case(g);
    for (int i = 0; i < N_VARIANTS; i++)
        if (!tally_quick || (i % 4 == 1 && (!tally_brief || VARIANTS[i].piece > 1)))
            check_variant(t, s, dir, &VARIANTS[i], c);
}

void check_golden(struct tally *t)
{
    for (int i = 0; i < (tally_brief ? 1 : N_SUITES); i++) {
        const struct suite *s = &SUITES[i];
        char dir[PATH_BYTES], file[PATH_BYTES];
        struct golden g;
        struct err e;
        snprintf(dir, sizeof dir, "%s/%s", TEST_SOURCE_DIR, s->model);
        snprintf(file, sizeof file, "%s/%s", TEST_SOURCE_DIR, s->file);
        if (!golden_open(&g, file, &e)) {
            check_suite(t, s, dir, &g);
            golden_close(&g);
        } else if (e.code == ERR_NOT_FOUND) {
            tally_skip(t, "%s: %s", s->name, e.text);
        } else {
            tally_add(t, false, "%s: %s", s->name, e.text);
        }
    }
}
