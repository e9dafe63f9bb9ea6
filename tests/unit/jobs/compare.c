// Tests of server/jobs/compare.c: the rule of a row, matching of rows, tables that declare themselves.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "compare.h"

// A result of one table of rows (op, median, low, high).
static json_t *result_of(const char *rows, const char *states)
{
    json_error_t why;
    json_t *r = json_loads(rows, 0, &why), *s = json_loads(states, 0, NULL);
    cr_assert(r != NULL, "%s", why.text);
    return json_pack(
        "{s:[{s:s, s:s, s:[{s:s, s:s}, {s:s, s:s, s:s}, {s:s, s:s}, {s:s, s:s}], s:o, s:o*}]}",
        "tables", "name", "rows", "title", "rows", "columns", "name", "op", "kind", "text", "name",
        "median_us", "kind", "number", "unit", "us", "name", "ci_low_us", "kind", "number", "name",
        "ci_high_us", "kind", "number", "rows", r, "row_states", s);
}

static const struct compare_options OPTIONS = {"A", "B", 0.03, NULL};

static json_t *compare(json_t *a, json_t *b)
{
    struct err e = {0};
    json_t *d = compare_results(a, b, &OPTIONS, &e);
    cr_assert(d != NULL, "%s", e.text);
    json_decref(a);
    json_decref(b);
    return d;
}

static const json_t *rows_of(const json_t *d)
{
    return json_object_get(json_array_get(json_object_get(d, "tables"), 0), "rows");
}

// The last cell.
static const char *finding(const json_t *d, size_t row)
{
    const json_t *cells = json_array_get(rows_of(d), row);
    return json_string_value(json_array_get(cells, json_array_size(cells) - 1));
}

static const struct {
    const char *a, *b, *finding;
} RULE[] = {
    {"100, 99, 101", "100, 99, 101", "SAME"},
    {"100, 99, 101", "102, 101.5, 102.5", "SAME"}, // apart, but by less than matters
    {"100, 99, 101", "105, 104, 106", "SLOWER"},   // 5 %
    {"105, 104, 106", "100, 99, 101", "FASTER"},   //
    {"100, 90, 110", "105, 95, 115", "AMBIGUOUS"}, // 5 %, but nobody knows
    {"100, 90, 110", "101, 70, 150", "SAME"},      // noisy and alike
    {"100, 100, 100", "103.1, 103.1, 103.1", "SLOWER"},
    {"100, 100, 100", "102.9, 102.9, 102.9", "SAME"},
    {"103.1, 103.1, 103.1", "100, 100, 100", "FASTER"},
    {"100, 99, 101", "null, null, null", "FAILED"},
    {"0, 0, 0", "100, 99, 101", "FAILED"},
    {"100, 101, 99", "100, 99, 101", "FAILED"}, // an interval that does not hold its value
    {"\"x\", 1, 2", "100, 99, 101", "FAILED"},
};

Test(compare, the_rule_of_a_row)
{
    for (size_t i = 0; i < sizeof RULE / sizeof *RULE; i++) {
        char a[128], b[128];
        snprintf(a, sizeof a, "[[\"op\", %s]]", RULE[i].a);
        snprintf(b, sizeof b, "[[\"op\", %s]]", RULE[i].b);
        json_t *d = compare(result_of(a, "[\"ok\"]"), result_of(b, "[\"ok\"]"));
        cr_expect_str_eq(finding(d, 0), RULE[i].finding, "%s against %s: %s", RULE[i].b, RULE[i].a,
                         finding(d, 0));
        bool fails = !strcmp(json_string_value(json_object_get(d, "verdict")), "fail");
        cr_expect(fails == !strcmp(RULE[i].finding, "SLOWER"));
        json_decref(d);
    }
}

Test(compare, a_failed_row_is_not_fast)
{
    json_t *d = compare(result_of("[[\"op\", 100, 99, 101]]", "[\"ok\"]"),
                        result_of("[[\"op\", 50, 49, 51]]", "[\"failed\"]"));
    cr_assert_str_eq(finding(d, 0), "FAILED");
    json_decref(d);
}

Test(compare, rows_are_matched_by_what_they_are)
{
    json_t *d = compare(
        result_of("[[\"x\", 1, 1, 1], [\"y\", 2, 2, 2], [\"x\", 9, 9, 9], [\"a\", 1, 1, 1]]",
                  "null"),
        result_of("[[\"y\", 2, 2, 2], [\"x\", 1, 1, 1], [\"b\", 1, 1, 1], [\"x\", 9, 9, 9]]",
                  "null"));
    static const char *const FINDINGS[] = {"SAME", "SAME", "SAME", "MISSING", "MISSING"};
    cr_assert(json_array_size(rows_of(d)) == 5);
    for (size_t i = 0; i < 5; i++)
        cr_expect_str_eq(finding(d, i), FINDINGS[i], "row %zu: %s", i, finding(d, i));
    json_decref(d);
}

// A table that says itself what counts: other names, and more is better.
Test(compare, a_table_may_declare_itself)
{
    static const char TABLE[] =
        "{\"tables\":[{\"name\":\"t\",\"columns\":[{\"name\":\"note\",\"kind\":\"text\"},"
        "{\"name\":\"batch\",\"kind\":\"number\"},{\"name\":\"rate\",\"kind\":\"number\"},"
        "{\"name\":\"low\",\"kind\":\"number\"},{\"name\":\"high\",\"kind\":\"number\"}],"
        "\"compare\":{\"key\":[\"batch\"],\"value\":\"rate\",\"low\":\"low\",\"high\":\"high\","
        "\"lower_is_better\":false},\"rows\":[[\"%s\",8,%d,%d,%d]]}]}";
    char a[600], b[600];
    snprintf(a, sizeof a, TABLE, "monday", 100, 99, 101);
    snprintf(b, sizeof b, TABLE, "tuesday", 90, 89, 91);
    json_t *d = compare(json_loads(a, 0, NULL), json_loads(b, 0, NULL));
    cr_assert(json_array_size(rows_of(d)) == 1);
    cr_assert_str_eq(finding(d, 0), "SLOWER");
    json_decref(d);
}

// What a column says may be what the two are compared for: with 5 % more work, for one.
Test(compare, a_column_of_the_key_may_be_ignored)
{
    struct err e = {0};
    struct compare_options o = OPTIONS;
    static const char TABLE[] =
        "{\"tables\":[{\"name\":\"t\",\"columns\":[{\"name\":\"op\"},{\"name\":\"tokens\"},"
        "{\"name\":\"median_us\"},{\"name\":\"low_us\"},{\"name\":\"high_us\"}],\"compare\":"
        "{\"key\":[\"op\",\"tokens\"],\"low\":\"low_us\",\"high\":\"high_us\"},"
        "\"rows\":[[\"x\",%d,%d,%d,%d]]}]}";
    char a[600], b[600];
    snprintf(a, sizeof a, TABLE, 1000, 100, 99, 101);
    snprintf(b, sizeof b, TABLE, 1050, 105, 104, 106);
    json_t *base = json_loads(a, 0, NULL), *new = json_loads(b, 0, NULL);
    json_t *apart = compare_results(base, new, &o, &e);
    cr_assert_str_eq(finding(apart, 0), "MISSING");
    o.ignore = "tokens";
    json_t *matched = compare_results(base, new, &o, &e);
    cr_assert(json_array_size(rows_of(matched)) == 1);
    cr_assert_str_eq(finding(matched, 0), "SLOWER");
    json_decref(base);
    json_decref(new);
    json_decref(apart);
    json_decref(matched);
}

Test(compare, nothing_in_common)
{
    static const char *const OTHERS[] = {
        "{}", "{\"tables\":[]}", "{\"tables\":[{\"name\":\"rows\"}]}",
        "{\"tables\":[{\"name\":\"rows\",\"columns\":[],\"rows\":[]}]}",
        "{\"tables\":[null, 3, {\"name\":3}]}"};
    json_t *a = result_of("[[\"op\", 1, 1, 1]]", "null");
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++) {
        struct err e = {0};
        json_t *b = json_loads(OTHERS[i], 0, NULL);
        cr_expect(!compare_results(a, b, &OPTIONS, &e) && e.code == ERR_BAD_REQUEST);
        cr_expect(!compare_results(b, a, &OPTIONS, &e) && e.code == ERR_BAD_REQUEST);
        json_decref(b);
    }
    json_decref(a);
}
