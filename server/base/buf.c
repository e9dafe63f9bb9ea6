// buf.c - see buf.h.
#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "mem.h"

static bool reserve(struct buf *b, size_t more)
{
    if (more >= (size_t)1 << 40 || (b->max && b->n + more > b->max)) {
        b->overflow = true;
        return false;
    }
    size_t need = b->n + more + 1;
    if (need <= b->size)
        return true;
    size_t size = b->size ? b->size * 2 : 256;
    if (size < need)
        size = need;
    b->data = mem_resize(b->data, size, 1);
    b->size = size;
    return true;
}

bool buf_add(struct buf *b, const void *bytes, size_t n)
{
    if (!reserve(b, n))
        return false;
    if (n)
        memcpy(b->data + b->n, bytes, n);
    b->n += n;
    b->data[b->n] = '\0';
    return true;
}

bool buf_str(struct buf *b, const char *s)
{
    return buf_add(b, s, strlen(s));
}

bool buf_format(struct buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(n >= 0);
    bool ok = reserve(b, (size_t)n);
    if (ok) {
        vsnprintf(b->data + b->n, (size_t)n + 1, format, again);
        b->n += (size_t)n;
    }
    va_end(again);
    return ok;
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->overflow = false;
    if (b->data)
        b->data[0] = '\0';
}

void buf_drop(struct buf *b, size_t n)
{
    CHECK(n <= b->n);
    if (!n)
        return;
    memmove(b->data, b->data + n, b->n - n + 1);
    b->n -= n;
}

char *buf_take(struct buf *b)
{
    char *s = b->data ? b->data : mem_string("", 0);
    size_t max = b->max;
    *b = (struct buf){.max = max};
    return s;
}

void buf_fini(struct buf *b)
{
    mem_free(b->data);
    *b = (struct buf){.max = b->max};
}
