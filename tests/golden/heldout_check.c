// heldout_check.c - the bundled model's loss on held-out text against what transformers computed: a long
// sequence (thousands of tokens, hundreds of chunks), and the tokenizer as well.
//
// Limit 1e-4 on a mean of 8,191 log-probabilities: each is within 2e-5 or so on the short prompts, and
// errors of both signs average out; a token read wrongly moves the mean by 1e-3.
#include <math.h>
#include <stdio.h>

#include "golden_file.h"
#include "heldout.h"
#include "json.h"
#include "mem.h"
#include "tally.h"

#define LIMIT 1e-4

struct sum {
    const struct heldout *text;
    double nll;
    int n;
};

static void add(void *ud, int i, const float *logits, int vocab)
{
    struct sum *s = ud;
    s->nll -= rig_logprob(logits, vocab, s->text->ids.data[i + 1]);
    s->n++;
}

// heldout_nll and heldout_tokens of bundled.json; 0 tokens when they are not there.
static int recorded(double *nll, struct err *e)
{
    size_t n = 0;
    char *text = read_text(TEST_SOURCE_DIR "/tests/golden/bundled.json", &n, e);
    json_t *root = text ? json_parse(text, n, 8, e) : NULL;
    int tokens = (int)json_integer_value(json_object_get(root, "heldout_tokens"));
    *nll = json_number_value(json_object_get(root, "heldout_nll"));
    json_decref(root);
    mem_free(text);
    return tokens;
}

void check_heldout(struct tally *t)
{
    const char *dir = TEST_SOURCE_DIR "/models/bundled";
    struct err e = {0};
    struct rig r;
    double want = 0;
    int tokens = recorded(&want, &e);
    struct heldout text = {0};
    struct tokenizer *tk = tokens ? tokenizer_load(dir, &e) : NULL;
    if (!tk || heldout_read(&text, tk, (size_t)tokens, &e)) {
        tally_skip(t, "held-out text: %s", e.text);
        goto out;
    }
    const struct rig_options o = {
        .dtype = DTYPE_F32, .threads = 1, .sequences = 1, .context = tokens};
    struct sum s = {.text = &text};
    if (rig_open(&r, dir, &o, rig_ops)) {
        tally_add(t, false, "held-out text: the model cannot be loaded");
        goto out;
    }
    heldout_run(&r, &text, false, add, &s);
    rig_close(&r);
    double got = s.nll / s.n;
    tally_add(t, s.n == tokens - 1 && fabs(got - want) <= LIMIT,
              "held-out text, %d tokens: loss %.6f, transformers %.6f (limit %.0e)", tokens, got,
              want, LIMIT);
out:
    heldout_fini(&text);
    tokenizer_destroy(tk);
}
