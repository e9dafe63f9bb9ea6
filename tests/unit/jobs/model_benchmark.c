// model_benchmark.c - the job on a small model: every combination has its figures, and they are of one piece.
#include <criterion/criterion.h>
#include <math.h>

#include "clock.h"
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
        cr_assert(rate > 0 && gap > 0);
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

// Whatever else the machine does: half of a run's steps take at least the median, so the rate is at most
// two tokens a median step, and no step is longer than the job.
Test(model_benchmark, rate_and_step_are_of_one_piece)
{
    struct measure_rig r;
    measure_open(&r, &(struct measure_options){0});
    const int64_t begun_ns = clock_ns();
    json_t *doc = measure_run(&r, "model_benchmark",
                              "{\"depths\": 16, \"batches\": 3, \"generate\": 8, "
                              "\"repetitions\": 1}");
    const double job_ms = clock_ms_between(begun_ns, clock_ns());
    json_t *t = measure_table(doc, "speeds"), *row = measure_row(t, "depth 16 batch 3");
    const double rate = measure_value(t, row, "decode_s"), gap = measure_value(t, row, "step_ms");
    cr_assert(gap > 0 && gap < job_ms, "%g of %g ms", gap, job_ms);
    cr_assert(rate / 1e3 * gap <= 3 * 2, "%g tokens a step", rate / 1e3 * gap);
    cr_assert(rate / 1e3 * job_ms >= 1, "%g tokens a job", rate / 1e3 * job_ms);
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
