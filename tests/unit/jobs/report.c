// Tests of server/jobs/report*.c: each format of the example results against its golden document, that
// nothing leaves its place by a name, and what is done with results that are not what they should be.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "report.h"
#include "report_css.h"
#include "report_value.h"

static const char *const EXAMPLES[] = {"kernel_benchmark", "model_benchmark", "serve_benchmark",
                                       "accuracy_report", "hostile"};
enum { EXAMPLES_N = sizeof EXAMPLES / sizeof *EXAMPLES };

static void read_file(const char *path, struct buf *out)
{
    char block[4096];
    FILE *f = fopen(path, "rb");
    cr_assert(ne(ptr, f, NULL), "%s", path);
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;)
        buf_add(out, block, n);
    fclose(f);
}

static json_t *example(const char *name)
{
    char path[512];
    struct buf text = {0};
    struct err e = {0};
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/tests/data/results/%s.json", name);
    read_file(path, &text);
    json_t *v = json_parse(text.data, text.n, 64, &e);
    cr_assert(ne(ptr, v, NULL), "%s: %s", path, e.text);
    buf_fini(&text);
    return v;
}

static void render(const json_t *result, enum report_format f, struct buf *out)
{
    struct err e = {0};
    cr_assert(eq(int, report_render(result, f, out, &e), 0), "%s", e.text);
}

// A result of one more field, given as JSON.
static json_t *result_of(const char *fields)
{
    struct buf text = {0};
    struct err e = {0};
    buf_format(&text, "{\"schema\":\"deltaserve.result/1\",%s}", fields);
    json_t *v = json_parse(text.data, text.n, 64, &e);
    cr_assert(ne(ptr, v, NULL), "%s", e.text);
    buf_fini(&text);
    return v;
}

static void check_contains(const char *fields, enum report_format f, const char *wanted)
{
    struct buf b = {0};
    json_t *v = result_of(fields);
    render(v, f, &b);
    cr_assert(ne(ptr, strstr(b.data, wanted), NULL), "no '%s' in: %s", wanted, b.data);
    json_decref(v);
    buf_fini(&b);
}

// --- golden documents -----------------------------------------------------------------------

// The style has its own file; a golden HTML begins behind it.
static const char *without_style(const struct buf *b, size_t *n)
{
    const char *end = memmem(b->data, b->n, "</style>", 8);
    const char *from = end ? end : b->data;
    *n = b->n - (size_t)(from - b->data);
    return from;
}

static void check_golden(const char *name, enum report_format f)
{
    char path[512], actual[512];
    struct buf b = {0}, golden = {0};
    json_t *v = example(name);
    render(v, f, &b);
    size_t n;
    const char *text = without_style(&b, &n);
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/tests/data/results/golden/%s.%s", name,
             report_extension(f));
    snprintf(actual, sizeof actual, TEST_BINARY_DIR "/report_%s.%s", name, report_extension(f));
    FILE *out = fopen(actual, "wb");
    fwrite(text, 1, n, out);
    fclose(out);
    read_file(path, &golden);
    cr_assert(n == golden.n && !memcmp(text, golden.data, n),
              "%s differs from %s; look at both, and copy it there if it is better", actual, path);
    json_decref(v);
    buf_fini(&b);
    buf_fini(&golden);
}

Test(report, markdown_of_the_examples)
{
    for (int i = 0; i < EXAMPLES_N; i++)
        check_golden(EXAMPLES[i], REPORT_MARKDOWN);
}

Test(report, csv_of_the_examples)
{
    for (int i = 0; i < EXAMPLES_N; i++)
        check_golden(EXAMPLES[i], REPORT_CSV);
}

Test(report, html_of_the_examples)
{
    for (int i = 0; i < EXAMPLES_N; i++)
        check_golden(EXAMPLES[i], REPORT_HTML);
}

Test(report, json_is_the_document_and_stable)
{
    for (int i = 0; i < EXAMPLES_N; i++) {
        struct buf once = {0}, twice = {0};
        struct err e = {0};
        json_t *v = example(EXAMPLES[i]);
        render(v, REPORT_JSON, &once);
        json_t *again = json_parse(once.data, once.n, 64, &e);
        cr_assert(json_equal(v, again), "%s", EXAMPLES[i]);
        render(again, REPORT_JSON, &twice);
        cr_assert(eq(str, once.data, twice.data));
        json_decref(v);
        json_decref(again);
        buf_fini(&once);
        buf_fini(&twice);
    }
}

// --- formats and their names ----------------------------------------------------------------

Test(report, formats_by_name)
{
    static const struct {
        const char *name;
        int format;
    } NAMES[] = {{"json", REPORT_JSON},
                 {"md", REPORT_MARKDOWN},
                 {"markdown", REPORT_MARKDOWN},
                 {"csv", REPORT_CSV},
                 {"html", REPORT_HTML},
                 {"pdf", -1},
                 {"", -1},
                 {"JSON", -1}};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        struct err e = {0};
        enum report_format f = REPORT_JSON;
        int failed = report_format_read(NAMES[i].name, &f, &e);
        cr_assert(eq(int, failed, NAMES[i].format < 0 ? -1 : 0), "%s", NAMES[i].name);
        if (failed) {
            cr_assert(eq(int, (int)e.code, ERR_BAD_REQUEST));
            cr_assert(eq(str, e.param, "format"));
        } else {
            cr_assert(eq(int, (int)f, NAMES[i].format));
        }
    }
}

Test(report, formats_by_accept)
{
    static const struct {
        const char *accept;
        enum report_format format;
    } CASES[] = {
        {NULL, REPORT_JSON},
        {"*/*", REPORT_JSON},
        {"text/markdown", REPORT_MARKDOWN},
        {"text/csv;q=0.5", REPORT_CSV},
        {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", REPORT_HTML},
        {"image/png, Text/CSV, text/html", REPORT_CSV},
        {"text/htmlx", REPORT_JSON},
        {",,;;, ;", REPORT_JSON},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        cr_assert(eq(int, (int)report_format_accepted(CASES[i].accept), (int)CASES[i].format), "%s",
                  CASES[i].accept);
}

// --- escaping -------------------------------------------------------------------------------

Test(report, names_stay_texts_in_html)
{
    struct buf b = {0};
    json_t *v = example("hostile");
    render(v, REPORT_HTML, &b);
    const char *body = strstr(b.data, "</style>");
    // The document says <script>, <img>, </svg>, </td>, " and ' in every place that takes a text.
    cr_assert(eq(ptr, strcasestr(body, "<script"), NULL));
    cr_assert(eq(ptr, strcasestr(body, "<img"), NULL));
    cr_assert(eq(ptr, strstr(body, "=\"a\"b"), NULL));
    cr_assert(ne(ptr, strstr(body, "&#60;script&#62;alert(1)"), NULL));
    cr_assert(eq(sz, strlen(b.data), b.n)); // the NUL of its title is gone
    cr_assert(eq(ptr, strstr(b.data, "\xE2\x80\xAE"), NULL));
    json_decref(v);
    buf_fini(&b);
}

Test(report, formulas_do_not_run_in_a_spreadsheet)
{
    static const char TABLE[] = "\"tables\":[{\"name\":\"t\",\"columns\":[{\"name\":\"a\"}],"
                                "\"rows\":[[\"=1+1\"],[\"-x\"],[-5],[\"a,\\\"b\\\"\"],[null]]}]";
    check_contains(TABLE, REPORT_CSV,
                   "table,state,a\r\nt,,'=1+1\r\nt,,'-x\r\nt,,-5\r\nt,,\"a,\"\"b\"\"\"\r\nt,,\r\n");
}

Test(report, markdown_keeps_texts_in_their_cells)
{
    check_contains("\"title\":\"a|b <i> *c* d_e _f_\"", REPORT_MARKDOWN,
                   "## a\\|b &lt;i&gt; \\*c\\* d_e \\_f\\_\n");
    check_contains("\"summary\":[\"# x\",\"2. y\",\"two\\nlines\"]", REPORT_MARKDOWN,
                   "- \\# x\n- 2\\. y\n- two lines\n");
}

Test(report, csv_names_a_column_of_two_tables_once)
{
    check_contains(
        "\"tables\":[{\"name\":\"t\",\"columns\":[{\"name\":\"a\"},{\"name\":\"b\"}],"
        "\"rows\":[[1,2]],\"row_states\":[\"ok\"]},"
        "{\"name\":\"u\",\"columns\":[{\"name\":\"c\"},{\"name\":\"b\"}],\"rows\":[[3,4]]}]",
        REPORT_CSV, "table,state,a,b,c\r\nt,ok,1,2,\r\nu,,,4,3\r\n");
}

Test(report, counts_have_no_fraction)
{
    check_contains("\"tables\":[{\"name\":\"t\",\"columns\":[{\"name\":\"n\",\"digits\":6},"
                   "{\"name\":\"us\",\"digits\":3}],\"rows\":[[121.0,2.0],[7,1.25]]}]",
                   REPORT_MARKDOWN, "| 121 | 2.00 |\n| 7   | 1.25 |\n");
}

// What scripts need and people do not, and columns that have nothing in them.
Test(report, columns_may_be_hidden_from_people)
{
    static const char TABLE[] =
        "\"tables\":[{\"name\":\"t\",\"columns\":[{\"name\":\"id\",\"hidden\":true},"
        "{\"name\":\"none\"},{\"name\":\"op\"},{\"name\":\"us\"}],"
        "\"rows\":[[\"x 1\",null,\"x\",1],[\"y 2\",\"\",\"y\",2]]}]";
    check_contains(TABLE, REPORT_MARKDOWN, "| op  | us  |\n| --- | --- |\n| x   | 1   |\n");
    check_contains(TABLE, REPORT_HTML, "<thead><tr><th scope=\"col\">op</th>");
    check_contains(TABLE, REPORT_HTML, "<th scope=\"row\">x</th><td>1</td>");
    check_contains(TABLE, REPORT_CSV, "table,state,id,none,op,us\r\nt,,x 1,,x,1\r\n");
}

Test(report, a_legend_says_what_its_names_share_once)
{
    check_contains(
        "\"plots\":[{\"kind\":\"line\",\"series\":[{\"name\":\"gdn_inverse T=64 auto\","
        "\"points\":[[1,2]]},{\"name\":\"gdn_inverse T=64 & merge\",\"points\":[[1,3]]}]}]",
        REPORT_HTML, "<p class=\"unit\">gdn_inverse T=64 …</p>");
}

// --- documents that are not what they should be ---------------------------------------------

Test(report, only_results_are_rendered)
{
    static const char *const OTHERS[] = {"{}", "[]", "3", "{\"schema\":\"deltaserve.result/2\"}",
                                         "{\"schema\":1}"};
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++) {
        struct buf b = {0};
        struct err e = {0};
        json_t *v = json_loads(OTHERS[i], JSON_DECODE_ANY, NULL);
        cr_assert(eq(int, report_render(v, REPORT_HTML, &b, &e), -1), "%s", OTHERS[i]);
        cr_assert(eq(int, (int)e.code, ERR_INTERNAL));
        cr_assert(ne(ptr, strstr(e.text, "deltaserve.result/1"), NULL));
        json_decref(v);
        buf_fini(&b);
    }
}

Test(report, a_part_that_is_wrong_is_left_out_and_named)
{
    static const char *const PARTS[][2] = {
        {"\"tables\":[{\"name\":\"t\",\"columns\":[]}]", "tables[0].columns is not a list"},
        {"\"tables\":[{\"name\":\"t\",\"columns\":[{\"name\":\"a\"}],\"rows\":[[1],[1,2]]}]",
         "tables[0].rows[1] is not a list of 1 values"},
        {"\"plots\":[{\"kind\":\"pie\"}]", "plots[0].kind is not one of"},
        {"\"plots\":[{\"kind\":\"line\",\"y\":{\"log\":true},\"series\":[{\"points\":[[1,0],[1,1]]}"
         "]}]",
         "plots[0]: 1 points are not drawn"},
        {"\"plots\":[{\"kind\":\"line\",\"series\":[]}]", "plots[0] has no point"},
        {"\"plots\":[{\"kind\":\"heat\",\"x_names\":[\"a\"],\"y_names\":[\"b\"],\"values\":[]}]",
         "plots[0] is not a heat map"},
        {"\"verdict\":\"maybe\"", "verdict is neither"},
        {"\"checks\":[{\"name\":\"a\"}]", "checks[0] has no name"},
        {"\"summary\":7", "summary is not a list"},
        {"\"environment\":\"here\"", "environment is not an object"},
    };
    for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++)
        check_contains(PARTS[i][0], REPORT_HTML, PARTS[i][1]);
}

Test(report, omissions_are_counted_beyond_those_told)
{
    json_t *plots = json_array();
    for (int i = 0; i < 40; i++)
        json_array_append_new(plots, json_null());
    json_t *v = json_pack("{s:s, s:o}", "schema", "deltaserve.result/1", "plots", plots);
    struct buf b = {0};
    render(v, REPORT_HTML, &b);
    cr_assert(ne(ptr, strstr(b.data, "40 parts of the result"), NULL));
    cr_assert(ne(ptr, strstr(b.data, "plots[31].kind"), NULL));
    cr_assert(eq(ptr, strstr(b.data, "plots[32].kind"), NULL));
    json_decref(v);
    buf_fini(&b);
}

Test(report, rows_beyond_the_limit_are_in_the_csv)
{
    json_t *rows = json_array();
    for (int i = 0; i < 2500; i++)
        json_array_append_new(rows, json_pack("[i]", i));
    json_t *v = json_pack("{s:s, s:[{s:s, s:[{s:s}], s:o}]}", "schema", "deltaserve.result/1",
                          "tables", "name", "t", "columns", "name", "a", "rows", rows);
    struct buf b = {0};
    render(v, REPORT_HTML, &b);
    cr_assert(ne(ptr, strstr(b.data, "500 more rows"), NULL));
    buf_clear(&b);
    render(v, REPORT_MARKDOWN, &b);
    cr_assert(ne(ptr, strstr(b.data, "1500 more rows"), NULL));
    buf_clear(&b);
    render(v, REPORT_CSV, &b);
    cr_assert(ne(ptr, strstr(b.data, "\r\nt,,2499\r\n"), NULL));
    json_decref(v);
    buf_fini(&b);
}

Test(report, a_report_keeps_the_maximum_of_its_buffer)
{
    json_t *v = example("kernel_benchmark");
    for (int f = REPORT_JSON; f <= REPORT_HTML; f++) {
        struct buf b = {.max = 2000};
        struct err e = {0};
        cr_assert(eq(int, report_render(v, (enum report_format)f, &b, &e), -1));
        cr_assert(eq(int, (int)e.code, ERR_TOO_LARGE));
        cr_assert(le(sz, b.n, 2000));
        buf_fini(&b);
    }
    json_decref(v);
}

// --- numbers --------------------------------------------------------------------------------

Test(report, numbers_for_people)
{
    static const struct {
        double v;
        int digits;
        const char *text;
    } CASES[] = {
        {12.345, 4, "12.35"},
        {1234567.25, 4, "1234567"},
        {0.00012345, 3, "0.000123"},
        {3.2e-7, 2, "3.2e-7"},
        {0, 5, "0"},
        {-9.9996, 4, "-10.000"},
        {5e13, 3, "5.00e13"},
        {100, 0, "100"},
        {4.9e-6, 0, "4.9e-6"},
        {1e308, 4, "1.000e308"},
        {0.5, 3, "0.500"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct buf b = {0};
        value_rounded(&b, CASES[i].v, CASES[i].digits);
        cr_assert(eq(str, b.data, (char *)CASES[i].text));
        buf_fini(&b);
    }
}

Test(report, exact_numbers_are_short)
{
    static const struct {
        double v;
        const char *text;
    } CASES[] = {{0.1, "0.1"},
                 {1.0 / 3, "0.3333333333333333"},
                 {1e22, "1e+22"},
                 {5e-324, "4.94065645841247e-324"}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct buf b = {0};
        value_exact(&b, CASES[i].v);
        cr_assert(eq(str, b.data, (char *)CASES[i].text));
        buf_fini(&b);
    }
}
