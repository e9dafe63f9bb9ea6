// log.h - one line per event on stderr: time, level, event, key=value pairs. Any thread.
// Never log prompts, completions or keys.
#ifndef LOG_H
#define LOG_H

#include "err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

// Lines below level are dropped. Call once, before other threads start.
void log_level_set(enum log_level level);

// log_event(LOG_INFO, "listening", "host=%s port=%d", host, port); format may be "".
// A line is written with one write(2), so lines of several threads do not mix; 2 KiB at most.
void log_event(enum log_level level, const char *event, const char *format, ...) PRINTF_LIKE(3, 4);

#endif
