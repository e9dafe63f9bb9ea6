// page.c - GET /: the page for people, one file that asks for nothing from elsewhere. Its parts are in
// page/; the build joins them, and knows the hashes that let its one style and one script through the
// policy below, and the style of a report, which the page shows in a frame that inherits the policy.
#include <string.h>

#include "page_html.h"
#include "parts.h"
#include "report_css.h"

static const char POLICY[] =
    "default-src 'none'; script-src '" PAGE_HTML_SCRIPT_HASH "'; style-src '" PAGE_HTML_STYLE_HASH
    "' '" REPORT_CSS_HASH "'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'";

int page_handle(void *server, struct request *q, struct reply *r, struct err *e)
{
    (void)server, (void)e;
    const char *known = q->header(q, "If-None-Match");
    r->content_type = "text/html; charset=utf-8";
    reply_header(r, "ETag", PAGE_HTML_ETAG);
    reply_header(r, "Cache-Control", "no-cache"); // asks each time, and gets 304
    reply_header(r, "Content-Security-Policy", POLICY);
    reply_header(r, "X-Content-Type-Options", "nosniff");
    reply_header(r, "Referrer-Policy", "no-referrer");
    if (known && strstr(known, PAGE_HTML_ETAG))
        r->status = 304;
    else
        buf_add(&r->body, PAGE_HTML, PAGE_HTML_N);
    return 0;
}
