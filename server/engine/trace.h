// trace.h - one line for every decision of the engine, for people who ask "why did it do that?".
// Owner: engine thread.
#ifndef TRACE_H
#define TRACE_H

#include <stdbool.h>
#include <stdio.h>

#include "err.h"

struct trace {
    FILE *file; // NULL: off
};

// path NULL or "": off. ERR_BAD_REQUEST when the file cannot be written.
int trace_open(struct trace *t, const char *path, struct err *e) MUST_USE;
void trace_close(struct trace *t);

// Append "<milliseconds> <format>"; nothing when off. Never prompts or text, only numbers.
void trace_line(struct trace *t, const char *format, ...) PRINTF_LIKE(2, 3);

static inline bool trace_on(const struct trace *t)
{
    return t->file != NULL;
}

#endif
