// job.c - see job.h.
#define _GNU_SOURCE
#include "job.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "mem.h"

void job_fini(struct job *j)
{
    json_t *const owned[] = {j->name,     j->metadata, j->spec,  j->environment,
                             j->progress, j->error,    j->usage, j->verdict};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        json_decref(owned[i]);
    *j = (struct job){0};
}

void job_copy(struct job *out, const struct job *j)
{
    *out = *j;
    json_t **const owned[] = {&out->name,     &out->metadata, &out->spec,  &out->environment,
                              &out->progress, &out->error,    &out->usage, &out->verdict};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        *owned[i] = json_deep_copy(*owned[i]); // NULL for NULL
}

static const char *const NAMES[] = {
#define X(symbol, name) name,
    JOB_STATUSES(X)
#undef X
};

bool job_is_final(enum job_status status)
{
    return status >= JOB_SUCCEEDED;
}

const char *job_status_name(enum job_status status)
{
    return NAMES[status];
}

int job_status_parse(const char *name)
{
    for (int i = 0; i < JOB_STATUS_N; i++)
        if (!strcmp(NAMES[i], name))
            return i;
    return -1;
}

int64_t job_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// --- ids ------------------------------------------------------------------------------------

// Crockford's alphabet; ids are ULIDs: 48 bits of milliseconds and 80 random ones, so that their order
// as text is the order of creation.
static const char ALPHABET[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
enum { TIME_DIGITS = 10, RANDOM_DIGITS = 16, PREFIX = 4 };

void job_make_id(char id[static JOB_ID_BYTES])
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int64_t last_ms;
    uint8_t random[RANDOM_DIGITS];
    CHECK(getentropy(random, sizeof random) == 0);
    int64_t ms = job_now_ms();
    pthread_mutex_lock(&lock);
    last_ms = ms > last_ms ? ms : last_ms + 1; // two of one millisecond, or a clock set back
    ms = last_ms;
    pthread_mutex_unlock(&lock);
    memcpy(id, "job_", PREFIX);
    for (int i = TIME_DIGITS - 1; i >= 0; i--, ms >>= 5)
        id[PREFIX + i] = ALPHABET[ms & 31];
    for (int i = 0; i < RANDOM_DIGITS; i++)
        id[PREFIX + TIME_DIGITS + i] = ALPHABET[random[i] & 31];
    id[PREFIX + TIME_DIGITS + RANDOM_DIGITS] = '\0';
}

bool job_id_is_valid(const char *id)
{
    return !strncmp(id, "job_", PREFIX) &&
           strspn(id + PREFIX, ALPHABET) == TIME_DIGITS + RANDOM_DIGITS &&
           id[PREFIX + TIME_DIGITS + RANDOM_DIGITS] == '\0';
}

// --- JSON -----------------------------------------------------------------------------------

json_t *job_text(const char *text)
{
    json_t *v = json_string(text);
    if (v)
        return v;
    struct buf quoted = {0};
    json_quote(&quoted, text, strlen(text));
    v = json_loadb(quoted.data, quoted.n, JSON_DECODE_ANY, NULL);
    buf_fini(&quoted);
    CHECK(v != NULL);
    return v;
}

json_t *job_error(const char *code, const char *message, const char *param)
{
    return json_pack("{s:s, s:o, s:o}", "code", code, "message", job_text(message), "param",
                     param && *param ? job_text(param) : json_null());
}

// Seconds since 1970, as OpenAI's objects have them.
static json_t *at(int64_t ms)
{
    return ms ? json_integer(ms / 1000) : json_null();
}

static json_t *or_null(json_t *v)
{
    return v ? json_incref(v) : json_null();
}

json_t *job_json(const struct job *j, int position)
{
    json_t *o = json_object();
    struct {
        const char *name;
        json_t *value;
    } const fields[] = {
        {"id", json_string(j->id)},
        {"object", json_string("job")},
        {"type", json_string(j->type)},
        {"status", json_string(job_status_name(j->status))},
        {"name", or_null(j->name)},
        {"created_at", at(j->created_ms)},
        {"started_at", at(j->started_ms)},
        {"finished_at", at(j->finished_ms)},
        {"cancelled_at", at(j->cancelled_ms)},
        {"expires_at", at(j->expires_ms)},
        {"queue_position", position >= 0 ? json_integer(position) : json_null()},
        {"progress", or_null(j->progress)},
        {"verdict", or_null(j->verdict)},
        {"error", or_null(j->error)},
        {"spec", or_null(j->spec)},
        {"priority", json_integer(j->priority)},
        {"timeout_s", json_real(j->timeout_s)},
        {"exclusive", json_boolean(j->exclusive)},
        {"metadata", or_null(j->metadata)},
        {"environment", or_null(j->environment)},
        {"usage", or_null(j->usage)},
        {"result_url", json_sprintf("/v1/jobs/%s/result", j->id)},
        {"events_url", json_sprintf("/v1/jobs/%s/events", j->id)},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        json_object_set_new(o, fields[i].name, fields[i].value);
    return o;
}

static int add_bytes(const char *bytes, size_t n, void *out)
{
    buf_add(out, bytes, n);
    return 0;
}

void job_write(struct buf *out, const json_t *v)
{
    enum { DIGITS = 12 };
    CHECK(json_dump_callback(v, add_bytes, out,
                             JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(DIGITS)) == 0);
}

char *job_dump(const json_t *v)
{
    struct buf text = {0};
    if (!v)
        return NULL;
    job_write(&text, v);
    return buf_take(&text);
}
