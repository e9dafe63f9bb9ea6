// pages.c - see pages.h. A stack of free numbers: the page given back last is taken first, while its
// memory may still be in a cache.
#include "pages.h"

#include "err.h"
#include "mem.h"
#include "ops.h"

struct pages {
    int n, n_free;
    int *free_stack;  // [n], the first n_free are free
    uint64_t *owners; // [n], 0: free
};

struct pages *pages_create(int n)
{
    CHECK(n >= 0);
    struct pages *p = mem_zero(1, sizeof *p);
    p->n = p->n_free = n;
    p->free_stack = mem_zero((size_t)n, sizeof *p->free_stack);
    p->owners = mem_zero((size_t)n, sizeof *p->owners);
    for (int i = 0; i < n; i++)
        p->free_stack[i] = n - 1 - i;
    return p;
}

void pages_destroy(struct pages *p)
{
    if (!p)
        return;
    mem_free(p->free_stack);
    mem_free(p->owners);
    mem_free(p);
}

int pages_for(int64_t n_tokens)
{
    return (int)((n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS);
}

int pages_free(const struct pages *p)
{
    return p->n_free;
}

int pages_count(const struct pages *p)
{
    return p->n;
}

bool pages_take(struct pages *p, uint64_t owner, int n, int *out)
{
    CHECK(owner != 0 && n >= 0);
    if (n > p->n_free)
        return false;
    for (int i = 0; i < n; i++) {
        int page = p->free_stack[--p->n_free];
        p->owners[page] = owner;
        out[i] = page;
    }
    return true;
}

void pages_give(struct pages *p, uint64_t owner, int n, const int *numbers)
{
    // Backwards, so that the next taker gets them in the order this one had.
    for (int i = n - 1; i >= 0; i--) {
        int page = numbers[i];
        CHECK(page >= 0 && page < p->n && p->owners[page] == owner);
        p->owners[page] = 0;
        p->free_stack[p->n_free++] = page;
    }
}

uint64_t pages_owner(const struct pages *p, int page)
{
    CHECK(page >= 0 && page < p->n);
    return p->owners[page];
}
