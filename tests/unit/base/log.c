// Tests of server/base/log.c: what stands on stderr.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

static char *text; // of stderr since begin()
static FILE *file;
static int saved;

static void begin(void)
{
    file = tmpfile();
    saved = dup(STDERR_FILENO);
    cr_assert(ne(ptr, file, NULL));
    dup2(fileno(file), STDERR_FILENO);
}

static void end(void)
{
    dup2(saved, STDERR_FILENO);
    close(saved);
    fseek(file, 0, SEEK_END);
    size_t n = (size_t)ftell(file);
    text = calloc(1, n + 1);
    rewind(file);
    cr_assert(eq(sz, fread(text, 1, n, file), n));
    fclose(file);
}

Test(log, one_line_with_time_level_event_and_pairs)
{
    begin();
    log_event(LOG_INFO, "listening", "host=%s port=%d", "::1", 80);
    log_event(LOG_WARN, "alone", "%s", "");
    end();
    cr_assert(ne(ptr, strstr(text, "Z info listening host=::1 port=80\n"), NULL), "%s", text);
    cr_assert(ne(ptr, strstr(text, "Z warn alone "), NULL), "%s", text);
    cr_assert(eq(int, text[4], '-'));
    cr_assert(eq(int, text[10], 'T'));
    free(text);
}

Test(log, levels_below_are_dropped)
{
    log_level_set(LOG_WARN);
    begin();
    log_event(LOG_INFO, "unseen", "%s", "");
    log_event(LOG_ERROR, "seen", "%s", "");
    end();
    cr_assert(eq(ptr, strstr(text, "unseen"), NULL));
    cr_assert(ne(ptr, strstr(text, "error seen"), NULL));
    free(text);
}

Test(log, a_value_cannot_make_a_second_line)
{
    begin();
    log_event(LOG_INFO, "request", "id=%s", "a\nerror forged\r\x1b[0m");
    end();
    char *newline = strchr(text, '\n');
    cr_assert(eq(ptr, newline, text + strlen(text) - 1));
    cr_assert(eq(ptr, strchr(text, '\x1b'), NULL));
    free(text);
}

Test(log, a_long_value_is_cut_and_the_line_ends)
{
    char value[5000];
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    begin();
    log_event(LOG_INFO, "long", "value=%s", value);
    end();
    cr_assert(eq(sz, strlen(text), 2048));
    cr_assert(eq(int, text[2047], '\n'));
    free(text);
}

static void *write_lines(void *arg)
{
    for (int i = 0; i < 200; i++)
        log_event(LOG_INFO, "line", "thread=%s end", (const char *)arg);
    return NULL;
}

Test(log, lines_of_two_threads_do_not_mix)
{
    pthread_t one, two;
    begin();
    pthread_create(&one, NULL, write_lines, "1111111111");
    pthread_create(&two, NULL, write_lines, "2222222222");
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    end();
    int n = 0;
    for (char *line = text, *next; *line; line = next, n++) {
        next = strchr(line, '\n') + 1;
        cr_assert(zero(memcmp(next - 5, " end\n", 5)), "%s", line);
        cr_assert(zero(memcmp(line + 24, " info line thread=", 18)), "%s", line);
    }
    cr_assert(eq(int, n, 400));
    free(text);
}
