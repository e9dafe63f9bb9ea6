// report.c - formats and their names. See report.h.
#include "report.h"

#include <string.h>
#include <strings.h>

#include "report_write.h"

static const struct {
    const char *extension, *content_type;
} FORMATS[] = {
    [REPORT_JSON] = {"json", "application/json"},
    [REPORT_MARKDOWN] = {"md", "text/markdown; charset=utf-8"},
    [REPORT_CSV] = {"csv", "text/csv; charset=utf-8; header=present"},
    [REPORT_HTML] = {"html", "text/html; charset=utf-8"},
};
enum { FORMATS_N = sizeof FORMATS / sizeof *FORMATS };

const char *report_content_type(enum report_format f)
{
    return FORMATS[f].content_type;
}

const char *report_extension(enum report_format f)
{
    return FORMATS[f].extension;
}

int report_format_read(const char *name, enum report_format *f, struct err *e)
{
    for (int i = 0; i < FORMATS_N; i++) {
        if (!strcmp(name, FORMATS[i].extension)) {
            *f = (enum report_format)i;
            return 0;
        }
    }
    if (!strcmp(name, "markdown")) {
        *f = REPORT_MARKDOWN;
        return 0;
    }
    return err_field(e, ERR_BAD_REQUEST, "format",
                     "format is '%.40s'; ask for json, md, csv or html", name);
}

enum report_format report_format_accepted(const char *accept)
{
    while (accept && *accept) {
        accept += strspn(accept, " \t,");
        size_t n = strcspn(accept, ",; \t");
        for (int i = 0; i < FORMATS_N; i++) {
            size_t type = strcspn(FORMATS[i].content_type, ";");
            if (n == type && !strncasecmp(accept, FORMATS[i].content_type, n))
                return (enum report_format)i;
        }
        accept += strcspn(accept, ",");
    }
    return REPORT_JSON;
}

int report_render(const json_t *result, enum report_format f, struct buf *out, struct err *e)
{
    struct report_doc d;
    if (report_doc_read(&d, result, e))
        return -1;
    switch (f) {
    case REPORT_JSON:
        report_json(result, out);
        break;
    case REPORT_MARKDOWN:
        report_markdown(&d, out);
        break;
    case REPORT_CSV:
        report_csv(&d, out);
        break;
    case REPORT_HTML:
        report_html(&d, out);
        break;
    }
    report_doc_fini(&d);
    if (out->overflow)
        return err_set(e, ERR_TOO_LARGE, "the report has more than %zu bytes; ask for json or csv",
                       out->max);
    return 0;
}
