// inputs.c - see inputs.h.
#include "inputs.h"

#include "mem.h"

struct inputs *inputs_create(void)
{
    struct inputs *in = mem_zero(1, sizeof *in);
    atomic_init(&in->users, 1);
    return in;
}

void inputs_add_prompts(struct inputs *in, int n)
{
    CHECK(!in->prompts && n > 0);
    in->prompts = arena_alloc(&in->arena, (size_t)n, sizeof *in->prompts);
    in->max_tokens = arena_alloc(&in->arena, (size_t)n, sizeof *in->max_tokens);
    in->n_prompts = n;
}

struct inputs *inputs_share(struct inputs *in)
{
    atomic_fetch_add(&in->users, 1);
    return in;
}

void inputs_drop(void *ud)
{
    struct inputs *in = ud;
    if (!in || atomic_fetch_sub(&in->users, 1) > 1)
        return;
    for (int i = 0; i < in->n_prompts; i++)
        ids_fini(&in->prompts[i]);
    arena_fini(&in->arena);
    mem_free(in);
}
