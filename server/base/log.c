// log.c - see log.h.
#define _GNU_SOURCE
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 2048 };

static enum log_level threshold = LOG_INFO;

void log_level_set(enum log_level level)
{
    threshold = level;
}

static int prefix(char *line, size_t size, enum log_level level, const char *event)
{
    static const char *const NAMES[] = {"debug", "info", "warn", "error"};
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char date[32];
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    return snprintf(line, size, "%s.%03ldZ %s %s ", date, now.tv_nsec / 1000000, NAMES[level],
                    event);
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    if (level < threshold)
        return;
    char line[LINE_MAX_BYTES];
    int n = prefix(line, sizeof line, level, event);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + n, sizeof line - (size_t)n, format, args);
    va_end(args);
    n += more > 0 ? more : 0;
    if (n > LINE_MAX_BYTES - 1)
        n = LINE_MAX_BYTES - 1;
    for (int i = 0; i < n; i++)
        if ((unsigned char)line[i] < 0x20)
            line[i] = ' '; // one event, one line, whatever a value holds
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        return; // nowhere left to say so
}
