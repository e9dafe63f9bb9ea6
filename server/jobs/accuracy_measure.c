// accuracy_measure.c - the text and the recall prompts of an accuracy report, under every setting.
//
// All settings read the text side by side, one piece after another, each on a sequence of its own, so that
// the reference's logits of one piece are all that must be kept.
#include <stdio.h>
#include <string.h>

#include "accuracy.h"
#include "mem.h"
#include "result_doc.h"
#include "spec_fields.h"

void accuracy_progress(struct accuracy *a, int tokens, const char *stage, const char *message)
{
    a->done += tokens;
    job_run_progress(a->run, a->done < a->total ? a->done : a->total, a->total, "tokens", stage,
                     message);
}

static void skip(struct accuracy_setting *s, const char *why)
{
    snprintf(s->skipped, sizeof s->skipped, "%.190s", why);
}

// A setting that this device refuses is not measured; every other failure ends the report.
static int refused(struct accuracy_setting *s, const struct err *e)
{
    if (e->code != ERR_UNSUPPORTED && e->code != ERR_TOO_LARGE)
        return -1;
    skip(s, e->text);
    return 0;
}

// --- the text -------------------------------------------------------------------------------

struct reader {
    struct accuracy *a;
    struct eval v;
    struct scorer scorer;
    float *logits;
    struct layer_probe *reference, *probe;
    int window;
    int first, count; // the settings of this group: first .. first + count - 1
    bool disturbed;
};

// Is this one of the pieces whose layers are looked at? Whole ones of the first window, spread evenly.
static bool is_probed(const struct reader *r, int piece)
{
    const struct eval_window *w = &r->a->text.windows[0];
    const int all = w->n / r->v.piece, want = spec_int(r->a->spec, "layer_pieces");
    if (r->window > 0 || piece >= all)
        return false;
    for (int i = 0; i < want; i++)
        if (piece == (want > 1 ? i * (all - 1) / (want - 1) : 0))
            return true;
    return false;
}

static int run_piece(struct reader *r, int setting, int at, int t, struct layer_probe *probe,
                     struct err *e)
{
    const struct accuracy *a = r->a;
    const struct eval_feed feed = {.seq = setting ? setting - r->first + 1 : 0,
                                   .ids = a->text.ids.data + a->text.windows[r->window].first + at,
                                   .t = t,
                                   .pos0 = at,
                                   .row_step = 1};
    struct eval_step step = {.setting = &a->settings[setting].setting,
                             .feeds = &feed,
                             .n = 1,
                             .probe = probe ? probe_table : NULL,
                             .probe_ud = probe,
                             .logits = r->logits};
    if (eval_run(&r->v, &step, e))
        return -1;
    r->disturbed = step.disturbed;
    return 0;
}

static void score_piece(struct reader *r, int setting, int at, int t)
{
    const struct eval_window *w = &r->a->text.windows[r->window];
    struct score *scores = r->a->settings[setting].scores + w->first;
    for (int i = 0; i < t && at + i + 1 < w->n; i++)
        scores[at + i + 1] = scorer_compare(&r->scorer, r->logits + (size_t)i * (size_t)r->v.vocab,
                                            i, r->a->text.ids.data[w->first + at + i + 1]);
}

static int read_piece(struct reader *r, int at, int t, struct err *e)
{
    struct accuracy *a = r->a;
    const bool probed = is_probed(r, at / r->v.piece);
    if (run_piece(r, 0, at, t, probed ? r->reference : NULL, e) || r->disturbed)
        return r->disturbed ? 0 : -1;
    scorer_reference(&r->scorer, r->logits, t);
    score_piece(r, 0, at, t);
    if (probed && probe_judge(a->run, r->reference, &a->settings[0].setting, r->reference,
                              a->settings[0].layers, e))
        return -1;
    for (int i = 0; i < r->count; i++) {
        struct accuracy_setting *s = &a->settings[r->first + i];
        if (*s->skipped)
            continue;
        if (run_piece(r, r->first + i, at, t, probed ? r->probe : NULL, e) ||
            (!r->disturbed && probed &&
             probe_judge(a->run, r->probe, &s->setting, r->reference, s->layers, e))) {
            if (refused(s, e))
                return -1;
            continue;
        }
        if (r->disturbed)
            return 0;
        score_piece(r, r->first + i, at, t);
        accuracy_progress(a, t, "text", s->setting.name);
    }
    return 0;
}

static int read_window(struct reader *r, struct err *e)
{
    const int n = r->a->text.windows[r->window].n;
    for (int tries = 0; tries < ACCURACY_RESTARTS; tries++) {
        r->disturbed = false;
        for (int at = 0; at < n && !r->disturbed; at += r->v.piece)
            if (read_piece(r, at, n - at < r->v.piece ? n - at : r->v.piece, e))
                return -1;
        if (!r->disturbed)
            return 0;
        job_run_log(r->a->run, "clients' generations came between; window %d is read again",
                    r->window);
    }
    return err_set(e, ERR_BUSY,
                   "clients' generations came between %d times; run it when the server is idle",
                   ACCURACY_RESTARTS);
}

// A row of partial results for every setting of the group.
static void tell_group(const struct reader *r)
{
    for (int i = 0; i < r->count; i++) {
        const struct accuracy_setting *s = &r->a->settings[r->first + i];
        double nll = 0, kl = 0;
        int n = 0;
        for (int w = 0; w < r->a->text.n_windows; w++)
            for (int k = 1; k < r->a->text.windows[w].n; k++, n++) {
                nll += s->scores[r->a->text.windows[w].first + k].nll;
                kl += s->scores[r->a->text.windows[w].first + k].kl;
            }
        if (!*s->skipped)
            job_run_sample(r->a->run,
                           json_pack("{s:s, s:i, s:o, s:o}", "setting", s->setting.name, "tokens",
                                     n, "loss", doc_number(nll / n), "kl", doc_number(kl / n)));
    }
}

static int read_all(struct reader *r, struct err *e)
{
    struct accuracy *a = r->a;
    const int group = r->v.sequences - 1;
    for (r->first = 1; r->first < a->n; r->first += group) {
        r->count = a->n - r->first < group ? a->n - r->first : group;
        for (r->window = 0; r->window < a->text.n_windows; r->window++)
            if (read_window(r, e))
                return -1;
        tell_group(r);
    }
    return 0;
}

static int longest_window(const struct eval_text *t)
{
    int longest = 0;
    for (int i = 0; i < t->n_windows; i++)
        longest = t->windows[i].n > longest ? t->windows[i].n : longest;
    return longest;
}

int accuracy_text(struct accuracy *a, struct err *e)
{
    const struct config *c = job_run_node(a->run)->config;
    const int longest = longest_window(&a->text);
    struct reader r = {.a = a, .v = eval_open(a->run, a->n, longest)};
    if (r.v.sequences < 2 || r.v.context < longest)
        return err_field(
            e, ERR_UNSUPPORTED, "spec.context",
            "two sequences of %d tokens are needed, and this server has room for %d of "
            "%d; ask for a shorter context, or start it with more --sequences-max or "
            "--kv-bytes",
            longest, r.v.sequences, r.v.context);
    for (int i = 0; i < a->n; i++)
        if (a->settings[i].setting.chunk > r.v.piece)
            skip(&a->settings[i],
                 "the server's steps give logits of fewer tokens than this chunk; start it with a "
                 "larger --chunk");
    if (*a->settings[0].skipped)
        return err_set(e, ERR_UNSUPPORTED, "reference: %.300s", a->settings[0].skipped);
    r.scorer = scorer_open(c->vocab_size, r.v.piece);
    r.logits = mem_alloc((size_t)r.v.piece * (size_t)c->vocab_size * sizeof *r.logits);
    r.reference = probe_create(c, spec_int(a->spec, "layer_heads"));
    r.probe = probe_create(c, spec_int(a->spec, "layer_heads"));
    a->layers = probe_layers(r.probe);
    a->heads = probe_heads(r.probe);
    for (int i = 0; i < a->n; i++) {
        a->settings[i].scores = mem_zero(a->text.ids.n + 1, sizeof(struct score));
        a->settings[i].layers =
            mem_zero((size_t)(a->layers * a->heads) + 1, sizeof(struct probe_figures));
    }
    const int failed = read_all(&r, e);
    a->read = !failed;
    probe_destroy(r.reference);
    probe_destroy(r.probe);
    scorer_close(&r.scorer);
    mem_free(r.logits);
    return failed;
}

// --- recall ---------------------------------------------------------------------------------

struct recaller {
    struct accuracy *a;
    struct eval v;
    float *logits; // of one token
    bool disturbed;
};

static int feed_one(struct recaller *r, const struct accuracy_setting *s, struct eval_feed *feed,
                    struct err *e)
{
    struct eval_step step = {.setting = &s->setting, .feeds = feed, .n = 1, .logits = r->logits};
    if (eval_run(&r->v, &step, e))
        return -1;
    r->disturbed = step.disturbed;
    return 0;
}

// Is every token of the answer the most likely one, each after the right ones before it?
static int ask(struct recaller *r, const struct accuracy_setting *s, const struct recall_item *item,
               bool *right, struct err *e)
{
    const int batch = job_run_node(r->a->run)->model_options->batch_tokens;
    const int piece =
        batch >= INVERSE_CHUNK_MAX ? batch / INVERSE_CHUNK_MAX * INVERSE_CHUNK_MAX : r->v.piece;
    *right = true;
    for (int at = 0; at < item->n_prompt; at += piece) {
        const int left = item->n_prompt - at;
        struct eval_feed feed = {
            .ids = item->ids.data + at, .t = left < piece ? left : piece, .pos0 = at};
        feed.last = at + feed.t == item->n_prompt;
        if (feed_one(r, s, &feed, e) || r->disturbed)
            return r->disturbed ? 0 : -1;
    }
    for (int i = item->n_prompt; i < (int)item->ids.n && *right; i++) {
        struct eval_feed feed = {
            .ids = item->ids.data + i, .t = 1, .pos0 = i, .decode = true, .last = true};
        *right = score_argmax(r->logits, r->v.vocab) == item->ids.data[i];
        if (i + 1 < (int)item->ids.n && *right && feed_one(r, s, &feed, e))
            return -1;
        if (r->disturbed)
            return 0;
    }
    return 0;
}

static int ask_setting(struct recaller *r, int setting, int length, const struct recall_item *item,
                       struct err *e)
{
    struct accuracy_setting *s = &r->a->settings[setting];
    bool right = false;
    if (*s->skipped)
        return 0;
    for (int tries = 0; tries < ACCURACY_RESTARTS; tries++) {
        r->disturbed = false;
        if (ask(r, s, item, &right, e))
            return refused(s, e);
        if (r->disturbed)
            continue;
        s->asked[length]++;
        s->right[length] += right;
        accuracy_progress(r->a, item->n_prompt, "recall", s->setting.name);
        return 0;
    }
    return err_set(e, ERR_BUSY,
                   "clients' generations came between %d times; run it when the server is idle",
                   ACCURACY_RESTARTS);
}

static int ask_all(struct recaller *r, int length, int number, struct err *e)
{
    struct accuracy *a = r->a;
    struct recall_item item;
    const int tokens = spec_int_at(a->spec, "recall_lengths", length);
    int failed = recall_make(job_run_node(a->run), tokens, (uint64_t)number + 1, &item, e);
    if (failed)
        return -1;
    if ((int)item.ids.n > r->v.context)
        failed =
            err_set(e, ERR_UNSUPPORTED, "%d tokens do not fit the server's pages", (int)item.ids.n);
    for (int i = 0; i < a->n && !failed; i++)
        failed = ask_setting(r, i, length, &item, e);
    recall_free(&item);
    return failed;
}

int accuracy_recall(struct accuracy *a, struct err *e)
{
    const int items = spec_int(a->spec, "recall_items");
    struct recaller r = {.a = a};
    a->lengths = items ? spec_count(a->spec, "recall_lengths") : 0;
    r.logits = mem_alloc((size_t)job_run_node(a->run)->config->vocab_size * sizeof *r.logits);
    int failed = 0;
    for (int l = 0; l < a->lengths && !failed; l++) {
        r.v = eval_open(a->run, 1, spec_int_at(a->spec, "recall_lengths", l));
        for (int i = 0; i < items && !failed; i++)
            failed = ask_all(&r, l, i, e);
    }
    mem_free(r.logits);
    if (!failed || e->code != ERR_UNSUPPORTED)
        return failed;
    snprintf(a->no_recall, sizeof a->no_recall, "%.190s", e->text);
    return 0;
}
