// accuracy_report.c - the job on the bundled model: transformers' loss on the same text, what each setting does,
// that a wrong inverse is seen in the layer where it is, verdicts.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "measure_rig.h"
#include "sanitized.h"

static struct ops table; // around ops_cpu, with one operation changed

// The golden case of transformers: a text of 300 tokens and every token's log-probability.
static char *read_golden(double *nll)
{
    json_t *root = json_load_file(TEST_SOURCE_DIR "/tests/golden/bundled.json", 0, NULL);
    cr_assert(root != NULL);
    json_t *golden = json_array_get(json_object_get(root, "cases"), 0);
    json_t *logprobs = json_object_get(golden, "prompt_logprobs");
    double sum = 0;
    for (size_t i = 1; i < json_array_size(logprobs); i++)
        sum -= json_number_value(json_array_get(logprobs, i));
    *nll = sum / (double)(json_array_size(logprobs) - 1);
    json_t *spec =
        json_pack("{s:[O], s:[s], s:i, s:i, s:b}", "texts", json_object_get(root, "prompt_text"),
                  "settings", "auto/int8", "layer_pieces", 0, "recall_items", 0, "invariance", 0);
    char *text = json_dumps(spec, 0);
    json_decref(spec);
    json_decref(root);
    return text;
}

Test(accuracy_report, the_loss_is_that_of_transformers, .disabled = SANITIZED)
{
    struct measure_rig r;
    double want;
    char *spec = read_golden(&want);
    measure_open(&r, &(struct measure_options){.model = "bundled"});
    json_t *doc = measure_run(&r, "accuracy_report", spec), *t = measure_table(doc, "settings");
    static const char *const ROWS[] = {"substitution/fp32/64", "served", "auto/int8/64"};
    for (int i = 0; i < 3; i++) {
        const double got = measure_value(t, measure_row(t, ROWS[i]), "perplexity");
        cr_assert(fabs(got / exp(want) - 1) < 1e-3, "%s: perplexity %g, transformers %g", ROWS[i],
                  got, exp(want));
    }
    json_decref(doc);
    free(spec);
    measure_close(&r);
}

Test(accuracy_report, what_each_setting_does_is_seen, .disabled = SANITIZED)
{
    struct measure_rig r;
    measure_open(&r, &(struct measure_options){.model = "bundled"});
    json_t *doc = measure_run(
        &r, "accuracy_report",
        "{\"tokens\": 200, \"settings\": [\"auto/fp16\", \"paper/fp32\", \"paper/fp32/32\", "
        "\"auto/fp32/128\", \"neumann:64,2,2/fp32\"], \"layer_pieces\": 1, \"recall_lengths\": "
        "256, \"recall_items\": "
        "1, "
        "\"thresholds\": {\"T_error_max\": 1e-5, \"perplexity_ratio_max\": 1.001}}");
    json_t *t = measure_table(doc, "settings"), *row = measure_row(t, "served");
    cr_assert(measure_value(t, row, "T_error") < 4e-6);
    cr_assert(measure_value(t, row, "o_error") < 1e-5 &&
              measure_value(t, row, "state_error") < 1e-5);
    cr_assert(measure_value(t, row, "kl_mean") < 1e-6 && measure_value(t, row, "top1") > 99);
    cr_assert(!strcmp(json_string_value(json_object_get(doc, "verdict")), "pass"));
    row = measure_row(t, "auto/fp16/64");
    cr_assert(measure_value(t, row, "T_error") > 1e-5 && measure_value(t, row, "T_error") < 3e-3);
    cr_assert(!strcmp(measure_state(t, "auto/fp32/128"), "ok"));
    // Too few terms for the width: the layers' own A shows it.
    cr_assert(!strcmp(measure_state(t, "paper/fp32/64"), "failed"));
    cr_assert(!strcmp(measure_state(t, "paper/fp32/32"), "failed"));
    row = measure_row(t, "neumann:64,2,2/fp32/64");
    cr_assert(measure_value(t, row, "T_error") > 0.1 && measure_value(t, row, "o_error") > 0.01);
    cr_assert(measure_value(t, row, "kl_mean") > 1e-4);
    t = measure_table(doc, "heads");
    cr_assert(json_array_size(json_object_get(t, "rows")) == 6 * 4);
    row = json_array_get(json_object_get(t, "rows"), 0);
    cr_assert(measure_value(t, row, "row_sum") > 0.5 && fabs(measure_value(t, row, "cosine")) < 1);
    t = measure_table(doc, "invariance");
    cr_assert(!strcmp(measure_state(t, "beside other prompts"), "ok"));
    cr_assert(!strcmp(measure_state(t, "generated beside others"), "ok"));
    cr_assert(!strcmp(measure_state(t, "steps of the whole token budget"), "ok"));
    t = measure_table(doc, "recall");
    cr_assert(measure_value(t, measure_row(t, "served"), "asked") == 1);
    json_decref(doc);
    measure_close(&r);
}

// The prompt's rows of the third delta-net layer come out wrong.
static void wrong_layer(struct dev *dev, const struct delta_rule_args *a)
{
    static const float *seen[64];
    static int n;
    int layer = 0;
    while (layer < n && seen[layer] != a->A_log)
        layer++;
    if (layer == n)
        seen[n++] = a->A_log;
    ops_cpu.delta_rule(dev, a);
    float *o = a->o;
    for (size_t i = 0; layer == 2 && i < (size_t)(a->batch.t * a->v_heads * a->v_dim); i++)
        o[i] *= 1.01F;
}

Test(accuracy_report, a_wrong_layer_is_named)
{
    struct measure_rig r;
    table = ops_cpu;
    table.delta_rule = wrong_layer;
    measure_open(&r, &(struct measure_options){.model = "bundled", .ops = &table});
    json_t *doc = measure_run(&r, "accuracy_report",
                              "{\"tokens\": 140, \"settings\": \"auto/fp32\", \"recall_items\": 0, "
                              "\"layer_pieces\": 1, \"layer_heads\": 1, "
                              "\"invariance\": false, \"thresholds\": {\"o_error_max\": 1e-4}}");
    json_t *t = measure_table(doc, "layers"), *row;
    size_t i;
    cr_assert(!strcmp(json_string_value(json_object_get(doc, "verdict")), "fail"));
    json_array_foreach(json_object_get(t, "rows"), i, row)
    {
        const bool wrong = measure_value(t, row, "layer") == 2;
        const double error = measure_value(t, row, "o_error");
        cr_assert(wrong ? fabs(error - 0.01) < 1e-3 : error < 1e-4, "layer %g errs by %g",
                  measure_value(t, row, "layer"), error);
    }
    json_decref(doc);
    measure_close(&r);
}

// On a device other than the CPU the model is loaded a second time, on the CPU.
Test(accuracy_report, another_backend_is_compared_with_the_cpu)
{
    struct measure_rig r;
    table = ops_cpu; // not the CPU's own, which is enough
    measure_open(&r, &(struct measure_options){.ops = &table});
    json_t *doc =
        measure_run(&r, "accuracy_report",
                    "{\"source\": \"random\", \"tokens\": 140, \"settings\": \"auto/fp32\", "
                    "\"recall_items\": 0, \"layer_pieces\": 1, \"layer_heads\": 1}");
    json_t *t = measure_table(doc, "invariance"), *row = measure_row(t, "on the CPU");
    cr_assert_str_eq(measure_state(t, "on the CPU"), "ok");
    cr_assert(measure_value(t, row, "tokens") == 139);
    json_decref(doc);
    measure_close(&r);
}

Test(accuracy_report, the_served_setting_is_left_as_it_was)
{
    struct measure_rig r;
    measure_open(&r, &(struct measure_options){0});
    json_t *first = measure_run(&r, "accuracy_report",
                                "{\"source\": \"random\", \"tokens\": 130, \"settings\": "
                                "\"neumann:64,2,2/bf16\", \"recall_items\": 0, \"invariance\": "
                                "false, \"layer_pieces\": 1, \"layer_heads\": 1}");
    json_t *second = measure_run(&r, "accuracy_report",
                                 "{\"source\": \"random\", \"tokens\": 130, \"settings\": "
                                 "\"merge/fp32\", \"recall_items\": 0, \"invariance\": false, "
                                 "\"layer_pieces\": 1, \"layer_heads\": 1}");
    json_t *a = measure_table(first, "settings"), *b = measure_table(second, "settings");
    cr_assert(measure_value(a, measure_row(a, "served"), "nll") ==
              measure_value(b, measure_row(b, "served"), "nll"));
    cr_assert(measure_value(a, measure_row(a, "served"), "T_error") < 4e-6);
    json_decref(first);
    json_decref(second);
    measure_close(&r);
}

// A model without a tokenizer is judged on random ids, and says what it could not do.
Test(accuracy_report, a_model_without_tokenizer_has_a_report)
{
    struct measure_rig r;
    measure_open(&r, &(struct measure_options){0});
    json_t *doc =
        measure_run(&r, "accuracy_report",
                    "{\"tokens\": 136, \"settings\": \"paper/int8\", \"layer_pieces\": 1, "
                    "\"layer_heads\": 1, "
                    "\"recall_lengths\": 256}");
    json_t *notes = json_object_get(doc, "notes"), *note;
    size_t i;
    bool told = false;
    json_array_foreach(notes, i, note)
    {
        told = told || !strncmp(json_string_value(note), "No recall:", 10);
    }
    cr_assert(told);
    cr_assert(json_array_size(json_object_get(measure_table(doc, "settings"), "rows")) == 3);
    json_decref(doc);
    measure_close(&r);
}
