// buf.h - growing bytes with a maximum. One owner; not shared between threads.
#ifndef BUF_H
#define BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"

struct buf {
    char *data;    // NUL-terminated whenever it is not NULL
    size_t n;      // bytes used, without the NUL
    size_t size;   // bytes allocated
    size_t max;    // 0: no maximum
    bool overflow; // an append did not fit in max; the buffer is unchanged by it
};

// An all-zero struct buf is a valid empty, unlimited buffer. Appends return false (and set overflow)
// when they would pass max.
bool buf_add(struct buf *b, const void *bytes, size_t n);
bool buf_str(struct buf *b, const char *s);
bool buf_format(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_clear(struct buf *b);          // n = 0, overflow = false; memory is kept
void buf_drop(struct buf *b, size_t n); // remove the first n bytes
char *buf_take(struct buf *b);          // caller owns the string (mem_free); b is empty again
void buf_fini(struct buf *b);

#endif
