// End to end: what is kept of jobs when the server is killed, stopped, out of room, or has clients.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "completion.h"
#include "job_client.h"
#include "server.h"

#define SHORT "{\"type\":\"self_test\",\"spec\":{\"seconds\":0}}"
#define LONG "{\"type\":\"self_test\",\"spec\":{\"seconds\":600}}"

static struct server server;
static char folder[] = "/tmp/deltaserve-jobs-XXXXXX", db[64];

static void start(void)
{
    cr_assert(mkdtemp(folder) != NULL);
    snprintf(db, sizeof db, "%s/jobs.sqlite", folder);
}

static void stop(void)
{
    char path[80];
    snprintf(path, sizeof path, "%s-wal", db);
    unlink(path);
    unlink(db);
    rmdir(folder);
}

TestSuite(jobs_kept, .init = start, .fini = stop);

static void open_server(const char *option, const char *value)
{
    const char *const options[] = {"--context-max", "1024", "--threads", "1", "--jobs-db", db,
                                   option,          value,  NULL};
    cr_assert(server_start(&server, options));
}

static json_t *call(int *status, const char *method, const char *id, const char *rest)
{
    char path[256];
    snprintf(path, sizeof path, "/v1/jobs%s%s%s", *id ? "/" : "", id, rest);
    return job_call(server.port, status, method, path, "", strcmp(method, "POST") ? NULL : SHORT);
}

// The job that ran when the last server ended has failed and has its samples; the one that waited runs.
static void check_after(const char *ran, const char *waited)
{
    int status;
    open_server(NULL, NULL);
    json_t *job = job_end(server.port, ran, "failed");
    cr_assert_str_eq(job_text(job, "error.code"), "server_restarted");
    cr_assert(json_integer_value(json_object_get(job, "finished_at")) > 0);
    json_decref(job);
    json_t *result = call(&status, "GET", ran, "/result");
    cr_assert(status == 200 && json_is_true(json_object_get(result, "partial")));
    cr_assert(json_array_size(job_at(result, "tables.0.rows")) >= 20);
    json_decref(result);
    json_decref(job_end(server.port, waited, "succeeded"));
    cr_assert(server_end(&server) == 0);
}

static void begin_two(char *ran, char *waits)
{
    open_server(NULL, NULL);
    job_submit(server.port, LONG, ran);
    job_submit(server.port, SHORT, waits);
    job_await_samples(server.port, ran, 20);
}

Test(jobs_kept, after_kill_9)
{
    char ran[64], waits[64];
    begin_two(ran, waits);
    server_signal(&server, SIGKILL);
    cr_assert(server_wait(&server) == -SIGKILL);
    check_after(ran, waits);
}

// A job does not hold up the end, nor does a client that waits for one.
Test(jobs_kept, after_sigterm)
{
    char ran[64], waits[64], path[128];
    struct client poll, stream;
    struct answer a = {0}, b = {0};
    begin_two(ran, waits);
    cr_assert(client_open(&poll, server.port) && client_open(&stream, server.port));
    snprintf(path, sizeof path, "/v1/jobs/%s?wait=300", waits);
    client_request(&poll, "GET", path, "", NULL);
    snprintf(path, sizeof path, "/v1/jobs/%s/events", ran);
    client_request(&stream, "GET", path, "", NULL);
    cr_assert(answer_head(&a, &stream));
    int64_t begun_ns = clock_ns();
    server_signal(&server, SIGTERM);
    cr_assert(answer_read(&b, &poll) && b.status == 200 && answer_has(&b, "queued"));
    cr_assert(answer_body(&a, &stream));
    client_close(&poll);
    client_close(&stream);
    answer_fini(&a);
    answer_fini(&b);
    cr_assert(server_wait(&server) == 0);
    cr_assert(clock_ms_between(begun_ns, clock_ns()) < 20000);
    check_after(ran, waits);
}

// A request that needs some pages of the store.
static void large_body(struct buf *body)
{
    buf_str(body, "{\"type\":\"self_test\",\"metadata\":{");
    for (int i = 0; i < 16; i++)
        buf_format(body, "%s\"k%d\":\"%0500d\"", i ? "," : "", i, i);
    buf_str(body, "}}");
}

// A job that fills the store fails; the server goes on, says 507 to what needs room, and has room again
// when something is deleted.
Test(jobs_kept, disk_full)
{
    struct buf body = {0}, large = {0};
    static struct completion c;
    char id[64];
    int status;
    large_body(&large);
    open_server("--jobs-max-bytes", "131072");
    job_submit(server.port, LONG, id);
    json_t *job = job_end(server.port, id, "failed");
    cr_assert_str_eq(job_text(job, "error.code"), "storage_full");
    json_decref(job);
    json_t *result = call(&status, "GET", id, "/result");
    cr_assert(status == 200 && json_array_size(job_at(result, "tables.0.rows")) > 100);
    json_decref(result);
    json_t *error = job_call(server.port, &status, "POST", "/v1/jobs", "", large.data);
    cr_assert(status == 507);
    cr_assert_str_eq(job_text(error, "error.code"), "storage_full");
    cr_assert(strstr(job_text(error, "error.message"), "--jobs-max-bytes") != NULL);
    json_decref(error);
    completion_body(&body, 20, 3, ",\"max_tokens\":4");
    cr_assert(completion_get(&c, server.port, body.data), "the server does not live on");
    json_decref(call(&status, "DELETE", id, ""));
    cr_assert(status == 204);
    job_submit(server.port, large.data, id);
    cr_assert(server_end(&server) == 0);
    buf_fini(&body);
    buf_fini(&large);
}

// Old jobs make room for new ones.
Test(jobs_kept, retention_by_count)
{
    char ids[4][64];
    int status;
    open_server("--jobs-keep-max", "2");
    for (int i = 0; i < 4; i++) {
        job_submit(server.port, SHORT, ids[i]);
        json_decref(job_end(server.port, ids[i], "succeeded"));
    }
    json_decref(call(&status, "GET", ids[1], ""));
    for (int tries = 0; status != 404 && tries < 1000; tries++) { // removed after the end is told
        usleep(5000);
        json_decref(call(&status, "GET", ids[1], ""));
    }
    cr_assert(status == 404);
    json_decref(call(&status, "GET", ids[2], ""));
    cr_assert(status == 200);
    cr_assert(server_end(&server) == 0);
}

Test(jobs_kept, a_file_that_cannot_be_used)
{
    struct server second = {0};
    const char *const options[] = {"--threads", "1", "--jobs-db", db, NULL};
    open_server(NULL, NULL);
    cr_assert(!server_listen(&second, options));
    cr_assert(server_log_has(&second, "in use by another server"));
    cr_assert(server_end(&server) == 0);
    FILE *f = fopen(db, "w");
    cr_assert(f && fprintf(f, "%0*d", 8192, 7) > 0 && fclose(f) == 0);
    cr_assert(!server_listen(&second, options));
    cr_assert(server_log_has(&second, "is not an SQLite file"));
    const char *const nowhere[] = {"--jobs-db", "/nowhere/at/all.sqlite", NULL};
    cr_assert(!server_listen(&second, nowhere));
    cr_assert(server_log_has(&second, "--jobs-db /nowhere/at/all.sqlite"));
}

// --- beside clients -------------------------------------------------------------------------

// A stream long enough to be there all the time.
static void begin_stream(struct client *c, struct answer *a)
{
    struct buf body = {0};
    completion_body(&body, 4, 1, ",\"max_tokens\":30000,\"ignore_eos\":true,\"stream\":true");
    cr_assert(client_open(c, server.port));
    client_request(c, "POST", "/v1/completions", "", body.data);
    cr_assert(answer_head(a, c) && a->status == 200);
    buf_fini(&body);
}

static json_t *run_exclusive(void)
{
    char id[64];
    job_submit(server.port,
               "{\"type\":\"self_test\",\"spec\":{\"seconds\":0.2},\"exclusive\":true}", id);
    return job_end(server.port, id, "succeeded");
}

Test(jobs_kept, exclusive_says_what_ran_beside_it)
{
    static const char *const OPTIONS[] = {"--context-max",  "32768", "--threads", "1",
                                          "--jobs-lull-ms", "100",   NULL};
    struct client c;
    struct answer a = {0};
    cr_assert(server_start(&server, OPTIONS));
    json_t *alone = run_exclusive();
    cr_assert(json_integer_value(job_at(alone, "usage.contended_tasks")) == 0);
    cr_assert(json_integer_value(job_at(alone, "usage.device_tasks")) >= 6);
    json_decref(alone);
    begin_stream(&c, &a);
    json_t *beside = run_exclusive();
    cr_assert(json_integer_value(job_at(beside, "usage.contended_tasks")) >= 6);
    cr_assert(json_integer_value(job_at(beside, "usage.contended_requests_max")) == 1);
    json_decref(beside);
    client_close(&c);
    answer_fini(&a);
    cr_assert(server_end(&server) == 0);
}

// A client that comes during an exclusive job is held back, but not until the job's end.
Test(jobs_kept, exclusive_holds_clients_back_for_a_while)
{
    static const char *const OPTIONS[] = {"--context-max",   "1024", "--threads", "1",
                                          "--jobs-pause-ms", "300",  NULL};
    struct buf body = {0};
    static struct completion c;
    char id[64];
    cr_assert(server_start(&server, OPTIONS));
    job_submit(server.port,
               "{\"type\":\"self_test\",\"spec\":{\"seconds\":600},\"exclusive\":true}", id);
    job_await_samples(server.port, id, 6);
    completion_body(&body, 20, 3, ",\"max_tokens\":1");
    // Where other programs keep the job's thread waiting, its next task may come after the hold has
    // ended; one client of many meets it.
    double ms = 0;
    for (int i = 0; i < 200 && ms < 290; i++) {
        int64_t begun_ns = clock_ns();
        cr_assert(completion_get(&c, server.port, body.data));
        ms = clock_ms_between(begun_ns, clock_ns());
    }
    cr_assert(ms >= 290, "held for %.0f ms only", ms);
    job_await(server.port, id, "running");
    cr_assert(server_end(&server) == 0);
    buf_fini(&body);
}

// What /readyz?strict says, when it has begun to say so; of an exclusive job it may change between any
// two of its samples.
static void await_strict(int status, const char *code)
{
    struct answer a = {0};
    for (int tries = 0; tries < 3000 && a.status != status; tries++) {
        usleep(a.status ? 10000 : 0);
        client_once(&a, server.port, "GET", "/readyz?strict", "", NULL);
    }
    cr_assert(a.status == status && answer_has(&a, code), "%d", a.status);
    cr_assert((status == 503) == (answer_header(&a, "Retry-After") != NULL));
    client_once(&a, server.port, "GET", "/readyz", "", NULL);
    cr_assert(a.status == 200);
    answer_fini(&a);
}

Test(jobs_kept, strict_readiness_ends_while_clients_are_held)
{
    static const char *const OPTIONS[] = {"--context-max", "1024", "--threads", "1", NULL};
    char id[64], path[128];
    int status;
    cr_assert(server_start(&server, OPTIONS));
    await_strict(200, "ok");
    job_submit(server.port,
               "{\"type\":\"self_test\",\"spec\":{\"seconds\":600},\"exclusive\":true}", id);
    await_strict(503, "admission_paused");
    snprintf(path, sizeof path, "/v1/jobs/%s/cancel", id);
    json_decref(job_call(server.port, &status, "POST", path, "", "{}"));
    json_decref(job_end(server.port, id, "cancelled"));
    await_strict(200, "ok");
    cr_assert(server_end(&server) == 0);
}
