// server.h - the real program as a child of the test: started on a free port, watched through its log,
// ended by signal. One server per struct; it dies with the test.
#ifndef SERVER_H
#define SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct server {
    pid_t pid; // 0: none
    int port;
    int log_fd; // a file in memory that holds its stderr
};

enum { SERVER_ARGS_MAX = 24 };

// Start deltaserve with the options given (a NULL-terminated list like {"--queue-max", "4", NULL}) and
// wait until the model is loaded. Adds --port 0 and, unless the options name others, the small model of
// random weights and a jobs-db in memory. false with the log printed when it ends or takes more than two minutes.
bool server_start(struct server *s, const char *const options[]);
// The same, but only until it listens: the model may still be loading.
bool server_listen(struct server *s, const char *const options[]);

void server_signal(const struct server *s, int signum);
int server_wait(struct server *s); // its exit code; -N: ended by signal N
int server_end(struct server *s);  // SIGTERM, then wait
bool server_log_has(const struct server *s, const char *text);

// A value of GET /metrics, or -1. headers as client_once takes them.
int64_t server_metric(const struct server *s, const char *name);
// Wait until the metric is what; false after a minute.
bool server_metric_becomes(const struct server *s, const char *name, int64_t what);

#endif
