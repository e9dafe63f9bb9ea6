// arena.h - memory that dies together: one request's parsed structs, strings and ids.
// One owner at a time; not for sharing between threads.
#ifndef ARENA_H
#define ARENA_H

#include <stddef.h>

struct arena {
    struct arena_block *last; // newest block; blocks are freed together
    size_t used_bytes;        // handed out so far
};

// An all-zero struct arena is a valid empty arena.
void *arena_take(struct arena *a, size_t bytes);              // 16-aligned, not zeroed
void *arena_alloc(struct arena *a, size_t n, size_t size);    // n * size bytes, zeroed, 16-aligned
char *arena_string(struct arena *a, const char *s, size_t n); // n bytes of s and a NUL
void arena_fini(struct arena *a);                             // frees everything; a is empty again

#endif
