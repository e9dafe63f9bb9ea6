// handler.h - all that a handler sees of HTTP: a request in, a reply out. No sockets here, no
// libmicrohttpd; api/ fills these, http/ moves the bytes. Loop thread only.
#ifndef HANDLER_H
#define HANDLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "buf.h"
#include "err.h"

enum { ROUTE_VARS_MAX = 2 };

struct request {
    const char *method, *path;        // path is decoded once, without the query
    const char *tail;                 // what a route's '*' matched, or ""
    const char *vars[ROUTE_VARS_MAX]; // what a route's {...} matched, in order; "" beyond them
    const char *body;                 // [n_body], NUL-terminated
    size_t n_body;
    const char *id;      // x-request-id: the client's if sane, else made here
    int64_t received_ns; // clock_ns when the last byte of the body was there
    const char *(*header)(const struct request *q, const char *name); // or NULL
    const char *(*query)(const struct request *q, const char *name);  // decoded, or NULL
    struct arena *arena;                                              // dies with the reply
    void *http;                                                       // http/'s own
};

enum pull {
    PULL_WAIT, // nothing now; http waits for reply_wake
    PULL_MORE, // something was appended; ask again when it is sent
    PULL_END,  // what was appended is the last; the reply is complete
};

enum { REPLY_HEADERS_MAX = 12 };

// A reply is made in one of two ways: at once (body filled, pull NULL), or by pull, which http calls
// on the loop thread until PULL_END. Before the first byte of a pulled reply is sent, pull may still
// change status, content_type and headers: a reply that is not a stream appends nothing until all of
// it is known, then returns PULL_END (http then sends a Content-Length).
struct reply {
    int status;               // 200
    const char *content_type; // "application/json"
    struct {
        const char *name, *value; // value lives in the request's arena
    } headers[REPLY_HEADERS_MAX];
    int n_headers;
    struct buf body;
    bool stream; // server-sent events: chunked, heartbeat comments while pull waits
    enum pull (*pull)(void *ud, struct reply *r, struct buf *out);
    void (*gone)(void *ud); // called exactly once at the end, whether the reply was sent in full
                            // or the client left: cancel and free what ud holds
    void *ud;
    int64_t
        pull_at_ns; // clock_ns: while pull waits it is also called then, a fifth of a second late
                    // at most; 0: only when woken
    bool started; // http sets it: the head is on its way, status and headers cannot change any more
    void *http;   // http/'s own
    void (*wake)(struct reply *r); // http's part of reply_wake
};

// A handler validates everything before it returns: it fills r, or returns -1 with e and http sends
// the error's JSON. On -1 nothing of r is used and gone is not called.
typedef int handler_fn(void *server, struct request *q, struct reply *r, struct err *e);

struct route {
    const char *method; // "GET", "POST", "DELETE"
    const char *path; // segments; "{name}" is any one, "/*" at the end any rest of one byte or more
    handler_fn *handler;
    bool open; // needs no API key (/livez, /readyz, /health)
};

// Ask http to call r->pull again. Any thread, any number of times between the handler's return and
// r->gone; never blocks.
void reply_wake(struct reply *r);

void reply_header(struct reply *r, const char *name, const char *value); // value: arena or static
// {"error":{message,type,param,code}} into r->body, status and Retry-After set. Text of 5xx errors is
// replaced by a general sentence (the log has it).
void reply_error(struct reply *r, const struct err *e);

#endif
