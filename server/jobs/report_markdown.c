// report_markdown.c - a report in GitHub's Markdown, to be read as it is or pasted into a pull request.
#include <ctype.h>
#include <string.h>

#include "mem.h"
#include "report_value.h"
#include "report_write.h"

enum {
    ROWS_MAX = 1000,    // of a table; beyond that a CSV is what one wants
    PAD_WIDTH_MAX = 48, // longer texts stick out, or each would widen every row
    RULE_WIDTH_MIN = 3,
};

// --- text -----------------------------------------------------------------------------------

// GitHub leaves an underscore inside a word alone, and names are full of them.
static bool inside_word(const char *s, size_t i)
{
    return i > 0 && isalnum((unsigned char)s[i - 1]) && isalnum((unsigned char)s[i + 1]);
}

static void write_text(struct buf *out, const char *s)
{
    size_t number = strspn(s, "0123456789");
    bool begins_list = number ? (s[number] == '.' || s[number] == ')') && s[number + 1] == ' '
                              : *s && strchr("#-+=", *s);
    for (size_t i = 0; s[i]; i++) {
        if (s[i] == '<')
            buf_str(out, "&lt;");
        else if (s[i] == '>')
            buf_str(out, "&gt;");
        else if (s[i] == '&')
            buf_str(out, "&amp;");
        else if (strchr("\\`*[]|~", s[i]) || (s[i] == '_' && !inside_word(s, i)) ||
                 (begins_list && i == number))
            buf_format(out, "\\%c", s[i]);
        else
            buf_add(out, s + i, 1);
    }
}

static void write_list(struct buf *out, const struct report_list *list)
{
    for (int i = 0; i < list->n; i++) {
        buf_str(out, "- ");
        write_text(out, list->texts[i]);
        buf_str(out, "\n");
    }
    if (list->n)
        buf_str(out, "\n");
}

// --- tables ---------------------------------------------------------------------------------

// A table's texts, escaped, so that columns can be padded to one width. Column n_columns is the state.
struct grid {
    char **cells; // [n_rows + 1, n_columns], mem_free each; row 0 is the head
    int *widths;  // [n_columns]
    int n_rows, n_columns;
};

// Code points, which is the width of what reports are made of.
static int width_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static void set_cell(struct grid *g, int row, int column, const char *text)
{
    struct buf b = {0};
    if (*text == '-') // within a row it begins no list
        buf_add(&b, text++, 1);
    write_text(&b, text);
    int width = width_of(b.data ? b.data : "");
    if (width > PAD_WIDTH_MAX)
        width = PAD_WIDTH_MAX;
    if (width > g->widths[column])
        g->widths[column] = width;
    g->cells[row * g->n_columns + column] = buf_take(&b);
}

static void fill_head(struct grid *g, const struct report_table *t)
{
    for (int c = 0; c < t->n_columns; c++) {
        struct buf head = {0};
        buf_str(&head, t->columns[c].title);
        if (*t->columns[c].unit)
            buf_format(&head, " (%s)", t->columns[c].unit);
        set_cell(g, 0, c, head.data);
        buf_fini(&head);
    }
    if (t->states)
        set_cell(g, 0, t->n_columns, "state");
}

static void fill_rows(struct report_doc *d, struct grid *g, const struct report_table *t)
{
    for (int r = 0; r < g->n_rows; r++) {
        for (int c = 0; c < t->n_columns; c++) {
            const char *text = value_cell(d, json_array_get(t->rows[r], (size_t)c), &t->columns[c]);
            set_cell(g, r + 1, c, *text ? text : "–");
        }
        if (t->states)
            set_cell(g, r + 1, t->n_columns, t->states[r]);
    }
}

static bool is_number(const struct report_table *t, int column)
{
    return column < t->n_columns && t->columns[column].kind == REPORT_NUMBER;
}

static bool is_hidden(const struct report_table *t, int column)
{
    return column < t->n_columns && t->columns[column].hidden;
}

static void write_row(struct buf *out, const struct grid *g, const struct report_table *t, int row)
{
    for (int c = 0; c < g->n_columns; c++) {
        if (is_hidden(t, c))
            continue;
        const char *text = g->cells[row * g->n_columns + c];
        int pad = g->widths[c] - width_of(text);
        bool right = is_number(t, c);
        pad = pad > 0 ? pad : 0;
        buf_format(out, "| %*s%s%*s ", right ? pad : 0, "", text, right ? 0 : pad, "");
    }
    buf_str(out, "|\n");
}

static void write_rule(struct buf *out, const struct grid *g, const struct report_table *t)
{
    for (int c = 0; c < g->n_columns; c++) {
        if (is_hidden(t, c))
            continue;
        buf_str(out, "| ");
        for (int i = 0; i < g->widths[c] - is_number(t, c); i++)
            buf_str(out, "-");
        buf_str(out, is_number(t, c) ? ": " : " ");
    }
    buf_str(out, "|\n");
}

static void write_grid(struct report_doc *d, struct buf *out, const struct report_table *t)
{
    struct grid g = {.n_rows = t->n_rows < ROWS_MAX ? t->n_rows : ROWS_MAX,
                     .n_columns = t->n_columns + (t->states != NULL)};
    size_t n_cells = (size_t)(g.n_rows + 1) * (size_t)g.n_columns;
    g.cells = mem_zero(n_cells, sizeof *g.cells);
    g.widths = mem_zero((size_t)g.n_columns, sizeof *g.widths);
    for (int c = 0; c < g.n_columns; c++)
        g.widths[c] = RULE_WIDTH_MIN;
    fill_head(&g, t);
    fill_rows(d, &g, t);
    write_row(out, &g, t, 0);
    write_rule(out, &g, t);
    for (int r = 1; r <= g.n_rows; r++)
        write_row(out, &g, t, r);
    buf_str(out, "\n");
    if (g.n_rows < t->n_rows)
        buf_format(out, "%d more rows are in the CSV and JSON reports.\n\n", t->n_rows - g.n_rows);
    for (size_t i = 0; i < n_cells; i++)
        mem_free(g.cells[i]);
    mem_free(g.cells);
    mem_free(g.widths);
}

static void write_table(struct report_doc *d, struct buf *out, const struct report_table *t)
{
    buf_str(out, "### ");
    write_text(out, t->title);
    buf_str(out, "\n\n");
    write_grid(d, out, t);
    if (*t->note) {
        write_text(out, t->note);
        buf_str(out, "\n\n");
    }
}

// --- the report -----------------------------------------------------------------------------

static void write_verdict(struct report_doc *d, struct buf *out)
{
    if (d->partial)
        buf_str(out, "**Partial:** the job ended before its work was done.\n\n");
    if (*d->verdict)
        buf_format(out, "**Verdict: %s**\n\n", d->verdict);
    if (d->checks.n_rows)
        write_grid(d, out, &d->checks);
}

// "a.b: value" lines, nested objects by their path.
static void write_environment(struct report_doc *d, struct buf *out, const json_t *v,
                              const char *path)
{
    static const struct report_column COLUMN = {.name = "", .title = "", .unit = ""};
    const char *key;
    json_t *child;
    json_object_foreach((json_t *)v, key, child)
    {
        struct buf name = {0};
        buf_format(&name, "%s%s%s", path, *path ? "." : "", key);
        if (json_is_object(child)) {
            write_environment(d, out, child, name.data);
        } else if (!json_is_null(child)) {
            json_t *text = json_string(name.data);
            buf_str(out, "- ");
            write_text(out, report_doc_text(d, text));
            buf_str(out, ": ");
            write_text(out, value_cell(d, child, &COLUMN));
            buf_str(out, "\n");
            json_decref(text);
        }
        buf_fini(&name);
    }
}

void report_markdown(struct report_doc *d, struct buf *out)
{
    buf_str(out, "## ");
    write_text(out, d->title);
    buf_str(out, "\n\n");
    write_list(out, &d->summary);
    write_verdict(d, out);
    for (int i = 0; i < d->n_tables; i++)
        write_table(d, out, &d->tables[i]);
    if (d->n_plots)
        buf_format(out, "%d plots are in the HTML report.\n\n", d->n_plots);
    if (d->notes.n)
        buf_str(out, "### Notes\n\n");
    write_list(out, &d->notes);
    if (d->omitted.n)
        buf_str(out, "### Left out\n\n");
    write_list(out, &d->omitted);
    if (d->environment) {
        buf_str(out, "<details><summary>Environment</summary>\n\n");
        write_environment(d, out, d->environment, "");
        buf_str(out, "\n</details>\n");
    }
}
