// report_doc.c - checks a result document part by part. See report_doc.h.
#include "report_doc.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "json.h"

static const char SCHEMA[] = "deltaserve.result/1";

// --- texts ----------------------------------------------------------------------------------

// Bytes at s (at least one, before a NUL) that do not belong on a page: C0, DEL, C1 and the marks that
// turn the direction of the text behind them. 0: none.
static size_t unwanted(const unsigned char *s)
{
    if (s[0] < 0x20 || s[0] == 0x7F)
        return 1;
    if (s[0] == 0xC2 && s[1] >= 0x80 && s[1] <= 0x9F)
        return 2;
    bool embeds = s[0] == 0xE2 && s[1] == 0x80 && s[2] >= 0xAA && s[2] <= 0xAE;
    bool isolates = s[0] == 0xE2 && s[1] == 0x81 && s[2] >= 0xA6 && s[2] <= 0xA9;
    return embeds || isolates ? 3 : 0;
}

const char *report_doc_text(struct report_doc *d, const json_t *v)
{
    if (!json_is_string(v))
        return "";
    const char *s = json_string_value(v);
    size_t n = json_string_length(v);
    struct buf b = {0};
    for (size_t i = 0; i < n;) {
        size_t skip = unwanted((const unsigned char *)s + i);
        if (!skip)
            buf_add(&b, s + i++, 1);
        else if (strchr("\t\n\r", s[i]) && s[i])
            buf_add(&b, " ", 1);
        else
            buf_str(&b, "\xEF\xBF\xBD");
        i += skip;
    }
    const char *text = arena_string(&d->arena, b.data ? b.data : "", b.n);
    buf_fini(&b);
    return text;
}

void report_doc_omit(struct report_doc *d, const char *format, ...)
{
    char text[256];
    va_list args;
    if (d->n_omitted++ >= REPORT_OMITTED_MAX)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    d->omitted.texts[d->omitted.n++] = arena_string(&d->arena, text, strlen(text));
}

// The sentences of an array of strings, or of one string.
static struct report_list read_list(struct report_doc *d, const json_t *v, const char *name)
{
    struct report_list list = {0};
    size_t n = json_is_string(v) ? 1 : json_array_size(v);
    if (v && !json_is_null(v) && !json_is_string(v) && !json_is_array(v))
        report_doc_omit(d, "%s is not a list of sentences", name);
    if (n > REPORT_SENTENCES_MAX) {
        report_doc_omit(d, "%s has %zu sentences; %d are shown", name, n, REPORT_SENTENCES_MAX);
        n = REPORT_SENTENCES_MAX;
    }
    list.texts = arena_alloc(&d->arena, n + 1, sizeof *list.texts);
    for (size_t i = 0; i < n; i++) {
        const json_t *text = json_is_string(v) ? v : json_array_get(v, i);
        if (json_is_string(text))
            list.texts[list.n++] = report_doc_text(d, text);
        else
            report_doc_omit(d, "%s[%zu] is not a string", name, i);
    }
    return list;
}

// --- tables ---------------------------------------------------------------------------------

static int read_digits(const json_t *v)
{
    enum { DOUBLE = 17 };
    json_int_t digits = json_integer_value(v);
    return digits < 0 ? 0 : digits > DOUBLE ? DOUBLE : (int)digits;
}

static int read_columns(struct report_doc *d, struct report_table *t, const json_t *columns)
{
    size_t n = json_array_size(columns);
    if (n < 1 || n > REPORT_COLUMNS_MAX)
        return -1;
    t->columns = arena_alloc(&d->arena, n, sizeof *t->columns);
    t->n_columns = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *c = json_array_get(columns, i);
        struct report_column *column = &t->columns[i];
        column->name = report_doc_text(d, json_object_get(c, "name"));
        column->title = report_doc_text(d, json_object_get(c, "title"));
        column->unit = report_doc_text(d, json_object_get(c, "unit"));
        column->digits = read_digits(json_object_get(c, "digits"));
        column->kind = strcmp(report_doc_text(d, json_object_get(c, "kind")), "number")
                           ? REPORT_TEXT
                           : REPORT_NUMBER;
        column->hidden = json_is_true(json_object_get(c, "hidden"));
        if (!*column->title)
            column->title = column->name;
        if (!*column->name)
            return -1;
    }
    return 0;
}

// at: the table's place in the document, "tables[2]".
static void read_rows(struct report_doc *d, struct report_table *t, const json_t *table,
                      const char *at)
{
    const json_t *rows = json_object_get(table, "rows");
    const json_t *states = json_object_get(table, "row_states");
    size_t n = json_array_size(rows);
    if (!json_is_array(rows))
        report_doc_omit(d, "%s.rows is not a list", at);
    bool has_states = json_is_array(states) && json_array_size(states) == n;
    if (states && !json_is_null(states) && !has_states)
        report_doc_omit(d, "%s.row_states does not have one state for each row", at);
    t->rows = arena_alloc(&d->arena, n + 1, sizeof *t->rows);
    t->states = has_states ? arena_alloc(&d->arena, n + 1, sizeof *t->states) : NULL;
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(rows, i);
        if (!json_is_array(row) || json_array_size(row) != (size_t)t->n_columns) {
            report_doc_omit(d, "%s.rows[%zu] is not a list of %d values", at, i, t->n_columns);
            continue;
        }
        if (has_states)
            t->states[t->n_rows] = report_doc_text(d, json_array_get(states, i));
        t->rows[t->n_rows++] = row;
    }
}

// A count may come as 12.0.
static bool is_whole(const struct report_table *t, int column)
{
    const double exact_max = 1e15;
    for (int i = 0; i < t->n_rows; i++) {
        const json_t *v = json_array_get(t->rows[i], (size_t)column);
        double number = json_number_value(v); // 0 for what is none
        if (number != floor(number) || fabs(number) > exact_max)
            return false;
    }
    return true;
}

// Nothing but null and "" in any row.
static bool is_empty(const struct report_table *t, int column)
{
    for (int i = 0; i < t->n_rows; i++) {
        const json_t *v = json_array_get(t->rows[i], (size_t)column);
        if (!json_is_null(v) && !(json_is_string(v) && json_string_length(v) == 0))
            return false;
    }
    return t->n_rows > 0;
}

static void read_table(struct report_doc *d, const json_t *table, size_t i)
{
    char at[32];
    struct report_table *t = &d->tables[d->n_tables];
    snprintf(at, sizeof at, "tables[%zu]", i);
    t->name = report_doc_text(d, json_object_get(table, "name"));
    t->title = report_doc_text(d, json_object_get(table, "title"));
    t->note = report_doc_text(d, json_object_get(table, "note"));
    if (!*t->name) {
        report_doc_omit(d, "%s has no name", at);
    } else if (read_columns(d, t, json_object_get(table, "columns"))) {
        report_doc_omit(d, "%s.columns is not a list of 1 to %d named columns", at,
                        REPORT_COLUMNS_MAX);
    } else {
        if (!*t->title)
            t->title = t->name;
        read_rows(d, t, table, at);
        for (int c = 0; c < t->n_columns; c++) {
            t->columns[c].whole = is_whole(t, c);
            t->columns[c].hidden = t->columns[c].hidden || is_empty(t, c);
        }
        d->n_tables++;
        return;
    }
    *t = (struct report_table){0};
}

static void read_tables(struct report_doc *d, const json_t *tables)
{
    size_t n = json_array_size(tables);
    if (tables && !json_is_null(tables) && !json_is_array(tables))
        report_doc_omit(d, "tables is not a list");
    if (n > REPORT_TABLES_MAX) {
        report_doc_omit(d, "there are %zu tables; %d are shown", n, REPORT_TABLES_MAX);
        n = REPORT_TABLES_MAX;
    }
    d->tables = arena_alloc(&d->arena, n + 1, sizeof *d->tables);
    for (size_t i = 0; i < n; i++)
        read_table(d, json_array_get(tables, i), i);
}

// --- checks ---------------------------------------------------------------------------------

static const struct report_column CHECK_COLUMNS[] = {
    {.name = "name", .title = "check", .unit = "", .kind = REPORT_TEXT},
    {.name = "value", .title = "value", .unit = "", .kind = REPORT_NUMBER},
    {.name = "limit", .title = "limit", .unit = "", .kind = REPORT_NUMBER},
};
enum { CHECK_COLUMNS_N = sizeof CHECK_COLUMNS / sizeof *CHECK_COLUMNS };

static json_t *field_or_null(const json_t *object, const char *name)
{
    json_t *v = json_object_get(object, name);
    return v ? json_incref(v) : json_null();
}

static void read_checks(struct report_doc *d, const json_t *checks)
{
    struct report_table *t = &d->checks;
    size_t n = json_array_size(checks);
    if (checks && !json_is_null(checks) && !json_is_array(checks))
        report_doc_omit(d, "checks is not a list");
    *t = (struct report_table){.name = "checks", .title = "Checks", .note = ""};
    t->columns = arena_alloc(&d->arena, CHECK_COLUMNS_N, sizeof *t->columns);
    memcpy(t->columns, CHECK_COLUMNS, sizeof CHECK_COLUMNS);
    t->n_columns = CHECK_COLUMNS_N;
    t->rows = arena_alloc(&d->arena, n + 1, sizeof *t->rows);
    t->states = arena_alloc(&d->arena, n + 1, sizeof *t->states);
    for (size_t i = 0; i < n; i++) {
        const json_t *check = json_array_get(checks, i);
        const json_t *pass = json_object_get(check, "pass");
        if (!*report_doc_text(d, json_object_get(check, "name")) || !json_is_boolean(pass)) {
            report_doc_omit(d, "checks[%zu] has no name, or its 'pass' is not true or false", i);
            continue;
        }
        json_t *row = json_array();
        json_array_append_new(row, field_or_null(check, "name"));
        json_array_append_new(row, field_or_null(check, "value"));
        json_array_append_new(row, field_or_null(check, "limit"));
        json_array_append_new(d->owned, row);
        t->states[t->n_rows] = json_is_true(pass) ? "pass" : "fail";
        t->rows[t->n_rows++] = row;
    }
}

// --- the document ---------------------------------------------------------------------------

static void read_verdict(struct report_doc *d, const json_t *v)
{
    d->verdict = report_doc_text(d, v);
    if (v && !json_is_null(v) && strcmp(d->verdict, "pass") && strcmp(d->verdict, "fail")) {
        report_doc_omit(d, "verdict is neither 'pass' nor 'fail'");
        d->verdict = "";
    }
}

int report_doc_read(struct report_doc *d, const json_t *result, struct err *e)
{
    *d = (struct report_doc){0};
    const json_t *schema = json_object_get(result, "schema");
    if (!json_is_string(schema) || strcmp(json_string_value(schema), SCHEMA))
        return err_set(e, ERR_INTERNAL, "the result is not a document of schema %s", SCHEMA);
    d->owned = json_array();
    d->omitted.texts = arena_alloc(&d->arena, REPORT_OMITTED_MAX, sizeof *d->omitted.texts);
    d->type = report_doc_text(d, json_object_get(result, "type"));
    d->title = report_doc_text(d, json_object_get(result, "title"));
    if (!*d->title)
        d->title = *d->type ? d->type : "Result";
    d->partial = json_is_true(json_object_get(result, "partial"));
    read_verdict(d, json_object_get(result, "verdict"));
    d->summary = read_list(d, json_object_get(result, "summary"), "summary");
    d->notes = read_list(d, json_object_get(result, "notes"), "notes");
    read_checks(d, json_object_get(result, "checks"));
    d->environment = json_object_get(result, "environment");
    if (d->environment && !json_is_object(d->environment)) {
        if (!json_is_null(d->environment))
            report_doc_omit(d, "environment is not an object");
        d->environment = NULL;
    }
    read_tables(d, json_object_get(result, "tables"));
    report_doc_read_plots(d, json_object_get(result, "plots"));
    return 0;
}

void report_doc_fini(struct report_doc *d)
{
    json_decref(d->owned);
    arena_fini(&d->arena);
    *d = (struct report_doc){0};
}
