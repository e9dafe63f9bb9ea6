// exchange.h - what the files of this room share: the listener, a connection, and an exchange (one
// request and its reply). Loop thread only, but for what wake_lock guards.
//
//   listener.c  socket, daemon inside the uv loop, start, drain, stop
//   exchange.c  the life of an exchange: libmicrohttpd's callbacks, body, end, log line
//   routes.c    what may be refused from a request's head alone
//   stream.c    replies that are pulled; reply_wake
//   watch.c     what libmicrohttpd does not see: clients gone while suspended, silence, tricklers
#ifndef EXCHANGE_H
#define EXCHANGE_H

#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "arena.h"
#include "buf.h"
#include "handler.h"
#include "http.h"
#include "target.h"

enum {
    REQUEST_ID_MAX = 128, // bytes
    // The body of a request refused at its head is read and dropped up to here: clients that send
    // all of it before they read (Python's do) would else see a reset in place of the answer. A
    // larger one closes the connection.
    SWALLOW_BYTES_MAX = 64 << 20,
};

enum exchange_stage {
    EXCHANGE_HEAD,    // the request line is known, headers are being read
    EXCHANGE_BODY,    // headers are fine, or refusal says why not; the body is being read
    EXCHANGE_PULLING, // the handler has run, nothing is sent yet; suspended while pull waits
    EXCHANGE_SENDING, // a response is queued; a stream is suspended while pull waits
};

struct conn {
    struct conn *prev, *next; // in http.conns
    struct exchange *exchange;
    int fd;
    int64_t since_ns; // when it began to owe us a request: connected, or the last one ended
};

struct exchange {
    struct http *http;
    struct conn *conn;
    struct MHD_Connection *mhd;   // NULL once libmicrohttpd is done with the exchange
    struct exchange *prev, *next; // in http.active, from the first byte of the answer
    struct exchange *woken_next;  // under wake_lock
    bool woken;                   // under wake_lock: is in http.woken
    enum exchange_stage stage;
    bool active;    // in http.active
    bool suspended; // resuming a connection that is not suspended is undefined
    bool left;      // the client is gone: the next callback closes the connection
    bool cut;       // the server stops: the next pull is replaced by an error
    bool ended;     // what body holds is the last of a stream
    struct arena arena;
    struct target target;
    const struct route *route;
    const char *allow;  // Allow, with ERR_METHOD
    struct err refusal; // code ERR_OK: none
    bool refuse_now;    // before the body, which closes the connection
    char id[REQUEST_ID_MAX + 1];
    struct buf body;     // the request's
    size_t body_charged; // counted in http.bodies_bytes
    struct request request;
    struct reply reply;
    size_t sent_bytes;  // of reply.body, handed to libmicrohttpd
    size_t total_bytes; // of body bytes sent, for the log
    int64_t begun_ns;   // the request line was there
    int64_t sent_ns;    // the last bytes of a stream were handed over
};

enum http_state { HTTP_SERVING, HTTP_DRAINING, HTTP_STOPPING, HTTP_STOPPED };

struct http {
    struct http_options o;
    const struct route *routes;
    int n_routes;
    void *server;
    int port, listen_fd;
    bool ran;
    enum http_state state;
    bool run_again;
    struct MHD_Daemon *daemon;
    uv_loop_t loop;
    uv_poll_t readable;  // libmicrohttpd's epoll descriptor
    uv_timer_t timeout;  // libmicrohttpd's next one
    uv_timer_t tick;     // watch.c; runs while there are connections
    uv_timer_t deadline; // of draining, then of stopping
    uv_async_t async;    // reply_wake, http_drain, http_stop
    uv_signal_t signals[3];
    struct conn *conns;
    struct exchange *active;
    size_t bodies_bytes;
    struct pollfd *polled;             // [connections_max], watch.c's scratch
    struct exchange **polled_exchange; // [connections_max]
    uint64_t ids;                      // state of the request id generator
    _Atomic int wanted;                // enum http_state, only ever grows
    pthread_mutex_t wake_lock;
    struct exchange *woken; // under wake_lock
    bool closed;            // under wake_lock: async may not be sent any more
};

// exchange.c: libmicrohttpd's callbacks.
void *exchange_begin(void *cls, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result exchange_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *n_data, void **con_cls);
void exchange_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                        enum MHD_RequestTerminationCode code);
// Queue reply's status, headers and r (which is consumed); from then on the exchange is SENDING.
enum MHD_Result exchange_send(struct exchange *x, struct MHD_Response *r);
enum MHD_Result exchange_send_body(struct exchange *x); // all of reply.body

// routes.c: fill x->route, or x->refusal with why the head alone is enough to refuse.
void routes_admit(struct exchange *x, const char *method, const char *version);
// One header of the request, or NULL.
const char *routes_header(const struct exchange *x, const char *name);

// stream.c
enum MHD_Result stream_advance(struct exchange *x); // in EXCHANGE_PULLING, from the access handler
void stream_resume(struct exchange *x);             // if it is suspended
void stream_wake(struct reply *r);                  // reply_wake: any thread
void stream_wake_all(struct http *h);               // resume what reply_wake has named
void stream_forget(struct exchange *x);             // it is ending: not in http.woken any more

// listener.c
void http_signal_async(struct http *h); // any thread
void http_pump(struct http *h);         // let libmicrohttpd run; not inside its callbacks

// watch.c
void watch_start(struct http *h);
void watch_stop(struct http *h);

#endif
