// Tests of server/engine/trace.c.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace.h"

Test(trace, a_line_can_be_read_at_once)
{
    char path[] = "/tmp/deltaserve_trace_XXXXXX";
    int fd = mkstemp(path);
    struct trace t;
    struct err e;
    cr_assert(ge(int, fd, 0));
    cr_assert(zero(trace_open(&t, path, &e)));
    cr_assert(trace_on(&t));
    trace_line(&t, "gen=%d admitted", 3);
    char line[100] = "";
    cr_assert(gt(int, (int)read(fd, line, sizeof line - 1), 0));
    cr_assert(ne(ptr, strstr(line, " gen=3 admitted\n"), NULL), "%s", line);
    trace_close(&t);
    trace_line(&t, "nothing happens after closing");
    close(fd);
    unlink(path);
}

Test(trace, off_without_a_path)
{
    struct trace t;
    struct err e;
    cr_assert(zero(trace_open(&t, "", &e)));
    cr_assert(not(trace_on(&t)));
    trace_line(&t, "unseen");
    trace_close(&t);
}

Test(trace, a_path_that_cannot_be_written_is_named)
{
    struct trace t;
    struct err e;
    cr_assert(eq(int, trace_open(&t, "/nonexistent/trace", &e), -1));
    cr_assert(ne(ptr, strstr(e.text, "/nonexistent/trace"), NULL), "%s", e.text);
}
