// tally.c - see tally.h.
#include "tally.h"

#include <stdarg.h>
#include <stdio.h>

#include "sanitized.h"

bool tally_quick = SANITIZED, tally_brief;

void tally_add(struct tally *t, bool ok, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%s ", ok ? "ok  " : "FAIL");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    t->passed += ok;
    t->failed += !ok;
}

void tally_skip(struct tally *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("skip ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    t->skipped++;
}
