// model_benchmark.c - the job on a small model: every combination has its figures, and they are of one piece.
#include <criterion/criterion.h>
#include <math.h>

#include "measure_rig.h"

Test(model_benchmark, every_combination_is_measured)
{
    struct measure_rig r;
    measure_open(&r, &(struct measure_options){0});
    json_t *doc = measure_run(&r, "model_benchmark",
                              "{\"depths\": [16, 200], \"batches\": [1, 3], \"generate\": 8, "
                              "\"repetitions\": 2}");
    json_t *t = measure_table(doc, "speeds");
    static const char *const ROWS[] = {"depth 16 batch 1", "depth 16 batch 3", "depth 200 batch 1",
                                       "depth 200 batch 3"};
    for (int i = 0; i < 4; i++) {
        json_t *row = measure_row(t, ROWS[i]);
        cr_assert(measure_value(t, row, "runs") == 2);
        cr_assert(measure_value(t, row, "first_ms") > 0);
        cr_assert(measure_value(t, row, "prefill_s") > 0);
        const double rate = measure_value(t, row, "decode_s"),
                     gap = measure_value(t, row, "step_ms");
        const double batch = measure_value(t, row, "batch");
        cr_assert(rate > 0 && gap > 0);
        // A step gives each sequence a token, so the two say the same within the noise of a test.
        cr_assert(rate * gap / 1e3 / batch > 0.2 && rate * gap / 1e3 / batch < 5, "%s: %g, %g",
                  ROWS[i], rate, gap);
    }
    t = measure_table(doc, "memory");
    json_t *rows = json_object_get(t, "rows");
    cr_assert(json_array_size(rows) == 2);
    cr_assert(measure_value(t, json_array_get(rows, 0), "state_mb") ==
              measure_value(t, json_array_get(rows, 1), "state_mb"));
    cr_assert(measure_value(t, json_array_get(rows, 0), "kv_mb") <
              measure_value(t, json_array_get(rows, 1), "kv_mb"));
    json_decref(doc);
    measure_close(&r);
}

// Combinations that do not fit are left out, not failed.
Test(model_benchmark, what_does_not_fit_is_left_out)
{
    struct measure_rig r;
    measure_open(&r, &(struct measure_options){.context_max = 128});
    json_t *doc = measure_run(&r, "model_benchmark",
                              "{\"generate\": 2, \"repetitions\": 1, "
                              "\"depths\": [16, 116], \"batches\": [1, 4]}");
    json_t *rows = json_object_get(measure_table(doc, "speeds"), "rows");
    cr_assert(json_array_size(rows) == 3, "%zu rows", json_array_size(rows));
    json_decref(doc);
    measure_close(&r);
}
