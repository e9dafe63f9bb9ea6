// routes.c - method and path to a route, and every reason to refuse a request from its head alone.
#define _GNU_SOURCE
#include "exchange.h"

#include <string.h>
#include <strings.h>

const char *routes_header(const struct exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND, name);
}

// --- framing --------------------------------------------------------------------------------

struct framing {
    int n_length, n_encoding, n_host;
    const char *length, *encoding;
};

static enum MHD_Result count_header(void *cls, enum MHD_ValueKind kind, const char *key,
                                    const char *value)
{
    struct framing *f = cls;
    (void)kind;
    if (!strcasecmp(key, "Content-Length")) {
        f->n_length++;
        f->length = value;
    } else if (!strcasecmp(key, "Transfer-Encoding")) {
        f->n_encoding++;
        f->encoding = value;
    } else if (!strcasecmp(key, "Host")) {
        f->n_host++;
    }
    return MHD_YES;
}

// A body whose end a proxy in front of us could see elsewhere is the door to request smuggling:
// refuse it and close, which an answer before the body does.
static int check_framing(struct exchange *x, const char *version, struct framing *f)
{
    MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, count_header, f);
    if (f->n_length && f->n_encoding)
        return err_set(&x->refusal, ERR_BAD_REQUEST,
                       "both Content-Length and Transfer-Encoding are given; send one of them");
    // Not libmicrohttpd's own check: 0.9.75 sends the head of its answer twice.
    if (f->n_host == 0 && strcmp(version, MHD_HTTP_VERSION_1_0))
        return err_set(&x->refusal, ERR_BAD_REQUEST, "the Host header is missing");
    if (f->n_length > 1 || f->n_encoding > 1 || f->n_host > 1)
        return err_set(&x->refusal, ERR_BAD_REQUEST,
                       "Content-Length, Transfer-Encoding or Host is given more than once");
    if (f->n_encoding && (!f->encoding || strcasecmp(f->encoding, "chunked")))
        return err_set(&x->refusal, ERR_BAD_REQUEST,
                       "Transfer-Encoding is '%.40s'; only 'chunked' is understood",
                       f->encoding ? f->encoding : "");
    if (f->n_encoding && strcmp(version, MHD_HTTP_VERSION_1_1))
        return err_set(&x->refusal, ERR_BAD_REQUEST, "Transfer-Encoding needs HTTP/1.1");
    return 0;
}

// libmicrohttpd has refused what is no number and what passes 64 bits.
static size_t declared_bytes(const struct framing *f)
{
    size_t n = 0;
    for (const char *p = f->length; p && *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n, (size_t)10, &n) ||
            __builtin_add_overflow(n, (size_t)(*p - '0'), &n))
            return SIZE_MAX;
    return n;
}

// --- path and method ------------------------------------------------------------------------

// What a route's pattern stands for in a path.
struct match {
    const char *tail, *vars[ROUTE_VARS_MAX];
    size_t n_vars[ROUTE_VARS_MAX]; // bytes
};

static bool path_matches(const char *pattern, const char *path, struct match *m)
{
    *m = (struct match){.tail = ""};
    for (int var = 0; *pattern; pattern++) {
        if (*pattern == '{') {
            CHECK(var < ROUTE_VARS_MAX);
            size_t n = strcspn(path, "/");
            m->vars[var] = path;
            m->n_vars[var++] = n;
            path += n;
            pattern = strchr(pattern, '}');
            if (n == 0)
                return false;
        } else if (*pattern == '*') {
            m->tail = path;
            return *path != '\0';
        } else if (*pattern != *path++) {
            return false;
        }
    }
    return *path == '\0';
}

static void take_match(struct exchange *x, const struct match *m)
{
    x->request.tail = m->tail;
    for (int i = 0; i < ROUTE_VARS_MAX; i++)
        if (m->vars[i])
            x->request.vars[i] = arena_string(&x->arena, m->vars[i], m->n_vars[i]);
}

// HEAD is GET without the body; libmicrohttpd leaves the body out.
static bool method_matches(const struct route *route, const char *method)
{
    return !strcmp(route->method, method) ||
           (!strcmp(route->method, "GET") && !strcmp(method, "HEAD"));
}

static void allow_method(struct buf *allow, const char *method)
{
    buf_format(allow, "%s%s", allow->n ? ", " : "", method);
    if (!strcmp(method, "GET"))
        buf_str(allow, ", HEAD");
}

// An exact path goes before one with '*' or {}, and earlier routes before later ones.
static int find_route(struct exchange *x, const char *method)
{
    const struct http *h = x->http;
    struct buf allow = {0};
    for (int wild = 0; wild < 2 && !x->route && !allow.n; wild++) {
        for (int i = 0; i < h->n_routes && !x->route; i++) {
            const struct route *route = &h->routes[i];
            struct match match;
            bool is_wild = strpbrk(route->path, "*{") != NULL;
            if (is_wild != wild || !path_matches(route->path, x->target.path, &match))
                continue;
            allow_method(&allow, route->method);
            if (method_matches(route, method)) {
                x->route = route;
                take_match(x, &match);
            }
        }
    }
    int failed = 0;
    if (!x->route && allow.n) {
        x->allow = arena_string(&x->arena, allow.data, allow.n);
        failed = err_set(&x->refusal, ERR_METHOD, "%.20s is not a method of %.200s; use %s", method,
                         x->target.raw_path, x->allow);
    } else if (!x->route) {
        failed = err_set(&x->refusal, ERR_NOT_FOUND,
                         "there is no %.200s here; see the README for "
                         "the paths of this server",
                         x->target.raw_path);
    }
    buf_fini(&allow);
    return failed;
}

// --- who and what ---------------------------------------------------------------------------

static bool host_is(const char *host, const char *allowed)
{
    size_t n = strlen(allowed);
    return !strncasecmp(host, allowed, n) && (host[n] == '\0' || host[n] == ':');
}

// Against DNS rebinding: a page that resolves its own name to this machine sends that name.
static int check_host(struct exchange *x)
{
    const struct http_options *o = &x->http->o;
    const char *host = routes_header(x, "Host");
    for (int i = 0; host && i < o->n_allowed_hosts; i++)
        if (host_is(host, o->allowed_hosts[i]))
            return 0;
    if (o->n_allowed_hosts == 0)
        return 0;
    return err_set(&x->refusal, ERR_FORBIDDEN, "Host '%.100s' is not one this server answers to",
                   host ? host : "");
}

static bool is_open(const struct exchange *x)
{
    struct match match;
    for (int i = 0; i < x->http->n_routes; i++)
        if (x->http->routes[i].open &&
            path_matches(x->http->routes[i].path, x->target.path, &match))
            return true;
    return false;
}

// Before routing: without a key nobody learns which paths there are.
static int check_key(struct exchange *x)
{
    const struct keys *keys = x->http->o.keys;
    if (!keys || keys->n == 0 || is_open(x))
        return 0;
    const char *authorization = routes_header(x, "Authorization");
    if (keys_match(keys, authorization))
        return 0;
    return err_set(&x->refusal, ERR_UNAUTHORIZED, "%s; send 'Authorization: Bearer KEY'",
                   authorization ? "the API key is not one of this server's" : "no API key given");
}

// A browser sends application/json to another origin only after asking, so this also keeps foreign
// pages from posting with a form.
static int check_content_type(struct exchange *x)
{
    static const char JSON[] = "application/json";
    const char *type = routes_header(x, "Content-Type");
    size_t n = sizeof JSON - 1;
    if (!type || (!strncasecmp(type, JSON, n) && (!type[n] || strchr("; \t", type[n]))))
        return 0;
    return err_set(&x->refusal, ERR_MEDIA_TYPE, "Content-Type is '%.80s'; send application/json",
                   type);
}

static int check_length(struct exchange *x, size_t declared)
{
    struct http *h = x->http;
    if (declared > h->o.body_bytes_max)
        return err_set(&x->refusal, ERR_TOO_LARGE,
                       "Content-Length is %zu; a request body may have %zu bytes", declared,
                       h->o.body_bytes_max);
    if (declared > h->o.bodies_bytes_max - h->bodies_bytes)
        return err_set(&x->refusal, ERR_BUSY, "too many bytes of requests are being read; retry");
    x->body_charged = declared;
    h->bodies_bytes += declared;
    return 0;
}

// May the answer wait until the body is read and dropped, so that the connection lives on?
static bool can_swallow(const struct exchange *x, const struct framing *f)
{
    return !f->n_encoding && declared_bytes(f) <= SWALLOW_BYTES_MAX && !routes_header(x, "Expect");
}

void routes_admit(struct exchange *x, const char *method, const char *version)
{
    struct framing f = {0};
    x->request.method = arena_string(&x->arena, method, strlen(method));
    x->request.tail = "";
    for (int i = 0; i < ROUTE_VARS_MAX; i++)
        x->request.vars[i] = "";
    // Framing first, since nothing behind a doubtful one can be trusted; then who asks; then what.
    if (check_framing(x, version, &f)) {
        x->refuse_now = true;
        return;
    }
    bool has_body = f.n_encoding || declared_bytes(&f) > 0;
    if (x->refusal.code || check_host(x) || check_key(x) || find_route(x, method) ||
        (has_body && check_content_type(x)) || check_length(x, declared_bytes(&f)))
        x->refuse_now = !can_swallow(x, &f);
}
