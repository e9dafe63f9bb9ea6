// compare.c - see compare.h.
#include "compare.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "job.h"
#include "mem.h"

enum { KEY_MAX = 16 };
enum finding { SAME, FASTER, SLOWER, AMBIGUOUS, FAILED, MISSING, FINDINGS };

static const char *const FINDING_NAMES[] = {"SAME",      "FASTER", "SLOWER",
                                            "AMBIGUOUS", "FAILED", "MISSING"};

// One table, and where in its rows the compared things stand.
struct side {
    const json_t *table, *rows, *columns;
    int key[KEY_MAX], n_key;
    int value, low, high; // columns, or -1
};

// The row of a that fits a row of b, and so on.
struct pair {
    struct side a, b;
    bool lower_is_better;
    const struct compare_options *options;
    const char *value_name;
};

// --- tables ---------------------------------------------------------------------------------

static const char *text_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static int find_column(const struct side *s, const char *name)
{
    for (size_t i = 0; name && i < json_array_size(s->columns); i++) {
        const char *column = text_of(json_array_get(s->columns, i), "name");
        if (column && !strcmp(column, name))
            return (int)i;
    }
    return -1;
}

static void add_key(struct side *s, int column, const char *ignore)
{
    const char *name =
        column < 0 ? NULL : text_of(json_array_get(s->columns, (size_t)column), "name");
    if (name && (!ignore || strcmp(name, ignore)) && s->n_key < KEY_MAX)
        s->key[s->n_key++] = column;
}

static void find_key(struct side *s, const json_t *names, const char *ignore)
{
    for (size_t i = 0; names && i < json_array_size(names); i++)
        add_key(s, find_column(s, json_string_value(json_array_get(names, i))), ignore);
    for (size_t i = 0; !names && i < json_array_size(s->columns); i++) {
        const char *kind = text_of(json_array_get(s->columns, i), "kind");
        if (kind && !strcmp(kind, "text"))
            add_key(s, (int)i, ignore);
    }
}

static const char *name_or(const json_t *compare, const char *field, const char *otherwise)
{
    const char *name = text_of(compare, field);
    return name ? name : otherwise;
}

// False: nothing of this table can be compared.
static bool read_side(struct side *s, const json_t *table, const char *ignore)
{
    const json_t *compare = json_object_get(table, "compare");
    *s = (struct side){.table = table,
                       .rows = json_object_get(table, "rows"),
                       .columns = json_object_get(table, "columns")};
    s->value = find_column(s, name_or(compare, "value", "median_us"));
    s->low = find_column(s, name_or(compare, "low", "ci_low_us"));
    s->high = find_column(s, name_or(compare, "high", "ci_high_us"));
    find_key(s, json_object_get(compare, "key"), ignore);
    return s->value >= 0 && s->low >= 0 && s->high >= 0 && s->n_key > 0 && json_is_array(s->rows);
}

static const json_t *find_table(const json_t *result, const char *name)
{
    const json_t *tables = json_object_get(result, "tables");
    for (size_t i = 0; name && i < json_array_size(tables); i++) {
        const json_t *table = json_array_get(tables, i);
        const char *found = text_of(table, "name");
        if (found && !strcmp(found, name))
            return table;
    }
    return NULL;
}

// What a row is, as text: its key columns, which both sides must have alike.
static char *row_key(const struct side *s, size_t row)
{
    json_t *key = json_array();
    for (int i = 0; i < s->n_key; i++) {
        json_t *v = json_array_get(json_array_get(s->rows, row), (size_t)s->key[i]);
        json_array_append_new(key, v ? json_incref(v) : json_null());
    }
    char *text = job_dump(key);
    json_decref(key);
    return text;
}

// --- one row --------------------------------------------------------------------------------

struct measured {
    double value, low, high;
};

static bool read_row(const struct side *s, size_t row, struct measured *m)
{
    const json_t *cells = json_array_get(s->rows, row);
    const json_t *v = json_array_get(cells, (size_t)s->value);
    const json_t *low = json_array_get(cells, (size_t)s->low);
    const json_t *high = json_array_get(cells, (size_t)s->high);
    const char *state =
        json_string_value(json_array_get(json_object_get(s->table, "row_states"), row));
    if ((state && strcmp(state, "ok")) || !json_is_number(v) || !json_is_number(low) ||
        !json_is_number(high))
        return false;
    *m = (struct measured){json_number_value(v), json_number_value(low), json_number_value(high)};
    return m->value > 0 && m->low > 0 && m->low <= m->value && m->value <= m->high;
}

static enum finding judge(const struct measured *a, const struct measured *b, bool lower_is_better,
                          double tolerance)
{
    double ratio = b->value / a->value;
    if (fmax(ratio, 1 / ratio) - 1 < tolerance)
        return SAME;
    if (b->low > a->high)
        return lower_is_better ? SLOWER : FASTER;
    if (b->high < a->low)
        return lower_is_better ? FASTER : SLOWER;
    return AMBIGUOUS;
}

// --- documents ------------------------------------------------------------------------------

static json_t *column(const char *name, const char *title, const char *kind)
{
    return json_pack("{s:s, s:s, s:s}", "name", name, "title", title, "kind", kind);
}

static json_t *make_columns(const struct pair *p)
{
    json_t *columns = json_array();
    for (int i = 0; i < p->a.n_key; i++)
        json_array_append(columns, json_array_get(p->a.columns, (size_t)p->a.key[i]));
    const char *unit = text_of(json_array_get(p->a.columns, (size_t)p->a.value), "unit");
    for (int i = 0; i < 2; i++) {
        const char *side = i ? "new" : "base";
        json_t *c = json_pack("{s:s, s:o, s:s, s:s*, s:i}", "name", side, "title",
                              json_sprintf("%s %s", side, p->value_name), "kind", "number", "unit",
                              unit, "digits", 4);
        json_array_append_new(columns, c);
    }
    json_t *ratio = column("ratio", "new / base", "number");
    json_object_set_new(ratio, "digits", json_integer(4));
    json_array_append_new(columns, ratio);
    json_array_append_new(columns, column("finding", "new is", "text"));
    return columns;
}

struct output {
    json_t *rows;
    int counts[FINDINGS];
};

static void add_row(struct output *out, const struct side *s, size_t row, const struct measured *a,
                    const struct measured *b, enum finding f)
{
    json_t *cells = json_array();
    for (int i = 0; i < s->n_key; i++) {
        json_t *v = json_array_get(json_array_get(s->rows, row), (size_t)s->key[i]);
        json_array_append_new(cells, v ? json_incref(v) : json_null());
    }
    json_array_append_new(cells, a ? json_real(a->value) : json_null());
    json_array_append_new(cells, b ? json_real(b->value) : json_null());
    json_array_append_new(cells, a && b ? json_real(b->value / a->value) : json_null());
    json_array_append_new(cells, json_string(FINDING_NAMES[f]));
    json_array_append_new(out->rows, cells);
    out->counts[f]++;
}

// Rows of b by key, each a list of row numbers: rows that occur more than once fit in their order.
static json_t *index_rows(const struct side *s)
{
    json_t *index = json_object();
    for (size_t row = 0; row < json_array_size(s->rows); row++) {
        char *key = row_key(s, row);
        json_t *list = json_object_get(index, key);
        if (!list) {
            list = json_array();
            json_object_set_new(index, key, list);
        }
        json_array_append_new(list, json_integer((json_int_t)row));
        mem_free(key);
    }
    return index;
}

static void compare_row(const struct pair *p, json_t *index, size_t row, struct output *out)
{
    struct measured a, b;
    char *key = row_key(&p->a, row);
    json_t *list = json_object_get(index, key);
    bool has_a = read_row(&p->a, row, &a);
    if (json_array_size(list)) {
        size_t other = (size_t)json_integer_value(json_array_get(list, 0));
        bool has_b = read_row(&p->b, other, &b);
        add_row(out, &p->a, row, has_a ? &a : NULL, has_b ? &b : NULL,
                has_a && has_b ? judge(&a, &b, p->lower_is_better, p->options->tolerance) : FAILED);
        json_array_remove(list, 0);
    } else {
        add_row(out, &p->a, row, has_a ? &a : NULL, NULL, MISSING);
    }
    mem_free(key);
}

static void compare_tables(const struct pair *p, struct output *out)
{
    json_t *index = index_rows(&p->b), *list, *number;
    const char *key;
    size_t i;
    for (size_t row = 0; row < json_array_size(p->a.rows); row++)
        compare_row(p, index, row, out);
    json_object_foreach(index, key, list)
    {
        json_array_foreach(list, i, number)
        {
            struct measured b;
            size_t row = (size_t)json_integer_value(number);
            bool has_b = read_row(&p->b, row, &b);
            add_row(out, &p->b, row, NULL, has_b ? &b : NULL, MISSING);
        }
    }
    json_decref(index);
}

static bool read_pair(struct pair *p, const json_t *table, const json_t *b,
                      const struct compare_options *o)
{
    const json_t *compare = json_object_get(table, "compare");
    const json_t *other = find_table(b, text_of(table, "name"));
    *p = (struct pair){.options = o,
                       .lower_is_better =
                           !json_is_false(json_object_get(compare, "lower_is_better"))};
    if (!other || !read_side(&p->a, table, o->ignore) || !read_side(&p->b, other, o->ignore) ||
        p->a.n_key != p->b.n_key)
        return false;
    const char *title = text_of(json_array_get(p->a.columns, (size_t)p->a.value), "title");
    p->value_name = title ? title : name_or(compare, "value", "median_us");
    return true;
}

static json_t *make_summary(const int counts[static FINDINGS], const struct compare_options *o)
{
    struct buf text = {0};
    int n = 0;
    for (int i = 0; i < FINDINGS; i++)
        n += counts[i];
    buf_format(&text, "Of %d rows", n);
    for (int i = 0; i < FINDINGS; i++)
        if (counts[i])
            buf_format(&text, "%s %d %s", text.n > 16 ? "," : "", counts[i], FINDING_NAMES[i]);
    buf_format(&text, " (tolerance %g %%).", o->tolerance * 100);
    json_t *summary =
        json_pack("[s, o]", text.data, json_sprintf("Base: %s; new: %s.", o->base, o->new));
    buf_fini(&text);
    if (o->ignore)
        json_array_append_new(summary,
                              json_sprintf("Rows are matched whatever their %s is.", o->ignore));
    return summary;
}

static json_t *make_document(const json_t *a, json_t *tables, const int counts[static FINDINGS],
                             const struct compare_options *o)
{
    json_t *environment = json_object_get(a, "environment");
    return json_pack("{s:s, s:s, s:s, s:o, s:s, s:[], s:O?, s:o, s:[], s:[s, s]}", "schema",
                     "deltaserve.result/1", "type", "compare", "title", "Comparison of two jobs",
                     "summary", make_summary(counts, o), "verdict",
                     counts[SLOWER] ? "fail" : "pass", "checks", "environment", environment,
                     "tables", tables, "plots", "notes",
                     "SAME: the values differ by less than the tolerance. FASTER, SLOWER: by the "
                     "tolerance or more, and the 95 % intervals are apart. AMBIGUOUS: by the "
                     "tolerance or more, but the intervals overlap; measure longer.",
                     "FAILED: a row failed its check or has no figure. MISSING: only one of the "
                     "two jobs has the row.");
}

json_t *compare_results(const json_t *a, const json_t *b, const struct compare_options *o,
                        struct err *e)
{
    const json_t *from = json_object_get(a, "tables");
    json_t *tables = json_array();
    int counts[FINDINGS] = {0};
    for (size_t i = 0; i < json_array_size(from); i++) {
        const json_t *table = json_array_get(from, i);
        struct pair p;
        if (!read_pair(&p, table, b, o))
            continue;
        struct output out = {.rows = json_array()};
        compare_tables(&p, &out);
        for (int f = 0; f < FINDINGS; f++)
            counts[f] += out.counts[f];
        json_t *title = json_object_get(table, "title");
        json_array_append_new(tables, json_pack("{s:O, s:O?, s:o, s:o}", "name",
                                                json_object_get(table, "name"), "title", title,
                                                "columns", make_columns(&p), "rows", out.rows));
    }
    if (json_array_size(tables))
        return make_document(a, tables, counts, o);
    json_decref(tables);
    err_set(e, ERR_BAD_REQUEST,
            "the two results have no table in common that can be compared; compare two jobs of a "
            "type that measures times, such as kernel_benchmark");
    return NULL;
}
