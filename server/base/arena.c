// arena.c - see arena.h. Blocks double up to 1 MiB; a larger demand gets a block of its own.
#include "arena.h"

#include <stdint.h>
#include <string.h>

#include "err.h"
#include "mem.h"

enum { BLOCK_MIN = 4096, BLOCK_MAX = 1 << 20, ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    _Alignas(ALIGN) unsigned char data[];
};

static struct arena_block *grow(struct arena *a, size_t bytes)
{
    size_t size = a->last ? a->last->size * 2 : BLOCK_MIN;
    if (size > BLOCK_MAX)
        size = BLOCK_MAX;
    if (size < bytes)
        size = bytes;
    struct arena_block *b = mem_alloc(sizeof *b + size);
    *b = (struct arena_block){.next = a->last, .size = size};
    a->last = b;
    return b;
}

void *arena_take(struct arena *a, size_t bytes)
{
    CHECK(bytes <= SIZE_MAX / 2);
    bytes = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    struct arena_block *b = a->last;
    if (!b || b->size - b->used < bytes)
        b = grow(a, bytes);
    void *p = b->data + b->used;
    b->used += bytes;
    a->used_bytes += bytes;
    return p;
}

void *arena_alloc(struct arena *a, size_t n, size_t size)
{
    size_t bytes = 0;
    CHECK(!__builtin_mul_overflow(n, size, &bytes));
    return memset(arena_take(a, bytes), 0, bytes);
}

char *arena_string(struct arena *a, const char *s, size_t n)
{
    char *copy = arena_alloc(a, n + 1, 1);
    if (n)
        memcpy(copy, s, n);
    return copy;
}

void arena_fini(struct arena *a)
{
    for (struct arena_block *b = a->last, *next; b; b = next) {
        next = b->next;
        mem_free(b);
    }
    *a = (struct arena){0};
}
