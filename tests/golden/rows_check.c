// rows_check.c - row independence: the same tokens give the same bits of logits whether a sequence runs
// alone, beside others in a batch, or with its prompt cut at any multiple of the chunk. Nothing is
// compared with a tolerance here. This is what makes a seed mean something in a server that batches, and
// what allows a prompt's state to be kept and taken up again. With a state of bf16, which every cut rounds,
// the bits are those of the same cuts alone.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"
#include "rig.h"
#include "tally.h"

enum { PROMPT = 200, ANSWER = 8, COMPANY = 5, CHUNK = 64 };

// What a run leaves: logits of every prompt token, of the prompt's end, and of each decode step.
struct trace {
    float *all;  // [PROMPT, vocab]
    float *last; // [1 + ANSWER, vocab]
    int vocab;
};

// What is run of them, and of COMPANY; the rest of a trace stays zero.
static int prompt_tokens(void)
{
    return tally_brief ? 2 * CHUNK - 2 : PROMPT;
}

static int answer_tokens(void)
{
    return tally_brief ? 2 : ANSWER;
}

static struct trace trace_create(int vocab)
{
    size_t v = (size_t)vocab;
    return (struct trace){.all = mem_zero(PROMPT * v, sizeof(float)),
                          .last = mem_zero((1 + ANSWER) * v, sizeof(float)),
                          .vocab = vocab};
}

static void trace_fini(struct trace *t)
{
    mem_free(t->all);
    mem_free(t->last);
}

static bool trace_equal(const struct trace *a, const struct trace *b)
{
    size_t v = (size_t)a->vocab * sizeof(float);
    return !memcmp(a->all, b->all, PROMPT * v) && !memcmp(a->last, b->last, (1 + ANSWER) * v);
}

// Any ids will do; sequences differ.
static int token(int seq, int i, int vocab)
{
    uint32_t h = (uint32_t)(seq * 100003 + i) * 2654435761u;
    return (int)((h >> 8) % (uint32_t)vocab);
}

// Runs sequence 0: its prompt cut at the multiples of cut, then ANSWER fixed tokens. company more
// sequences run beside it with other lengths and pieces, some of them decoding while it reads its prompt.
static void run(struct rig *r, int company, int cut, struct trace *out)
{
    int ids[1 + COMPANY][PROMPT + ANSWER];
    const int prompt_end = prompt_tokens(), end = prompt_end + answer_tokens();
    size_t v = (size_t)r->vocab;
    rig_reset(r);
    for (int s = 0; s <= company; s++)
        for (int i = 0; i < PROMPT + ANSWER; i++)
            ids[s][i] = token(s, i, r->vocab);
    while (r->pos[0] < end) {
        struct feed f[1 + COMPANY];
        int n = 0, pos = r->pos[0];
        bool prompt = pos < prompt_end;
        int t = !prompt ? 1 : prompt_end - pos < cut ? prompt_end - pos : cut;
        struct feed own = {.seq = 0,
                           .ids = ids[0] + pos,
                           .t = t,
                           .decode = !prompt,
                           .all = prompt,
                           .last = pos + t >= prompt_end};
        if (prompt)
            f[n++] = own;
        for (int decode = 0; decode < 2; decode++) {
            for (int s = 1; s <= company; s++) {
                int at = r->pos[s], want = 10 + 7 * s;
                if (at < end && decode == (at >= want))
                    f[n++] = (struct feed){.seq = s,
                                           .ids = ids[s] + at,
                                           .t = decode ? 1 : want - at,
                                           .decode = decode,
                                           .last = s % 2 == 0};
            }
            if (decode && !prompt)
                f[n++] = own; // after the others: its place in the step moves
        }
        const float *logits = rig_step(r, f, n);
        if (prompt)
            memcpy(out->all + (size_t)pos * v, logits, (size_t)t * v * sizeof(float));
        if (!own.last)
            continue;
        // own's row of the last logits: after the prompt's rows and those of the feeds before it.
        size_t row = prompt ? (size_t)t : 0;
        for (int i = 0; i < n && f[i].seq != 0; i++)
            row += f[i].last;
        memcpy(out->last + (size_t)(pos + t - prompt_end) * v, logits + row * v, v * sizeof(float));
    }
}

struct types {
    enum dtype weights, state;
};

// The reference runs on one thread, the others on two: how the work is cut up must not show either.
static int reference(const char *dir, const struct types *types, int cut, struct trace *out)
{
    struct rig r;
    const struct rig_options o = {.dtype = types->weights,
                                  .state = types->state,
                                  .threads = 1,
                                  .sequences = 1,
                                  .context = 512,
                                  .chunk = CHUNK};
    if (rig_open(&r, dir, &o, rig_ops))
        return -1;
    trace_fini(out);
    *out = trace_create(r.vocab);
    run(&r, 0, cut, out);
    rig_close(&r);
    return 0;
}

static void check_types_of(struct tally *t, const char *name, const char *dir,
                           const struct types *types)
{
    static const struct {
        int company, cut;
    } ways[] = {{0, PROMPT}, {COMPANY, PROMPT}, {COMPANY, CHUNK}, {COMPANY, 2 * CHUNK}};
    struct rig r;
    struct trace alone = {0};
    const bool rounds = types->state != DTYPE_F32;
    const struct rig_options o = {.dtype = types->weights,
                                  .state = types->state,
                                  .threads = 2,
                                  .sequences = 1 + COMPANY,
                                  .context = 512,
                                  .chunk = CHUNK};
    if (reference(dir, types, PROMPT, &alone) || rig_open(&r, dir, &o, rig_ops)) {
        trace_fini(&alone);
        tally_add(t, false, "%s, %s: cannot be loaded", name, dtype_name(types->weights));
        return;
    }
    struct trace other = trace_create(r.vocab);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const int company = tally_brief && ways[i].company ? 2 : ways[i].company;
        if (tally_brief && i != 2)
            continue;
        run(&r, company, ways[i].cut, &other);
        tally_add(
            t,
            (!rounds || !reference(dir, types, ways[i].cut, &alone)) && trace_equal(&alone, &other),
            "%s, %s%s: the same bits on two threads beside %d sequences, cut every %d tokens", name,
            dtype_name(types->weights), rounds ? ", bf16 state" : "", company, ways[i].cut);
    }
    trace_fini(&alone);
    trace_fini(&other);
    rig_close(&r);
}

void check_rows(struct tally *t)
{
    static const char *const names[] = {"dense_a", "ratio3", "ratio4"};
    static const struct types types[] = {{DTYPE_F32, DTYPE_F32},
                                         {DTYPE_BF16, DTYPE_F32},
                                         {DTYPE_INT8, DTYPE_F32},
                                         {DTYPE_BF16, DTYPE_BF16},
                                         {DTYPE_F16, DTYPE_F32}};
    for (int i = tally_quick ? 1 : 0; i < (tally_quick ? 2 : 3); i++)
        for (size_t j = 0; j < sizeof types / sizeof *types; j++) {
            if (types[j].weights == DTYPE_F16 && !rig_has_f16())
                continue;
            char dir[1024];
            snprintf(dir, sizeof dir, "%s/tests/golden/%s", TEST_SOURCE_DIR, names[i]);
            check_types_of(t, names[i], dir, &types[j]);
        }
}
