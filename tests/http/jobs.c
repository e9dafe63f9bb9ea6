// End to end: jobs of the real server in every state, their events, results and refusals.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "job_client.h"
#include "mem.h"
#include "server.h"

#define SHORT "{\"type\":\"self_test\",\"spec\":{\"seconds\":0}}"
#define LONG "{\"type\":\"self_test\",\"spec\":{\"seconds\":600}}"

static struct server server;

static void start(void)
{
    static const char *const OPTIONS[] = {"--context-max",    "1024", "--threads", "1",
                                          "--jobs-queue-max", "3",    NULL};
    cr_assert(server_start(&server, OPTIONS));
}

static void stop(void)
{
    cr_assert(server_end(&server) == 0);
}

TestSuite(jobs, .init = start, .fini = stop);

static json_t *call(int *status, const char *method, const char *path, const char *headers,
                    const char *body)
{
    return job_call(server.port, status, method, path, headers, body);
}

static json_t *call_job(int *status, const char *method, const char *id, const char *rest)
{
    char path[256];
    snprintf(path, sizeof path, "/v1/jobs/%s%s", id, rest);
    return call(status, method, path, "", strcmp(method, "POST") ? NULL : "{}");
}

// --- the good way ---------------------------------------------------------------------------

Test(jobs, a_job_has_a_life)
{
    struct answer a = {0};
    char id[64], path[128];
    int status;
    client_once(&a, server.port, "POST", "/v1/jobs", "",
                "{\"type\":\"self_test\",\"spec\":{\"seconds\":0.1},\"name\":\"mine\","
                "\"metadata\":{\"k\":\"v\"},\"priority\":3,\"timeout_s\":50}");
    cr_assert(a.status == 202);
    json_t *job = json_loadb(a.body.data, a.body.n, 0, NULL);
    snprintf(id, sizeof id, "%s", job_text(job, "id"));
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    cr_assert(answer_header_is(&a, "Location", path));
    cr_assert(answer_header(&a, "Retry-After") && answer_header(&a, "ETag"));
    cr_assert_str_eq(job_text(job, "object"), "job");
    cr_assert_str_eq(job_text(job, "metadata.k"), "v");
    json_decref(job);
    job = job_end(server.port, id, "succeeded");
    cr_assert_str_eq(job_text(job, "name"), "mine");
    cr_assert_str_eq(job_text(job, "verdict"), "pass");
    cr_assert(json_number_value(job_at(job, "progress.fraction")) == 1);
    cr_assert(json_number_value(job_at(job, "usage.wall_seconds")) >= 0.1);
    cr_assert(json_integer_value(job_at(job, "timeout_s")) == 0 &&
              json_number_value(job_at(job, "timeout_s")) == 50);
    cr_assert(json_integer_value(job_at(job, "started_at")) >=
              json_integer_value(job_at(job, "created_at")));
    json_decref(job);
    json_t *result = call_job(&status, "GET", id, "/result?fail_on=verdict");
    cr_assert(status == 200);
    cr_assert_str_eq(job_text(result, "verdict"), "pass");
    cr_assert_str_eq(job_text(result, "job.id"), id);
    cr_assert(json_array_size(job_at(result, "tables.0.rows")) == 6);
    json_decref(result);
    answer_fini(&a);
}

Test(jobs, types_tell_what_there_is)
{
    int status;
    json_t *types = call(&status, "GET", "/v1/job-types", "", NULL), *type;
    size_t i;
    cr_assert(status == 200 && json_array_size(json_object_get(types, "data")) >= 1);
    cr_expect(strstr(job_text(types, "compare_url"), "/compare?with=") != NULL);
    json_array_foreach(json_object_get(types, "data"), i, type)
    {
        cr_expect(*job_text(type, "name") && *job_text(type, "title"));
        cr_expect(json_is_object(job_at(type, "schema.properties")), "%s", job_text(type, "name"));
        cr_expect(json_number_value(job_at(type, "estimated_seconds")) > 0);
    }
    json_decref(types);
}

Test(jobs, validate_only_makes_no_job)
{
    int status;
    json_t *plan =
        call(&status, "POST", "/v1/jobs", "", "{\"type\":\"self_test\",\"validate_only\":true}");
    cr_assert(status == 200);
    cr_assert_str_eq(job_text(plan, "object"), "job.plan");
    cr_assert(json_number_value(job_at(plan, "spec.seconds")) == 2);
    cr_assert(json_number_value(job_at(plan, "estimated_seconds")) == 2);
    json_decref(plan);
    json_t *list = call(&status, "GET", "/v1/jobs", "", NULL);
    cr_assert(json_array_size(json_object_get(list, "data")) == 0);
    json_decref(list);
}

Test(jobs, prefer_wait_brings_the_result_along)
{
    int status;
    json_t *job = call(&status, "POST", "/v1/jobs", "Prefer: respond-async, wait=60\r\n", SHORT);
    cr_assert(status == 200);
    cr_assert_str_eq(job_text(job, "status"), "succeeded");
    cr_assert_str_eq(job_text(job, "result.schema"), "deltaserve.result/1");
    json_decref(job);
    job = call(&status, "POST", "/v1/jobs", "Prefer: wait=0.2\r\n", LONG);
    cr_assert(status == 202 && !job_at(job, "result"));
    json_decref(job);
}

Test(jobs, wait_ends_by_time_change_or_end)
{
    struct answer a = {0};
    char id[64], path[128], header[128];
    job_submit(server.port, LONG, id);
    job_await_samples(server.port, id, 1);
    snprintf(path, sizeof path, "/v1/jobs/%s?wait=0.5", id);
    int64_t begun_ns = clock_ns();
    client_once(&a, server.port, "GET", path, "", NULL);
    cr_assert(a.status == 200 && clock_ms_between(begun_ns, clock_ns()) >= 500);
    snprintf(header, sizeof header, "If-None-Match: %s\r\n", answer_header(&a, "ETag"));
    snprintf(path, sizeof path, "/v1/jobs/%s?wait=100", id);
    client_once(&a, server.port, "GET", path, header, NULL); // progress changes it
    cr_assert(a.status == 200 && answer_has(&a, "running"));
    json_decref(call_job(&a.status, "POST", id, "/cancel"));
    json_decref(job_end(server.port, id, "cancelled"));
    client_once(&a, server.port, "GET", path, "", NULL);
    snprintf(header, sizeof header, "If-None-Match: %s\r\n", answer_header(&a, "ETag"));
    client_once(&a, server.port, "GET", path, header, NULL);
    cr_assert(a.status == 304 && a.body.n == 0);
    answer_fini(&a);
}

Test(jobs, list_pages_newest_first)
{
    char ids[5][64], path[128];
    int status, n = 0;
    for (int i = 0; i < 5; i++) {
        job_submit(server.port, SHORT, ids[i]);
        json_decref(job_end(server.port, ids[i], "succeeded"));
    }
    snprintf(path, sizeof path, "/v1/jobs?limit=2&type=self_test&status=succeeded");
    for (bool more = true; more; n++) {
        json_t *list = call(&status, "GET", path, "", NULL), *job;
        size_t i;
        cr_assert(status == 200);
        json_array_foreach(json_object_get(list, "data"), i, job)
            cr_expect_str_eq(job_text(job, "id"), ids[4 - 2 * n - (int)i]);
        more = json_is_true(json_object_get(list, "has_more"));
        cr_assert(json_array_size(json_object_get(list, "data")) == (more ? 2u : 1u));
        snprintf(path, sizeof path, "/v1/jobs?limit=2&after=%s", job_text(list, "last_id"));
        json_decref(list);
    }
    cr_assert(n == 3);
    json_decref(call(&status, "GET", "/v1/jobs?status=failed", "", NULL));
    cr_assert(status == 200);
}

static const struct {
    const char *query, *accept, *type, *begins;
} FORMATS[] = {
    {"", "", "application/json", "{"},
    {"?format=json", "Accept: text/html\r\n", "application/json", "{"},
    {"?format=md", "", "text/markdown", "## "},
    {"", "Accept: text/markdown\r\n", "text/markdown", "## "},
    {"?format=csv", "", "text/csv", "table,"},
    {"", "Accept: text/csv, */*\r\n", "text/csv", "table,"},
    {"?format=html&download=1", "", "text/html", "<!"},
    {"", "Accept: text/html,application/xhtml+xml\r\n", "text/html", "<!"},
    {"", "Accept: application/json\r\n", "application/json", "{"},
};

Test(jobs, results_in_four_formats)
{
    struct answer a = {0};
    char id[64], path[128];
    job_submit(server.port, SHORT, id);
    json_decref(job_end(server.port, id, "succeeded"));
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++) {
        snprintf(path, sizeof path, "/v1/jobs/%s/result%s", id, FORMATS[i].query);
        client_once(&a, server.port, "GET", path, FORMATS[i].accept, NULL);
        cr_expect(a.status == 200, "%s %s: %d", path, FORMATS[i].accept, a.status);
        const char *type = answer_header(&a, "Content-Type");
        cr_expect(!strncmp(type, FORMATS[i].type, strlen(FORMATS[i].type)), "%s: %s", path, type);
        cr_expect(!strncmp(a.body.data, FORMATS[i].begins, strlen(FORMATS[i].begins)), "%s: %.40s",
                  path, a.body.data);
        cr_expect(answer_has(&a, "substitution/fp32"), "%s", path);
        cr_expect(answer_header_is(&a, "X-Verdict", "pass"));
        const char *disposition = answer_header(&a, "Content-Disposition");
        bool json = a.body.data[0] == '{', html = a.body.data[0] == '<';
        cr_expect(json || (disposition && strstr(disposition, id)), "%s", path);
        cr_expect(!html || answer_header(&a, "Content-Security-Policy"), "a report may not run");
        cr_expect(!strstr(path, "download") || !strncmp(disposition, "attachment", 10));
    }
    answer_fini(&a);
}

Test(jobs, compare)
{
    char a[64], b[64], path[192];
    int status;
    job_submit(server.port, SHORT, a);
    job_submit(server.port, SHORT, b);
    json_decref(job_end(server.port, b, "succeeded"));
    snprintf(path, sizeof path, "/v1/jobs/%s/compare?with=%s&fail_on=verdict", a, a);
    json_t *v = call(&status, "POST", path, "", "{}"), *row;
    size_t i;
    cr_assert(status == 200, "a job is not slower than itself: %d", status);
    cr_assert(json_array_size(job_at(v, "tables.0.rows")) == 6);
    json_array_foreach(job_at(v, "tables.0.rows"), i, row)
        cr_expect_str_eq(job_text(row, "5"), "SAME");
    json_decref(v);
    struct answer md = {0};
    snprintf(path, sizeof path, "/v1/jobs/%s/compare?with=%s&format=md", a, b);
    client_once(&md, server.port, "POST", path, "", "{}");
    cr_assert(md.status == 200 && answer_has(&md, "new / base") && answer_has(&md, b));
    answer_fini(&md);
    snprintf(path, sizeof path, "/v1/jobs/%s/compare?with=%s&tolerance=x", a, b);
    v = call(&status, "POST", path, "", "{}");
    cr_assert(status == 400);
    cr_assert_str_eq(job_text(v, "error.param"), "tolerance");
    json_decref(v);
    snprintf(path, sizeof path, "/v1/jobs/%s/compare", a);
    v = call(&status, "POST", path, "", "{}");
    cr_assert(status == 400);
    cr_assert_str_eq(job_text(v, "error.param"), "with");
    json_decref(v);
}

Test(jobs, artifacts)
{
    char id[64];
    int status;
    job_submit(server.port, SHORT, id);
    json_decref(job_end(server.port, id, "succeeded"));
    json_t *list = call_job(&status, "GET", id, "/artifacts");
    cr_assert(status == 200 && json_array_size(json_object_get(list, "data")) == 1);
    cr_assert_str_eq(job_text(list, "data.0.name"), "samples.jsonl");
    struct answer a = {0};
    client_once(&a, server.port, "GET", job_text(list, "data.0.url"), "", NULL);
    cr_assert(a.status == 200);
    cr_assert(answer_header_is(&a, "Content-Type", "application/x-ndjson"));
    cr_assert(answer_header_is(&a, "X-Checksum-SHA256", job_text(list, "data.0.sha256")));
    cr_assert(strstr(answer_header(&a, "Content-Disposition"), "samples.jsonl"));
    cr_assert((size_t)json_integer_value(job_at(list, "data.0.bytes")) == a.body.n);
    size_t lines = 0;
    for (size_t i = 0; i < a.body.n; i++)
        lines += a.body.data[i] == '\n';
    cr_assert(lines == 6, "%zu lines", lines);
    json_decref(list);
    json_decref(call_job(&status, "GET", id, "/artifacts/none"));
    cr_assert(status == 404);
    answer_fini(&a);
}

// --- events ---------------------------------------------------------------------------------

// Read a stream to its end from after; returns how many events, the numbers must grow.
static int read_stream(const char *id, long after, char *last_event, long *last)
{
    struct client c;
    struct answer a = {0};
    char path[128], header[64] = "";
    int n = 0;
    snprintf(path, sizeof path, "/v1/jobs/%s/events", id);
    if (after)
        snprintf(header, sizeof header, "Last-Event-ID: %ld\r\n", after);
    cr_assert(client_open(&c, server.port));
    client_request(&c, "GET", path, header, NULL);
    cr_assert(answer_head(&a, &c) && a.status == 200);
    cr_assert(strstr(answer_header(&a, "Content-Type"), "text/event-stream") != NULL);
    *last = after;
    for (const char *e; (e = answer_event(&a, &c)); n++) {
        long number = strtol(e + 4, NULL, 10);
        cr_assert(!strncmp(e, "id: ", 4) && number > *last, "%s after %ld", e, *last);
        cr_assert(strstr(e, "\nevent: ") && strstr(e, "\ndata: {"));
        *last = number;
        snprintf(last_event, 512, "%.500s", e);
    }
    client_close(&c);
    answer_fini(&a);
    return n;
}

Test(jobs, events_stream_to_the_end_and_resume)
{
    struct answer a = {0};
    char id[64], event[512], path[128], header[64];
    long last, other;
    job_submit(server.port, "{\"type\":\"self_test\",\"spec\":{\"seconds\":0.3}}", id);
    int n = read_stream(id, 0, event, &last); // while it runs
    cr_assert(n > 10 && strstr(event, "event: state") && strstr(event, "succeeded"), "%s", event);
    cr_assert(read_stream(id, last - 5, event, &other) == 5 && other == last);
    snprintf(path, sizeof path, "/v1/jobs/%s/events", id);
    snprintf(header, sizeof header, "Last-Event-ID: %ld\r\n", last);
    client_once(&a, server.port, "GET", path, header, NULL);
    cr_assert(a.status == 204, "nothing follows: an EventSource must not come again");
    client_once(&a, server.port, "GET", path, "Last-Event-ID: x\r\n", NULL);
    cr_assert(a.status == 400 && answer_has(&a, "Last-Event-ID"));
    answer_fini(&a);
}

Test(jobs, events_page_as_json)
{
    char id[64], path[128];
    int status, n = 0;
    bool seen_result = false;
    long long after = 0;
    job_submit(server.port, "{\"type\":\"self_test\",\"spec\":{\"seconds\":0.1}}", id);
    json_decref(job_end(server.port, id, "succeeded"));
    for (bool more = true; more;) {
        snprintf(path, sizeof path, "/v1/jobs/%s/events?limit=7&after=%lld", id, after);
        json_t *page = call(&status, "GET", path, "Accept: application/json\r\n", NULL), *event;
        size_t i;
        cr_assert(status == 200);
        json_array_foreach(json_object_get(page, "data"), i, event)
        {
            long long number = json_integer_value(json_object_get(event, "id"));
            cr_assert(number > after);
            after = number;
            n++;
            seen_result = seen_result || !strcmp(job_text(event, "event"), "result");
        }
        more = json_is_true(json_object_get(page, "has_more"));
        json_decref(page);
    }
    cr_assert(n > 10 && seen_result);
}

// --- stopping -------------------------------------------------------------------------------

Test(jobs, cancel_while_queued)
{
    char first[64], second[64];
    int status;
    job_submit(server.port, LONG, first);
    job_await(server.port, first, "running");
    job_submit(server.port, SHORT, second);
    json_t *job = call_job(&status, "GET", second, "");
    cr_assert_str_eq(job_text(job, "status"), "queued");
    json_decref(job);
    for (int again = 0; again < 2; again++) {
        job = call_job(&status, "POST", second, "/cancel");
        cr_assert(status == 202);
        cr_assert_str_eq(job_text(job, "status"), "cancelled");
        cr_assert(json_is_null(json_object_get(job, "started_at")));
        json_decref(job);
    }
    job = call_job(&status, "GET", first, "");
    cr_assert_str_eq(job_text(job, "status"), "running");
    json_decref(job);
}

Test(jobs, cancel_while_running_keeps_samples)
{
    char id[64];
    int status;
    job_submit(server.port, LONG, id);
    job_await_samples(server.port, id, 20);
    json_t *early = call_job(&status, "GET", id, "/result");
    cr_assert(status == 409);
    cr_assert_str_eq(job_text(early, "error.code"), "job_not_finished");
    json_decref(early);
    int64_t begun_ns = clock_ns();
    json_decref(call_job(&status, "POST", id, "/cancel"));
    cr_assert(status == 202);
    json_decref(job_end(server.port, id, "cancelled"));
    cr_assert(clock_ms_between(begun_ns, clock_ns()) < 20000);
    json_t *result = call_job(&status, "GET", id, "/result");
    cr_assert(status == 200 && json_is_true(json_object_get(result, "partial")));
    cr_assert(json_array_size(job_at(result, "tables.0.rows")) >= 20);
    json_decref(result);
}

Test(jobs, timeout_fails_the_job)
{
    char id[64];
    job_submit(server.port, "{\"type\":\"self_test\",\"spec\":{\"seconds\":600},\"timeout_s\":0.3}",
               id);
    json_t *job = job_end(server.port, id, "failed");
    cr_assert_str_eq(job_text(job, "error.code"), "timeout");
    cr_assert_str_eq(job_text(job, "error.param"), "timeout_s");
    json_decref(job);
}

Test(jobs, delete_removes_or_cancels)
{
    char id[64];
    int status;
    job_submit(server.port, SHORT, id);
    json_decref(job_end(server.port, id, "succeeded"));
    json_decref(call_job(&status, "DELETE", id, ""));
    cr_assert(status == 204);
    json_decref(call_job(&status, "GET", id, ""));
    cr_assert(status == 404);
    json_decref(call_job(&status, "DELETE", id, ""));
    cr_assert(status == 404);
    job_submit(server.port, LONG, id);
    job_await(server.port, id, "running");
    json_t *job = call_job(&status, "DELETE", id, "");
    cr_assert(status == 202 && *job_text(job, "id"));
    json_decref(job);
    json_decref(job_end(server.port, id, "cancelled"));
}

// --- refusals -------------------------------------------------------------------------------

Test(jobs, queue_full)
{
    struct answer a = {0};
    char id[64];
    job_submit(server.port, LONG, id);
    job_await(server.port, id, "running");
    for (int i = 0; i < 3; i++)
        job_submit(server.port, SHORT, id);
    client_once(&a, server.port, "POST", "/v1/jobs", "", SHORT);
    cr_assert(a.status == 429 && answer_header(&a, "Retry-After") &&
              answer_has(&a, "rate_limit_exceeded"));
    answer_fini(&a);
}

Test(jobs, priority_goes_first)
{
    char first[64], low[64], high[64];
    int status;
    job_submit(server.port, LONG, first);
    job_await(server.port, first, "running");
    job_submit(server.port, SHORT, low);
    job_submit(server.port, "{\"type\":\"self_test\",\"spec\":{\"seconds\":0},\"priority\":5}",
               high);
    json_t *job = call_job(&status, "GET", low, "");
    cr_assert(json_integer_value(json_object_get(job, "queue_position")) == 1);
    json_decref(job);
    json_decref(call_job(&status, "DELETE", first, ""));
    json_t *a = job_end(server.port, low, "succeeded"),
           *b = job_end(server.port, high, "succeeded");
    cr_assert(json_integer_value(json_object_get(a, "started_at")) >=
              json_integer_value(json_object_get(b, "started_at")));
    json_decref(a);
    json_decref(b);
}

Test(jobs, idempotency_keys)
{
    int status;
    char id[64];
    static const char KEY[] = "Idempotency-Key: 6f1c9a\r\n";
    json_t *job = call(&status, "POST", "/v1/jobs", KEY,
                       "{\"type\":\"self_test\",\"spec\":{\"seconds\":0},\"priority\":1}");
    cr_assert(status == 202);
    snprintf(id, sizeof id, "%s", job_text(job, "id"));
    json_decref(job);
    job = call(&status, "POST", "/v1/jobs", KEY,
               "{ \"priority\":1, \"spec\":{\"seconds\":0}, \"type\":\"self_test\"}");
    cr_assert(status == 202 || status == 200);
    cr_assert_str_eq(job_text(job, "id"), id);
    json_decref(job);
    job = call(&status, "POST", "/v1/jobs", KEY, SHORT);
    cr_assert(status == 422);
    cr_assert_str_eq(job_text(job, "error.code"), "idempotency_key_reused");
    json_decref(job);
    json_decref(call(&status, "POST", "/v1/jobs", "Idempotency-Key: a b\r\n", SHORT));
    cr_assert(status == 400);
    json_decref(job_end(server.port, id, "succeeded"));
    json_t *list = call(&status, "GET", "/v1/jobs", "", NULL);
    cr_assert(json_array_size(json_object_get(list, "data")) == 1);
    json_decref(list);
}

static const struct {
    const char *body, *param;
} WRONG[] = {
    {"{}", "type"},
    {"{\"type\":3}", "type"},
    {"{\"type\":\"\"}", "type"},
    {"{\"type\":\"selftest\"}", "type"},
    {"{\"type\":\"self_test\",\"spec\":[]}", "spec"},
    {"{\"type\":\"self_test\",\"spec\":{\"seconds\":\"2\"}}", "spec.seconds"},
    {"{\"type\":\"self_test\",\"spec\":{\"seconds\":-1}}", "spec.seconds"},
    {"{\"type\":\"self_test\",\"spec\":{\"second\":1}}", "spec.second"},
    {"{\"type\":\"self_test\",\"name\":\"\"}", "name"},
    {"{\"type\":\"self_test\",\"metadata\":{\"a\":1}}", "metadata"},
    {"{\"type\":\"self_test\",\"metadata\":[]}", "metadata"},
    {"{\"type\":\"self_test\",\"priority\":11}", "priority"},
    {"{\"type\":\"self_test\",\"priority\":0.5}", "priority"},
    {"{\"type\":\"self_test\",\"timeout_s\":-1}", "timeout_s"},
    {"{\"type\":\"self_test\",\"timeout_s\":1e8}", "timeout_s"},
    {"{\"type\":\"self_test\",\"exclusive\":1}", "exclusive"},
    {"{\"type\":\"self_test\",\"validate_only\":\"yes\"}", "validate_only"},
    {"{\"type\":\"self_test\",\"timeout\":1}", "timeout"},
};

Test(jobs, wrong_requests_name_the_field)
{
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        int status;
        json_t *error = call(&status, "POST", "/v1/jobs", "", WRONG[i].body);
        cr_expect(status == 400, "%s: %d", WRONG[i].body, status);
        cr_expect_str_eq(job_text(error, "error.param"), WRONG[i].param, "%s: %s", WRONG[i].body,
                         job_text(error, "error.message"));
        json_decref(error);
    }
}

static const struct {
    const char *method, *path;
    int status;
    const char *code;
} PATHS[] = {
    {"GET", "/v1/jobs/job_none", 404, "not_found"},
    {"GET", "/v1/jobs/job_none/result", 404, "not_found"},
    {"GET", "/v1/jobs/job_none/events", 404, "not_found"},
    {"GET", "/v1/jobs/job_none/artifacts", 404, "not_found"},
    {"GET", "/v1/jobs/job_none/artifacts/x", 404, "not_found"},
    {"POST", "/v1/jobs/job_none/cancel", 404, "not_found"},
    {"DELETE", "/v1/jobs/job_none", 404, "not_found"},
    {"POST", "/v1/jobs/job_none/compare", 400, NULL},
    {"GET", "/v1/jobs/job_none/nothing", 404, "not_found"},
    {"PUT", "/v1/jobs/job_none", 405, "method_not_allowed"},
    {"GET", "/v1/jobs/job_none/cancel", 405, "method_not_allowed"},
    {"GET", "/v1/jobs?limit=x", 400, NULL},
    {"GET", "/v1/jobs?limit=101", 400, NULL},
    {"GET", "/v1/jobs?limit=1.5", 400, NULL},
    {"GET", "/v1/jobs?after=job_1", 400, NULL},
    {"GET", "/v1/jobs?status=done", 400, NULL},
    {"GET", "/v1/jobs?type=what", 400, NULL},
    {"GET", "/v1/jobs/job_none?wait=-1", 400, NULL},
    {"GET", "/v1/jobs/job_none?wait=nan", 400, NULL},
    {"GET", "/v1/jobs/job_none/result?format=pdf", 400, NULL},
    {"GET", "/v1/jobs/job_none/result?fail_on=luck", 400, NULL},
    {"GET", "/v1/jobs/job_none/events?format=xml", 400, NULL},
};

Test(jobs, wrong_paths)
{
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
        int status;
        const char *body = strcmp(PATHS[i].method, "POST") ? NULL : "{}";
        json_t *error = call(&status, PATHS[i].method, PATHS[i].path, "", body);
        cr_expect(status == PATHS[i].status, "%s: %d", PATHS[i].path, status);
        cr_expect(!PATHS[i].code || !strcmp(job_text(error, "error.code"), PATHS[i].code));
        cr_expect(*job_text(error, "error.message"), "%s", PATHS[i].path);
        json_decref(error);
    }
}

// Every field of every type's spec gets every kind of wrong value: a 400 that names the spec, or a
// value that is taken; nothing else.
static void fuzz_field(const char *type, const char *field)
{
    static const char *const VALUES[] = {
        "null",       "true",        "-1",         "0",
        "1e308",      "-1e308",      "4294967296", "9007199254740993",
        "0.5",        "\"\"",        "[]",         "{}",
        "[null]",     "[[]]",        "[-1]",       "[1e308]",
        "[\"\"]",     "\"\\u0000\"", "[{}]",       "\"x\"",
        "[\"x\", 3]", "{\"a\": []}"};
    for (size_t i = 0; i < sizeof VALUES / sizeof *VALUES; i++) {
        char body[512];
        int status;
        snprintf(body, sizeof body, "{\"type\":\"%s\",\"validate_only\":true,\"spec\":{\"%s\":%s}}",
                 type, field, VALUES[i]);
        json_t *v = call(&status, "POST", "/v1/jobs", "", body);
        cr_expect(status == 200 || status == 400 || status == 413, "%d for %s: %s", status, body,
                  job_text(v, "error.message"));
        cr_expect(status == 200 || !strncmp(job_text(v, "error.param"), "spec", 4),
                  "%s: param '%s'", body, job_text(v, "error.param"));
        json_decref(v);
    }
}

Test(jobs, specs_field_by_field)
{
    int status;
    json_t *types = call(&status, "GET", "/v1/job-types", "", NULL), *type, *property;
    const char *field;
    size_t i;
    json_array_foreach(json_object_get(types, "data"), i, type)
    {
        json_object_foreach(job_at(type, "schema.properties"), field, property)
            fuzz_field(job_text(type, "name"), field);
        fuzz_field(job_text(type, "name"), "no_such_field");
    }
    json_decref(types);
}
