// spec_fields.c - specs of the measuring kinds: defaults, wrong fields named, every field of every kind
// mistreated in turn.
#include "spec_fields.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "measure_rig.h"

static const char *const KINDS[] = {"kernel_benchmark", "model_benchmark", "serve_benchmark",
                                    "accuracy_report"};

Test(spec_fields, an_empty_spec_is_filled_with_defaults)
{
    struct measure_rig r;
    struct err e = {0};
    measure_open(&r, &(struct measure_options){0});
    for (int i = 0; i < 4; i++) {
        const struct job_type *type = job_type_find(KINDS[i]);
        json_t *empty = json_object(), *out = type->expand(&r.node, empty, &e);
        json_t *schema = type->schema(&r.node);
        cr_assert(out != NULL, "%s: %s", KINDS[i], e.text);
        cr_assert(json_object_size(out) == json_object_size(json_object_get(schema, "properties")));
        cr_assert(type->estimate(&r.node, out) > 0);
        // What was filled in is itself a spec, and stays as it is.
        json_t *again = type->expand(&r.node, out, &e);
        cr_assert(again && json_equal(again, out), "%s: %s", KINDS[i], e.text);
        json_decref(again);
        json_decref(out);
        json_decref(schema);
        json_decref(empty);
    }
    measure_close(&r);
}

// Every field of every kind set to things it cannot be: refused with its own name, or taken; never worse.
Test(spec_fields, every_field_is_checked)
{
    static const char *const WRONG[] = {
        "{\"x\": 1}",         "-1e300", "1e300",  "[]",  "[[1]]", "\"\\u0000\"", "\"nonsense\"",
        "[\"nonsense\", {}]", "0.5",    "[null]", "true"};
    struct measure_rig r;
    measure_open(&r, &(struct measure_options){0});
    for (int i = 0; i < 4; i++) {
        const struct job_type *type = job_type_find(KINDS[i]);
        json_t *schema = type->schema(&r.node), *properties = json_object_get(schema, "properties");
        int refused = 0;
        const char *name;
        json_t *field;
        json_object_foreach(properties, name, field)
        {
            for (size_t k = 0; k < sizeof WRONG / sizeof *WRONG; k++) {
                struct err e = {0};
                char text[200], lead[64];
                snprintf(text, sizeof text, "{\"%s\": %s}", name, WRONG[k]);
                json_t *spec = json_loads(text, JSON_ALLOW_NUL, NULL);
                json_t *out = type->expand(&r.node, spec, &e);
                snprintf(lead, sizeof lead, "spec.%s", name);
                cr_assert(out || !strncmp(e.param, lead, strlen(lead)), "%s: param '%s' (%s)", text,
                          e.param, e.text);
                cr_assert(out || (e.code == ERR_BAD_REQUEST && *e.text));
                refused += !out;
                json_decref(out);
                json_decref(spec);
            }
        }
        cr_assert(refused >= 8 * (int)json_object_size(properties), "%s refused %d", KINDS[i],
                  refused);
        json_decref(schema);
    }
    measure_close(&r);
}

Test(spec_fields, what_cannot_be_measured_is_refused)
{
    struct measure_rig r;
    measure_open(&r, &(struct measure_options){0});
    measure_refuse(&r, "kernel_benchmark", "{\"ops\": [\"gdn_inverse\", \"fast\"]}", "spec.ops[1]");
    measure_refuse(&r, "kernel_benchmark", "{\"opps\": 1}", "spec.opps");
    measure_refuse(&r, "kernel_benchmark", "{\"chunks\": [16, 48]}", "spec.chunks[1]");
    measure_refuse(&r, "kernel_benchmark", "{\"methods\": \"neumann:3\"}", "spec.methods[0]");
    measure_refuse(&r, "kernel_benchmark",
                   "{\"methods\": \"neumann:64,3,8\", \"chunks\": [16, 32]}", "spec.methods[0]");
    measure_refuse(&r, "kernel_benchmark", "{\"executors\": \"cublas\"}", "spec.executors[0]");
    measure_refuse(&r, "kernel_benchmark", "{\"shapes\": \"27B\", \"tokens\": 131072}",
                   "spec.tokens");
    measure_refuse(&r, "kernel_benchmark",
                   "{\"tokens\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16], \"rhos\": "
                   "[0,0.1,0.2,0.3]}",
                   "spec");
    measure_refuse(&r, "model_benchmark", "{\"depths\": [100, 5000]}", "spec.depths[1]");
    measure_refuse(&r, "model_benchmark", "{\"batches\": 5}", "spec.batches[0]");
    measure_refuse(&r, "model_benchmark", "{\"generate\": 4096}", "spec.generate");
    measure_refuse(&r, "serve_benchmark", "{\"prompt_min\": 300}", "spec.prompt_min");
    measure_refuse(&r, "serve_benchmark", "{\"prompt_max\": 1024}", "spec.prompt_max");
    measure_refuse(&r, "serve_benchmark", "{\"limits\": {\"ttft\": 1}}", "spec.limits.ttft");
    measure_refuse(&r, "accuracy_report", "{\"settings\": [\"auto/fp32\", \"auto\"]}",
                   "spec.settings[1]");
    measure_refuse(&r, "accuracy_report", "{\"settings\": \"paper/fp17\"}", "spec.settings[0]");
    measure_refuse(&r, "accuracy_report", "{\"reference\": \"auto/fp32/48\"}", "spec.reference");
    measure_refuse(&r, "accuracy_report", "{\"context\": 4096}", "spec.context");
    measure_refuse(&r, "accuracy_report", "{\"recall_lengths\": [512, 4096]}",
                   "spec.recall_lengths[1]");
    measure_refuse(&r, "accuracy_report", "{\"judge\": \"all\"}", "spec.judge[0]");
    measure_refuse(&r, "accuracy_report", "{\"thresholds\": {\"top1_min\": 2}}",
                   "spec.thresholds.top1_min");
    measure_close(&r);
}

Test(spec_fields, one_value_is_a_list_of_one)
{
    static const struct spec_field FIELDS[] = {{"n", SPEC_INTS, "[1]", 0, 9, 3, .help = "numbers"}};
    struct err e = {0};
    json_t *spec = json_pack("{s:f}", "n", 4.0), *out = spec_expand(FIELDS, 1, spec, &e);
    cr_assert(out != NULL, "%s", e.text);
    cr_assert(spec_count(out, "n") == 1 && spec_int_at(out, "n", 0) == 4);
    cr_assert(json_is_integer(json_array_get(json_object_get(out, "n"), 0)));
    json_decref(out);
    json_decref(spec);
}
