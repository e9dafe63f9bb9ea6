// eval_text.c - see eval_text.h.
#define _GNU_SOURCE
#include "eval_text.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "mem.h"
#include "sample_stats.h"

static const size_t TEXT_MAX = (size_t)8 << 20; // bytes of the installed book

// The installed book; NULL with e.
static char *read_book(const struct job_node *node, size_t *n, struct err *e)
{
    char path[PATH_MAX];
    if (!node->tokenizer || !node->data_dir ||
        snprintf(path, sizeof path, "%s/heldout.txt", node->data_dir) >= (int)sizeof path) {
        err_set(e, ERR_UNSUPPORTED, "the held-out text needs %s; give texts, or source \"random\"",
                node->tokenizer ? "heldout.txt installed beside the program"
                                : "a model with a tokenizer");
        return NULL;
    }
    FILE *f = fopen(path, "rb");
    if (!f) {
        err_set(e, ERR_UNSUPPORTED, "heldout.txt cannot be read; give texts in the request");
        return NULL;
    }
    char *text = mem_alloc(TEXT_MAX + 1);
    *n = fread(text, 1, TEXT_MAX, f);
    text[*n] = '\0';
    fclose(f);
    return text;
}

static void add_windows(struct eval_text *t, int first, int n, int context)
{
    for (int at = 0; at + 2 <= n; at += context) {
        const int left = n - at;
        t->windows = mem_resize(t->windows, (size_t)t->n_windows + 1, sizeof *t->windows);
        t->windows[t->n_windows++] =
            (struct eval_window){first + at, left < context ? left : context};
    }
}

static void count_bytes(struct eval_text *t, const struct tokenizer *tk)
{
    for (int w = 0; tk && w < t->n_windows; w++)
        for (int i = 1; i < t->windows[w].n; i++) {
            size_t n = 0;
            tokenizer_bytes(tk, t->ids.data[t->windows[w].first + i], &n);
            t->bytes += (double)n;
        }
}

static int take_book(const struct job_node *node, const struct eval_source *s,
                     struct eval_text *out, struct err *e)
{
    size_t n = 0;
    char *text = read_book(node, &n, e);
    if (!text)
        return -1;
    const int failed = tokenizer_encode(node->tokenizer, text, n, 0, &out->ids, e);
    mem_free(text);
    out->ids.n = out->ids.n < (size_t)s->tokens ? out->ids.n : (size_t)s->tokens;
    out->what = "held-out book text";
    return failed;
}

static int take_texts(const struct job_node *node, const struct eval_source *s,
                      struct eval_text *out, struct err *e)
{
    size_t i;
    json_t *text;
    if (!node->tokenizer)
        return err_field(e, ERR_UNSUPPORTED, "spec.texts",
                         "spec.texts needs a model with a tokenizer; give source \"random\"");
    json_array_foreach(s->texts, i, text)
    {
        const size_t first = out->ids.n;
        if (tokenizer_encode(node->tokenizer, json_string_value(text), json_string_length(text), 0,
                             &out->ids, e))
            return -1;
        const size_t most = (size_t)s->tokens > first ? (size_t)s->tokens - first : 0;
        const size_t n = out->ids.n - first < most ? out->ids.n - first : most;
        out->ids.n = first + n;
        add_windows(out, (int)first, (int)n, s->context);
    }
    out->what = "the request's texts";
    return 0;
}

static void take_random(const struct job_node *node, const struct eval_source *s,
                        struct eval_text *out)
{
    uint64_t random = 1;
    for (int i = 0; i < s->tokens; i++)
        ids_add(&out->ids, (int)(stat_uniform(&random) * node->config->vocab_size));
    out->what = "random token ids";
}

// --- the model's own text -------------------------------------------------------------------

static int wait_for(struct job_run *run, struct gen *g, struct eval_text *out, int tokens,
                    struct err *e)
{
    enum { READ = 64, WAIT_US = 5000 };
    struct gen_cursor cursor = {0};
    struct gen_status status;
    struct gen_token read[READ];
    for (;;) {
        const int n = gen_read(g, &cursor, NULL, read, READ, &status);
        for (int i = 0; i < n; i++)
            ids_add(&out->ids, read[i].id);
        if (n)
            job_run_progress(run, (double)out->ids.n, tokens, "tokens", "writing", NULL);
        if (n == READ)
            continue;
        if (status.state == GEN_FAILED) {
            *e = status.err;
            return -1;
        }
        if (status.state == GEN_DONE)
            return 0;
        if (job_run_cancelled(run))
            return err_set(e, ERR_CANCELLED, "stopped while the model wrote its text");
        usleep(WAIT_US);
    }
}

static int write_own(struct job_run *run, const struct eval_source *s, struct eval_text *out,
                     struct err *e)
{
    const struct job_node *node = job_run_node(run);
    static const char BEGINNING[] = "CHAPTER I\n\n";
    struct ids prompt = {0};
    if (!node->tokenizer)
        ids_add(&prompt, 0);
    else if (tokenizer_encode(node->tokenizer, BEGINNING, sizeof BEGINNING - 1, 0, &prompt, e))
        return -1;
    const int room = s->context - (int)prompt.n;
    const struct gen_params p = {
        .prompt = prompt.data,
        .n_prompt = (int)prompt.n,
        .max_tokens = s->tokens < room ? s->tokens : room,
        .sampling = {.temperature = 0.9F, .top_p = 0.95F, .repetition = 1, .seed = 1},
        .ignore_eos = true,
        .logprobs = -1,
        .background = true};
    struct gen *g = gen_create(&p, NULL, NULL);
    for (size_t i = 0; i < prompt.n; i++)
        ids_add(&out->ids, prompt.data[i]);
    const int failed = gen_submit(node->engine, g, e) || wait_for(run, g, out, p.max_tokens, e);
    gen_cancel(g);
    struct gen_cursor cursor = {0};
    struct gen_status status = {.state = GEN_QUEUED};
    struct gen_token token;
    while (!failed && status.state < GEN_DONE) // the prompt is borrowed until then
        gen_read(g, &cursor, NULL, &token, 1, &status);
    gen_release(g, mem_free, prompt.data);
    out->what = "the model's own text, temperature 0.9";
    return failed ? -1 : 0;
}

// --- both -----------------------------------------------------------------------------------

int eval_text_make(struct job_run *run, const struct eval_source *s, struct eval_text *out,
                   struct err *e)
{
    const struct job_node *node = job_run_node(run);
    int failed = 0;
    *out = (struct eval_text){0};
    if (s->texts)
        failed = take_texts(node, s, out, e);
    else if (!strcmp(s->name, "heldout"))
        failed = take_book(node, s, out, e);
    else if (!strcmp(s->name, "own"))
        failed = write_own(run, s, out, e);
    else
        take_random(node, s, out);
    if (!failed && !s->texts)
        add_windows(out, 0, (int)out->ids.n, s->context);
    if (!failed && out->n_windows == 0)
        failed = err_field(e, ERR_BAD_REQUEST, s->texts ? "spec.texts" : "spec.tokens",
                           "the text has less than two tokens; give more");
    if (failed)
        eval_text_free(out);
    else
        count_bytes(out, node->tokenizer);
    return failed;
}

void eval_text_free(struct eval_text *t)
{
    ids_fini(&t->ids);
    mem_free(t->windows);
    *t = (struct eval_text){0};
}

// --- recall ---------------------------------------------------------------------------------

enum { FACTS = 8, PARAGRAPHS_MAX = 4096 };

static const char *const NAMES[] = {"Darcy",  "Jane",  "Rome",   "Lucy",    "Henry",  "Mary",
                                    "London", "Paris", "Robert", "Charles", "Edward", "Anne",
                                    "George", "Emma",  "Arthur", "Helen",   "Thomas", "Alice"};
enum { N_NAMES = sizeof NAMES / sizeof *NAMES };

struct fact {
    const char *name;
    char digits[6];
    int slot; // stands before this paragraph
};

static int draw_below(uint64_t *random, int n)
{
    return (int)(stat_uniform(random) * n);
}

static void draw_facts(struct fact facts[FACTS], int n_paragraphs, uint64_t *random)
{
    int order[N_NAMES];
    for (int i = 0; i < N_NAMES; i++)
        order[i] = i;
    for (int i = 0; i < FACTS; i++) {
        const int k = i + draw_below(random, N_NAMES - i), name = order[k];
        order[k] = order[i];
        facts[i] = (struct fact){.name = NAMES[name], .slot = draw_below(random, n_paragraphs + 1)};
        for (int d = 0; d < 5; d++)
            facts[i].digits[d] = (char)('0' + draw_below(random, 10));
    }
}

static int count_tokens(const struct tokenizer *tk, const char *text, size_t n, int *out,
                        struct err *e)
{
    struct ids ids = {0};
    const int failed = tokenizer_encode(tk, text, n, 0, &ids, e);
    *out = (int)ids.n;
    ids_fini(&ids);
    return failed;
}

struct book {
    const char *text;
    size_t n;
};

// Paragraphs from a random place on, as many as fit: [first[i], first[i] + n[i]) with the empty line.
struct passage {
    const char *text[PARAGRAPHS_MAX];
    size_t bytes[PARAGRAPHS_MAX];
    int n;
};

static int draw_passage(struct passage *p, const struct tokenizer *tk, const struct book *book,
                        int tokens, uint64_t *random, struct err *e)
{
    // The first part of the book is what perplexity is measured on.
    const char *at =
        book->text + book->n / 4 + (size_t)(stat_uniform(random) * (double)(book->n / 2));
    for (int used = 0; p->n < PARAGRAPHS_MAX; p->n++) {
        const char *next = strstr(at, "\n\n");
        int count = 0;
        if (!next) { // around to the beginning
            at = book->text;
            continue;
        }
        if (p->n == 0 && at != book->text) { // the rest of a paragraph
            at = next + 2;
            next = strstr(at, "\n\n");
            if (!next) {
                at = book->text;
                next = strstr(at, "\n\n");
            }
        }
        if (!next || count_tokens(tk, at, (size_t)(next + 2 - at), &count, e))
            return next ? -1 : 0;
        if (used + count > tokens)
            return 0;
        used += count;
        p->text[p->n] = at;
        p->bytes[p->n] = (size_t)(next + 2 - at);
        at = next + 2;
    }
    return 0;
}

static void join(struct buf *out, const struct passage *p, const struct fact facts[FACTS])
{
    for (int i = 0; i <= p->n; i++) {
        for (int k = 0; k < FACTS; k++)
            if (facts[k].slot == i)
                buf_format(out, "The secret code of %s is %s.\n\n", facts[k].name, facts[k].digits);
        if (i < p->n)
            buf_add(out, p->text[i], p->bytes[i]);
    }
}

int recall_make(const struct job_node *node, int tokens, uint64_t seed, struct recall_item *out,
                struct err *e)
{
    enum { FACT_TOKENS = 20 }; // more than one takes
    size_t n = 0;
    uint64_t random = seed * 1000003 + (uint64_t)tokens;
    struct fact facts[FACTS];
    struct buf prompt = {0};
    char answer[8];
    *out = (struct recall_item){0};
    char *book = read_book(node, &n, e);
    if (!book)
        return -1;
    struct passage *p = mem_zero(1, sizeof *p);
    int failed = draw_passage(p, node->tokenizer, &(struct book){book, n},
                              tokens - (FACTS + 1) * FACT_TOKENS, &random, e);
    if (!failed) {
        draw_facts(facts, p->n, &random);
        const struct fact *asked = &facts[draw_below(&random, FACTS)];
        join(&prompt, p, facts);
        buf_format(&prompt, "The secret code of %s is", asked->name);
        snprintf(answer, sizeof answer, " %s", asked->digits);
        failed = tokenizer_encode(node->tokenizer, prompt.data, prompt.n, 0, &out->ids, e);
        out->n_prompt = (int)out->ids.n;
        failed = failed || tokenizer_encode(node->tokenizer, answer, 6, 0, &out->ids, e);
    }
    buf_fini(&prompt);
    mem_free(book);
    mem_free(p);
    if (failed)
        recall_free(out);
    return failed ? -1 : 0;
}

void recall_free(struct recall_item *item)
{
    ids_fini(&item->ids);
    *item = (struct recall_item){0};
}
