// job_client.c - see job_client.h.
#define _GNU_SOURCE
#include "job_client.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

enum { PATIENCE_MS = 300000 }; // sanitizers on a busy machine

json_t *job_call(int port, int *status, const char *method, const char *path, const char *headers,
                 const char *body)
{
    struct answer a = {0};
    client_once(&a, port, method, path, headers, body);
    *status = a.status;
    json_t *v = a.body.n ? json_loadb(a.body.data, a.body.n, 0, NULL) : NULL;
    answer_fini(&a);
    return v;
}

json_t *job_at(const json_t *o, const char *path)
{
    char key[64];
    while (o && *path) {
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        o = json_is_array(o) ? json_array_get(o, strtoul(key, NULL, 10)) : json_object_get(o, key);
        path += n + (path[n] == '.');
    }
    return (json_t *)o;
}

const char *job_text(const json_t *o, const char *path)
{
    const char *text = json_string_value(job_at(o, path));
    return text ? text : "";
}

void job_submit(int port, const char *body, char *id)
{
    int status;
    json_t *job = job_call(port, &status, "POST", "/v1/jobs", "", body);
    cr_assert(status == 202 || status == 200, "%d for %s: %s", status, body,
              job_text(job, "error.message"));
    snprintf(id, 64, "%s", job_text(job, "id"));
    json_decref(job);
}

static json_t *get(int port, const char *id, const char *query)
{
    char path[128];
    int status;
    snprintf(path, sizeof path, "/v1/jobs/%s%s", id, query);
    json_t *job = job_call(port, &status, "GET", path, "", NULL);
    cr_assert(status == 200, "%s: %d", path, status);
    return job;
}

json_t *job_end(int port, const char *id, const char *status)
{
    int64_t begun_ns = clock_ns();
    json_t *job = get(port, id, "?wait=20");
    while (json_is_null(json_object_get(job, "finished_at"))) {
        cr_assert(clock_ms_between(begun_ns, clock_ns()) < PATIENCE_MS, "%s is %s", id,
                  job_text(job, "status"));
        json_decref(job);
        job = get(port, id, "?wait=20");
    }
    cr_assert_str_eq(job_text(job, "status"), status, "%s is %s (%s)", id, job_text(job, "status"),
                     job_text(job, "error.message"));
    return job;
}

void job_await(int port, const char *id, const char *status)
{
    int64_t begun_ns = clock_ns();
    for (bool there = false; !there; usleep(5000)) {
        json_t *job = get(port, id, "");
        there = !strcmp(job_text(job, "status"), status);
        cr_assert(clock_ms_between(begun_ns, clock_ns()) < PATIENCE_MS, "%s is %s", id,
                  job_text(job, "status"));
        json_decref(job);
    }
}

void job_await_samples(int port, const char *id, int n)
{
    char path[128];
    int64_t begun_ns = clock_ns();
    snprintf(path, sizeof path, "/v1/jobs/%s/events?format=json&limit=1000", id);
    for (int found = 0; found < n; usleep(5000)) {
        int status;
        json_t *page = job_call(port, &status, "GET", path, "", NULL), *event;
        size_t i;
        found = 0;
        json_array_foreach(json_object_get(page, "data"), i, event) found +=
            !strcmp(job_text(event, "event"), "sample");
        cr_assert(clock_ms_between(begun_ns, clock_ns()) < PATIENCE_MS);
        json_decref(page);
    }
}
