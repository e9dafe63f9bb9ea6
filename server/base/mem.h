// mem.h - the only malloc above the kernels. Running out of host memory for small things is not a
// state that a request can handle, so these abort with a message instead of returning NULL; sizes
// that come from a file or a request are limited by their readers before they get here.
// Any thread.
#ifndef MEM_H
#define MEM_H

#include <stddef.h>

void *mem_alloc(size_t bytes);                    // uninitialised
void *mem_zero(size_t n, size_t size);            // n * size zero bytes; overflow aborts
void *mem_resize(void *p, size_t n, size_t size); // p may be NULL; overflow aborts
char *mem_string(const char *s, size_t n);        // n bytes of s and a NUL
void mem_free(void *p);                           // NULL is fine

#endif
