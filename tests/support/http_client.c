// http_client.c - see http_client.h.
#define _GNU_SOURCE
#include "http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

// --- connection -----------------------------------------------------------------------------

bool client_open(struct client *c, int port)
{
    *c = (struct client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) {
        client_close(c);
        return false;
    }
    int on = 1; // a piece of a request must leave when the test sends it
    return setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0;
}

void client_close(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    buf_fini(&c->in);
    *c = (struct client){.fd = -1, .eof = true};
}

void client_reset(struct client *c)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    client_close(c);
}

bool client_send(struct client *c, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n) {
        ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return false;
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

bool client_text(struct client *c, const char *format, ...)
{
    char text[16384];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    CHECK(n >= 0 && n < (int)sizeof text);
    return client_send(c, text, (size_t)n);
}

bool client_request(struct client *c, const char *method, const char *path, const char *headers,
                    const char *body)
{
    struct buf text = {0};
    buf_format(&text, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s", method, path, headers);
    if (body)
        buf_format(&text, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                   strlen(body));
    buf_format(&text, "\r\n%s", body ? body : "");
    bool ok = client_send(c, text.data, text.n);
    buf_fini(&text);
    return ok;
}

// Wait for bytes and append them to c->in; false at the end of input or after ms.
static bool receive(struct client *c, int ms)
{
    int64_t begun_ns = clock_ns();
    c->timed_out = false;
    while (!c->eof) {
        int left = ms - (int)clock_ms_between(begun_ns, clock_ns());
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        int ready = poll(&p, 1, left > 0 ? left : 0);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0) {
            c->timed_out = true;
            return false;
        }
        char bytes[16384];
        ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
        if (n > 0)
            return buf_add(&c->in, bytes, (size_t)n);
        c->eof = n == 0 || errno != EINTR;
    }
    return false;
}

bool client_at_end(struct client *c)
{
    return c->in.n == 0 && !receive(c, CLIENT_DEADLINE_MS) && c->eof;
}

bool client_skip_to_end(struct client *c)
{
    do
        buf_clear(&c->in);
    while (receive(c, CLIENT_DEADLINE_MS));
    return c->eof;
}

bool client_is_silent(struct client *c, int ms)
{
    return c->in.n == 0 && !receive(c, ms) && !c->eof;
}

// --- head -----------------------------------------------------------------------------------

static void split_headers(struct answer *a)
{
    char *line = a->head.data + strlen(a->head.data) + 1;
    while (line < a->head.data + a->head.n && *line && a->n_headers < ANSWER_HEADERS_MAX) {
        char *next = line + strlen(line) + 1;
        char *colon = strchr(line, ':');
        if (colon) {
            *colon = '\0';
            a->headers[a->n_headers].name = line;
            a->headers[a->n_headers++].value = colon + 1 + strspn(colon + 1, " ");
        }
        line = next;
    }
}

// "line\r\nline\r\n\r\n" becomes "line\0line\0\0".
static void split_lines(struct answer *a)
{
    size_t n = 0;
    for (size_t i = 0; i < a->head.n; i++)
        if (a->head.data[i] != '\r')
            a->head.data[n++] = a->head.data[i] == '\n' ? '\0' : a->head.data[i];
    a->head.n = n;
}

static bool take_head(struct answer *a, struct client *c)
{
    char *end;
    while (!(end = c->in.n ? strstr(c->in.data, "\r\n\r\n") : NULL))
        if (!receive(c, CLIENT_DEADLINE_MS))
            return false;
    size_t n = (size_t)(end - c->in.data) + 4;
    buf_add(&a->head, c->in.data, n);
    buf_drop(&c->in, n);
    if (strncmp(a->head.data, "HTTP/1.", 7) || a->head.n < 12)
        return false;
    a->status = (int)strtol(a->head.data + 9, NULL, 10);
    split_lines(a);
    split_headers(a);
    return true;
}

bool answer_head(struct answer *a, struct client *c)
{
    do {
        answer_fini(a);
        if (!take_head(a, c))
            return false;
    } while (a->status == 100);
    const char *length = answer_header(a, "Content-Length");
    const char *encoding = answer_header(a, "Transfer-Encoding");
    a->chunked = encoding && !strcasecmp(encoding, "chunked");
    const bool bodiless = a->status == 204 || a->status == 304; // whatever the headers say
    a->left = a->chunked || bodiless ? 0 : length ? strtoul(length, NULL, 10) : SIZE_MAX;
    a->complete = !a->chunked && a->left == 0;
    return true;
}

const char *answer_header(const struct answer *a, const char *name)
{
    for (int i = 0; i < a->n_headers; i++)
        if (!strcasecmp(a->headers[i].name, name))
            return a->headers[i].value;
    return NULL;
}

bool answer_header_is(const struct answer *a, const char *name, const char *value)
{
    const char *found = answer_header(a, name);
    return found && !strcmp(found, value);
}

bool answer_has(const struct answer *a, const char *text)
{
    return a->body.n && strstr(a->body.data, text);
}

bool answer_is(const struct answer *a, const char *text)
{
    return a->body.n && !strcmp(a->body.data, text);
}

void answer_fini(struct answer *a)
{
    buf_fini(&a->head);
    buf_fini(&a->body);
    *a = (struct answer){0};
}

// --- body -----------------------------------------------------------------------------------

// Read a chunk's size line into a->left; false when input ends before it.
static bool begin_chunk(struct answer *a, struct client *c)
{
    char *end;
    size_t skip = a->body.n ? 2 : 0; // the line break behind the chunk before
    while (!(end = c->in.n > skip ? strstr(c->in.data + skip, "\r\n") : NULL))
        if (!receive(c, CLIENT_DEADLINE_MS))
            return false;
    a->left = strtoul(c->in.data + skip, NULL, 16);
    buf_drop(&c->in, (size_t)(end - c->in.data) + 2);
    if (a->left)
        return true;
    while (c->in.n < 2)
        if (!receive(c, CLIENT_DEADLINE_MS))
            return false;
    buf_drop(&c->in, 2);
    a->complete = true;
    return false;
}

bool answer_more(struct answer *a, struct client *c)
{
    if (a->complete || (a->chunked && a->left == 0 && !begin_chunk(a, c)))
        return false;
    if (c->in.n == 0 && !receive(c, CLIENT_DEADLINE_MS)) {
        a->complete = c->eof && a->left == SIZE_MAX;
        return false;
    }
    size_t n = c->in.n < a->left ? c->in.n : a->left;
    buf_add(&a->body, c->in.data, n);
    buf_drop(&c->in, n);
    if (a->left != SIZE_MAX)
        a->left -= n;
    a->complete = !a->chunked && a->left == 0;
    return true;
}

bool answer_body(struct answer *a, struct client *c)
{
    while (answer_more(a, c))
        ;
    return a->complete;
}

bool answer_read(struct answer *a, struct client *c)
{
    return answer_head(a, c) && answer_body(a, c);
}

const char *answer_event(struct answer *a, struct client *c)
{
    for (;;) {
        char *from = a->body.data ? a->body.data + a->event_from : NULL;
        char *end = from ? strstr(from, "\n\n") : NULL;
        if (end) {
            *end = '\0';
            a->event_from = (size_t)(end - a->body.data) + 2;
            return from;
        }
        if (!answer_more(a, c))
            return NULL;
    }
}

void client_once(struct answer *a, int port, const char *method, const char *path,
                 const char *headers, const char *body)
{
    struct client c;
    answer_fini(a);
    if (!client_open(&c, port))
        return;
    if (!client_request(&c, method, path, headers, body) || !answer_read(a, &c))
        a->status = 0;
    client_close(&c);
}
