// Tests of the small paths: models, tokenization, health, and all of them while the model loads.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "api_rig.h"

static const char *text(const struct call *c, const char *path)
{
    return json_string_value(call_at(c, path));
}

static void check_status(struct rig *r, const char *method, const char *path, const char *body,
                         int status)
{
    struct call c;
    call_run(&c, r, method, path, body);
    cr_assert(eq(int, c.status, status), "%s %s: %s", path, body ? body : "", c.body.data);
    call_end(&c);
}

// Records of jobs are read and cancelled without the model; tests/http/jobs.c has them.
static bool is_record(const char *path)
{
    return !strncmp(path, "/v1/jobs/", 9) || !strcmp(path, "/v1/jobs");
}

Test(paths, loading)
{
    struct rig r = {.server = {.model_id = "m", .version = "1", .commit = "c", .device = "d"}};
    const struct jobs_options o = {.store = {.path = ":memory:", .bytes_max = 1 << 20}};
    struct err e = {0};
    struct call c;
    r.server.jobs = jobs_open(&o, &e);
    cr_assert(ne(ptr, r.server.jobs, NULL), "%s", e.text);
    for (int i = 0; i < API_ROUTES_N; i++) {
        const char *path = API_ROUTES[i].path;
        bool open = !strcmp(path, "/") || !strcmp(path, "/livez") || !strcmp(path, "/version") ||
                    !strcmp(path, "/metrics");
        if (is_record(path))
            continue;
        call_run(&c, &r, API_ROUTES[i].method,
                 !strcmp(path, "/v1/models/*") ? "/v1/models/m" : path, "{}");
        cr_assert(eq(int, c.status, open ? 200 : 503), "%s", path);
        call_end(&c);
    }
    jobs_close(r.server.jobs);
}

Test(paths, only_probes_and_the_page_are_open)
{
    for (int i = 0; i < API_ROUTES_N; i++) {
        const char *path = API_ROUTES[i].path;
        bool probe = !strcmp(path, "/") || !strcmp(path, "/livez") || !strcmp(path, "/readyz") ||
                     !strcmp(path, "/health");
        cr_assert(eq(int, API_ROUTES[i].open, probe), "%s", path);
    }
}

static const char *header(const struct call *c, const char *name)
{
    for (int i = 0; i < c->reply.n_headers; i++)
        if (!strcmp(c->reply.headers[i].name, name))
            return c->reply.headers[i].value;
    return "";
}

// That its script and style run under the policy is seen in a browser, tests/page.
Test(paths, the_page_is_one_file_under_a_strict_policy)
{
    struct rig r = {.server = {.model_id = "m", .version = "1", .commit = "c", .device = "d"}};
    struct call c;
    call_run(&c, &r, "GET", "/", NULL);
    cr_assert(eq(int, c.status, 200));
    cr_assert(eq(str, (char *)c.reply.content_type, "text/html; charset=utf-8"));
    cr_assert(zero(strncmp(c.body.data, "<!DOCTYPE html>", 15)));
    cr_assert(eq(ptr, strstr(c.body.data, "@STYLE@"), NULL));
    cr_assert(eq(ptr, strstr(c.body.data, "@SCRIPT@"), NULL));
    const char *policy = header(&c, "Content-Security-Policy");
    cr_assert(zero(strncmp(policy, "default-src 'none'; script-src 'sha256-", 39)));
    cr_assert(eq(ptr, strstr(policy, "unsafe"), NULL));
    cr_assert(eq(ptr, strstr(policy, "*"), NULL));
    cr_assert(eq(sz, strlen(header(&c, "ETag")), 18));
    call_end(&c);
}

Test(paths, models)
{
    static const char *const ALIASES[] = {"other/name"};
    struct rig r;
    struct call c;
    rig_open(&r, &(struct rig_options){.model = "dense_a"});
    r.server.aliases = ALIASES;
    r.server.n_aliases = 1;
    call_run(&c, &r, "GET", "/v1/models", NULL);
    cr_assert(eq(str, (char *)text(&c, "object"), "list"));
    cr_assert(eq(str, (char *)text(&c, "data.0.id"), "dense_a"));
    cr_assert(eq(str, (char *)text(&c, "data.1.id"), "other/name"));
    cr_assert(eq(str, (char *)text(&c, "data.1.root"), "dense_a"));
    cr_assert(eq(i64, json_integer_value(call_at(&c, "data.0.created")), 1700000000));
    cr_assert(eq(i64, json_integer_value(call_at(&c, "data.0.max_model_len")), 256));
    cr_assert(eq(i64, json_integer_value(call_at(&c, "data.0.meta.n_vocab")), 1200));
    call_end(&c);
    call_run(&c, &r, "GET", "/v1/models/other/name", NULL);
    cr_assert(eq(str, (char *)text(&c, "id"), "other/name"));
    call_end(&c);
    check_status(&r, "GET", "/v1/models/unknown", NULL, 404);
    rig_close(&r);
}

Test(paths, tokenize_and_back)
{
    struct rig r;
    struct call c, back;
    rig_open(&r, &(struct rig_options){.model = "bundled"});
    call_run(&c, &r, "POST", "/tokenize",
             "{\"prompt\":\"H\xE2\x82\xAC<|im_end|>\",\"add_special_tokens\":false,"
             "\"return_token_strs\":true}");
    json_t *tokens = call_at(&c, "tokens");
    size_t n = json_array_size(tokens);
    cr_assert(eq(i64, json_integer_value(call_at(&c, "count")), (int64_t)n));
    cr_assert(eq(i64, json_integer_value(call_at(&c, "max_model_len")), 256));
    cr_assert(eq(i64, json_integer_value(json_array_get(tokens, n - 1)), 6141));
    cr_assert(eq(sz, json_array_size(call_at(&c, "token_strs")), n));
    struct buf body = {0};
    char *list = json_dumps(tokens, JSON_COMPACT);
    buf_format(&body, "{\"tokens\":%s}", list);
    free(list);
    call_run(&back, &r, "POST", "/detokenize", body.data);
    cr_assert(eq(str, (char *)text(&back, "prompt"), "H\xE2\x82\xAC<|im_end|>"));
    cr_assert(eq(str, (char *)text(&back, "content"), "H\xE2\x82\xAC<|im_end|>"));
    call_end(&back);
    call_end(&c);
    buf_fini(&body);
    rig_close(&r);
}

Test(paths, tokenize_as_llama_servers_clients_ask)
{
    struct rig r;
    struct call c;
    rig_open(&r, &(struct rig_options){.model = "bundled"});
    call_run(&c, &r, "POST", "/tokenize",
             "{\"content\":\"a\xF0\x9F\xA7\xBF\",\"add_special\":false,\"with_pieces\":true}");
    cr_assert(eq(str, (char *)text(&c, "tokens.0.piece"), "a"));
    cr_assert(eq(int, json_typeof(call_at(&c, "tokens.1.piece")), JSON_ARRAY),
              "part of a character: bytes");
    call_end(&c);
    call_run(&c, &r, "POST", "/tokenize", "{\"content\":\"<|im_end|>\",\"parse_special\":false}");
    cr_assert(gt(i64, json_integer_value(call_at(&c, "count")), 1));
    call_end(&c);
    call_run(&c, &r, "POST", "/tokenize", "{\"content\":\"\"}");
    cr_assert(eq(i64, json_integer_value(call_at(&c, "count")), 0));
    call_end(&c);
    call_run(&c, &r, "POST", "/tokenize",
             "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}");
    cr_assert(eq(i64, json_integer_value(call_at(&c, "tokens.0")), 6140)); // <|im_start|>
    call_end(&c);
    rig_close(&r);
}

Test(paths, tokenizer_info_has_what_clients_need)
{
    static const char *const FIELDS[] = {"bos_token", "eos_token", "pad_token", "chat_template",
                                         "tokenizer_class"};
    struct rig r;
    struct call c;
    rig_open(&r, &(struct rig_options){.model = "bundled"});
    call_run(&c, &r, "GET", "/tokenizer_info", NULL);
    for (size_t i = 0; i < sizeof FIELDS / sizeof *FIELDS; i++)
        call_at(&c, FIELDS[i]);
    cr_assert(eq(str, (char *)text(&c, "eos_token"), "<|im_end|>"));
    call_end(&c);
    rig_close(&r);
}

Test(paths, wrong_requests)
{
    struct rig r;
    rig_open(&r, &(struct rig_options){.model = "bundled"});
    check_status(&r, "POST", "/tokenize", "{}", 400);
    check_status(&r, "POST", "/tokenize", "{\"prompt\":5}", 400);
    check_status(&r, "POST", "/tokenize", "{\"prompt\":\"a\",\"model\":\"x\"}", 404);
    check_status(&r, "POST", "/tokenize", "{\"messages\":[]}", 400);
    check_status(&r, "POST", "/detokenize", "{}", 400);
    check_status(&r, "POST", "/detokenize", "{\"tokens\":[6144]}", 400);
    check_status(&r, "POST", "/detokenize", "{\"tokens\":[-1]}", 400);
    check_status(&r, "POST", "/detokenize", "{\"tokens\":[\"a\"]}", 400);
    check_status(&r, "POST", "/detokenize", "{\"tokens\":[]}", 200);
    rig_close(&r);
}

Test(paths, without_a_tokenizer)
{
    struct rig r;
    rig_open(&r, &(struct rig_options){.model = "dense_a"});
    check_status(&r, "POST", "/tokenize", "{\"prompt\":\"a\"}", 400);
    check_status(&r, "POST", "/detokenize", "{\"tokens\":[1]}", 400);
    check_status(&r, "GET", "/tokenizer_info", NULL, 400);
    rig_close(&r);
}

Test(paths, health)
{
    struct rig r;
    struct call c;
    rig_open(&r, &(struct rig_options){.model = "dense_a"});
    call_run(&c, &r, "GET", "/readyz", NULL);
    cr_assert(eq(str, (char *)text(&c, "status"), "ok"));
    call_end(&c);
    call_run(&c, &r, "GET", "/version", NULL);
    cr_assert(eq(str, (char *)text(&c, "version"), "1.2.3"));
    cr_assert(eq(str, (char *)text(&c, "device"), "test device"));
    cr_assert(eq(str, (char *)text(&c, "commit"), "abc"));
    call_end(&c);
    call_run(&c, &r, "GET", "/metrics", NULL);
    cr_assert(zero(strncmp(c.reply.content_type, "text/plain; version=0.0.4", 25)));
    cr_assert(ne(ptr, strstr(c.body.data, "deltaserve_steps_total"), NULL));
    call_end(&c);
    rig_close(&r);
}

Test(paths, lost_device_is_not_ready)
{
    struct rig r;
    struct call c;
    rig_open(&r, &(struct rig_options){.model = "dense_a", .break_device = true});
    check_status(&r, "POST", "/v1/completions", "{\"prompt\":[1]}", 500);
    call_run(&c, &r, "GET", "/readyz", NULL);
    cr_assert(eq(int, c.status, 500));
    call_end(&c);
    check_status(&r, "GET", "/livez", NULL, 200);
    rig_close(&r);
}
