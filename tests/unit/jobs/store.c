// Tests of server/jobs/store.c: what is written is read, in order, after reopening, within the limits.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "job_rig.h"
#include "mem.h"

static char path[64];
static struct store_options options;
static struct store *store;

static void open_store(void)
{
    struct err e = {0};
    store = store_open(&options, &e);
    cr_assert(store != NULL, "%s", e.text);
}

static void setup(void)
{
    snprintf(path, sizeof path, "/tmp/deltaserve-unit-store-%d.sqlite", (int)getpid());
    options = (struct store_options){.path = path, .bytes_max = 16 << 20, .jobs_max = 100};
    open_store();
}

static void teardown(void)
{
    char wal[80];
    store_close(store);
    snprintf(wal, sizeof wal, "%s-wal", path);
    unlink(wal);
    unlink(path);
}

static void reopen(void)
{
    store_close(store);
    open_store();
}

TestSuite(store, .init = setup, .fini = teardown);

static void add(struct job *j, const char *type)
{
    struct err e = {0};
    *j = rig_new_job(type);
    cr_assert(store_add(store, j, NULL, NULL, &e) == 0, "%s", e.text);
}

static void finish_job(struct job *j, int64_t at_ms)
{
    struct err e = {0};
    j->status = JOB_SUCCEEDED;
    j->finished_ms = at_ms;
    cr_assert(store_put(store, j, "state", "{\"verdict\":null}", &e) == 0, "%s", e.text);
}

Test(store, a_record_comes_back)
{
    struct err e = {0};
    struct job j = rig_new_job("self_test"), back;
    j.priority = -3;
    j.exclusive = true;
    j.timeout_s = 2.5;
    j.name = json_string("n\xC3\xA4me");
    j.metadata = json_pack("{s:s}", "nul", "x");
    j.environment = json_pack("{s:f}", "third", 1.0 / 3);
    cr_assert(store_add(store, &j, "key", "request", &e) == 0, "%s", e.text);
    j.status = JOB_RUNNING;
    j.started_ms = 12345;
    j.progress = json_pack("{s:i}", "done", 7);
    j.usage = json_pack("[i]", 1);
    cr_assert(store_put(store, &j, "progress", NULL, &e) == 0);
    reopen();
    cr_assert(store_get(store, j.id, &back, &e) == 0, "%s", e.text);
    cr_assert_str_eq(back.type, "self_test");
    cr_assert(back.status == JOB_RUNNING && back.priority == -3 && back.exclusive);
    cr_assert(back.timeout_s == 2.5 && back.started_ms == 12345 &&
              back.created_ms == j.created_ms && back.version == 2 && j.version == 2);
    cr_assert(json_equal(back.name, j.name) && json_equal(back.metadata, j.metadata));
    cr_assert(json_equal(back.progress, j.progress) && json_equal(back.usage, j.usage));
    cr_assert(!back.error && !back.verdict);
    job_fini(&back);
    cr_assert(store_get(store, "job_other", &back, &e) == -1 && e.code == ERR_NOT_FOUND);
    job_fini(&j);
}

Test(store, keys)
{
    struct err e = {0};
    struct job j = rig_new_job("self_test"), other = rig_new_job("self_test"), found;
    bool same;
    cr_assert(store_add(store, &j, "key", "request", &e) == 0);
    cr_assert(store_find_key(store, "key", "request", &found, &same, &e) == 0 && same);
    cr_assert_str_eq(found.id, j.id);
    job_fini(&found);
    cr_assert(store_find_key(store, "key", "another", &found, &same, &e) == 0 && !same);
    job_fini(&found);
    cr_assert(store_find_key(store, "yek", "request", &found, &same, &e) == -1);
    cr_assert(e.code == ERR_NOT_FOUND);
    cr_assert(store_add(store, &other, "key", "request", &e) == -1, "a key stands for one job");
    cr_assert(store_delete(store, j.id, &e) == 0);
    cr_assert(store_find_key(store, "key", "request", &found, &same, &e) == -1);
    job_fini(&j);
    job_fini(&other);
}

Test(store, the_queue_goes_by_priority_then_age)
{
    static const int PRIORITIES[] = {0, 5, -1, 5, 0}, ORDER[] = {1, 3, 0, 4, 2};
    struct err e = {0};
    struct job jobs[5], next;
    for (int i = 0; i < 5; i++) {
        jobs[i] = rig_new_job("self_test");
        jobs[i].priority = PRIORITIES[i];
        cr_assert(store_add(store, &jobs[i], NULL, NULL, &e) == 0);
    }
    for (int i = 0; i < 5; i++) {
        struct job *j = &jobs[ORDER[i]];
        cr_assert(store_queued(store) == 5 - i);
        cr_assert(store_position(store, j) == 0);
        cr_assert(store_next(store, &next, &e) == 0);
        cr_assert_str_eq(next.id, j->id);
        job_fini(&next);
        j->status = JOB_RUNNING;
        cr_assert(store_put(store, j, "state", NULL, &e) == 0);
        cr_assert(store_position(store, j) == -1);
    }
    cr_assert(store_next(store, &next, &e) == -1 && e.code == ERR_NOT_FOUND);
    for (int i = 0; i < 5; i++)
        job_fini(&jobs[i]);
}

Test(store, lists)
{
    struct err e = {0};
    struct job jobs[6], page[4];
    int n;
    bool more;
    for (int i = 0; i < 6; i++)
        add(&jobs[i], i % 2 ? "odd" : "even");
    finish_job(&jobs[2], job_now_ms());
    struct store_filter f = {.status = -1, .limit = 4};
    cr_assert(store_list(store, &f, page, &n, &more, &e) == 0 && n == 4 && more);
    cr_assert_str_eq(page[0].id, jobs[5].id);
    cr_assert_str_eq(page[3].id, jobs[2].id);
    for (int i = 0; i < n; i++)
        job_fini(&page[i]);
    f.after = jobs[2].id;
    cr_assert(store_list(store, &f, page, &n, &more, &e) == 0 && n == 2 && !more);
    for (int i = 0; i < n; i++)
        job_fini(&page[i]);
    f = (struct store_filter){.type = "even", .status = JOB_QUEUED, .limit = 4};
    cr_assert(store_list(store, &f, page, &n, &more, &e) == 0 && n == 2 && !more);
    for (int i = 0; i < n; i++)
        job_fini(&page[i]);
    for (int i = 0; i < 6; i++)
        job_fini(&jobs[i]);
}

// --- events ---------------------------------------------------------------------------------

struct seen {
    int n;
    int64_t first, last;
    char kinds[256];
};

static void see(void *ud, int64_t number, int64_t at_ms, const char *kind, const char *data)
{
    struct seen *s = ud;
    cr_assert(number > s->last && at_ms > 0 && data[0] == '{');
    s->first = s->n++ ? s->first : number;
    s->last = number;
    size_t n = strlen(s->kinds);
    snprintf(s->kinds + n, sizeof s->kinds - n, "%c",
             kind[1]); // s(t)ate, p(r)ogress, s(a)mple, l(o)g
}

static struct seen look(const char *id, int64_t after, int limit, bool *more)
{
    struct err e = {0};
    struct seen s = {0};
    const struct store_page p = {.id = id, .after = after, .limit = limit, .bytes_max = SIZE_MAX};
    cr_assert(store_events(store, &p, see, &s, more, &e) == 0, "%s", e.text);
    return s;
}

Test(store, events_are_numbered_and_progress_replaces_itself)
{
    struct err e = {0};
    struct job j;
    bool more;
    json_t *data = json_pack("{s:i}", "n", 1);
    add(&j, "self_test");
    for (int i = 0; i < 4; i++) {
        j.progress = j.progress ? j.progress : json_incref(data);
        cr_assert(store_put(store, &j, "progress", NULL, &e) == 0);
        cr_assert(store_event(store, j.id, "sample", data, &e) == 0);
    }
    cr_assert(store_event(store, j.id, "log", data, &e) == 0);
    struct seen all = look(j.id, 0, INT_MAX, &more);
    cr_assert_str_eq(all.kinds, "taaarao");
    cr_assert(all.last == 10 && !more);
    struct seen some = look(j.id, 3, 2, &more);
    cr_assert(some.n == 2 && some.first > 3 && more);
    reopen();
    cr_assert(store_event(store, j.id, "log", data, &e) == 0);
    cr_assert(look(j.id, all.last, INT_MAX, &more).first == 11);
    cr_assert(store_event(store, "job_none", "log", data, &e) == -1 && e.code == ERR_NOT_FOUND);
    json_decref(data);
    job_fini(&j);
}

// --- results and artifacts ------------------------------------------------------------------

Test(store, artifacts_have_their_hash)
{
    struct err e = {0};
    struct job j;
    struct buf bytes = {0};
    add(&j, "self_test");
    struct store_artifact a = {"a.bin", "application/octet-stream", "ab\0c", 4, ""};
    cr_assert(store_add_artifact(store, j.id, &a, &e) == 0);
    a = (struct store_artifact){"empty", "text/plain", NULL, 0, ""};
    cr_assert(store_add_artifact(store, j.id, &a, &e) == 0);
    // Of no bytes: FIPS 180-4's.
    cr_assert_str_eq(a.sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    a = (struct store_artifact){"a.bin", "text/plain", "abc", 3, ""};
    cr_assert(store_add_artifact(store, j.id, &a, &e) == 0);
    json_t *list = store_artifacts(store, j.id, &e);
    cr_assert(json_array_size(list) == 2);
    json_decref(list);
    json_t *one = store_artifact(store, j.id, "a.bin", &bytes, &e);
    cr_assert(one && bytes.n == 3 && !memcmp(bytes.data, "abc", 3));
    cr_assert_str_eq(json_string_value(json_object_get(one, "sha256")),
                     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    json_decref(one);
    cr_assert(!store_artifact(store, j.id, "b", &bytes, &e) && e.code == ERR_NOT_FOUND);
    cr_assert(store_delete(store, j.id, &e) == 0);
    cr_assert(!store_artifact(store, j.id, "a.bin", &bytes, &e));
    buf_fini(&bytes);
    job_fini(&j);
}

// --- limits ---------------------------------------------------------------------------------

static bool is_there(const struct job *j)
{
    struct err e = {0};
    struct job found;
    if (store_get(store, j->id, &found, &e))
        return false;
    job_fini(&found);
    return true;
}

Test(store, what_is_old_goes)
{
    struct job old, recent, waits, found;
    struct err e = {0};
    options.keep_ms = 1000000;
    reopen();
    add(&old, "self_test");
    add(&recent, "self_test");
    waits = rig_new_job("self_test");
    waits.created_ms = 1;
    cr_assert(store_add(store, &waits, NULL, NULL, &e) == 0);
    finish_job(&old, job_now_ms() - 1000001);
    finish_job(&recent, job_now_ms());
    store_retain(store);
    cr_assert(!is_there(&old) && is_there(&recent));
    cr_assert(store_get(store, waits.id, &found, &e) == 0 && found.status == JOB_EXPIRED);
    cr_assert(found.finished_ms > 0 && found.error);
    job_fini(&found);
    job_fini(&old);
    job_fini(&recent);
    job_fini(&waits);
}

static void add_large(struct job *j, size_t bytes)
{
    struct err e = {0};
    char *data = mem_zero(bytes, 1);
    struct store_artifact a = {"a", "text/plain", data, bytes, ""};
    add(j, "self_test");
    cr_assert(store_add_artifact(store, j->id, &a, &e) == 0, "%s", e.text);
    finish_job(j, job_now_ms());
    mem_free(data);
}

Test(store, the_oldest_make_room)
{
    struct job jobs[4];
    options.bytes_max = 1 << 20;
    reopen();
    for (int i = 0; i < 4; i++) {
        add_large(&jobs[i], 300 << 10);
        store_retain(store);
        cr_assert(is_there(&jobs[i]));
    }
    cr_assert(!is_there(&jobs[0]) && !is_there(&jobs[1]) && is_there(&jobs[2]));
    for (int i = 0; i < 4; i++)
        job_fini(&jobs[i]);
}

// Full: an error that says so, the store as it was, an end can still be noted, and a deletion helps.
Test(store, full)
{
    struct err e = {0};
    struct job j, more;
    int n = 0;
    json_t *data = json_object();
    char text[3000] = "";
    options.bytes_max = 1 << 18;
    reopen();
    memset(text, 'x', sizeof text - 1);
    json_object_set_new(data, "text", json_string(text));
    add(&j, "self_test");
    while (store_event(store, j.id, "sample", data, &e) == 0)
        n++;
    cr_assert(e.code == ERR_STORAGE && n > 40 && n < 64, "%d events: %s", n, e.text);
    bool any;
    cr_assert(look(j.id, 1, INT_MAX, &any).n == n, "a failed call left something");
    more = rig_new_job("self_test");
    more.metadata = json_incref(data);
    cr_assert(store_add(store, &more, NULL, NULL, &e) == -1 && e.code == ERR_STORAGE);
    cr_assert(!is_there(&more));
    j.error = job_error("storage_full", text, NULL);
    j.status = JOB_FAILED;
    j.finished_ms = job_now_ms();
    cr_assert(store_put(store, &j, "state", NULL, &e) == 0, "%s", e.text);
    store_retain(store);
    cr_assert(is_there(&j), "whoever waits for it would not find it");
    cr_assert(store_delete(store, j.id, &e) == 0);
    cr_assert(store_add(store, &more, NULL, NULL, &e) == 0, "%s", e.text);
    json_decref(data);
    job_fini(&j);
    job_fini(&more);
}

Test(store, recover_fails_what_ran)
{
    struct err e = {0};
    struct job jobs[3], found;
    for (int i = 0; i < 3; i++) {
        add(&jobs[i], "self_test");
        jobs[i].status = i == 1 ? JOB_CANCELLING : i ? JOB_QUEUED : JOB_RUNNING;
        cr_assert(store_put(store, &jobs[i], NULL, NULL, &e) == 0);
    }
    reopen();
    cr_assert(store_recover(store, &e) == 0, "%s", e.text);
    for (int i = 0; i < 3; i++) {
        cr_assert(store_get(store, jobs[i].id, &found, &e) == 0);
        cr_assert(found.status == (i == 2 ? JOB_QUEUED : JOB_FAILED));
        cr_assert(i == 2 || !strcmp(json_string_value(json_object_get(found.error, "code")),
                                    "server_restarted"));
        job_fini(&found);
        job_fini(&jobs[i]);
    }
}

Test(store, files_of_others)
{
    struct err e = {0};
    cr_assert(store_open(&options, &e) == NULL && strstr(e.text, "in use"), "%s", e.text);
    store_close(store);
    cr_assert(truncate(path, 0) == 0);
    FILE *f = fopen(path, "w");
    cr_assert(f &&
              fputs("this is a letter to a friend, and no database at all; it is long enough "
                    "to have a header of a hundred bytes, which is looked at first",
                    f) >= 0 &&
              fclose(f) == 0);
    cr_assert(store_open(&options, &e) == NULL && strstr(e.text, "not an SQLite file"), "%s",
              e.text);
    cr_assert(strstr(e.text, path) && strstr(e.text, "--jobs-db"));
    cr_assert(truncate(path, 0) == 0);
    open_store(); // an empty file is a new store
}
