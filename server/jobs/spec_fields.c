// spec_fields.c - see spec_fields.h.
#include "spec_fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "json.h"

static bool is_list(enum spec_kind kind)
{
    return kind >= SPEC_INTS && kind <= SPEC_STRS;
}

// The kind of a list's entries.
static enum spec_kind entry_kind(enum spec_kind kind)
{
    return is_list(kind) ? (enum spec_kind)(kind - SPEC_INTS + SPEC_INT) : kind;
}

static json_t *default_of(const struct spec_field *f)
{
    json_t *v = f->def ? json_loads(f->def, JSON_DECODE_ANY, NULL) : json_null();
    CHECK(v != NULL); // a table of this program
    return v;
}

// --- schema ---------------------------------------------------------------------------------

static json_t *value_schema(const struct spec_field *f)
{
    static const char *const TYPES[] = {[SPEC_BOOL] = "boolean",
                                        [SPEC_INT] = "integer",
                                        [SPEC_NUM] = "number",
                                        [SPEC_STR] = "string"};
    const enum spec_kind kind = entry_kind(f->kind);
    json_t *s = json_pack("{s:s}", "type", TYPES[kind]);
    if (kind == SPEC_INT || kind == SPEC_NUM) {
        json_object_set_new(s, "minimum", json_real(f->min));
        json_object_set_new(s, "maximum", json_real(f->max));
    } else if (kind == SPEC_STR && !f->choices) {
        json_object_set_new(s, "maxLength", json_integer((json_int_t)f->max));
    } else if (kind == SPEC_STR) {
        json_t *list = json_array();
        for (int i = 0; f->choices[i]; i++)
            json_array_append_new(list, json_string(f->choices[i]));
        json_object_set_new(s, "enum", list);
    }
    return s;
}

static json_t *field_schema(const struct spec_field *f)
{
    json_t *s = NULL;
    if (f->kind == SPEC_OBJECT) {
        s = spec_schema(f->fields, f->n_fields);
        json_object_del(s, "$schema");
    } else {
        s = value_schema(f);
    }
    if (is_list(f->kind))
        s = json_pack("{s:s, s:o, s:i, s:i}", "type", "array", "items", s, "minItems", 1,
                      "maxItems", f->items_max);
    json_object_set_new(s, "description", json_string(f->help));
    if (f->def)
        json_object_set_new(s, "default", default_of(f));
    return s;
}

json_t *spec_schema(const struct spec_field *fields, int n)
{
    json_t *properties = json_object();
    for (int i = 0; i < n; i++)
        json_object_set_new(properties, fields[i].name, field_schema(&fields[i]));
    return json_pack("{s:s, s:s, s:b, s:o}", "$schema",
                     "https://json-schema.org/draft/2020-12/schema", "type", "object",
                     "additionalProperties", 0, "properties", properties);
}

// --- checks ---------------------------------------------------------------------------------

static int refuse(const char *path, json_t *v, const char *wanted, struct err *e)
{
    char text[80];
    return err_field(e, ERR_BAD_REQUEST, path, "%.90s is %s; give %.250s", path,
                     json_describe(v, text, sizeof text), wanted);
}

static int check_number(const struct spec_field *f, enum spec_kind kind, json_t *v,
                        const char *path, struct err *e)
{
    char wanted[120];
    const double x = json_is_number(v) ? json_number_value(v) : NAN;
    snprintf(wanted, sizeof wanted, "%s from %.15g to %.15g",
             kind == SPEC_INT ? "a whole number" : "a number", f->min, f->max);
    if (!(x >= f->min && x <= f->max) || (kind == SPEC_INT && x != floor(x)))
        return refuse(path, v, wanted, e);
    return 0;
}

static int check_string(const struct spec_field *f, json_t *v, const char *path, struct err *e)
{
    char wanted[250];
    int used = snprintf(wanted, sizeof wanted,
                        f->choices ? "one of" : "a string of at most %.0f bytes", f->max);
    const char *s = json_string_value(v);
    bool found = s && !f->choices && json_string_length(v) <= (size_t)f->max &&
                 strlen(s) == json_string_length(v);
    for (int i = 0; f->choices && f->choices[i]; i++) {
        found = found || (s && !strcmp(s, f->choices[i]));
        if (used < (int)sizeof wanted)
            used += snprintf(wanted + used, sizeof wanted - (size_t)used, "%s %s", i ? "," : "",
                             f->choices[i]);
    }
    return found ? 0 : refuse(path, v, wanted, e);
}

static int check_value(const struct spec_field *f, json_t *v, const char *path, struct err *e)
{
    const enum spec_kind kind = entry_kind(f->kind);
    if (kind == SPEC_BOOL)
        return json_is_boolean(v) ? 0 : refuse(path, v, "true or false", e);
    if (kind == SPEC_STR)
        return check_string(f, v, path, e);
    return check_number(f, kind, v, path, e);
}

// 16.0 becomes 16, so that equal specs read the same.
static json_t *take_value(const struct spec_field *f, json_t *v)
{
    if (entry_kind(f->kind) == SPEC_INT)
        return json_integer((json_int_t)json_number_value(v));
    return json_deep_copy(v);
}

static json_t *take_list(const struct spec_field *f, json_t *v, const char *path, struct err *e)
{
    json_t *out = json_array(), *entry;
    size_t i;
    char at[128];
    if (!json_is_array(v)) {
        if (check_value(f, v, path, e) == 0)
            json_array_append_new(out, take_value(f, v));
    } else if (json_array_size(v) < 1 || json_array_size(v) > (size_t)f->items_max) {
        err_field(e, ERR_BAD_REQUEST, path, "%.90s has %zu entries; give 1 to %d", path,
                  json_array_size(v), f->items_max);
    } else {
        json_array_foreach(v, i, entry)
        {
            snprintf(at, sizeof at, "%.90s[%zu]", path, i);
            if (check_value(f, entry, at, e))
                break;
            json_array_append_new(out, take_value(f, entry));
        }
    }
    const size_t want = json_is_array(v) ? json_array_size(v) : 1;
    if (want == json_array_size(out) && want > 0)
        return out;
    json_decref(out);
    return NULL;
}

static json_t *expand_object(const struct spec_field *fields, int n, json_t *object,
                             const char *path, struct err *e);

static json_t *expand_field(const struct spec_field *f, json_t *v, const char *path, struct err *e)
{
    if (!v || json_is_null(v))
        return f->kind == SPEC_OBJECT && f->def
                   ? expand_object(f->fields, f->n_fields, NULL, path, e)
                   : default_of(f);
    if (f->kind == SPEC_OBJECT)
        return expand_object(f->fields, f->n_fields, v, path, e);
    if (is_list(f->kind))
        return take_list(f, v, path, e);
    return check_value(f, v, path, e) ? NULL : take_value(f, v);
}

static int refuse_strangers(const struct spec_field *fields, int n, json_t *object,
                            const char *path, struct err *e)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        bool known = false;
        for (int i = 0; i < n; i++)
            known = known || !strcmp(fields[i].name, key);
        if (known)
            continue;
        struct buf names = {.max = 250};
        char param[128];
        for (int i = 0; i < n; i++)
            buf_format(&names, "%s%s", i ? ", " : "", fields[i].name);
        snprintf(param, sizeof param, "%.40s.%.50s", path, key);
        err_field(e, ERR_BAD_REQUEST, param, "%.90s is unknown; %.40s has %s", param, path,
                  names.data ? names.data : "no fields");
        buf_fini(&names);
        return -1;
    }
    return 0;
}

static json_t *expand_object(const struct spec_field *fields, int n, json_t *object,
                             const char *path, struct err *e)
{
    if (object && !json_is_object(object)) {
        refuse(path, object, "an object", e);
        return NULL;
    }
    if (refuse_strangers(fields, n, object, path, e))
        return NULL;
    json_t *out = json_object();
    for (int i = 0; i < n; i++) {
        char at[96];
        snprintf(at, sizeof at, "%.40s.%.50s", path, fields[i].name);
        json_t *v = expand_field(&fields[i], json_object_get(object, fields[i].name), at, e);
        if (!v) {
            json_decref(out);
            return NULL;
        }
        json_object_set_new(out, fields[i].name, v);
    }
    return out;
}

json_t *spec_expand(const struct spec_field *fields, int n, json_t *spec, struct err *e)
{
    return expand_object(fields, n, spec, "spec", e);
}

// --- reading --------------------------------------------------------------------------------

int spec_int(const json_t *spec, const char *name)
{
    return (int)json_integer_value(json_object_get(spec, name));
}

double spec_num(const json_t *spec, const char *name)
{
    const json_t *v = json_object_get(spec, name);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

bool spec_bool(const json_t *spec, const char *name)
{
    return json_is_true(json_object_get(spec, name));
}

const char *spec_str(const json_t *spec, const char *name)
{
    return json_string_value(json_object_get(spec, name));
}

int spec_count(const json_t *spec, const char *name)
{
    return (int)json_array_size(json_object_get(spec, name));
}

int spec_int_at(const json_t *spec, const char *name, int i)
{
    return (int)json_integer_value(json_array_get(json_object_get(spec, name), (size_t)i));
}

double spec_num_at(const json_t *spec, const char *name, int i)
{
    return json_number_value(json_array_get(json_object_get(spec, name), (size_t)i));
}

const char *spec_str_at(const json_t *spec, const char *name, int i)
{
    return json_string_value(json_array_get(json_object_get(spec, name), (size_t)i));
}
