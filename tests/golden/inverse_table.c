// inverse_table.c - what each way of inverting I + A does to the answers of a trained model: held-out
// loss, distance from the reference's distribution, the residual itself, and recall of facts that stand
// far back in the prompt. One table; the reference is substitution in float32. Below it what a state of
// bf16 does, which prompts round every RIG_BATCH_TOKENS tokens and generated tokens every time.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "golden_file.h"
#include "heldout.h"
#include "json.h"
#include "mem.h"
#include "modes.h"
#include "rig.h"

enum { ITEMS_MAX = 256, GROUPS = 4, ANSWER_MAX = 64 };
static const int GROUP_TOKENS[GROUPS] = {1024, 2048, 4160, 8256}; // an item is in the first it fits
static const size_t REFERENCE_BYTES_MAX = (size_t)1 << 30;

static const struct setting {
    const char *method, *type;
    enum dtype state;
    bool generated; // the text, a token a step; not the prompts
} SETTINGS[] = {
    {"substitution", "fp32", DTYPE_F32, false},
    {"merge", "fp32", DTYPE_F32, false},
    {"auto", "fp32", DTYPE_F32, false},
    {"auto", "tf32", DTYPE_F32, false},
    {"auto", "fp16", DTYPE_F32, false},
    {"auto", "bf16", DTYPE_F32, false},
    {"auto", "int8", DTYPE_F32, false},
    {"paper", "fp32", DTYPE_F32, false},
    {"paper", "fp16", DTYPE_F32, false},
    {"paper", "int8", DTYPE_F32, false},
    {"neumann:64,2,8", "fp32", DTYPE_F32, false},
    {"neumann:64,4,8", "fp32", DTYPE_F32, false},
    {"neumann:64,6,8", "fp32", DTYPE_F32, false},
    {"neumann:64,8,8", "fp32", DTYPE_F32, false},
    {"neumann:32,3,8", "fp32", DTYPE_F32, false},
    {"auto", "fp32", DTYPE_BF16, false},
    {"auto", "fp32", DTYPE_F32, true},
    {"auto", "fp32", DTYPE_BF16, true},
};
enum { N_SETTINGS = sizeof SETTINGS / sizeof *SETTINGS };

struct item {
    struct ids prompt, answer;
};

struct data {
    struct heldout heldout;
    struct item items[ITEMS_MAX];
    int n_items, recall; // recall: items of each length that are asked
    float *reference;    // logits of every held-out token by the first setting
};

struct figures {
    double nll, kl;
    int same_top, n;
    int right[GROUPS], asked[GROUPS];
};

static int read_item(struct item *item, const struct tokenizer *tk, const char *line, size_t n,
                     struct err *e)
{
    json_t *root = json_parse(line, n, 4, e);
    const char *prompt = json_string_value(json_object_get(root, "prompt"));
    const char *answer = json_string_value(json_object_get(root, "answer"));
    int rc = -1;
    item->answer.max = ANSWER_MAX;
    if (prompt && answer)
        rc = tokenizer_encode(tk, prompt, strlen(prompt), 0, &item->prompt, e) ||
                     tokenizer_encode(tk, answer, strlen(answer), 0, &item->answer, e)
                 ? -1
                 : 0;
    else if (root)
        err_set(e, ERR_BAD_REQUEST, "recall.jsonl: a line lacks prompt or answer");
    json_decref(root);
    return rc;
}

static int read_recall(struct data *d, const struct tokenizer *tk, struct err *e)
{
    size_t n = 0;
    char *text = read_text(TEST_SOURCE_DIR "/tests/data/recall.jsonl", &n, e);
    int rc = text ? 0 : -1;
    for (char *line = text; !rc && *line && d->n_items < ITEMS_MAX;) {
        size_t length = strcspn(line, "\n");
        if (length)
            rc = read_item(&d->items[d->n_items++], tk, line, length, e);
        line += length + (line[length] == '\n');
    }
    mem_free(text);
    return rc;
}

static double divergence(const float *p, const float *q, int n)
{
    double sum = 0, log_p = rig_logprob(p, n, 0) - p[0], log_q = rig_logprob(q, n, 0) - q[0];
    for (int i = 0; i < n; i++)
        sum += exp(p[i] + log_p) * ((p[i] + log_p) - (q[i] + log_q));
    return sum;
}

struct comparison {
    struct data *data;
    struct figures *figures;
    bool first; // these logits become the reference
};

static void compare(void *ud, int i, const float *logits, int vocab)
{
    struct comparison *c = ud;
    struct figures *f = c->figures;
    float *reference = c->data->reference + (size_t)i * (size_t)vocab;
    if (c->first)
        memcpy(reference, logits, (size_t)vocab * sizeof(float));
    f->nll -= rig_logprob(logits, vocab, c->data->heldout.ids.data[i + 1]);
    f->kl += divergence(reference, logits, vocab);
    f->same_top += rig_argmax(logits, vocab) == rig_argmax(reference, vocab);
    f->n++;
}

static void run_heldout(struct rig *r, const struct setting *s, struct data *d, struct figures *f)
{
    struct comparison c = {.data = d, .figures = f, .first = !d->reference};
    if (c.first)
        d->reference = mem_alloc(d->heldout.ids.n * (size_t)r->vocab * sizeof(float));
    heldout_run(r, &d->heldout, s->generated, compare, &c);
}

// Is every token of the answer the most likely one, each after the right ones before it?
static bool recalls(struct rig *r, const struct item *item)
{
    int n = (int)item->answer.n;
    rig_reset(r);
    const float *logits =
        rig_prompt(r, 0, item->prompt.data, (int)item->prompt.n, RIG_BATCH_TOKENS, NULL);
    for (int i = 0; i < n; i++) {
        if (rig_argmax(logits, r->vocab) != item->answer.data[i])
            return false;
        logits = rig_step(
            r, &(struct feed){.ids = item->answer.data + i, .t = 1, .decode = true, .last = true},
            1);
    }
    return true;
}

static void run_recall(struct rig *r, const struct data *d, struct figures *f)
{
    for (int i = 0; i < d->n_items; i++) {
        int all = (int)(d->items[i].prompt.n + d->items[i].answer.n), group = 0;
        while (group < GROUPS && all > GROUP_TOKENS[group])
            group++;
        if (group == GROUPS || all > r->pages_max * PAGE_TOKENS || f->asked[group] == d->recall)
            continue;
        f->asked[group]++;
        f->right[group] += recalls(r, &d->items[i]);
    }
}

static void print_row(struct rig *r, const struct setting *s, const struct data *d,
                      const struct figures *f)
{
    char name[64];
    struct inverse_report report;
    const struct inverse *v = &model_options(r->m)->inverse;
    model_inverse_report(r->m, &report);
    printf("%-22s %-5s %-5s %-9s %8.5f %8.5f %9.2e %7.4f %9.2e %9u",
           inverse_name(v, name, sizeof name), inverse_exact(v) ? "yes" : "no",
           dtype_name(s->state), s->generated ? "generated" : "prompt", f->nll / f->n,
           f->nll / log(2) / d->heldout.bytes, f->kl / f->n, (double)f->same_top / f->n,
           (double)report.residual_max, report.nonfinite);
    for (int i = 0; i < GROUPS; i++)
        printf("  %3d/%-3d", f->right[i], f->asked[i]);
    printf("\n");
}

static int run_setting(const struct mode_options *o, const struct setting *s, struct data *d)
{
    struct rig r;
    struct figures f = {0};
    int context = GROUP_TOKENS[GROUPS - 1];
    const struct rig_options ro = {.dtype = o->dtype,
                                   .state = s->state,
                                   .threads = o->threads,
                                   .sequences = 1,
                                   .context = context,
                                   .method = s->method,
                                   .type = s->type,
                                   .residuals = true};
    if (rig_open(&r, o->model, &ro, rig_ops))
        return -1;
    run_heldout(&r, s, d, &f);
    run_recall(&r, d, &f);
    print_row(&r, s, d, &f);
    rig_close(&r);
    return 0;
}

static void print_head(const struct mode_options *o, const struct data *d)
{
    printf("model %s, %s; chunk 64; %zu held-out tokens; at most %d recall prompts of a length\n",
           o->model, dtype_name(o->dtype), d->heldout.ids.n, d->recall);
    printf("%-22s %-5s %-5s %-9s %8s %8s %9s %7s %9s %9s", "inverse", "exact", "state", "text",
           "nll", "bits/B", "KL", "top-1", "residual", "nonfinite");
    for (int i = 0; i < GROUPS; i++)
        printf("  <%-6d", GROUP_TOKENS[i]);
    printf("\n");
}

static void data_destroy(struct data *d)
{
    for (int i = 0; i < d->n_items; i++) {
        ids_fini(&d->items[i].prompt);
        ids_fini(&d->items[i].answer);
    }
    heldout_fini(&d->heldout);
    mem_free(d->reference);
    mem_free(d);
}

int mode_inverse(const struct mode_options *o)
{
    struct config c;
    struct err e;
    int rc = 1;
    if (rig_config(o->model, &c))
        return 1;
    struct data *d = mem_zero(1, sizeof *d);
    d->recall = o->recall;
    // The reference's logits are kept, and large vocabularies make them large.
    size_t most = REFERENCE_BYTES_MAX / sizeof(float) / (size_t)c.vocab_size;
    struct tokenizer *tk = tokenizer_load(o->model, &e);
    if (!tk || heldout_read(&d->heldout, tk, most < HELDOUT_TOKENS ? most : HELDOUT_TOKENS, &e) ||
        read_recall(d, tk, &e)) {
        printf("%s\n", e.text);
        goto out;
    }
    print_head(o, d);
    rc = 0;
    for (int i = 0; !rc && i < N_SETTINGS; i++)
        rc = run_setting(o, &SETTINGS[i], d) ? 1 : 0;
out:
    tokenizer_destroy(tk);
    data_destroy(d);
    return rc;
}
