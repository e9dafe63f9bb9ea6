// job_request.c - see job_request.h.
#include "job_request.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "json.h"

// As OpenAI limits metadata.
enum { METADATA_KEYS = 16, METADATA_KEY_BYTES = 64, METADATA_VALUE_BYTES = 512 };
enum { NAME_BYTES = 200, PRIORITY_MAX = 10 };

struct fields {
    const char *type, *name;
    json_t *spec, *metadata;
    int64_t priority;
    double timeout_s;
    json_t *exclusive;
    bool validate_only;
};

#define AT(member) offsetof(struct fields, member)

static const struct json_field FIELDS[] = {
    {"type", JSON_KIND_STR, AT(type), 1, 64, 0, true},
    {"spec", JSON_KIND_OBJECT, AT(spec), 0, 1e6, 0, false},
    {"name", JSON_KIND_STR, AT(name), 1, NAME_BYTES, 0, false},
    {"metadata", JSON_KIND_OBJECT, AT(metadata), 0, METADATA_KEYS, 0, false},
    {"priority", JSON_KIND_INT, AT(priority), -PRIORITY_MAX, PRIORITY_MAX, 0, false},
    {"timeout_s", JSON_KIND_NUM, AT(timeout_s), 0, 1e9, 0, false},
    {"exclusive", JSON_KIND_ANY, AT(exclusive), 0, 0, 0, false},
    {"validate_only", JSON_KIND_BOOL, AT(validate_only), 0, 0, false, false},
};
enum { N_FIELDS = sizeof FIELDS / sizeof *FIELDS };

#undef AT

static int refuse_unknown(json_t *body, struct err *e)
{
    const char *key;
    json_t *value;
    json_object_foreach(body, key, value)
    {
        bool known = false;
        for (int i = 0; i < N_FIELDS; i++)
            known = known || !strcmp(FIELDS[i].name, key);
        if (!known)
            return err_field(e, ERR_BAD_REQUEST, key,
                             "'%.100s' is not a field of a job; there are type, spec, name, "
                             "metadata, priority, timeout_s, exclusive, validate_only",
                             key);
    }
    return 0;
}

static int check_metadata(json_t *metadata, struct err *e)
{
    const char *key;
    json_t *value;
    char found[64];
    json_object_foreach(metadata, key, value)
    {
        if (strlen(key) > METADATA_KEY_BYTES)
            return err_field(e, ERR_BAD_REQUEST, "metadata",
                             "a key of metadata has %zu bytes; %d are allowed", strlen(key),
                             METADATA_KEY_BYTES);
        if (!json_is_string(value) || json_string_length(value) > METADATA_VALUE_BYTES)
            return err_field(e, ERR_BAD_REQUEST, "metadata",
                             "metadata.%s is %s; send a string of at most %d bytes", key,
                             json_describe(value, found, sizeof found), METADATA_VALUE_BYTES);
    }
    return 0;
}

static int find_type(const char *name, const struct job_type **type, struct err *e)
{
    char names[256];
    size_t n = 0;
    *type = job_type_find(name);
    if (*type)
        return 0;
    for (int i = 0; i < JOB_TYPES_N && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "",
                              JOB_TYPES[i]->name);
    return err_field(e, ERR_BAD_REQUEST, "type", "type '%.64s' is not a kind of job; there are %s",
                     name, names);
}

// exclusive has no default of its own: left out, it is the type's.
static int read_exclusive(const json_t *v, const struct job_type *type, bool *out, struct err *e)
{
    char found[64];
    *out = json_is_true(v) || (!json_is_false(v) && type->exclusive);
    if (!v || json_is_null(v) || json_is_boolean(v))
        return 0;
    return err_field(e, ERR_BAD_REQUEST, "exclusive", "exclusive is %s; send true or false",
                     json_describe(v, found, sizeof found));
}

static int read_fields(double timeout_max_s, json_t *body, struct fields *f, struct job_request *r,
                       struct err *e)
{
    if (refuse_unknown(body, e) || json_read(FIELDS, N_FIELDS, body, "", f, e) ||
        find_type(f->type, &r->type, e) || check_metadata(f->metadata, e) ||
        read_exclusive(f->exclusive, r->type, &r->exclusive, e))
        return -1;
    if (f->timeout_s > timeout_max_s)
        return err_field(e, ERR_BAD_REQUEST, "timeout_s",
                         "timeout_s is %g; this server allows %g at most", f->timeout_s,
                         timeout_max_s);
    r->timeout_s = f->timeout_s > 0 ? f->timeout_s : timeout_max_s;
    r->priority = (int)f->priority;
    r->validate_only = f->validate_only;
    return 0;
}

int job_request_read(const struct job_node *node, double timeout_max_s, json_t *body,
                     struct job_request *r, struct err *e)
{
    struct fields f;
    *r = (struct job_request){0};
    if (read_fields(timeout_max_s, body, &f, r, e))
        return -1;
    json_t *spec = f.spec ? json_incref(f.spec) : json_object();
    r->spec = r->type->expand(node, spec, e);
    json_decref(spec);
    if (!r->spec)
        return -1;
    r->estimated_s = r->type->estimate(node, r->spec);
    r->name = f.name ? json_string(f.name) : NULL;
    r->metadata = f.metadata ? json_incref(f.metadata) : NULL;
    return 0;
}

void job_request_fini(struct job_request *r)
{
    json_decref(r->spec);
    json_decref(r->name);
    json_decref(r->metadata);
    *r = (struct job_request){0};
}
