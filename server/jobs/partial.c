// partial.c - see partial.h.
#include "partial.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { COLUMNS_MAX = 64 };

struct samples {
    json_t *rows;    // of objects
    json_t *columns; // of column objects
    json_t *known;   // name -> true
};

static void add_columns(struct samples *s, json_t *sample)
{
    const char *key;
    json_t *value;
    json_object_foreach(sample, key, value)
    {
        if (json_object_get(s->known, key) || json_array_size(s->columns) == COLUMNS_MAX)
            continue;
        json_object_set_new(s->known, key, json_true());
        json_array_append_new(s->columns,
                              json_pack("{s:s, s:s, s:s}", "name", key, "title", key, "kind",
                                        json_is_number(value) ? "number" : "text"));
    }
}

static void take_sample(void *ud, int64_t event, int64_t at_ms, const char *kind, const char *data)
{
    struct samples *s = ud;
    json_t *sample = json_loads(data, 0, NULL);
    (void)event, (void)at_ms, (void)kind;
    if (!json_is_object(sample)) {
        json_decref(sample);
        return;
    }
    add_columns(s, sample);
    json_array_append_new(s->rows, sample);
}

// Each object becomes an array in the order of the columns.
static json_t *make_rows(const struct samples *s)
{
    json_t *rows = json_array(), *sample, *column;
    size_t i, k;
    json_array_foreach(s->rows, i, sample)
    {
        json_t *row = json_array();
        json_array_foreach(s->columns, k, column)
        {
            json_t *value =
                json_object_get(sample, json_string_value(json_object_get(column, "name")));
            json_array_append_new(row, value ? json_incref(value) : json_null());
        }
        json_array_append_new(rows, row);
    }
    return rows;
}

static json_t *make_document(const struct job *j, struct samples *s)
{
    const char *why = json_string_value(json_object_get(j->error, "message"));
    json_t *summary = json_sprintf("The job %s before it was complete%s%s; %zu samples were taken.",
                                   j->status == JOB_CANCELLED ? "was cancelled" : "ended",
                                   why ? ": " : "", why ? why : "", json_array_size(s->rows));
    json_t *tables = json_array();
    if (json_array_size(s->rows))
        json_array_append_new(tables, json_pack("{s:s, s:s, s:O, s:o}", "name", "samples", "title",
                                                "samples taken", "columns", s->columns, "rows",
                                                make_rows(s)));
    json_t *job = json_pack("{s:s, s:O, s:O?, s:O?}", "id", j->id, "spec", j->spec, "error",
                            j->error, "usage", j->usage);
    return json_pack("{s:s, s:s, s:s, s:[o], s:n, s:[], s:O?, s:o, s:[], s:[], s:b, s:o}", "schema",
                     "deltaserve.result/1", "type", j->type, "title", j->type, "summary", summary,
                     "verdict", "checks", "environment", j->environment, "tables", tables, "plots",
                     "notes", "partial", 1, "job", job);
}

json_t *partial_result(struct store *st, const struct job *j, struct err *e)
{
    struct samples s = {json_array(), json_array(), json_object()};
    const struct store_page page = {
        .id = j->id, .kind = "sample", .limit = INT_MAX, .bytes_max = SIZE_MAX};
    bool more;
    json_t *document = NULL;
    if (store_events(st, &page, take_sample, &s, &more, e) == 0)
        document = make_document(j, &s);
    json_decref(s.rows);
    json_decref(s.columns);
    json_decref(s.known);
    return document;
}
