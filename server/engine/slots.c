// slots.c - see slots.h. There are few slots, so the lowest free one is looked for: the slots in use
// stay together in memory.
#include "slots.h"

#include "err.h"
#include "mem.h"

struct slots {
    int n, n_free;
    uint64_t *owners; // [n], 0: free
};

struct slots *slots_create(int n)
{
    CHECK(n >= 0);
    struct slots *s = mem_zero(1, sizeof *s);
    s->n = s->n_free = n;
    s->owners = mem_zero((size_t)n, sizeof *s->owners);
    return s;
}

void slots_destroy(struct slots *s)
{
    if (!s)
        return;
    mem_free(s->owners);
    mem_free(s);
}

int slots_free(const struct slots *s)
{
    return s->n_free;
}

int slots_count(const struct slots *s)
{
    return s->n;
}

int slots_take(struct slots *s, uint64_t owner)
{
    CHECK(owner != 0);
    for (int i = 0; i < s->n; i++) {
        if (s->owners[i] != 0)
            continue;
        s->owners[i] = owner;
        s->n_free--;
        return i;
    }
    return -1;
}

void slots_give(struct slots *s, uint64_t owner, int slot)
{
    CHECK(slot >= 0 && slot < s->n && s->owners[slot] == owner);
    s->owners[slot] = 0;
    s->n_free++;
}

uint64_t slots_owner(const struct slots *s, int slot)
{
    CHECK(slot >= 0 && slot < s->n);
    return s->owners[slot];
}
