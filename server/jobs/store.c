// store.c - see store.h. What is in the file: SCHEMA below.
#include "store.h"

#include <nettle/sha2.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "log.h"
#include "mem.h"

enum {
    APPLICATION_ID = 0x64734A62, // "dsJb", in the file's header
    SCHEMA_VERSION = 1,
    PAGE_BYTES = 4096,
    PAGES_MIN = 32,   // an empty store has a dozen
    PAGES_SPARE = 16, // beyond the limit, to note how a job ended that filled the store
    STORED_DEPTH_MAX = 128,
};

static const char SCHEMA[] =
    "CREATE TABLE job ("
    " id TEXT PRIMARY KEY, type TEXT NOT NULL, status TEXT NOT NULL, priority INTEGER NOT NULL,"
    " timeout_s REAL NOT NULL, exclusive INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
    " started_ms INTEGER NOT NULL, finished_ms INTEGER NOT NULL, cancelled_ms INTEGER NOT NULL,"
    " expires_ms INTEGER NOT NULL, version INTEGER NOT NULL, name TEXT, metadata TEXT,"
    " spec TEXT NOT NULL, environment TEXT, progress TEXT, error TEXT, usage TEXT, verdict TEXT,"
    " key TEXT UNIQUE, request TEXT, n_events INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
    "CREATE INDEX job_queue ON job(priority DESC, id) WHERE status = 'queued';"
    "CREATE TABLE event ("
    " job TEXT NOT NULL REFERENCES job(id) ON DELETE CASCADE, number INTEGER NOT NULL,"
    " at_ms INTEGER NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL,"
    " PRIMARY KEY (job, number)) WITHOUT ROWID;"
    "CREATE INDEX event_progress ON event(job) WHERE kind = 'progress';"
    "CREATE TABLE result ("
    " job TEXT PRIMARY KEY REFERENCES job(id) ON DELETE CASCADE, body TEXT NOT NULL);"
    "CREATE TABLE artifact ("
    " job TEXT NOT NULL REFERENCES job(id) ON DELETE CASCADE, name TEXT NOT NULL,"
    " content_type TEXT NOT NULL, sha256 TEXT NOT NULL, content BLOB NOT NULL,"
    " PRIMARY KEY (job, name));";

#define COLUMNS                                                                                    \
    "id, type, status, priority, timeout_s, exclusive, created_ms, started_ms, finished_ms, "      \
    "cancelled_ms, expires_ms, version, name, metadata, spec, environment, progress, error, "      \
    "usage, verdict"

struct store {
    struct store_options options;
    pthread_mutex_t lock; // guards db
    sqlite3 *db;
};

// --- SQL ------------------------------------------------------------------------------------

// What SQLite's code means for the caller.
static int fail(struct store *s, int code, struct err *e)
{
    const char *text = s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(code);
    switch (code & 0xFF) {
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
        log_event(LOG_WARN, "jobs_db_full", "path=%s text=\"%s\"", s->options.path, text);
        return err_set(e, ERR_STORAGE, "the store of jobs has no room: %s", text);
    case SQLITE_TOOBIG:
        return err_set(e, ERR_TOO_LARGE, "too large for the store of jobs");
    default:
        return err_set(e, ERR_INTERNAL, "the store of jobs: %s", text);
    }
}

// t: const char *, copied; i: int64_t; d: double; j: json_t *, as text; b: const void * and size_t,
// borrowed until the statement is done. NULL pointers become NULL.
static void bind(sqlite3_stmt *st, const char *types, va_list args)
{
    for (int i = 1; *types; types++, i++) {
        const void *p;
        int rc = SQLITE_OK;
        switch (*types) {
        case 'i':
            rc = sqlite3_bind_int64(st, i, va_arg(args, int64_t));
            break;
        case 'd':
            rc = sqlite3_bind_double(st, i, va_arg(args, double));
            break;
        case 't':
            rc = sqlite3_bind_text(st, i, va_arg(args, const char *), -1, SQLITE_TRANSIENT);
            break;
        case 'j':
            rc = sqlite3_bind_text(st, i, job_dump(va_arg(args, const json_t *)), -1, mem_free);
            break;
        case 'b':
            p = va_arg(args, const void *);
            rc = sqlite3_bind_blob64(st, i, p, va_arg(args, size_t), SQLITE_STATIC);
            break;
        default:
            CHECK(!"a letter of bind");
        }
        CHECK(rc == SQLITE_OK || rc == SQLITE_TOOBIG);
    }
}

static sqlite3_stmt *prepare_list(struct store *s, const char *sql, const char *types, va_list args)
{
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK)
        return NULL; // step says why
    bind(st, types, args);
    return st;
}

static sqlite3_stmt *prepare(struct store *s, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    sqlite3_stmt *st = prepare_list(s, sql, types, args);
    va_end(args);
    return st;
}

// 1: a row, 0: no more, -1.
static int step(struct store *s, sqlite3_stmt *st, struct err *e)
{
    int rc = st ? sqlite3_step(st) : sqlite3_errcode(s->db);
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        return rc == SQLITE_ROW;
    return fail(s, rc, e);
}

// A statement without rows, or whose rows nobody wants.
static int run(struct store *s, struct err *e, const char *sql, const char *types, ...)
{
    va_list args;
    va_start(args, types);
    sqlite3_stmt *st = prepare_list(s, sql, types, args);
    va_end(args);
    int got;
    do
        got = step(s, st, e);
    while (got > 0);
    sqlite3_finalize(st);
    return got;
}

static int64_t number(struct store *s, const char *sql)
{
    sqlite3_stmt *st = prepare(s, sql, "");
    int64_t n = step(s, st, NULL) > 0 ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_finalize(st);
    return n;
}

// Lock and begin; end unlocks, and commits unless failed.
static int begin(struct store *s, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    return run(s, e, "BEGIN IMMEDIATE", "");
}

static int end(struct store *s, int failed, struct err *e)
{
    if (!failed)
        failed = run(s, e, "COMMIT", "");
    if (failed && !sqlite3_get_autocommit(s->db))
        (void)run(s, NULL, "ROLLBACK", "");
    pthread_mutex_unlock(&s->lock);
    return failed ? -1 : 0;
}

// --- opening --------------------------------------------------------------------------------

static int refuse(const struct store *s, struct err *e, const char *why)
{
    return err_set(e, ERR_BAD_REQUEST,
                   "--jobs-db %.200s: %.120s; give --jobs-db another file, or ':memory:'",
                   s->options.path, why);
}

static int limit_pages(struct store *s, int spare, struct err *e)
{
    char sql[64];
    int64_t pages = s->options.bytes_max / PAGE_BYTES;
    snprintf(sql, sizeof sql, "PRAGMA max_page_count = %lld",
             (long long)(pages > PAGES_MIN ? pages : PAGES_MIN) + spare);
    return run(s, e, sql, "");
}

// Lock the file for this process before anything of it is believed. In this order: without shared
// memory beside the file, as one process alone uses it; a read takes the lock for good.
static int settle(struct store *s, struct err *e)
{
    static const char *const PRAGMAS[] = {
        "PRAGMA locking_mode = EXCLUSIVE",    "PRAGMA auto_vacuum = INCREMENTAL",
        "PRAGMA journal_mode = WAL",          "PRAGMA synchronous = NORMAL",
        "PRAGMA foreign_keys = ON",           "PRAGMA temp_store = MEMORY",
        "PRAGMA journal_size_limit = 4194304"};
    struct err why = {0};
    for (size_t i = 0; i < sizeof PRAGMAS / sizeof *PRAGMAS; i++)
        if (run(s, &why, PRAGMAS[i], ""))
            return -1;
    if (limit_pages(s, 0, e) || run(s, e, "BEGIN EXCLUSIVE", ""))
        return -1;
    return run(s, e, "COMMIT", "");
}

static int create_tables(struct store *s, struct err *e)
{
    char sql[96];
    snprintf(sql, sizeof sql, "PRAGMA application_id = %d; PRAGMA user_version = %d",
             APPLICATION_ID, SCHEMA_VERSION);
    int rc = sqlite3_exec(s->db, "BEGIN", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(s->db, SCHEMA, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : fail(s, rc, e);
}

static int check_schema(struct store *s, struct err *e)
{
    int64_t version = number(s, "PRAGMA user_version");
    if (number(s, "SELECT count(*) FROM sqlite_schema") == 0)
        return create_tables(s, e);
    if (number(s, "PRAGMA application_id") != APPLICATION_ID)
        return refuse(s, e, "is an SQLite file, but not one of this server's");
    if (version != SCHEMA_VERSION)
        return refuse(s, e, "was written by another version of the server, with another schema");
    return 0;
}

static int open_file(struct store *s, struct err *e)
{
    char why[160];
    int rc =
        sqlite3_open_v2(s->options.path, &s->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK)
        rc = settle(s, NULL) ? sqlite3_extended_errcode(s->db) : SQLITE_OK;
    switch (rc & 0xFF) {
    case SQLITE_OK:
        return check_schema(s, e);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return refuse(s, e, "is in use by another server");
    case SQLITE_NOTADB:
        return refuse(s, e, "is not an SQLite file");
    default:
        snprintf(why, sizeof why, "cannot be used: %.120s",
                 s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc));
        return refuse(s, e, why);
    }
}

struct store *store_open(const struct store_options *o, struct err *e)
{
    struct store *s = mem_zero(1, sizeof *s);
    s->options = *o;
    s->options.path = mem_string(o->path, strlen(o->path));
    CHECK(pthread_mutex_init(&s->lock, NULL) == 0);
    if (open_file(s, e) == 0)
        return s;
    store_close(s);
    return NULL;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    CHECK(sqlite3_close(s->db) == SQLITE_OK);
    pthread_mutex_destroy(&s->lock);
    mem_free((char *)s->options.path);
    mem_free(s);
}

// --- rows -----------------------------------------------------------------------------------

static int read_json(sqlite3_stmt *st, int column, json_t **out, struct err *e)
{
    const char *text = (const char *)sqlite3_column_text(st, column);
    *out = NULL;
    if (!text)
        return 0;
    struct err why;
    *out = json_parse(text, (size_t)sqlite3_column_bytes(st, column), STORED_DEPTH_MAX, &why);
    if (*out)
        return 0;
    return err_set(e, ERR_INTERNAL, "a job's record is damaged (%s): %.200s",
                   sqlite3_column_name(st, column), why.text);
}

static void read_text(sqlite3_stmt *st, int column, char *out, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(st, column);
    snprintf(out, size, "%s", text ? text : "");
}

// A row of COLUMNS.
static int read_job(sqlite3_stmt *st, struct job *j, struct err *e)
{
    char status[16];
    *j = (struct job){0};
    read_text(st, 0, j->id, sizeof j->id);
    read_text(st, 1, j->type, sizeof j->type);
    read_text(st, 2, status, sizeof status);
    int parsed = job_status_parse(status);
    if (parsed < 0)
        return err_set(e, ERR_INTERNAL, "a job's record is damaged (status): '%s'", status);
    j->status = (enum job_status)parsed;
    j->priority = sqlite3_column_int(st, 3);
    j->timeout_s = sqlite3_column_double(st, 4);
    j->exclusive = sqlite3_column_int(st, 5) != 0;
    int64_t *const times[] = {&j->created_ms,   &j->started_ms, &j->finished_ms,
                              &j->cancelled_ms, &j->expires_ms, &j->version};
    for (int i = 0; i < 6; i++)
        *times[i] = sqlite3_column_int64(st, 6 + i);
    json_t **const owned[] = {&j->name,     &j->metadata, &j->spec,  &j->environment,
                              &j->progress, &j->error,    &j->usage, &j->verdict};
    for (int i = 0; i < 8; i++) {
        if (read_json(st, 12 + i, owned[i], e)) {
            job_fini(j);
            return -1;
        }
    }
    return 0;
}

// The one row of st, which is finalised.
static int read_one(struct store *s, sqlite3_stmt *st, struct job *j, struct err *e)
{
    int got = step(s, st, e);
    int result = got > 0 ? read_job(st, j, e) : -1;
    if (got == 0)
        err_set(e, ERR_NOT_FOUND, "there is no such job; it may have been deleted or expired");
    sqlite3_finalize(st);
    return result;
}

// --- events, inside a transaction -----------------------------------------------------------

static int add_event(struct store *s, const char *id, const char *kind, const json_t *data,
                     struct err *e)
{
    if (!strcmp(kind, "progress") &&
        run(s, e, "DELETE FROM event WHERE job = ? AND kind = 'progress'", "t", id))
        return -1;
    if (run(s, e, "UPDATE job SET n_events = n_events + 1 WHERE id = ?", "t", id))
        return -1;
    if (sqlite3_changes(s->db) == 0)
        return err_set(e, ERR_NOT_FOUND, "there is no job '%.40s'", id);
    return run(s, e,
               "INSERT INTO event (job, number, at_ms, kind, data) "
               "SELECT id, n_events, ?, ?, ? FROM job WHERE id = ?",
               "itjt", job_now_ms(), kind, data, id);
}

static int add_state_event(struct store *s, const struct job *j, struct err *e)
{
    json_t *data =
        json_pack("{s:s, s:O?}", "status", job_status_name(j->status), "error", j->error);
    int failed = add_event(s, j->id, "state", data, e);
    json_decref(data);
    return failed;
}

static int add_result(struct store *s, const struct job *j, const char *body, struct err *e)
{
    if (run(s, e, "INSERT OR REPLACE INTO result (job, body) VALUES (?, ?)", "tt", j->id, body))
        return -1;
    json_t *data = json_pack("{s:o, s:O?}", "result_url", json_sprintf("/v1/jobs/%s/result", j->id),
                             "verdict", j->verdict);
    int failed = add_event(s, j->id, "result", data, e);
    json_decref(data);
    return failed;
}

// --- records --------------------------------------------------------------------------------

int store_add(struct store *s, struct job *j, const char *key, const char *request, struct err *e)
{
    j->version = 1;
    j->expires_ms = s->options.keep_ms ? j->created_ms + s->options.keep_ms : 0;
    int failed = begin(s, e) ||
                 run(s, e,
                     "INSERT INTO job (" COLUMNS
                     ", key, request) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                     "tttidiiiiiiijjjjjjjjtt", j->id, j->type, job_status_name(j->status),
                     (int64_t)j->priority, j->timeout_s, (int64_t)j->exclusive, j->created_ms,
                     j->started_ms, j->finished_ms, j->cancelled_ms, j->expires_ms, j->version,
                     j->name, j->metadata, j->spec, j->environment, j->progress, j->error, j->usage,
                     j->verdict, key, key ? request : NULL) ||
                 add_state_event(s, j, e);
    return end(s, failed, e);
}

int store_get(struct store *s, const char *id, struct job *j, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    int failed = read_one(s, prepare(s, "SELECT " COLUMNS " FROM job WHERE id = ?", "t", id), j, e);
    pthread_mutex_unlock(&s->lock);
    return failed;
}

int store_find_key(struct store *s, const char *key, const char *request, struct job *j, bool *same,
                   struct err *e)
{
    pthread_mutex_lock(&s->lock);
    sqlite3_stmt *st =
        prepare(s, "SELECT " COLUMNS ", request = ? FROM job WHERE key = ?", "tt", request, key);
    int got = step(s, st, e);
    if (got > 0)
        *same = sqlite3_column_int(st, 20) == 1;
    int failed = got > 0 ? read_job(st, j, e) : -1;
    if (got == 0)
        err_set(e, ERR_NOT_FOUND, "the key is new");
    sqlite3_finalize(st);
    pthread_mutex_unlock(&s->lock);
    return failed;
}

static int put(struct store *s, struct job *j, const char *event, const char *result, struct err *e)
{
    if (run(s, e,
            "UPDATE job SET status = ?, started_ms = ?, finished_ms = ?, cancelled_ms = ?, "
            "expires_ms = ?, version = version + 1, progress = ?, error = ?, usage = ?, "
            "verdict = ? WHERE id = ?",
            "tiiiijjjjt", job_status_name(j->status), j->started_ms, j->finished_ms,
            j->cancelled_ms, j->expires_ms, j->progress, j->error, j->usage, j->verdict, j->id))
        return -1;
    if (result && add_result(s, j, result, e))
        return -1;
    if (event && !strcmp(event, "progress"))
        return add_event(s, j->id, event, j->progress, e);
    return event ? add_state_event(s, j, e) : 0;
}

int store_put(struct store *s, struct job *j, const char *event, const char *result, struct err *e)
{
    if (j->finished_ms && s->options.keep_ms)
        j->expires_ms = j->finished_ms + s->options.keep_ms;
    int failed = begin(s, e);
    if (!failed && j->finished_ms && !result)
        failed = limit_pages(s, PAGES_SPARE, e);
    failed = end(s, failed || put(s, j, event, result, e), e);
    pthread_mutex_lock(&s->lock);
    (void)limit_pages(s, 0, NULL);
    pthread_mutex_unlock(&s->lock);
    if (!failed)
        j->version++;
    return failed;
}

int store_list(struct store *s, const struct store_filter *f, struct job *jobs, int *n,
               bool *has_more, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    sqlite3_stmt *st =
        prepare(s,
                "SELECT " COLUMNS " FROM job WHERE type = coalesce(?, type) AND "
                "status = coalesce(?, status) AND id < coalesce(?, '~') "
                "ORDER BY id DESC LIMIT ?",
                "ttti", f->type, f->status < 0 ? NULL : job_status_name((enum job_status)f->status),
                f->after, (int64_t)f->limit + 1);
    int got, failed = 0;
    *n = 0;
    *has_more = false;
    while (!failed && (got = step(s, st, e)) != 0) {
        *has_more = *n == f->limit;
        if (got < 0 || *has_more)
            break;
        failed = read_job(st, &jobs[*n], e);
        *n += !failed;
    }
    failed = failed || got < 0;
    sqlite3_finalize(st);
    pthread_mutex_unlock(&s->lock);
    for (; failed && *n > 0; --*n)
        job_fini(&jobs[*n - 1]);
    return failed ? -1 : 0;
}

int store_next(struct store *s, struct job *j, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    int failed = read_one(s,
                          prepare(s,
                                  "SELECT " COLUMNS " FROM job WHERE status = 'queued' "
                                  "ORDER BY priority DESC, id LIMIT 1",
                                  ""),
                          j, e);
    pthread_mutex_unlock(&s->lock);
    return failed;
}

int store_queued(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    int64_t n = number(s, "SELECT count(*) FROM job WHERE status = 'queued'");
    pthread_mutex_unlock(&s->lock);
    return (int)n;
}

int store_position(struct store *s, const struct job *j)
{
    if (j->status != JOB_QUEUED)
        return -1;
    pthread_mutex_lock(&s->lock);
    sqlite3_stmt *st = prepare(s,
                               "SELECT count(*) FROM job WHERE status = 'queued' AND "
                               "(priority > ?1 OR (priority = ?1 AND id < ?2))",
                               "it", (int64_t)j->priority, j->id);
    int n = step(s, st, NULL) > 0 ? sqlite3_column_int(st, 0) : 0;
    sqlite3_finalize(st);
    pthread_mutex_unlock(&s->lock);
    return n;
}

int store_delete(struct store *s, const char *id, struct err *e)
{
    int failed = begin(s, e) || run(s, e, "DELETE FROM job WHERE id = ?", "t", id);
    if (!failed && sqlite3_changes(s->db) == 0)
        failed = err_set(e, ERR_NOT_FOUND, "there is no job '%.40s'", id);
    return end(s, failed, e);
}

// Give a final state to every job that sql finds: it yields a row of COLUMNS, ?1 being the time.
static int finish_all(struct store *s, const char *sql, enum job_status status, json_t *error,
                      struct err *e)
{
    int64_t now = job_now_ms();
    for (;;) {
        struct job j;
        sqlite3_stmt *st = prepare(s, sql, "i", now);
        int got = step(s, st, e);
        int failed = got > 0 ? read_job(st, &j, e) : got;
        sqlite3_finalize(st);
        if (failed || got == 0)
            return failed;
        j.status = status;
        j.finished_ms = now;
        j.expires_ms = s->options.keep_ms ? now + s->options.keep_ms : 0;
        json_decref(j.error);
        j.error = json_incref(error);
        failed = put(s, &j, "state", NULL, e);
        log_event(LOG_INFO, "job", "id=%s status=%s", j.id, job_status_name(status));
        job_fini(&j);
        if (failed)
            return -1;
    }
}

int store_recover(struct store *s, struct err *e)
{
    json_t *error = job_error("server_restarted",
                              "the server ended while the job ran; samples taken until then are "
                              "kept, submit the job again for the rest",
                              NULL);
    int failed =
        begin(s, e) || finish_all(s,
                                  "SELECT " COLUMNS " FROM job "
                                  "WHERE status IN ('running', 'cancelling') AND 0 < ?1 LIMIT 1",
                                  JOB_FAILED, error, e);
    json_decref(error);
    return end(s, failed, e);
}

// --- retention ------------------------------------------------------------------------------

static int64_t bytes_used(struct store *s)
{
    return (number(s, "PRAGMA page_count") - number(s, "PRAGMA freelist_count")) * PAGE_BYTES;
}

// A quarter of the room is for what comes next. The newest is spared: whoever waits for a job that
// filled the store would not find it.
static int make_room(struct store *s, struct err *e)
{
    const int64_t most = s->options.bytes_max - s->options.bytes_max / 4;
    for (int deleted = 1; deleted && bytes_used(s) > most;) {
        if (run(s, e,
                "DELETE FROM job WHERE id = (SELECT id FROM job WHERE finished_ms > 0 "
                "ORDER BY finished_ms, id LIMIT 1) AND "
                "(SELECT count(*) FROM job WHERE finished_ms > 0) > 1",
                ""))
            return -1;
        deleted = sqlite3_changes(s->db);
    }
    return 0;
}

static int retain(struct store *s, json_t *error, struct err *e)
{
    if (finish_all(s,
                   "SELECT " COLUMNS " FROM job "
                   "WHERE status = 'queued' AND expires_ms BETWEEN 1 AND ?1 LIMIT 1",
                   JOB_EXPIRED, error, e))
        return -1;
    if (run(s, e, "DELETE FROM job WHERE finished_ms > 0 AND expires_ms BETWEEN 1 AND ?", "i",
            job_now_ms()) ||
        run(s, e,
            "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE finished_ms > 0 "
            "ORDER BY id DESC LIMIT -1 OFFSET ?)",
            "i", (int64_t)s->options.jobs_max))
        return -1;
    return make_room(s, e);
}

void store_retain(struct store *s)
{
    struct err e = {0};
    json_t *error = job_error("expired", "the job waited longer than jobs are kept", NULL);
    int failed = begin(s, &e) || retain(s, error, &e);
    json_decref(error);
    if (end(s, failed, &e)) {
        log_event(LOG_WARN, "jobs_not_removed", "text=\"%s\"", e.text);
        return;
    }
    pthread_mutex_lock(&s->lock);
    (void)run(s, NULL, "PRAGMA incremental_vacuum", "");
    pthread_mutex_unlock(&s->lock);
}

// --- events ---------------------------------------------------------------------------------

int store_event(struct store *s, const char *id, const char *kind, const json_t *data,
                struct err *e)
{
    return end(s, begin(s, e) || add_event(s, id, kind, data, e), e);
}

int store_events(struct store *s, const struct store_page *p, store_take_event *take, void *ud,
                 bool *more, struct err *e)
{
    size_t bytes = 0;
    int got, n = 0;
    pthread_mutex_lock(&s->lock);
    sqlite3_stmt *st = prepare(s,
                               "SELECT number, at_ms, kind, data FROM event WHERE job = ? AND "
                               "number > ? AND kind = coalesce(?, kind) ORDER BY number",
                               "tit", p->id, p->after, p->kind);
    *more = false;
    while ((got = step(s, st, e)) > 0) {
        *more = n == p->limit || bytes > p->bytes_max;
        if (*more)
            break;
        take(ud, sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
             (const char *)sqlite3_column_text(st, 2), (const char *)sqlite3_column_text(st, 3));
        bytes += (size_t)sqlite3_column_bytes(st, 3);
        n++;
    }
    sqlite3_finalize(st);
    pthread_mutex_unlock(&s->lock);
    return got < 0 ? -1 : 0;
}

// --- results and artifacts ------------------------------------------------------------------

static void add_column(sqlite3_stmt *st, int column, struct buf *out)
{
    const void *bytes = sqlite3_column_blob(st, column);
    int n = sqlite3_column_bytes(st, column);
    if (n > 0)
        buf_add(out, bytes, (size_t)n);
}

int store_result(struct store *s, const char *id, struct buf *out, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    sqlite3_stmt *st = prepare(s, "SELECT body FROM result WHERE job = ?", "t", id);
    int got = step(s, st, e);
    if (got > 0)
        add_column(st, 0, out);
    if (got == 0)
        err_set(e, ERR_NOT_FOUND, "the job has no result");
    sqlite3_finalize(st);
    pthread_mutex_unlock(&s->lock);
    return got > 0 ? 0 : -1;
}

static void hash(const void *data, size_t n, char out[static 65])
{
    struct sha256_ctx c;
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_init(&c);
    sha256_update(&c, n, data);
    sha256_digest(&c, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

int store_add_artifact(struct store *s, const char *id, struct store_artifact *a, struct err *e)
{
    hash(a->data, a->n, a->sha256);
    int failed = begin(s, e) ||
                 run(s, e,
                     "INSERT OR REPLACE INTO artifact "
                     "(job, name, content_type, sha256, content) "
                     "VALUES (?, ?, ?, ?, ?)",
                     "ttttb", id, a->name, a->content_type, a->sha256, a->n ? a->data : "", a->n);
    return end(s, failed, e);
}

#define ARTIFACT_COLUMNS "name, content_type, sha256, length(content)"

static json_t *read_artifact(sqlite3_stmt *st)
{
    return json_pack("{s:s, s:s, s:s, s:I}", "name", sqlite3_column_text(st, 0), "content_type",
                     sqlite3_column_text(st, 1), "sha256", sqlite3_column_text(st, 2), "bytes",
                     (json_int_t)sqlite3_column_int64(st, 3));
}

json_t *store_artifacts(struct store *s, const char *id, struct err *e)
{
    json_t *list = json_array();
    int got;
    pthread_mutex_lock(&s->lock);
    sqlite3_stmt *st = prepare(
        s, "SELECT " ARTIFACT_COLUMNS " FROM artifact WHERE job = ? ORDER BY name", "t", id);
    while ((got = step(s, st, e)) > 0)
        json_array_append_new(list, read_artifact(st));
    sqlite3_finalize(st);
    pthread_mutex_unlock(&s->lock);
    if (got == 0)
        return list;
    json_decref(list);
    return NULL;
}

json_t *store_artifact(struct store *s, const char *id, const char *name, struct buf *out,
                       struct err *e)
{
    json_t *found = NULL;
    pthread_mutex_lock(&s->lock);
    sqlite3_stmt *st =
        prepare(s, "SELECT " ARTIFACT_COLUMNS ", content FROM artifact WHERE job = ? AND name = ?",
                "tt", id, name);
    int got = step(s, st, e);
    if (got > 0) {
        found = read_artifact(st);
        add_column(st, 4, out);
    }
    if (got == 0)
        err_set(e, ERR_NOT_FOUND, "the job has no artifact '%.100s'", name);
    sqlite3_finalize(st);
    pthread_mutex_unlock(&s->lock);
    return found;
}
