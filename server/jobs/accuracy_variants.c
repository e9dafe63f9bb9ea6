// accuracy_variants.c - the invariance matrix: the same tokens under the served setting, in steps of other
// sizes, beside other sequences, as generated tokens, on the CPU; token by token.
//
// Rows of logits are compared by a hash of their bits, by the log-probability of the token that came, and
// by the most likely token.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "accuracy.h"
#include "mem.h"
#include "spec_fields.h"

enum { TOKENS_MAX = 512, GENERATED = 64, OTHERS = 3, OTHER_TOKENS = 64 };

struct record {
    bool has[TOKENS_MAX];
    uint64_t hash[TOKENS_MAX];
    double logprob[TOKENS_MAX];
    int top[TOKENS_MAX];
};

struct way {
    int step;     // prompt tokens of a step
    int row_step; // of which every n-th's logits are looked at
    int others;   // sequences beside it
    int from;     // tokens from here on are generated ones
};

struct variants {
    struct accuracy *a;
    struct eval v;
    const struct accuracy_setting *served;
    const int *ids;
    int tokens;
    float *logits;
    // NULL: the node's model, in device tasks.
    const struct ops *ops;
    struct dev *dev;
    struct model *model;
};

// FNV-1a over the words of a row.
static uint64_t hash_row(const float *logits, int vocab)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < vocab; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        hash = (hash ^ bits) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static void take_row(const struct variants *v, struct record *r, int token, const float *logits)
{
    if (token + 1 >= v->tokens)
        return;
    r->has[token] = true;
    r->hash[token] = hash_row(logits, v->v.vocab);
    r->logprob[token] = score_logprob(logits, v->v.vocab, v->ids[token + 1]);
    r->top[token] = score_argmax(logits, v->v.vocab);
}

// The others read the text from another place; they are prompts while sequence 0 is one, and generate
// when it does.
static int add_others(const struct variants *v, const struct way *way, struct eval_feed *feeds,
                      int steps, bool decode)
{
    const int before = decode ? (way->from + way->step - 1) / way->step : steps;
    const int pos0 = before * OTHER_TOKENS + (decode ? steps - before : 0);
    const int t = decode ? 1 : OTHER_TOKENS;
    for (int i = 1; i <= way->others; i++)
        feeds[i] = (struct eval_feed){.seq = i,
                                      .ids = v->ids + (pos0 + 17 * i) % (v->tokens - t),
                                      .t = t,
                                      .pos0 = pos0,
                                      .decode = decode,
                                      .row_step = 0};
    return way->others + 1;
}

static int run_way(struct variants *v, const struct way *way, struct record *out, bool *disturbed,
                   struct err *e)
{
    *out = (struct record){0};
    for (int at = 0, steps = 0; at < v->tokens; steps++) {
        const bool decode = at >= way->from;
        const int end = decode ? at + 1 : way->from < v->tokens ? way->from : v->tokens;
        struct eval_feed feeds[OTHERS + 1] = {
            {.ids = v->ids + at,
             .t = end - at < way->step ? end - at : way->step,
             .pos0 = at,
             .decode = decode,
             .last = decode,
             .row_step = way->row_step},
        };
        struct eval_step step = {.setting = &v->served->setting,
                                 .feeds = feeds,
                                 .n = add_others(v, way, feeds, steps, decode),
                                 .logits = v->logits};
        if (v->model ? eval_run_on(&v->v, &step, v->ops, v->dev, v->model, e)
                     : eval_run(&v->v, &step, e))
            return -1;
        *disturbed = step.disturbed;
        if (step.disturbed)
            return 0;
        const bool wanted = decode || way->from >= v->tokens; // of generated tokens those alone
        for (int i = 0, row = 0; wanted && i < feeds[0].t; i += way->row_step, row++)
            take_row(v, out, at + i, v->logits + (size_t)row * (size_t)v->v.vocab);
        at += feeds[0].t;
        accuracy_progress(v->a, 0, "invariance", NULL);
    }
    return 0;
}

static int run_undisturbed(struct variants *v, const struct way *way, struct record *out,
                           struct err *e)
{
    for (int tries = 0; tries < ACCURACY_RESTARTS; tries++) {
        bool disturbed = false;
        if (run_way(v, way, out, &disturbed, e))
            return -1;
        if (!disturbed)
            return 0;
    }
    return err_set(e, ERR_BUSY,
                   "clients' generations came between %d times; run it when the server is idle",
                   ACCURACY_RESTARTS);
}

static void compare(struct accuracy_variant *out, const struct record *a, const struct record *b)
{
    out->first = -1;
    out->measured = true;
    for (int i = 0; i < TOKENS_MAX; i++) {
        if (!a->has[i] || !b->has[i])
            continue;
        const double d = fabs(a->logprob[i] - b->logprob[i]);
        out->tokens++;
        out->same_bits += a->hash[i] == b->hash[i];
        out->same_top += a->top[i] == b->top[i];
        out->largest = isnan(d) ? INFINITY : fmax(out->largest, d);
        if (out->first < 0 && a->top[i] != b->top[i])
            out->first = i;
    }
}

static int measure(struct variants *v, const char *name, const struct way *way,
                   const struct record *against, struct record *out, struct err *e)
{
    CHECK(v->a->n_variants < ACCURACY_VARIANTS_MAX);
    struct accuracy_variant *row = &v->a->variants[v->a->n_variants++];
    row->name = name;
    row->expected = "same bits";
    if (run_undisturbed(v, way, out, e))
        return -1;
    compare(row, against, out);
    return 0;
}

// What was measured last differs by design: its sums have another order, or its states were rounded
// elsewhere.
static void expect_rounding(struct variants *v)
{
    v->a->variants[v->a->n_variants - 1].expected = "rounding";
}

// The node's model once more, on the CPU and this thread.
static int measure_cpu(struct variants *v, const struct record *base, struct record *other,
                       struct err *e)
{
    const struct job_node *node = job_run_node(v->a->run);
    struct model_options o = *node->model_options;
    char why[256];
    if (node->ops == &ops_cpu)
        return 0;
    if (node->memory->n_params > 1 << 28) {
        job_run_log(v->a->run, "the model is too large to be computed on the CPU as well");
        return 0;
    }
    o.sequences_max = 1;
    o.context_max = v->v.context; // what the steps' page tables are made for
    o.kv_bytes = 0;
    o.progress = NULL;
    const bool f16 = o.dtype == DTYPE_F16; // which the CPU has not
    if (f16)
        o.dtype = DTYPE_F32;
    v->ops = &ops_cpu;
    v->dev = ops_cpu.open(&(struct dev_options){0}, why, sizeof why);
    if (!v->dev)
        return err_set(e, ERR_UNSUPPORTED, "the CPU cannot be opened: %s", why);
    v->model = model_load(node->model_dir, &o, &ops_cpu, v->dev, e);
    int failed = v->model ? 0 : -1;
    if (!failed) {
        const struct way way = {v->v.piece, 1, 0, v->tokens};
        v->v.sequences = 1;
        failed = measure(v, f16 ? "on the CPU, in f32" : "on the CPU", &way, base, other, e);
        expect_rounding(v);
    }
    model_destroy(v->model);
    ops_cpu.close(v->dev);
    v->model = NULL;
    return failed;
}

static int measure_all(struct variants *v, struct err *e)
{
    const struct model_options *o = job_run_node(v->a->run)->model_options;
    const int piece = v->v.piece, half = piece / 2;
    const int large = o->batch_tokens / INVERSE_CHUNK_MAX * INVERSE_CHUNK_MAX;
    const int others = (o->batch_tokens - piece) / OTHER_TOKENS;
    const bool cuts_round = o->state_dtype != DTYPE_F32; // states, at the end of every step
    struct way way = {piece, 1, 0, v->tokens};
    struct record *records = mem_zero(4, sizeof *records), *base = records;
    struct record *other = records + 1, *generated = records + 2, *beside = records + 3;
    int failed = measure(v, "steps of one piece, alone", &way, base, base, e);
    if (!failed && half >= v->served->setting.chunk) {
        way = (struct way){half, 1, 0, v->tokens};
        failed = measure(v, "steps of half a piece", &way, base, other, e);
        if (cuts_round)
            expect_rounding(v);
    }
    if (!failed && large > piece) {
        way = (struct way){large, (large + piece - 1) / piece, 0, v->tokens};
        failed = measure(v, "steps of the whole token budget", &way, base, other, e);
        if (cuts_round)
            expect_rounding(v);
    }
    way = (struct way){piece, 1, others < OTHERS ? others : OTHERS, v->tokens};
    way.others = way.others < v->v.sequences - 1 ? way.others : v->v.sequences - 1;
    if (!failed && way.others > 0)
        failed = measure(v, "beside other prompts", &way, base, other, e);
    const int beside_n = way.others;
    if (!failed && v->tokens > 2 * GENERATED) {
        way = (struct way){piece, 1, 0, v->tokens - GENERATED};
        failed = measure(v, "as generated tokens", &way, base, generated, e);
        expect_rounding(v); // the recurrence and the few-rows products sum in another order
        way.others = beside_n;
        if (!failed && way.others > 0)
            failed = measure(v, "generated beside others", &way, generated, beside, e);
    }
    if (!failed)
        failed = measure_cpu(v, base, other, e);
    mem_free(records);
    return failed;
}

int accuracy_variants(struct accuracy *a, struct err *e)
{
    const struct eval_window *w = &a->text.windows[0];
    struct variants v = {.a = a,
                         .v = eval_open(a->run, OTHERS + 1, 2 * TOKENS_MAX),
                         .served = &a->settings[1],
                         .ids = a->text.ids.data + w->first};
    if (!spec_bool(a->spec, "invariance"))
        return 0;
    v.tokens = w->n < TOKENS_MAX ? w->n : TOKENS_MAX;
    if (v.v.context < v.tokens || v.tokens < OTHER_TOKENS * 2 || *v.served->skipped) {
        snprintf(a->no_variants, sizeof a->no_variants, "the text or the context is too short");
        return 0;
    }
    v.logits = mem_alloc((size_t)v.v.piece * (size_t)v.v.vocab * sizeof *v.logits);
    const int failed = measure_all(&v, e);
    mem_free(v.logits);
    return failed;
}
