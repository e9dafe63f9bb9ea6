// trace.c - see trace.h.
#include "trace.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "clock.h"

int trace_open(struct trace *t, const char *path, struct err *e)
{
    *t = (struct trace){0};
    if (!path || !*path)
        return 0;
    t->file = fopen(path, "w");
    if (!t->file)
        return err_set(e, ERR_BAD_REQUEST, "cannot write the trace file %s: %s", path,
                       strerror(errno));
    setvbuf(t->file, NULL, _IOLBF, BUFSIZ); // a line is there to be read while the server runs
    return 0;
}

void trace_close(struct trace *t)
{
    if (t->file)
        fclose(t->file);
    t->file = NULL;
}

void trace_line(struct trace *t, const char *format, ...)
{
    if (!t->file)
        return;
    fprintf(t->file, "%.3f ", (double)clock_ns() / 1e6);
    va_list args;
    va_start(args, format);
    vfprintf(t->file, format, args);
    va_end(args);
    fputc('\n', t->file);
}
