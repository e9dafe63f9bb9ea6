// tally.c - see tally.h.
#include "tally.h"

#include <stdarg.h>
#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED
bool tally_quick = true;
#else
bool tally_quick = false;
#endif

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
