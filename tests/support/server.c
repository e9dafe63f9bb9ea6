// server.c - see server.h.
#define _GNU_SOURCE
#include "server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"
#include "http_client.h"

enum { START_MS = 120000, METRIC_MS = 60000 };

static void read_log(const struct server *s, struct buf *log)
{
    char bytes[4096];
    ssize_t n;
    off_t at = 0;
    while ((n = pread(s->log_fd, bytes, sizeof bytes, at)) > 0) {
        buf_add(log, bytes, (size_t)n);
        at += n;
    }
}

bool server_log_has(const struct server *s, const char *text)
{
    struct buf log = {0};
    read_log(s, &log);
    bool has = log.n && strstr(log.data, text);
    buf_fini(&log);
    return has;
}

static void print_log(const struct server *s)
{
    struct buf log = {0};
    read_log(s, &log);
    fprintf(stderr, "--- the server's log:\n%s---\n", log.n ? log.data : "");
    buf_fini(&log);
}

// In the child.
static void execute(const struct server *s, const char *const options[])
{
    const char *argv[SERVER_ARGS_MAX + 8] = {TEST_BINARY_DIR "/deltaserve", "--port", "0"};
    int n = 3;
    bool has_model = false, has_jobs_db = false;
    for (int i = 0; options && options[i] && i < SERVER_ARGS_MAX; i++) {
        has_model = has_model || !strcmp(options[i], "--model");
        has_jobs_db = has_jobs_db || !strcmp(options[i], "--jobs-db");
        argv[n++] = options[i];
    }
    if (!has_model) {
        argv[n++] = "--model";
        argv[n++] = TEST_SOURCE_DIR "/tests/golden/dense_a";
    }
    if (!has_jobs_db) {
        argv[n++] = "--jobs-db";
        argv[n++] = ":memory:";
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(s->log_fd, STDERR_FILENO);
    execv(argv[0], (char *const *)argv);
    dprintf(STDERR_FILENO, "cannot run %s\n", argv[0]);
    _exit(127);
}

// Wait for a line of the log. false when the server ends before, or takes too long.
static bool await_log(struct server *s, const char *text)
{
    int64_t begun_ns = clock_ns();
    while (!server_log_has(s, text)) {
        int status;
        if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
            fprintf(stderr, "the server ended with status %d\n", status);
            s->pid = 0;
        }
        if (s->pid == 0 || clock_ms_between(begun_ns, clock_ns()) > START_MS) {
            print_log(s);
            return false;
        }
        usleep(5000);
    }
    return true;
}

bool server_listen(struct server *s, const char *const options[])
{
    *s = (struct server){.log_fd = memfd_create("log", MFD_CLOEXEC)};
    // Threads that write such a file at a time write over each other, unless they append.
    CHECK(s->log_fd >= 0 && fcntl(s->log_fd, F_SETFL, O_APPEND) == 0);
    s->pid = fork();
    CHECK(s->pid >= 0);
    if (s->pid == 0)
        execute(s, options);
    if (!await_log(s, " listening host="))
        return false;
    struct buf log = {0};
    read_log(s, &log);
    char *line = strstr(log.data, " listening host=");
    char *port = line ? strstr(line, " port=") : NULL;
    s->port = port ? (int)strtol(port + 6, NULL, 10) : 0;
    buf_fini(&log);
    return s->port > 0;
}

bool server_start(struct server *s, const char *const options[])
{
    return server_listen(s, options) && await_log(s, " ready ");
}

void server_signal(const struct server *s, int signum)
{
    CHECK(s->pid > 0);
    kill(s->pid, signum);
}

int server_wait(struct server *s)
{
    int status = 0;
    CHECK(s->pid > 0 && waitpid(s->pid, &status, 0) == s->pid);
    s->pid = 0;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    if (code)
        print_log(s);
    close(s->log_fd);
    return code;
}

int server_end(struct server *s)
{
    server_signal(s, SIGTERM);
    return server_wait(s);
}

int64_t server_metric(const struct server *s, const char *name)
{
    struct answer a = {0};
    int64_t value = -1;
    client_once(&a, s->port, "GET", "/metrics", "", NULL);
    size_t n = strlen(name);
    for (const char *p = a.status == 200 ? a.body.data : NULL; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (!strncmp(p, name, n) && p[n] == ' ')
            value = strtoll(p + n, NULL, 10);
    }
    answer_fini(&a);
    return value;
}

bool server_metric_becomes(const struct server *s, const char *name, int64_t what)
{
    int64_t begun_ns = clock_ns();
    while (server_metric(s, name) != what) {
        if (clock_ms_between(begun_ns, clock_ns()) > METRIC_MS) {
            fprintf(stderr, "%s is %lld, not %lld\n", name, (long long)server_metric(s, name),
                    (long long)what);
            return false;
        }
        usleep(10000);
    }
    return true;
}
