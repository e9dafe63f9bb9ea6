// report.c - any JSON document as a job's result: an error, or a report in each format, none of which
// lets a text of the document out of its place.
#define _GNU_SOURCE
#include "report.h"

#include <string.h>

#include "json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { REPORT_MAX = 1 << 22 };

static bool contains(const struct buf *b, const char *what)
{
    return memmem(b->data, b->n, what, strlen(what)) != NULL;
}

// Does a result's JSON come back as it went in?
static void check_json(const json_t *result, const struct buf *b)
{
    struct err e = {0};
    json_t *again = json_parse(b->data, b->n, 64, &e);
    CHECK(again && json_equal(again, result));
    json_decref(again);
}

// Every line of a CSV has as many fields as its head.
static void check_csv(const struct buf *b)
{
    size_t fields = 1, wanted = 0;
    bool quoted = false;
    for (size_t i = 0; i < b->n; i++) {
        quoted ^= b->data[i] == '"';
        if (quoted)
            continue;
        fields += b->data[i] == ',';
        if (b->data[i] != '\n')
            continue;
        CHECK(i > 0 && b->data[i - 1] == '\r');
        wanted = wanted ? wanted : fields;
        CHECK(fields == wanted);
        fields = 1;
    }
    CHECK(!quoted && fields == 1);
}

static void check_html(const struct buf *b)
{
    const char *body = memmem(b->data, b->n, "</style>", 8);
    CHECK(body && b->n > 8 && !strcmp(b->data + b->n - 8, "</html>\n"));
    CHECK(!contains(b, "<script") && !contains(b, "<img") && !contains(b, "<iframe"));
    CHECK(strlen(b->data) == b->n); // no NUL
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err e = {0};
    json_t *result = json_parse((const char *)data, n, 64, &e);
    for (int f = REPORT_JSON; result && f <= REPORT_HTML; f++) {
        struct buf b = {.max = REPORT_MAX};
        e = (struct err){0};
        if (report_render(result, (enum report_format)f, &b, &e)) {
            CHECK(e.code == ERR_INTERNAL || (e.code == ERR_TOO_LARGE && b.overflow));
        } else if (f == REPORT_JSON) {
            check_json(result, &b);
        } else if (f == REPORT_CSV) {
            check_csv(&b);
        } else if (f == REPORT_HTML) {
            check_html(&b);
        }
        buf_fini(&b);
    }
    json_decref(result);
    return 0;
}
