// listener.c - the socket, libmicrohttpd's daemon inside the uv loop, and its start and end.
//
// The daemon has no thread of its own: its epoll descriptor is polled by the loop, and after each
// wake-up of any kind http_pump lets it run and asks when it wants to run next.
#define _GNU_SOURCE
#include "exchange.h"

#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "mem.h"
#include "stats.h"

enum { STOP_GRACE_MS = 500, BACKLOG = 1024 };

static const int SIGNALS[] = {SIGTERM, SIGINT, SIGUSR1};

// --- socket ---------------------------------------------------------------------------------

static int bind_one(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static int open_socket(const char *host, int port, struct err *e)
{
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int failed = getaddrinfo(host, service, &hints, &found);
    if (failed)
        return err_set(e, ERR_BAD_REQUEST,
                       "cannot listen on host '%s': %s; give an address of "
                       "this machine",
                       host, gai_strerror(failed));
    int fd = -1;
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next)
        fd = bind_one(a);
    freeaddrinfo(found);
    if (fd < 0)
        return err_set(e, ERR_BAD_REQUEST,
                       "cannot listen on %s port %d: %s; choose another port "
                       "or address",
                       host, port, strerror(errno));
    return fd;
}

static int bound_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t n = sizeof address;
    char service[16] = "0";
    CHECK(getsockname(fd, (struct sockaddr *)&address, &n) == 0);
    CHECK(getnameinfo((struct sockaddr *)&address, n, NULL, 0, service, sizeof service,
                      NI_NUMERICSERV) == 0);
    return (int)strtol(service, NULL, 10);
}

// --- daemon ---------------------------------------------------------------------------------

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http *h = cls;
    struct conn *c = *context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        c = *context = mem_zero(1, sizeof *c);
        c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        c->since_ns = clock_ns();
        c->next = h->conns;
        if (h->conns)
            h->conns->prev = c;
        h->conns = c;
        watch_start(h);
        stats_shift(STATS_CONNECTIONS, 1);
        return;
    }
    CHECK(c != NULL && c->exchange == NULL);
    if (c->prev)
        c->prev->next = c->next;
    else
        h->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    mem_free(c);
    *context = NULL;
    stats_shift(STATS_CONNECTIONS, -1);
    // At connections_max the daemon stops listening, and it listens again only at its next run.
    h->run_again = true;
    if (!h->conns)
        watch_stop(h);
}

static void on_daemon_log(void *cls, const char *format, va_list args)
{
    (void)cls;
    char line[512];
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = '\0';
    log_event(LOG_DEBUG, "microhttpd", "text=\"%s\"", line);
}

static struct MHD_Daemon *start_daemon(struct http *h)
{
    const struct http_options *o = &h->o;
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, (uint16_t)h->port, NULL, NULL,
        exchange_access, h, MHD_OPTION_EXTERNAL_LOGGER, on_daemon_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, h->listen_fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)o->connections_max, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)o->connections_per_ip, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)((o->idle_timeout_ms + 999) / 1000), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        o->header_bytes_max, MHD_OPTION_URI_LOG_CALLBACK, exchange_begin, h,
        MHD_OPTION_NOTIFY_COMPLETED, exchange_completed, h, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, h, MHD_OPTION_END);
}

// --- end ------------------------------------------------------------------------------------

static void close_handle(uv_handle_t *handle, void *ud)
{
    (void)ud;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

// Ends every connection and with it every exchange; the loop then has nothing left to wait for.
static void finish(struct http *h)
{
    h->state = HTTP_STOPPED;
    for (struct exchange *x = h->active; x; x = x->next) {
        x->left = true;
        stream_resume(x); // the daemon must not be stopped with suspended connections
    }
    uv_poll_stop(&h->readable); // before its descriptor is closed
    MHD_stop_daemon(h->daemon);
    CHECK(!h->conns && !h->active);
    pthread_mutex_lock(&h->wake_lock);
    h->closed = true;
    pthread_mutex_unlock(&h->wake_lock);
    uv_walk(&h->loop, close_handle, NULL);
}

static void on_deadline(uv_timer_t *timer);

static void begin_drain(struct http *h)
{
    h->state = HTTP_DRAINING;
    log_event(LOG_INFO, "draining", "timeout_ms=%d", h->o.drain_timeout_ms);
    uv_timer_start(&h->deadline, on_deadline, (uint64_t)h->o.drain_timeout_ms, 0);
}

static void begin_stop(struct http *h)
{
    h->state = HTTP_STOPPING;
    int n = 0;
    for (struct exchange *x = h->active; x; x = x->next, n++) {
        x->cut = true;
        stream_resume(x);
    }
    log_event(LOG_INFO, "stopping", "requests_cut=%d", n);
    uv_timer_start(&h->deadline, on_deadline, STOP_GRACE_MS, 0);
}

static void on_deadline(uv_timer_t *timer)
{
    struct http *h = timer->data;
    if (h->state == HTTP_DRAINING) {
        begin_stop(h);
        http_pump(h);
    } else if (h->state == HTTP_STOPPING) {
        finish(h);
    }
}

// --- loop -----------------------------------------------------------------------------------

static void on_timeout(uv_timer_t *timer)
{
    http_pump(timer->data);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    http_pump(poll->data);
}

void http_pump(struct http *h)
{
    if (h->state == HTTP_STOPPED)
        return;
    do {
        h->run_again = false;
        MHD_run(h->daemon);
    } while (h->run_again);
    if (h->state != HTTP_SERVING && !h->active) {
        finish(h);
        return;
    }
    MHD_UNSIGNED_LONG_LONG ms = 0;
    if (MHD_get_timeout(h->daemon, &ms) == MHD_YES)
        uv_timer_start(&h->timeout, on_timeout, ms, 0);
    else
        uv_timer_stop(&h->timeout);
}

static void on_async(uv_async_t *async)
{
    struct http *h = async->data;
    if (h->state == HTTP_STOPPED)
        return;
    stream_wake_all(h);
    int wanted = atomic_load(&h->wanted);
    if (wanted == HTTP_DRAINING && h->state == HTTP_SERVING)
        begin_drain(h);
    else if (wanted == HTTP_STOPPING && h->state < HTTP_STOPPING)
        begin_stop(h);
    http_pump(h);
}

void http_signal_async(struct http *h)
{
    pthread_mutex_lock(&h->wake_lock);
    if (!h->closed)
        uv_async_send(&h->async);
    pthread_mutex_unlock(&h->wake_lock);
}

static void want(struct http *h, int state)
{
    int seen = atomic_load(&h->wanted);
    while (seen < state && !atomic_compare_exchange_weak(&h->wanted, &seen, state))
        ;
    http_signal_async(h);
}

void http_drain(struct http *h)
{
    want(h, HTTP_DRAINING);
}

void http_stop(struct http *h)
{
    want(h, HTTP_STOPPING);
}

static void on_signal(uv_signal_t *signal, int signum)
{
    struct http *h = signal->data;
    h->o.on_signal(h->o.ud, signum);
}

// --- create ---------------------------------------------------------------------------------

static void start_handles(struct http *h)
{
    int epoll_fd = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    CHECK(uv_poll_init(&h->loop, &h->readable, epoll_fd) == 0);
    CHECK(uv_timer_init(&h->loop, &h->timeout) == 0);
    CHECK(uv_timer_init(&h->loop, &h->tick) == 0);
    CHECK(uv_timer_init(&h->loop, &h->deadline) == 0);
    CHECK(uv_async_init(&h->loop, &h->async, on_async) == 0);
    h->readable.data = h->timeout.data = h->tick.data = h->deadline.data = h->async.data = h;
    CHECK(uv_poll_start(&h->readable, UV_READABLE, on_readable) == 0);
    for (size_t i = 0; h->o.on_signal && i < sizeof SIGNALS / sizeof *SIGNALS; i++) {
        CHECK(uv_signal_init(&h->loop, &h->signals[i]) == 0);
        h->signals[i].data = h;
        CHECK(uv_signal_start(&h->signals[i], on_signal, SIGNALS[i]) == 0);
    }
}

struct http *http_create(const struct http_options *o, const struct route *routes, int n_routes,
                         void *server, struct err *e)
{
    CHECK(o->connections_max > 0 && o->header_bytes_max >= 1024);
    int fd = open_socket(o->host, o->port, e);
    if (fd < 0)
        return NULL;
    struct http *h = mem_zero(1, sizeof *h);
    h->o = *o;
    if (!h->o.bodies_bytes_max)
        h->o.bodies_bytes_max = 16 * o->body_bytes_max;
    h->routes = routes;
    h->n_routes = n_routes;
    h->server = server;
    h->listen_fd = fd;
    h->port = bound_port(fd);
    CHECK(uv_random(NULL, NULL, &h->ids, sizeof h->ids, 0, NULL) == 0);
    CHECK(pthread_mutex_init(&h->wake_lock, NULL) == 0);
    bool has_loop = uv_loop_init(&h->loop) == 0;
    h->daemon = has_loop ? start_daemon(h) : NULL;
    if (!h->daemon) {
        err_set(e, ERR_INTERNAL, "cannot start serving: %s; allow more open files",
                strerror(errno));
        if (has_loop)
            uv_loop_close(&h->loop);
        close(fd);
        pthread_mutex_destroy(&h->wake_lock);
        mem_free(h);
        return NULL;
    }
    h->polled = mem_zero((size_t)o->connections_max, sizeof *h->polled);
    h->polled_exchange = mem_zero((size_t)o->connections_max, sizeof(struct exchange *));
    start_handles(h);
    return h;
}

int http_port(const struct http *h)
{
    return h->port;
}

void http_run(struct http *h)
{
    h->ran = true;
    log_event(LOG_INFO, "listening", "host=%s port=%d", h->o.host, h->port);
    http_pump(h);
    uv_run(&h->loop, UV_RUN_DEFAULT);
}

void http_destroy(struct http *h)
{
    if (!h)
        return;
    if (!h->ran) {
        finish(h);
        uv_run(&h->loop, UV_RUN_DEFAULT);
    }
    CHECK(uv_loop_close(&h->loop) == 0);
    pthread_mutex_destroy(&h->wake_lock);
    mem_free(h->polled);
    mem_free(h->polled_exchange);
    mem_free(h);
}
