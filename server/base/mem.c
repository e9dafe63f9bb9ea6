// mem.c - see mem.h.
#include "mem.h"

#include <stdlib.h>
#include <string.h>

#include "err.h"

void *mem_alloc(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    CHECK(p != NULL);
    return p;
}

void *mem_zero(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);
    CHECK(p != NULL);
    return p;
}

void *mem_resize(void *p, size_t n, size_t size)
{
    size_t bytes = 0;
    CHECK(!__builtin_mul_overflow(n, size, &bytes));
    p = realloc(p, bytes ? bytes : 1);
    CHECK(p != NULL);
    return p;
}

char *mem_string(const char *s, size_t n)
{
    char *copy = mem_alloc(n + 1);
    if (n)
        memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

void mem_free(void *p)
{
    free(p);
}
