// result_doc.c - see result_doc.h.
#include "result_doc.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

json_t *doc_number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

json_t *doc_create(const char *type, const char *title, json_t *environment_take)
{
    return json_pack("{s:s, s:s, s:s, s:[], s:n, s:[], s:o, s:[], s:[], s:[]}", "schema",
                     "deltaserve.result/1", "type", type, "title", title, "summary", "verdict",
                     "checks", "environment", environment_take, "tables", "plots", "notes");
}

void doc_summary(json_t *doc, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_array_append_new(json_object_get(doc, "summary"), json_string(text));
}

void doc_note(json_t *doc, const char *text)
{
    json_array_append_new(json_object_get(doc, "notes"), json_string(text));
}

void doc_partial(json_t *doc)
{
    json_object_set_new(doc, "partial", json_true());
}

void doc_check(json_t *doc, const char *name, double value, double limit, bool low)
{
    const bool pass = low ? value >= limit : value <= limit; // NaN fails
    const char *verdict = json_string_value(json_object_get(doc, "verdict"));
    json_array_append_new(json_object_get(doc, "checks"),
                          json_pack("{s:s, s:o, s:f, s:b}", "name", name, "value",
                                    doc_number(value), "limit", limit, "pass", pass));
    if (!pass || !verdict)
        json_object_set_new(doc, "verdict", json_string(pass ? "pass" : "fail"));
}

json_t *doc_table(json_t *doc, const char *name, const char *title)
{
    json_t *table = json_pack("{s:s, s:s, s:[], s:[], s:[]}", "name", name, "title", title,
                              "columns", "rows", "row_states");
    json_array_append_new(json_object_get(doc, "tables"), table);
    return table;
}

static void add_column(json_t *table, json_t *column)
{
    json_array_append_new(json_object_get(table, "columns"), column);
}

void table_text(json_t *table, const char *name, const char *title)
{
    add_column(table, json_pack("{s:s, s:s, s:s}", "name", name, "title", title, "kind", "text"));
}

void table_number(json_t *table, const char *name, const char *title, const char *unit, int digits)
{
    add_column(table, json_pack("{s:s, s:s, s:s*, s:s, s:i}", "name", name, "title", title, "unit",
                                unit, "kind", "number", "digits", digits));
}

void table_hide(json_t *table)
{
    const json_t *columns = json_object_get(table, "columns");
    json_object_set_new(json_array_get(columns, json_array_size(columns) - 1), "hidden",
                        json_true());
}

void table_note(json_t *table, const char *text)
{
    json_object_set_new(table, "note", json_string(text));
}

void table_comparable(json_t *table, const struct table_compare *c)
{
    json_t *key = json_array();
    for (int i = 0; c->key[i]; i++)
        json_array_append_new(key, json_string(c->key[i]));
    json_object_set_new(table, "compare",
                        json_pack("{s:o, s:s, s:s, s:s, s:b}", "key", key, "value", c->value, "low",
                                  c->low, "high", c->high, "lower_is_better", c->lower_is_better));
}

void table_row(json_t *table, const char *state, json_t *row_take)
{
    CHECK(row_take != NULL);
    while (json_array_size(row_take) < json_array_size(json_object_get(table, "columns")))
        json_array_append_new(row_take, json_null());
    json_array_append_new(json_object_get(table, "rows"), row_take);
    json_array_append_new(json_object_get(table, "row_states"), json_string(state));
}

json_t *doc_plot(json_t *doc, const char *name, const char *kind, const char *title,
                 const struct plot_axes *axes)
{
    json_t *plot =
        json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:b}, s:{s:s, s:s, s:b}, s:[], s:[]}", "name", name,
                  "kind", kind, "title", title, "x", "title", axes->x_title, "unit", axes->x_unit,
                  "log", axes->scale & PLOT_LOG_X, "y", "title", axes->y_title, "unit",
                  axes->y_unit, "log", (axes->scale & PLOT_LOG_Y) != 0, "series", "lines");
    json_array_append_new(json_object_get(doc, "plots"), plot);
    return plot;
}

static json_t *points_of(json_t *list, const char *key, const char *name)
{
    size_t i;
    json_t *entry;
    json_array_foreach(list, i, entry)
    {
        if (!strcmp(json_string_value(json_object_get(entry, key)), name))
            return json_object_get(entry, "points");
    }
    entry = json_pack("{s:s, s:[]}", key, name, "points");
    json_array_append_new(list, entry);
    return json_object_get(entry, "points");
}

json_t *plot_series(json_t *plot, const char *name)
{
    return points_of(json_object_get(plot, "series"), "name", name);
}

json_t *plot_line(json_t *plot, const char *title)
{
    return points_of(json_object_get(plot, "lines"), "title", title);
}

void plot_point(json_t *points, double x, double y)
{
    if (isfinite(x) && isfinite(y))
        json_array_append_new(points, json_pack("[f, f]", x, y));
}

void plot_bar(json_t *points, const char *x, double y)
{
    if (isfinite(y))
        json_array_append_new(points, json_pack("[s, f]", x, y));
}

void plot_range(json_t *points, double x, double y, double low, double high)
{
    if (isfinite(x) && isfinite(y) && isfinite(low) && isfinite(high))
        json_array_append_new(points, json_pack("[f, f, f, f]", x, y, low, high));
}
