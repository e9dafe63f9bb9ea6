// End to end: the measuring kinds of jobs on the real server and the bundled model, by HTTP alone.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "job_client.h"
#include "server.h"
#include "sanitized.h"

static struct server server;

static void start(void)
{
    static const char *const OPTIONS[] = {
        "--model", "bundled", "--context-max", "1024", "--threads", "1", NULL};
    cr_assert(server_start(&server, OPTIONS));
}

static void stop(void)
{
    cr_assert(server_end(&server) == 0);
}

TestSuite(measure, .init = start, .fini = stop);

static void call(const char *method, const char *id, const char *rest, struct answer *a)
{
    char path[256];
    snprintf(path, sizeof path, "/v1/jobs/%s%s", id, rest);
    *a = (struct answer){0};
    client_once(a, server.port, method, path, "", NULL);
}

// Run a job to its end; its result (new reference).
static json_t *result_of(const char *body, char *id)
{
    struct answer a;
    job_submit(server.port, body, id);
    json_decref(job_end(server.port, id, "succeeded"));
    call("GET", id, "/result", &a);
    cr_assert(a.status == 200);
    json_t *doc = json_loadb(a.body.data, a.body.n, 0, NULL);
    answer_fini(&a);
    return doc;
}

static double figure(const json_t *doc, const char *path)
{
    return json_number_value(job_at(doc, path));
}

Test(measure, the_server_takes_its_own_load, .disabled = SANITIZED)
{
    char id[64];
    json_t *doc = result_of("{\"type\":\"serve_benchmark\",\"spec\":{\"concurrency\":[1,3],"
                            "\"rates\":20,\"requests\":6,\"prompt_min\":20,\"prompt_max\":40,"
                            "\"output_min\":3,\"output_max\":5,\"shared_prefix\":8,"
                            "\"limits\":{\"ttft_ms\":1e8}}}",
                            id);
    json_t *rows = job_at(doc, "tables.0.rows");
    cr_assert(json_array_size(rows) == 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *row = json_array_get(rows, i);
        cr_assert(figure(row, "1") == 6 && figure(row, "2") == 6, "%g of %g answered",
                  figure(row, "2"), figure(row, "1"));
        cr_assert(figure(row, "6") > 0 && figure(row, "6") == figure(row, "7"), "goodput");
        cr_assert(figure(row, "10") > 0 && figure(row, "10") <= figure(row, "13"),
                  "first token before the last");
        cr_assert(json_is_null(job_at(row, "12")), "a p99 of six samples");
    }
    json_decref(doc);
}

// The same of a kind whose report has every kind of plot, in every format.
Test(measure, a_report_can_be_read_in_every_format, .disabled = SANITIZED)
{
    char id[64];
    struct answer a;
    json_t *doc = result_of("{\"type\":\"accuracy_report\",\"spec\":{\"tokens\":150,\"settings\":["
                            "\"paper/fp32\",\"auto/int8\"],\"recall_lengths\":[256],"
                            "\"recall_items\":1,\"thresholds\":{\"top1_min\":0.5}}}",
                            id);
    cr_assert_str_eq(job_text(doc, "verdict"), "pass");
    cr_assert(json_array_size(job_at(doc, "tables")) == 6);
    json_decref(doc);
    call("GET", id, "/result?format=html", &a);
    cr_assert(a.status == 200 && memmem(a.body.data, a.body.n, "<svg", 4));
    answer_fini(&a);
    call("GET", id, "/result?format=md", &a);
    cr_assert(a.status == 200 && memmem(a.body.data, a.body.n, "auto/int8/64", 12));
    answer_fini(&a);
    call("GET", id, "/result?format=csv", &a);
    cr_assert(a.status == 200 && memmem(a.body.data, a.body.n, "T_error", 7));
    answer_fini(&a);
}

Test(measure, raw_samples_are_an_artifact, .disabled = SANITIZED)
{
    char id[64];
    struct answer a;
    json_decref(result_of("{\"type\":\"kernel_benchmark\",\"spec\":{\"tokens\":128,\"chunks\":64,"
                          "\"methods\":\"auto\",\"types\":\"fp32\",\"seconds_max\":0.01}}",
                          id));
    call("GET", id, "/artifacts/samples.jsonl", &a);
    cr_assert(a.status == 200 && memmem(a.body.data, a.body.n, "\"round_us\":[[0,", 15));
    answer_fini(&a);
}
