// http.h - bytes in, bytes out: a listening socket, its connections, and the calls to handlers.
// The only room that knows libuv and libmicrohttpd.
//
// One thread, the loop thread, is the one inside http_run. Handlers, pulls and gone (handler.h) and
// on_signal run there and nowhere else. What a request may cost is bounded at start: connections,
// header bytes, body bytes, bytes of all bodies together, time to send a request.
//
// What a client sees beyond its handler's reply:
//   400 a target, header or framing that could be read in two ways (RFC 9112, 6.1 and 6.3)
//   401 no or a wrong key; 403 a Host that is not allowed; 404 no such path; 405 with Allow
//   413 a body beyond body_bytes_max; 415 a body that is not application/json
//   429 all bodies together beyond bodies_bytes_max; 503 while shutting down
// All of them carry the JSON error object and x-request-id. What libmicrohttpd refuses before it asks
// us (no HTTP, headers beyond header_bytes_max, a Content-Length that is no number) gets its own short
// page and status; the connection is closed.
#ifndef HTTP_H
#define HTTP_H

#include <stddef.h>

#include "err.h"
#include "handler.h"
#include "keys.h"

struct http_options {
    const char *host; // a numeric address or a name; borrowed
    int port;         // 0: any free one, see http_port
    int connections_max;
    int connections_per_ip;  // 0: no limit
    size_t header_bytes_max; // request line and headers of one request, roughly
    size_t body_bytes_max;   // of one request
    size_t bodies_bytes_max; // of all requests being read or answered; 0: 16 * body_bytes_max
    int idle_timeout_ms;     // connections that move nothing; rounded up to seconds
    int heartbeat_ms;        // comment in a stream after this silence; 0: never
    int drain_timeout_ms;
    const struct keys *keys;          // API keys, borrowed; NULL or empty: none is asked for
    const char *const *allowed_hosts; // [n_allowed_hosts], borrowed; without port, e.g. "localhost"
    int n_allowed_hosts;              // 0: every Host is allowed
    // SIGTERM, SIGINT and SIGUSR1 come here; NULL leaves signals alone.
    void (*on_signal)(void *ud, int signum);
    void *ud;
};

struct http;

// Listen and get ready; nothing is answered before http_run. routes [n_routes] and what o points to
// are borrowed until http_destroy. server is passed to every handler. NULL with e filled when the
// address cannot be had or descriptors are out.
struct http *http_create(const struct http_options *o, const struct route *routes, int n_routes,
                         void *server, struct err *e) MUST_USE;

// The port listened on. Any thread.
int http_port(const struct http *h);

// Log "listening host=... port=..." and serve until http_drain or http_stop is through: every
// connection is closed and every gone has been called when it returns. Once.
void http_run(struct http *h);

// Answer new requests with 503 and return from http_run when those under way are finished; after
// drain_timeout_ms, as http_stop. Any thread, also inside handlers and on_signal, until http_destroy.
void http_drain(struct http *h);

// End now: streams get an error event, waiting requests 503, and half a second to be sent.
// Any thread, as http_drain.
void http_stop(struct http *h);

void http_destroy(struct http *h); // after http_run, or instead of it; NULL is fine

#endif
