// report_html.c - a report as one HTML file: no script, no outside request, style in report.css.
#include <string.h>

#include "plot_canvas.h"
#include "report_css.h"
#include "report_value.h"
#include "report_write.h"

enum {
    ROWS_MAX = 2000,     // of a table; the CSV has all
    PLOT_ROWS_MAX = 400, // of the table behind a plot
};

static void write_text(struct buf *out, const char *s)
{
    canvas_escape(out, s);
}

// <tag>text</tag>, nothing for an empty text.
static void write_element(struct buf *out, const char *tag, const char *text)
{
    if (!*text)
        return;
    buf_format(out, "<%s>", tag);
    write_text(out, text);
    buf_format(out, "</%s>\n", tag);
}

static void write_list(struct buf *out, const struct report_list *list, const char *class)
{
    if (list->n)
        buf_format(out, "<ul class=\"%s\">\n", class);
    for (int i = 0; i < list->n; i++)
        write_element(out, "li", list->texts[i]);
    if (list->n)
        buf_str(out, "</ul>\n");
}

// --- tables ---------------------------------------------------------------------------------

// A wide table scrolls inside its own box, which the keyboard can reach.
static void begin_table(struct buf *out, const char *caption)
{
    buf_str(out, "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"");
    write_text(out, caption);
    buf_str(out, "\"><table>\n<caption>");
    write_text(out, caption);
    buf_str(out, "</caption>\n");
}

static void end_table(struct buf *out)
{
    buf_str(out, "</tbody></table></div>\n");
}

static void write_head(struct buf *out, const struct report_table *t)
{
    buf_str(out, "<thead><tr>");
    for (int i = 0; i < t->n_columns; i++) {
        const struct report_column *c = &t->columns[i];
        if (c->hidden)
            continue;
        buf_format(out, "<th scope=\"col\"%s>",
                   c->kind == REPORT_NUMBER ? " class=\"number\"" : "");
        write_text(out, c->title);
        if (*c->unit) {
            buf_str(out, " <span class=\"unit\">");
            write_text(out, c->unit);
            buf_str(out, "</span>");
        }
        buf_str(out, "</th>");
    }
    if (t->states)
        buf_str(out, "<th scope=\"col\">state</th>");
    buf_str(out, "</tr></thead>\n<tbody>\n");
}

static const char *state_class(const char *state)
{
    if (!strcmp(state, "failed") || !strcmp(state, "fail"))
        return "failed";
    return strcmp(state, "skipped") ? "ok" : "skipped";
}

// The first cell names the row.
static void write_cell(struct buf *out, const char *text, const struct report_column *c, bool first)
{
    enum { LONG_LETTERS = 44 }; // wrapped
    const char *class = c->kind == REPORT_NUMBER              ? " class=\"number\""
                        : canvas_letters(text) > LONG_LETTERS ? " class=\"long\""
                                                              : "";
    buf_format(out, first ? "<th scope=\"row\"%s>" : "<td%s>", class);
    if (*text)
        write_text(out, text);
    else
        buf_str(out, "<span class=\"none\" title=\"not available\">–</span>");
    buf_str(out, first ? "</th>" : "</td>");
}

static void write_row(struct report_doc *d, struct buf *out, const struct report_table *t, int row)
{
    const char *state = t->states ? t->states[row] : "ok";
    buf_format(out, "<tr class=\"%s\">", state_class(state));
    bool first = true;
    for (int i = 0; i < t->n_columns; i++) {
        if (t->columns[i].hidden)
            continue;
        write_cell(out, value_cell(d, json_array_get(t->rows[row], (size_t)i), &t->columns[i]),
                   &t->columns[i], first);
        first = false;
    }
    if (t->states) {
        buf_str(out, "<td class=\"state\">");
        write_text(out, state);
        buf_str(out, "</td>");
    }
    buf_str(out, "</tr>\n");
}

static void write_table(struct report_doc *d, struct buf *out, const struct report_table *t)
{
    begin_table(out, t->title);
    write_head(out, t);
    for (int i = 0; i < t->n_rows && i < ROWS_MAX && !out->overflow; i++)
        write_row(d, out, t, i);
    end_table(out);
    if (t->n_rows > ROWS_MAX)
        buf_format(out, "<p class=\"note\">%d more rows are in the CSV and JSON reports.</p>\n",
                   t->n_rows - ROWS_MAX);
    if (*t->note) {
        buf_str(out, "<p class=\"note\">");
        write_text(out, t->note);
        buf_str(out, "</p>\n");
    }
}

// --- plots ----------------------------------------------------------------------------------

// Bytes of the words with which all names of the series begin, if that is worth saying once.
static size_t common_words(const struct plot *p)
{
    enum { WORTH = 8 };
    size_t common = 0;
    const char *first = p->n_series > 1 ? p->series[0].name : "";
    for (size_t n = 1; first[n - 1]; n++) {
        bool all = first[n - 1] == ' ';
        for (int i = 1; all && i < p->n_series; i++)
            all = !strncmp(p->series[i].name, first, n);
        common = all ? n : common;
    }
    return common < WORTH ? 0 : common;
}

static void write_key(struct buf *out, const struct plot *p, int id)
{
    size_t common = common_words(p);
    bool alone = p->n_series == 1 && p->n_lines == 0 && !*p->series[0].name;
    if (p->n_series + p->n_lines == 0 || alone)
        return;
    if (common) {
        struct buf words = {0};
        buf_add(&words, p->series[0].name, common);
        buf_str(out, "<p class=\"unit\">");
        write_text(out, words.data);
        buf_str(out, "…</p>\n");
        buf_fini(&words);
    }
    buf_str(out, "<ul class=\"legend\">\n");
    for (int i = 0; i < p->n_series + p->n_lines; i++) {
        bool line = i >= p->n_series;
        int index = line ? PLOT_SERIES_MAX + i - p->n_series : i;
        const char *name = line ? p->lines[i - p->n_series].name : p->series[i].name + common;
        buf_str(out, "<li>");
        plot_key_svg(out, p, id, index);
        write_text(out, *name ? name : "unnamed");
        buf_str(out, "</li>\n");
    }
    buf_str(out, "</ul>\n");
}

static void write_point(struct buf *out, const struct plot *p, const struct plot_series *s, int i)
{
    const struct plot_point *point = &s->points[i];
    buf_str(out, "<tr><th scope=\"row\">");
    write_text(out, s->name);
    buf_str(out, "</th><td class=\"number\">");
    if (p->kind == PLOT_BAR)
        write_text(out, p->x_names[(int)point->x]);
    else
        buf_format(out, "%.6g", point->x);
    buf_format(out, "</td><td class=\"number\">%.5g", point->y);
    if (point->low < point->high)
        buf_format(out, " (%.5g to %.5g)", point->low, point->high);
    buf_str(out, "</td></tr>\n");
}

static void write_axis_head(struct buf *out, const struct plot_axis *a)
{
    struct buf label = {0};
    plot_axis_label(&label, a);
    buf_str(out, "<th scope=\"col\" class=\"number\">");
    write_text(out, label.n ? label.data : "value");
    buf_str(out, "</th>");
    buf_fini(&label);
}

// The numbers behind a plot, for those who cannot see it or want to copy one. A heat map's are its
// cells' titles.
static void write_data(struct buf *out, const struct plot *p)
{
    int n = 0;
    if (p->kind == PLOT_HEAT)
        return;
    buf_str(out, "<details><summary>Numbers</summary>\n");
    begin_table(out, p->title);
    buf_str(out, "<thead><tr><th scope=\"col\">series</th>");
    write_axis_head(out, &p->x);
    write_axis_head(out, &p->y);
    buf_str(out, "</tr></thead>\n<tbody>\n");
    for (int i = 0; i < p->n_series; i++)
        for (int j = 0; j < p->series[i].n_points && n < PLOT_ROWS_MAX; j++, n++)
            write_point(out, p, &p->series[i], j);
    end_table(out);
    buf_str(out, "</details>\n");
}

static void write_plot(struct buf *out, const struct plot *p, int id)
{
    buf_str(out, "<figure>\n<figcaption>");
    write_text(out, p->title);
    buf_str(out, "</figcaption>\n");
    plot_svg(out, p, id);
    write_key(out, p, id);
    write_data(out, p);
    buf_str(out, "</figure>\n");
}

// --- the report -----------------------------------------------------------------------------

static void write_begin(struct report_doc *d, struct buf *out)
{
    buf_str(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                 "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                 "style-src '" REPORT_CSS_HASH "'; base-uri 'none'; form-action 'none'\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                 "<meta name=\"generator\" content=\"deltaserve\">\n");
    write_element(out, "title", d->title);
    buf_str(out, "<style>");
    buf_add(out, REPORT_CSS, REPORT_CSS_N);
    buf_str(out, "</style>\n</head>\n<body>\n<main>\n");
}

// environment.object.field, or environment.object where that is the text itself.
static const char *environment_text(struct report_doc *d, const char *object, const char *field)
{
    const json_t *v = json_object_get(d->environment, object);
    return report_doc_text(d, json_is_object(v) ? json_object_get(v, field) : v);
}

// "kernel_benchmark · bundled · NVIDIA H200 · deltaserve 0.1.0 (commit)".
static void write_origin(struct report_doc *d, struct buf *out)
{
    const char *parts[] = {
        d->type,
        environment_text(d, "model", "id"),
        environment_text(d, "device", "name"),
        environment_text(d, "version", "version"),
        environment_text(d, "commit", "commit"),
    };
    bool any = false;
    buf_str(out, "<p class=\"origin\">");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!*parts[i])
            continue;
        buf_str(out, any ? " · " : "");
        write_text(out, parts[i]);
        any = true;
    }
    buf_str(out, "</p>\n");
}

static void write_header(struct report_doc *d, struct buf *out)
{
    buf_str(out, "<header>\n");
    write_element(out, "h1", d->title);
    write_origin(d, out);
    if (d->partial)
        buf_str(out,
                "<p class=\"badge failed\">Partial: the job ended before its work was done</p>\n");
    if (*d->verdict)
        buf_format(out, "<p class=\"badge %s\">Verdict: %s</p>\n",
                   strcmp(d->verdict, "pass") ? "failed" : "ok", d->verdict);
    write_list(out, &d->summary, "summary");
    buf_str(out, "</header>\n");
}

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
        } else {
            json_t *text = json_string(name.data);
            buf_str(out, "<tr>");
            write_cell(out, report_doc_text(d, text), &COLUMN, true);
            write_cell(out, value_cell(d, child, &COLUMN), &COLUMN, false);
            buf_str(out, "</tr>\n");
            json_decref(text);
        }
        buf_fini(&name);
    }
}

static void write_end(struct report_doc *d, struct buf *out)
{
    if (d->notes.n)
        buf_str(out, "<h2>Notes</h2>\n");
    write_list(out, &d->notes, "notes");
    if (d->environment) {
        buf_str(out, "<h2>Environment</h2>\n<details><summary>All of it</summary>\n");
        begin_table(out, "Where this was measured");
        buf_str(out, "<tbody>\n");
        write_environment(d, out, d->environment, "");
        end_table(out);
        buf_str(out, "</details>\n");
    }
    if (d->n_omitted)
        buf_format(out,
                   "<section class=\"omitted\"><h2>Left out</h2>\n"
                   "<p>%d parts of the result could not be shown:</p>\n",
                   d->n_omitted);
    write_list(out, &d->omitted, "omissions");
    buf_str(out, d->n_omitted ? "</section>\n</main>\n</body>\n</html>\n"
                              : "</main>\n</body>\n</html>\n");
}

void report_html(struct report_doc *d, struct buf *out)
{
    write_begin(d, out);
    write_header(d, out);
    if (d->checks.n_rows)
        write_table(d, out, &d->checks);
    if (d->n_plots)
        buf_str(out, "<h2>Plots</h2>\n<div class=\"plots\">\n");
    for (int i = 0; i < d->n_plots; i++)
        write_plot(out, &d->plots[i], i);
    if (d->n_plots)
        buf_str(out, "</div>\n");
    if (d->n_tables)
        buf_str(out, "<h2>Tables</h2>\n");
    for (int i = 0; i < d->n_tables; i++)
        write_table(d, out, &d->tables[i]);
    write_end(d, out);
}
