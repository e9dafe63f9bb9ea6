// accuracy_result.c - the document of an accuracy report: tables, plots, checks, sentences.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "accuracy.h"
#include "delta_exact.h"
#include "mem.h"
#include "result_doc.h"
#include "sample_stats.h"
#include "spec_fields.h"

// --- sums -----------------------------------------------------------------------------------

// Borders of the context buckets.
static const int BORDERS[] = {0, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 1 << 30};
enum { N_BUCKETS = sizeof BORDERS / sizeof *BORDERS - 1 };

struct sums {
    int n, bad; // tokens; those whose logits were not finite
    double nll, kl, kl_median, kl_99, kl_max, top1, top5;
    double delta; // of nll, from the reference
    struct stat_interval interval;
    double bucket_nll[N_BUCKETS], bucket_kl[N_BUCKETS];
    int bucket_n[N_BUCKETS];
    // The worst over layers and heads.
    double T_error, residual, o, state, o_drift, state_drift;
    int right, asked;
};

static int bucket_of(int position)
{
    int i = 0;
    while (position >= BORDERS[i + 1])
        i++;
    return i;
}

static void add_token(struct sums *s, const struct score *score, int position)
{
    const int bucket = bucket_of(position);
    s->n++;
    s->bad += !isfinite(score->nll);
    s->nll += score->nll;
    s->kl += score->kl;
    s->top1 += score->top1;
    s->top5 += score->top5 / (double)SCORE_TOP;
    s->bucket_nll[bucket] += score->nll;
    s->bucket_kl[bucket] += score->kl;
    s->bucket_n[bucket]++;
}

// Means of nll - the reference's over blocks of tokens; returns how many blocks.
static int block_means(const struct accuracy *a, const struct accuracy_setting *s, double *means)
{
    int n = 0;
    for (int w = 0; w < a->text.n_windows; w++) {
        const struct eval_window *window = &a->text.windows[w];
        for (int first = 1; first < window->n; first += ACCURACY_BLOCK) {
            double sum = 0;
            int count = 0;
            for (int i = first; i < window->n && i < first + ACCURACY_BLOCK; i++, count++)
                sum +=
                    s->scores[window->first + i].nll - a->settings[0].scores[window->first + i].nll;
            means[n++] = sum / count;
        }
    }
    return n;
}

static double ratio(double sum, double of)
{
    return of > 0 ? sqrt(sum / of) : sum > 0 ? INFINITY : 0;
}

static double larger(double a, double b)
{
    return b <= a ? a : isnan(b) ? INFINITY : b;
}

static void add_layers(struct sums *out, const struct probe_figures *f, int n)
{
    for (int i = 0; i < n; i++) {
        out->T_error = larger(out->T_error, f[i].T_error);
        out->residual = larger(out->residual, f[i].residual);
        out->o = larger(out->o, ratio(f[i].o, f[i].o_of));
        out->state = larger(out->state, ratio(f[i].state, f[i].state_of));
        out->o_drift = larger(out->o_drift, ratio(f[i].o_drift, f[i].o_drift_of));
        out->state_drift = larger(out->state_drift, ratio(f[i].state_drift, f[i].state_drift_of));
    }
}

static struct sums sum_up(const struct accuracy *a, const struct accuracy_setting *s)
{
    struct sums out = {0};
    double *kls = mem_alloc((a->text.ids.n + 1) * sizeof *kls);
    for (int w = 0; w < a->text.n_windows; w++)
        for (int i = 1; i < a->text.windows[w].n; i++) {
            const struct score *score = &s->scores[a->text.windows[w].first + i];
            kls[out.n] = score->kl;
            add_token(&out, score, i);
        }
    stat_sort(kls, out.n);
    out.kl_median = stat_quantile(kls, out.n, 0.5);
    out.kl_99 = stat_quantile(kls, out.n, 0.99);
    out.kl_max = kls[out.n - 1];
    const int blocks = block_means(a, s, kls);
    out.interval = stat_mean_interval(kls, blocks, 1);
    out.nll /= out.n;
    out.kl /= out.n;
    out.top1 /= out.n;
    out.top5 /= out.n;
    add_layers(&out, s->layers, a->layers * a->heads);
    for (int l = 0; l < a->lengths; l++) {
        out.right += s->right[l];
        out.asked += s->asked[l];
    }
    mem_free(kls);
    return out;
}

// --- tables ---------------------------------------------------------------------------------

// "failed" when it does not invert: its T errs by more than a sound method's, or it left the numbers.
static const char *state_of(const struct accuracy *a, const struct accuracy_setting *s,
                            const struct sums *sums)
{
    if (*s->skipped)
        return "skipped";
    const bool inverts = a->layers == 0 || sums->T_error <= delta_T_limit(s->setting.inverse.type);
    return inverts && sums->bad == 0 ? "ok" : "failed";
}

static const char *words(const struct accuracy *a, const struct accuracy_setting *s,
                         const struct sums *sums)
{
    if (*s->skipped)
        return s->skipped;
    if (sums->bad)
        return "logits not finite";
    return strcmp(state_of(a, s, sums), "ok") ? "does not invert: T errs beyond its type" : "ok";
}

static void table_settings(const struct accuracy *a, const struct sums *sums, json_t *doc)
{
    json_t *t = doc_table(doc, "settings", "Settings");
    table_text(t, "setting", "setting");
    table_text(t, "inverse", "inverse");
    table_text(t, "exact", "exact");
    table_number(t, "nll", "loss", "nats", 6);
    table_number(t, "perplexity", "perplexity", NULL, 6);
    table_number(t, "delta", "loss - reference", "nats", 3);
    table_number(t, "delta_low", "95 % low", "nats", 3);
    table_number(t, "delta_high", "95 % high", "nats", 3);
    table_number(t, "kl_mean", "KL mean", "nats", 3);
    table_number(t, "kl_median", "KL median", "nats", 3);
    table_number(t, "kl_99", "KL 99 %", "nats", 3);
    table_number(t, "kl_max", "KL max", "nats", 3);
    table_number(t, "top1", "same top 1", "%", 5);
    table_number(t, "top5", "same top 5", "%", 5);
    table_number(t, "T_error", "T error", NULL, 3);
    table_number(t, "residual", "residual", NULL, 3);
    table_number(t, "o_error", "o error", NULL, 3);
    table_number(t, "state_error", "state error", NULL, 3);
    table_number(t, "o_drift", "o drift", NULL, 3);
    table_number(t, "state_drift", "state drift", NULL, 3);
    table_number(t, "recall", "recall", "%", 4);
    table_text(t, "remark", "remark");
    table_note(t, "Worst layer and head for T, o and state. The first row is the reference.");
    for (int i = 0; i < a->n; i++) {
        const struct accuracy_setting *s = &a->settings[i];
        const struct sums *x = &sums[i];
        char inverse[64];
        inverse_name(&s->setting.inverse, inverse, sizeof inverse);
        json_t *row = json_pack("[s, o, s]", s->setting.name,
                                json_sprintf("%s, chunk %d", inverse, s->setting.chunk),
                                inverse_exact(&s->setting.inverse) ? "yes" : "no");
        const double figures[] = {x->nll,
                                  exp(x->nll),
                                  x->nll - sums[0].nll,
                                  x->interval.low,
                                  x->interval.high,
                                  x->kl,
                                  x->kl_median,
                                  x->kl_99,
                                  x->kl_max,
                                  100 * x->top1,
                                  100 * x->top5,
                                  x->T_error,
                                  x->residual,
                                  x->o,
                                  x->state,
                                  x->o_drift,
                                  x->state_drift,
                                  x->asked ? 100.0 * x->right / x->asked : NAN};
        for (size_t k = 0; k < sizeof figures / sizeof *figures; k++)
            json_array_append_new(row, *s->skipped ? json_null() : doc_number(figures[k]));
        json_array_append_new(row, json_string(words(a, s, x)));
        table_row(t, state_of(a, s, x), row);
    }
}

static void bucket_name(int i, char *text, size_t size)
{
    if (i + 1 < N_BUCKETS)
        snprintf(text, size, "%d-%d", BORDERS[i], BORDERS[i + 1]);
    else
        snprintf(text, size, "%d-", BORDERS[i]);
}

static void table_buckets(const struct accuracy *a, const struct sums *sums, json_t *doc)
{
    json_t *t = doc_table(doc, "buckets", "By context");
    json_t *plot = doc_plot(doc, "kl_context", "line", "KL divergence by context",
                            &(struct plot_axes){.x_title = "tokens before",
                                                .x_unit = "",
                                                .y_title = "KL mean",
                                                .y_unit = "nats",
                                                .scale = PLOT_LOG});
    table_text(t, "setting", "setting");
    table_text(t, "bucket", "tokens before");
    table_number(t, "tokens", "tokens", NULL, 6);
    table_number(t, "nll", "loss", "nats", 6);
    table_number(t, "delta", "loss - reference", "nats", 3);
    table_number(t, "kl_mean", "KL mean", "nats", 3);
    for (int i = 0; i < a->n; i++)
        for (int b = 0; b < N_BUCKETS; b++) {
            const struct sums *x = &sums[i];
            const double n = x->bucket_n[b];
            char name[40];
            if (*a->settings[i].skipped || n == 0)
                continue;
            bucket_name(b, name, sizeof name);
            table_row(t, "ok",
                      json_pack("[s, s, f, o, o, o]", a->settings[i].setting.name, name, n,
                                doc_number(x->bucket_nll[b] / n),
                                doc_number((x->bucket_nll[b] - sums[0].bucket_nll[b]) / n),
                                doc_number(x->bucket_kl[b] / n)));
            if (i > 0 && x->bucket_kl[b] > 0)
                plot_point(plot_series(plot, a->settings[i].setting.name), BORDERS[b + 1],
                           x->bucket_kl[b] / n);
        }
}

// The worst of a layer's heads.
static struct sums layer_sums(const struct accuracy *a, const struct accuracy_setting *s, int layer)
{
    struct sums out = {0};
    add_layers(&out, s->layers + layer * a->heads, a->heads);
    return out;
}

static void table_layers(const struct accuracy *a, json_t *doc)
{
    const struct config *c = job_run_node(a->run)->config;
    json_t *t = doc_table(doc, "layers", "Layers");
    const struct plot_axes axes = {.x_title = "layer",
                                   .x_unit = "",
                                   .y_title = "largest |T - exact T|",
                                   .y_unit = "",
                                   .scale = PLOT_LOG_Y};
    json_t *plot_T = doc_plot(doc, "T_layer", "line", "Error of T by layer", &axes);
    struct plot_axes state_axes = axes;
    state_axes.y_title = "relative error";
    json_t *plot_state = doc_plot(doc, "state_layer", "line",
                                  "Drift of the state from the "
                                  "reference's by layer",
                                  &state_axes);
    table_text(t, "setting", "setting");
    table_number(t, "layer", "layer", NULL, 6);
    table_number(t, "T_error", "T error", NULL, 3);
    table_number(t, "residual", "residual", NULL, 3);
    table_number(t, "o_error", "o error", NULL, 3);
    table_number(t, "state_error", "state error", NULL, 3);
    table_number(t, "o_drift", "o drift", NULL, 3);
    table_number(t, "state_drift", "state drift", NULL, 3);
    for (int i = 0; i < a->n; i++) {
        const struct accuracy_setting *s = &a->settings[i];
        for (int l = 0; l < a->layers && !*s->skipped; l++) {
            const struct sums x = layer_sums(a, s, l);
            const int layer = probe_layer_index(c, l);
            table_row(t, x.T_error <= delta_T_limit(s->setting.inverse.type) ? "ok" : "failed",
                      json_pack("[s, i, o, o, o, o, o, o]", s->setting.name, layer,
                                doc_number(x.T_error), doc_number(x.residual), doc_number(x.o),
                                doc_number(x.state), doc_number(x.o_drift),
                                doc_number(x.state_drift)));
            if (x.T_error > 0)
                plot_point(plot_series(plot_T, s->setting.name), layer, x.T_error);
            if (x.state_drift > 0)
                plot_point(plot_series(plot_state, s->setting.name), layer, x.state_drift);
        }
    }
}

static void heat_heads(const struct accuracy *a, json_t *doc, const char *name, const char *title,
                       bool cosine)
{
    const struct config *c = job_run_node(a->run)->config;
    json_t *plot =
        doc_plot(doc, name, "heat", title,
                 &(struct plot_axes){
                     .x_title = "sampled head", .x_unit = "", .y_title = "layer", .y_unit = ""});
    json_t *x = json_array(), *y = json_array(), *values = json_array();
    for (int h = 0; h < a->heads; h++)
        json_array_append_new(x, json_sprintf("%d", h));
    for (int l = 0; l < a->layers; l++) {
        json_t *row = json_array();
        json_array_append_new(y, json_sprintf("%d", probe_layer_index(c, l)));
        for (int h = 0; h < a->heads; h++) {
            const struct probe_figures *f = &a->settings[0].layers[l * a->heads + h];
            json_array_append_new(row, doc_number(cosine ? f->cosine / f->chunks : f->row_sum));
        }
        json_array_append_new(values, row);
    }
    json_object_set_new(plot, "x_names", x);
    json_object_set_new(plot, "y_names", y);
    json_object_set_new(plot, "values", values);
}

static void table_heads(const struct accuracy *a, json_t *doc)
{
    const struct config *c = job_run_node(a->run)->config;
    json_t *t = doc_table(doc, "heads", "Heads");
    const int all = c->linear_num_value_heads;
    table_number(t, "layer", "layer", NULL, 6);
    table_number(t, "head", "value head", NULL, 6);
    table_number(t, "row_sum", "largest row sum of |A|", NULL, 4);
    table_number(t, "cosine", "mean cosine of keys", NULL, 3);
    for (int i = 0; i < a->n; i++) {
        char name[80], title[96];
        snprintf(name, sizeof name, "residual_%.56s", a->settings[i].setting.name);
        snprintf(title, sizeof title, "residual, %.56s", a->settings[i].setting.name);
        table_number(t, name, title, NULL, 3);
    }
    table_note(t, "Row sums and cosines: chunks of the reference's run.");
    for (int l = 0; l < a->layers; l++)
        for (int h = 0; h < a->heads; h++) {
            const int at = l * a->heads + h;
            const struct probe_figures *f = &a->settings[0].layers[at];
            json_t *row = json_pack("[i, i, o, o]", probe_layer_index(c, l), h * all / a->heads,
                                    doc_number(f->row_sum), doc_number(f->cosine / f->chunks));
            for (int i = 0; i < a->n; i++)
                json_array_append_new(row, *a->settings[i].skipped
                                               ? json_null()
                                               : doc_number(a->settings[i].layers[at].residual));
            table_row(t, "ok", row);
        }
    heat_heads(a, doc, "row_sums", "Largest row sum of |A| by layer and head", false);
    heat_heads(a, doc, "cosines", "Mean cosine of the keys by layer and head", true);
}

static void table_recall(const struct accuracy *a, json_t *doc)
{
    if (*a->no_recall) {
        json_array_append_new(json_object_get(doc, "notes"),
                              json_sprintf("No recall: %s", a->no_recall));
        return;
    }
    if (a->lengths == 0)
        return;
    json_t *t = doc_table(doc, "recall", "Recall by length");
    json_t *plot = doc_plot(doc, "recall", "line", "Facts found by length of the prompt",
                            &(struct plot_axes){.x_title = "tokens",
                                                .x_unit = "",
                                                .y_title = "found",
                                                .y_unit = "%",
                                                .scale = PLOT_LOG_X});
    table_text(t, "setting", "setting");
    table_number(t, "tokens", "tokens", NULL, 6);
    table_number(t, "found", "found", NULL, 6);
    table_number(t, "asked", "asked", NULL, 6);
    for (int i = 0; i < a->n; i++)
        for (int l = 0; l < a->lengths; l++) {
            const struct accuracy_setting *s = &a->settings[i];
            const int tokens = spec_int_at(a->spec, "recall_lengths", l);
            if (s->asked[l] == 0)
                continue;
            table_row(t, "ok",
                      json_pack("[s, i, i, i]", s->setting.name, tokens, s->right[l], s->asked[l]));
            plot_point(plot_series(plot, s->setting.name), tokens,
                       100.0 * s->right[l] / s->asked[l]);
        }
}

static void table_variants(const struct accuracy *a, json_t *doc)
{
    if (a->n_variants == 0)
        return;
    json_t *t = doc_table(doc, "invariance", "The same tokens, computed otherwise");
    table_text(t, "way", "way");
    table_text(t, "expected", "expected");
    table_number(t, "tokens", "tokens compared", NULL, 6);
    table_number(t, "same_bits", "same bits", NULL, 6);
    table_number(t, "same_top", "same most likely", NULL, 6);
    table_number(t, "largest", "largest difference", "nats", 3);
    table_number(t, "first", "first other token", NULL, 6);
    table_note(t,
               "The served setting. Differences are of the log-probability of the token that "
               "came; 'generated beside others' is compared with 'as generated tokens', the rest "
               "with the first row.");
    // What rounding may make of one token's log-probability: of float32 sums, or of bf16 states too.
    const bool f32 = job_run_node(a->run)->model_options->state_dtype == DTYPE_F32;
    const double rounding = f32 ? 0.05 : 0.2;
    for (int i = 0; i < a->n_variants; i++) {
        const struct accuracy_variant *v = &a->variants[i];
        const bool bits = strcmp(v->expected, "same bits") == 0;
        const bool ok = bits ? v->same_bits == v->tokens : v->largest <= rounding;
        table_row(t,
                  !v->measured ? "skipped"
                  : ok         ? "ok"
                               : "failed",
                  json_pack("[s, s, i, i, i, o, o]", v->name, v->expected, v->tokens, v->same_bits,
                            v->same_top, doc_number(v->largest),
                            v->first < 0 ? json_null() : json_integer(v->first)));
    }
}

// --- the rest -------------------------------------------------------------------------------

static void plot_settings(const struct accuracy *a, const struct sums *sums, json_t *doc)
{
    json_t *kl = doc_plot(doc, "kl", "bar", "KL divergence from the reference",
                          &(struct plot_axes){.x_title = "setting",
                                              .x_unit = "",
                                              .y_title = "KL mean",
                                              .y_unit = "nats",
                                              .scale = PLOT_LOG_Y});
    json_t *chunk = doc_plot(doc, "T_chunk", "scatter", "Error of T by chunk size",
                             &(struct plot_axes){.x_title = "chunk",
                                                 .x_unit = "",
                                                 .y_title = "largest |T - exact T|",
                                                 .y_unit = "",
                                                 .scale = PLOT_LOG});
    for (int i = 1; i < a->n; i++) {
        const struct eval_setting *s = &a->settings[i].setting;
        if (*a->settings[i].skipped)
            continue;
        if (sums[i].kl > 0)
            plot_bar(plot_series(kl, "KL mean"), s->name, sums[i].kl);
        if (sums[i].T_error > 0)
            plot_point(plot_series(chunk, s->name), s->chunk, sums[i].T_error);
    }
}

static bool is_judged(const struct accuracy *a, const struct eval_setting *s)
{
    for (int i = 0; i < spec_count(a->spec, "judge"); i++) {
        const char *name = spec_str_at(a->spec, "judge", i);
        struct eval_setting named;
        char why[256];
        const int chunk = job_run_node(a->run)->model_options->chunk;
        if (!strcmp(name, s->name) || (strcmp(name, "served") != 0 &&
                                       !eval_setting_parse(&named, name, chunk, why, sizeof why) &&
                                       !strcmp(named.name, s->name)))
            return true;
    }
    return false;
}

static void check_thresholds(const struct accuracy *a, const struct sums *sums, json_t *doc)
{
    const json_t *limits = json_object_get(a->spec, "thresholds");
    for (int i = 1; i < a->n; i++) {
        const struct sums *x = &sums[i];
        const struct {
            const char *name;
            double value;
            bool low;
        } CHECKS[] = {{"perplexity_ratio_max", exp(x->nll - sums[0].nll), false},
                      {"kl_mean_max", x->kl, false},
                      {"top1_min", x->top1, true},
                      {"top5_min", x->top5, true},
                      {"T_error_max", x->T_error, false},
                      {"residual_max", x->residual, false},
                      {"o_error_max", x->o, false},
                      {"state_error_max", x->state, false},
                      {"recall_min", x->asked ? (double)x->right / x->asked : NAN, true}};
        for (size_t k = 0; k < sizeof CHECKS / sizeof *CHECKS; k++) {
            const double limit = spec_num(limits, CHECKS[k].name);
            char name[128];
            if (isnan(limit) || !is_judged(a, &a->settings[i].setting))
                continue;
            snprintf(name, sizeof name, "%.56s: %s", a->settings[i].setting.name, CHECKS[k].name);
            doc_check(doc, name, *a->settings[i].skipped ? NAN : CHECKS[k].value, limit,
                      CHECKS[k].low);
        }
    }
}

static void write_summary(const struct accuracy *a, const struct sums *sums, json_t *doc)
{
    doc_summary(doc, "Reference %s: loss %.5f nats a token, perplexity %.3f, over %d tokens of %s.",
                a->settings[0].setting.name, sums[0].nll, exp(sums[0].nll), sums[0].n,
                a->text.what);
    for (int i = 1; i < a->n; i++) {
        const struct sums *x = &sums[i];
        const struct accuracy_setting *s = &a->settings[i];
        char recall[48] = "";
        if (*s->skipped) {
            doc_summary(doc, "%s was not measured: %s", s->setting.name, s->skipped);
            continue;
        }
        if (x->asked)
            snprintf(recall, sizeof recall, ", recall %d of %d", x->right, x->asked);
        doc_summary(
            doc,
            "%s: loss %+.2g nats (95 %% %+.2g to %+.2g), KL %.2g, T errs by %.2g, o by %.2g, "
            "the state by %.2g%s%s.",
            s->setting.name, x->nll - sums[0].nll, x->interval.low, x->interval.high, x->kl,
            x->T_error, x->o, x->state, recall,
            strcmp(state_of(a, s, x), "ok") ? "; it does not invert" : "");
    }
}

static void write_notes(const struct accuracy *a, const struct sums *sums, json_t *doc)
{
    doc_note(doc,
             "Loss: mean negative log-probability of the token that came. KL: of the "
             "reference's distribution from the setting's, over the whole vocabulary. Interval: "
             "paired bootstrap over blocks of 256 tokens. Top 1 and top 5: agreement with the "
             "reference's most likely tokens.");
    doc_note(doc,
             "T error, residual |I - (I + A) T|: largest entry, A as the layers made it. o and "
             "state error: root of squared error by squared size, against the recurrence in "
             "float64 from the same inputs and first state. Drift: the same against the "
             "reference's run, through all layers and tokens before.");
    doc_note(doc, "Recall: of eight sentences 'The secret code of NAME is 12345.' between the "
                  "paragraphs of a book, one is asked at the end; all tokens of the answer must be "
                  "the most likely ones.");
    if (a->text.bytes > 0 && a->text.n_windows == 1)
        json_array_append_new(json_object_get(doc, "notes"),
                              json_sprintf("Reference: %.4f bits a byte.",
                                           sums[0].nll * sums[0].n / log(2) / a->text.bytes));
    if (*a->no_variants)
        json_array_append_new(json_object_get(doc, "notes"),
                              json_sprintf("No invariance matrix: %s.", a->no_variants));
}

json_t *accuracy_result(const struct accuracy *a, json_t *environment_take, bool partial)
{
    json_t *doc = doc_create("accuracy_report", "Accuracy report", environment_take);
    struct sums *sums = mem_zero((size_t)a->n, sizeof *sums);
    for (int i = 0; i < a->n; i++)
        sums[i] = sum_up(a, &a->settings[i]);
    write_summary(a, sums, doc);
    table_settings(a, sums, doc);
    plot_settings(a, sums, doc);
    table_buckets(a, sums, doc);
    if (a->layers) {
        table_layers(a, doc);
        table_heads(a, doc);
    }
    table_recall(a, doc);
    table_variants(a, doc);
    check_thresholds(a, sums, doc);
    write_notes(a, sums, doc);
    if (partial)
        doc_partial(doc);
    mem_free(sums);
    return doc;
}
