// report_csv.c - all tables as one rectangular CSV. See report.h for the form.
#include <string.h>

#include "report_value.h"
#include "report_write.h"

// The columns of all tables, by name.
struct csv_columns {
    const char **names; // [n], borrowed from the document
    int n;
};

static int find_column(const struct csv_columns *c, const char *name)
{
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->names[i], name))
            return i;
    return -1;
}

static void add_columns(struct csv_columns *c, const struct report_table *t)
{
    for (int i = 0; i < t->n_columns; i++)
        if (find_column(c, t->columns[i].name) < 0)
            c->names[c->n++] = t->columns[i].name;
}

// Would a spreadsheet take a cell that begins so for a formula?
static bool begins_formula(const char *s)
{
    return *s && strchr("=+-@\t\r", *s);
}

static void write_field(struct buf *out, const char *s, size_t n)
{
    bool quoted = false;
    for (size_t i = 0; i < n && !quoted; i++)
        quoted = s[i] == '\0' || strchr(",\"\r\n", s[i]);
    if (!quoted) {
        buf_add(out, s, n);
        return;
    }
    buf_str(out, "\"");
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '"')
            buf_str(out, "\"\"");
        else if (s[i] == '\0')
            buf_str(out, "\xEF\xBF\xBD");
        else
            buf_add(out, s + i, 1);
    }
    buf_str(out, "\"");
}

static void write_text(struct buf *out, const char *s)
{
    struct buf b = {0};
    buf_format(&b, "%s%s", begins_formula(s) ? "'" : "", s);
    write_field(out, b.data, b.n);
    buf_fini(&b);
}

static void write_cell(struct buf *out, const json_t *v)
{
    struct buf b = {0};
    if (json_is_string(v) && begins_formula(json_string_value(v)))
        buf_str(&b, "'");
    value_raw(&b, v);
    write_field(out, b.data ? b.data : "", b.n);
    buf_fini(&b);
}

static void write_rows(struct buf *out, const struct csv_columns *c, const struct report_table *t)
{
    // Which of the table's columns fills a field: a name used twice in one table is filled by its first.
    int from[REPORT_TABLES_MAX * REPORT_COLUMNS_MAX + REPORT_COLUMNS_MAX];
    for (int i = 0; i < c->n; i++)
        from[i] = -1;
    for (int i = t->n_columns - 1; i >= 0; i--)
        from[find_column(c, t->columns[i].name)] = i;
    for (int r = 0; r < t->n_rows && !out->overflow; r++) {
        write_text(out, t->name);
        buf_str(out, ",");
        write_text(out, t->states ? t->states[r] : "");
        for (int i = 0; i < c->n; i++) {
            buf_str(out, ",");
            if (from[i] >= 0)
                write_cell(out, json_array_get(t->rows[r], (size_t)from[i]));
        }
        buf_str(out, "\r\n");
    }
}

void report_csv(struct report_doc *d, struct buf *out)
{
    struct csv_columns c = {0};
    c.names = arena_alloc(&d->arena, REPORT_TABLES_MAX * REPORT_COLUMNS_MAX + REPORT_COLUMNS_MAX,
                          sizeof *c.names);
    for (int i = 0; i < d->n_tables; i++)
        add_columns(&c, &d->tables[i]);
    if (d->checks.n_rows)
        add_columns(&c, &d->checks);
    buf_str(out, "table,state");
    for (int i = 0; i < c.n; i++) {
        buf_str(out, ",");
        write_text(out, c.names[i]);
    }
    buf_str(out, "\r\n");
    for (int i = 0; i < d->n_tables; i++)
        write_rows(out, &c, &d->tables[i]);
    if (d->checks.n_rows)
        write_rows(out, &c, &d->checks);
}
