// accuracy_report.c - the job type accuracy_report: what each way of inverting does to the model served here.
// Loss, distance from the reference's distribution, every layer's T, o and state, recall of facts, and
// whether a token's logits depend on what is computed beside it.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "accuracy.h"
#include "environment.h"
#include "mem.h"
#include "result_doc.h"
#include "spec_fields.h"

static const char *const SOURCES[] = {"heldout", "own", "random", NULL};

static const struct spec_field THRESHOLDS[] = {
    {"perplexity_ratio_max", SPEC_NUM, NULL, 0, 1e9, .help = "perplexity / the reference's"},
    {"kl_mean_max", SPEC_NUM, NULL, 0, 1e9, .help = "mean KL divergence from the reference, nats"},
    {"top1_min", SPEC_NUM, NULL, 0, 1, .help = "share of tokens with the reference's most likely"},
    {"top5_min", SPEC_NUM, NULL, 0, 1, .help = "share of the reference's five most likely"},
    {"T_error_max", SPEC_NUM, NULL, 0, 1e9, .help = "largest error of an entry of T"},
    {"residual_max", SPEC_NUM, NULL, 0, 1e9, .help = "largest |I - (I + A) T|"},
    {"o_error_max", SPEC_NUM, NULL, 0, 1e9, .help = "relative error of a layer's o"},
    {"state_error_max", SPEC_NUM, NULL, 0, 1e9, .help = "relative error of a layer's state"},
    {"recall_min", SPEC_NUM, NULL, 0, 1, .help = "share of the facts found"},
};
enum { N_THRESHOLDS = sizeof THRESHOLDS / sizeof *THRESHOLDS };

static const struct spec_field FIELDS[] = {
    {"settings", SPEC_STRS,
     "[\"auto/fp32\", \"auto/fp16\", \"auto/bf16\", \"auto/int8\", \"paper/fp32\", \"paper/int8\", "
     "\"auto/fp16/32\", \"auto/fp16/128\", \"paper/fp32/32\"]",
     1, 56, ACCURACY_SETTINGS_MAX - 2,
     .help = "METHOD/TYPE or METHOD/TYPE/CHUNK; the served one is always measured"},
    {"reference", SPEC_STR, "\"substitution/fp32\"", 1, 56, .help = "what all are compared with"},
    {"source", SPEC_STR, NULL, .choices = SOURCES,
     .help = "the text: the installed book, the model's own, random ids; default by what there is"},
    {"texts", SPEC_STRS, NULL, 2, 1 << 20, 64, .help = "texts to use instead"},
    {"tokens", SPEC_INT, "8192", 2, 1 << 20, .help = "at most, of the text"},
    {"context", SPEC_INT, "8192", 2, 1 << 20,
     .help = "tokens of a window read from an empty state"},
    {"recall_lengths", SPEC_INTS, "[1024, 8192]", 256, 65536, ACCURACY_LENGTHS_MAX,
     .help = "tokens of the prompts that hide facts"},
    {"recall_items", SPEC_INT, "2", 0, 64, .help = "prompts of each length; 0: none"},
    {"layer_pieces", SPEC_INT, "3", 0, 64, .help = "pieces of the text whose layers are looked at"},
    {"layer_heads", SPEC_INT, "4", 1, PROBE_HEADS_MAX, .help = "value heads of each layer"},
    {"invariance", SPEC_BOOL, "true", .help = "the matrix of ways to compute the same tokens"},
    {"judge", SPEC_STRS, "[\"served\"]", 1, 56, ACCURACY_SETTINGS_MAX,
     .help = "settings that the thresholds apply to"},
    {"thresholds", SPEC_OBJECT, "{}", .help = "limits that give a verdict", .fields = THRESHOLDS,
     .n_fields = N_THRESHOLDS},
};
enum { N_FIELDS = sizeof FIELDS / sizeof *FIELDS };

static json_t *schema(const struct job_node *node)
{
    (void)node;
    return spec_schema(FIELDS, N_FIELDS);
}

// --- the settings ---------------------------------------------------------------------------

static int parse_setting(struct eval_setting *out, const char *text, int chunk, const char *param,
                         struct err *e)
{
    char why[256];
    if (eval_setting_parse(out, text, chunk, why, sizeof why))
        return err_field(e, ERR_BAD_REQUEST, param, "%s: %s", param, why);
    return 0;
}

static bool same_setting(const struct eval_setting *a, const struct eval_setting *b)
{
    char one[64], two[64];
    return a->chunk == b->chunk && !strcmp(inverse_name(&a->inverse, one, sizeof one),
                                           inverse_name(&b->inverse, two, sizeof two));
}

int accuracy_settings(struct accuracy *a, const struct job_node *node, const json_t *spec,
                      struct err *e)
{
    const struct model_options *o = node->model_options;
    if (parse_setting(&a->settings[0].setting, spec_str(spec, "reference"), o->chunk,
                      "spec.reference", e))
        return -1;
    a->settings[1].setting = eval_setting_served(o->chunk, &o->inverse);
    a->n = 2;
    for (int i = 0; i < spec_count(spec, "settings"); i++) {
        struct eval_setting s;
        char param[64];
        bool known = false;
        snprintf(param, sizeof param, "spec.settings[%d]", i);
        if (parse_setting(&s, spec_str_at(spec, "settings", i), o->chunk, param, e))
            return -1;
        for (int k = 1; k < a->n; k++) // the reference may stand for itself: its noise is seen
            known = known || same_setting(&s, &a->settings[k].setting);
        if (!known)
            a->settings[a->n++].setting = s;
    }
    return 0;
}

static int check_judged(const json_t *spec, int chunk, struct err *e)
{
    for (int i = 0; i < spec_count(spec, "judge"); i++) {
        const char *name = spec_str_at(spec, "judge", i);
        struct eval_setting s;
        char param[64];
        snprintf(param, sizeof param, "spec.judge[%d]", i);
        if (strcmp(name, "served") != 0 && parse_setting(&s, name, chunk, param, e))
            return -1;
    }
    return 0;
}

// Lengths that the served context cannot hold: an error when asked for, left out of the defaults. With
// none left there is no list either, so that a spec written out in full is read as it was.
static int fit_lengths(json_t *out, const json_t *spec, int context, struct err *e)
{
    const bool asked = json_object_get(spec, "recall_lengths") != NULL;
    json_t *list = json_object_get(out, "recall_lengths");
    for (int i = (int)json_array_size(list) - 1; i >= 0; i--) {
        const int n = spec_int_at(out, "recall_lengths", i);
        char param[64];
        snprintf(param, sizeof param, "spec.recall_lengths[%d]", i);
        if (n > context && asked)
            return err_field(e, ERR_BAD_REQUEST, param, "%s is %d; the served context holds %d",
                             param, n, context);
        if (n > context)
            json_array_remove(list, (size_t)i);
    }
    if (json_array_size(list) == 0) {
        json_object_del(out, "recall_lengths");
        json_object_set_new(out, "recall_items", json_integer(0));
    }
    return 0;
}

static int fit_context(json_t *out, const json_t *spec, int context, struct err *e)
{
    const int asked = spec_int(out, "context");
    if (asked > context && json_object_get(spec, "context"))
        return err_field(e, ERR_BAD_REQUEST, "spec.context",
                         "spec.context is %d; the served context holds %d", asked, context);
    if (asked > context)
        json_object_set_new(out, "context", json_integer(context));
    return 0;
}

static json_t *expand(const struct job_node *node, json_t *spec, struct err *e)
{
    const struct model_options *o = node->model_options;
    struct accuracy *a = mem_zero(1, sizeof *a);
    json_t *out = spec_expand(FIELDS, N_FIELDS, spec, e);
    if (out && !spec_str(out, "source"))
        json_object_set_new(out, "source",
                            json_string(node->tokenizer && node->data_dir ? "heldout" : "random"));
    if (out &&
        (accuracy_settings(a, node, out, e) || check_judged(out, o->chunk, e) ||
         fit_context(out, spec, o->context_max, e) || fit_lengths(out, spec, o->context_max, e))) {
        json_decref(out);
        out = NULL;
    }
    mem_free(a);
    return out;
}

// --- the work -------------------------------------------------------------------------------

static double count_tokens(const json_t *spec, int n_settings)
{
    double recall = 0;
    for (int i = 0; i < spec_count(spec, "recall_lengths"); i++)
        recall += spec_int_at(spec, "recall_lengths", i);
    return (n_settings - 1) * (double)spec_int(spec, "tokens") +
           n_settings * recall * spec_int(spec, "recall_items");
}

static double estimate(const struct job_node *node, const json_t *expanded)
{
    struct accuracy *a = mem_zero(1, sizeof *a);
    struct err e;
    double seconds = 5;
    if (accuracy_settings(a, node, expanded, &e) == 0) {
        // Two operations a parameter and token, at rates that small steps reach; and a softmax.
        const double rate = strcmp(node->ops->name, "cpu") ? 5e13 : 6e10;
        const double tokens = count_tokens(expanded, a->n);
        seconds += tokens * 2 * (double)node->memory->n_params / rate +
                   a->n * (double)spec_int(expanded, "tokens") * node->config->vocab_size * 1e-8;
    }
    mem_free(a);
    return seconds;
}

static int measure(struct accuracy *a, struct err *e)
{
    const json_t *texts = json_object_get(a->spec, "texts");
    const struct eval_source source = {.name = spec_str(a->spec, "source"),
                                       .texts = json_is_array(texts) ? texts : NULL,
                                       .tokens = spec_int(a->spec, "tokens"),
                                       .context = spec_int(a->spec, "context")};
    if (eval_text_make(a->run, &source, &a->text, e))
        return -1;
    a->total = count_tokens(a->spec, a->n);
    return accuracy_text(a, e) || accuracy_variants(a, e) || accuracy_recall(a, e) ? -1 : 0;
}

static void free_all(struct accuracy *a)
{
    for (int i = 0; i < a->n; i++) {
        mem_free(a->settings[i].scores);
        mem_free(a->settings[i].layers);
    }
    eval_text_free(&a->text);
    mem_free(a);
}

static json_t *work(struct job_run *run, const json_t *expanded, struct err *e)
{
    const struct job_node *node = job_run_node(run);
    struct ceilings ceilings;
    json_t *result = NULL, *environment = environment_collect(run, &ceilings, e);
    if (!environment)
        return NULL;
    struct accuracy *a = mem_zero(1, sizeof *a);
    a->run = run;
    a->spec = expanded;
    const int failed = accuracy_settings(a, node, expanded, e) || measure(a, e);
    environment_finish(node, environment);
    // What was measured before it was stopped is a report too, once the text has been read.
    if (!failed || (e->code == ERR_CANCELLED && a->read))
        result = accuracy_result(a, environment, failed);
    else
        json_decref(environment);
    free_all(a);
    return result;
}

const struct job_type accuracy_report_type = {
    .name = "accuracy_report",
    .title = "what each way of inverting does to loss, layers and recall of the served model",
    .schema = schema,
    .expand = expand,
    .estimate = estimate,
    .work = work,
    .exclusive = true,
};
