// report.c - see report.h. JSON alone.
#include "report.h"

#include <string.h>

#include "job.h"

int report_render(const json_t *result, enum report_format f, struct buf *out, struct err *e)
{
    if (f != REPORT_JSON)
        return err_set(e, ERR_UNSUPPORTED, "this server renders results as JSON only");
    job_write(out, result);
    return 0;
}

int report_format_read(const char *name, enum report_format *f, struct err *e)
{
    static const char *const NAMES[] = {"json", "md", "csv", "html", "markdown"};
    for (int i = 0; i < 5; i++) {
        if (!strcmp(NAMES[i], name)) {
            *f = i == 4 ? REPORT_MARKDOWN : (enum report_format)i;
            return 0;
        }
    }
    return err_field(e, ERR_BAD_REQUEST, "format",
                     "format is '%.40s'; there are json, md, csv, html", name);
}

enum report_format report_format_accepted(const char *accept)
{
    static const char *const TYPES[] = {"application/json", "text/markdown", "text/csv",
                                        "text/html"};
    enum report_format best = REPORT_JSON;
    const char *first = NULL;
    for (int i = 0; i < 4; i++) {
        const char *at = accept ? strstr(accept, TYPES[i]) : NULL;
        if (at && (!first || at < first)) {
            first = at;
            best = (enum report_format)i;
        }
    }
    return best;
}

const char *report_content_type(enum report_format f)
{
    static const char *const TYPES[] = {"application/json", "text/markdown; charset=utf-8",
                                        "text/csv; charset=utf-8", "text/html; charset=utf-8"};
    return TYPES[f];
}

const char *report_extension(enum report_format f)
{
    static const char *const NAMES[] = {"json", "md", "csv", "html"};
    return NAMES[f];
}
