// jobs_result.c - what jobs leave behind: /v1/jobs/{id}/result in every format, its artifacts, and the
// comparison of two.
#define _GNU_SOURCE
#include "jobs_parts.h"

#include <string.h>

#include "compare.h"
#include "report.h"
#include "report_css.h"

// --- documents ------------------------------------------------------------------------------

// What a client asked for of a result document, checked before the document is made.
struct form {
    enum report_format format;
    bool fail_on_verdict, download;
};

static int read_form(const struct request *q, struct form *f, struct err *e)
{
    const char *name = q->query(q, "format"), *fail_on = q->query(q, "fail_on");
    const char *download = q->query(q, "download");
    *f = (struct form){.format = report_format_accepted(q->header(q, "Accept")),
                       .fail_on_verdict = fail_on != NULL,
                       .download = download && strcmp(download, "0") != 0};
    if (fail_on && strcmp(fail_on, "verdict"))
        return err_field(e, ERR_BAD_REQUEST, "fail_on", "fail_on is '%.40s'; there is only verdict",
                         fail_on);
    return name ? report_format_read(name, &f->format, e) : 0;
}

// A report is a page of its own, made of text that users sent: nothing in it may run or be fetched.
static void add_headers(const struct request *q, const struct form *f, const char *name,
                        struct reply *r)
{
    r->content_type = report_content_type(f->format);
    reply_header(r, "X-Content-Type-Options", "nosniff");
    if (f->format == REPORT_HTML)
        reply_header(r, "Content-Security-Policy",
                     "default-src 'none'; style-src '" REPORT_CSS_HASH "'");
    if (f->download || f->format != REPORT_JSON)
        jobs_header(r, q->arena, "Content-Disposition", "%s; filename=\"%s.%s\"",
                    f->download ? "attachment" : "inline", name, report_extension(f->format));
}

// result is taken.
static int reply_document(const struct request *q, json_t *result, const struct form *f,
                          const char *name, struct reply *r, struct err *e)
{
    const char *verdict = json_string_value(json_object_get(result, "verdict"));
    bool fails = verdict && !strcmp(verdict, "fail");
    int failed = report_render(result, f->format, &r->body, e);
    if (!failed) {
        add_headers(q, f, name, r);
        if (verdict)
            reply_header(r, "X-Verdict", fails ? "fail" : "pass");
        if (f->fail_on_verdict && fails)
            r->status = 409; // with the same body: `curl -f` fails a pipeline
    }
    json_decref(result);
    return failed;
}

int jobs_result_one(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct form f;
    if (read_form(q, &f, e))
        return -1;
    json_t *result = jobs_result(s->jobs, q->vars[0], e);
    return result ? reply_document(q, result, &f, q->vars[0], r, e) : -1;
}

// --- comparison -----------------------------------------------------------------------------

int jobs_compare(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    const char *a_id = q->vars[0], *b_id;
    struct compare_options o = {
        .base = a_id, .tolerance = COMPARE_TOLERANCE, .ignore = q->query(q, "ignore")};
    struct form f;
    if (read_form(q, &f, e) || jobs_query_id(q, "with", &b_id, e) ||
        jobs_query_number(q, "tolerance", 0, 10, &o.tolerance, e))
        return -1;
    if (!b_id)
        return err_field(e, ERR_BAD_REQUEST, "with",
                         "with is missing; name the job to compare with: ?with=job_...");
    o.new = b_id;
    json_t *a = jobs_result(s->jobs, a_id, e), *b = a ? jobs_result(s->jobs, b_id, e) : NULL;
    json_t *document = b ? compare_results(a, b, &o, e) : NULL;
    json_decref(a);
    json_decref(b);
    return document ? reply_document(q, document, &f, "comparison", r, e) : -1;
}

// --- artifacts ------------------------------------------------------------------------------

int jobs_artifacts(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct job j;
    size_t i;
    json_t *a;
    if (jobs_get(s->jobs, q->vars[0], &j, e))
        return -1;
    json_t *list = store_artifacts(jobs_store(s->jobs), j.id, e);
    json_array_foreach(list, i, a)
        json_object_set_new(a, "url",
                            json_sprintf("/v1/jobs/%s/artifacts/%s", j.id,
                                         json_string_value(json_object_get(a, "name"))));
    job_fini(&j);
    if (!list)
        return -1;
    json_t *o = json_pack("{s:s, s:o}", "object", "list", "data", list);
    job_write(&r->body, o);
    json_decref(o);
    return 0;
}

int jobs_artifact(void *server, struct request *q, struct reply *r, struct err *e)
{
    struct api_server *s = server;
    struct job j;
    if (jobs_get(s->jobs, q->vars[0], &j, e))
        return -1;
    json_t *a = store_artifact(jobs_store(s->jobs), j.id, q->vars[1], &r->body, e);
    job_fini(&j);
    if (!a)
        return -1;
    const char *type = json_string_value(json_object_get(a, "content_type"));
    const char *sha256 = json_string_value(json_object_get(a, "sha256"));
    r->content_type = arena_string(q->arena, type, strlen(type));
    reply_header(r, "X-Content-Type-Options", "nosniff");
    jobs_header(r, q->arena, "ETag", "\"%s\"", sha256);
    jobs_header(r, q->arena, "X-Checksum-SHA256", "%s", sha256);
    jobs_header(r, q->arena, "Content-Disposition", "attachment; filename=\"%s\"",
                json_string_value(json_object_get(a, "name")));
    json_decref(a);
    return 0;
}
