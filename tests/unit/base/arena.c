// Tests of server/base/arena.c.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "arena.h"

Test(arena, pieces_are_zero_aligned_and_apart)
{
    enum { N = 500 };
    struct arena a = {0};
    unsigned char *pieces[N];
    size_t all = 0;
    for (int i = 0; i < N; i++) {
        size_t n = (size_t)(i * 7919) % 3000 + 1;
        pieces[i] = arena_alloc(&a, n, 1);
        cr_assert(eq(int, (int)((uintptr_t)pieces[i] % 16), 0));
        for (size_t j = 0; j < n; j++)
            cr_assert(zero(pieces[i][j]));
        memset(pieces[i], i & 0xFF, n);
        all += n;
    }
    cr_assert(ge(sz, a.used_bytes, all));
    for (int i = 0; i < N; i++) {
        size_t n = (size_t)(i * 7919) % 3000 + 1;
        for (size_t j = 0; j < n; j++)
            cr_assert(eq(int, pieces[i][j], i & 0xFF));
    }
    arena_fini(&a);
    cr_assert(eq(ptr, a.last, NULL));
    cr_assert(eq(sz, a.used_bytes, 0));
    arena_fini(&a);
}

Test(arena, more_than_a_block)
{
    struct arena a = {0};
    unsigned char *big = arena_alloc(&a, 3, 1 << 20);
    big[(3 << 20) - 1] = 1;
    unsigned char *small = arena_alloc(&a, 1, 1);
    *small = 2;
    cr_assert(eq(int, big[(3 << 20) - 1], 1));
    arena_fini(&a);
}

Test(arena, taken_pieces_are_aligned_and_apart)
{
    struct arena a = {0};
    char *first = arena_take(&a, 3), *second = arena_take(&a, 17), *third = arena_take(&a, 0);
    memset(first, 1, 3);
    memset(second, 2, 17);
    cr_assert(eq(ptr, second, first + 16));
    cr_assert(eq(ptr, third, second + 32));
    cr_assert(eq(int, first[2], 1));
    cr_assert(eq(sz, a.used_bytes, 48));
    arena_fini(&a);
}

Test(arena, strings_are_copied_and_ended)
{
    struct arena a = {0};
    char from[] = "hello";
    char *copy = arena_string(&a, from, 4);
    from[0] = 'j';
    cr_assert(eq(str, copy, "hell"));
    cr_assert(eq(str, arena_string(&a, NULL, 0), ""));
    arena_fini(&a);
}

Test(arena, a_product_that_overflows_aborts, .signal = SIGABRT)
{
    struct arena a = {0};
    arena_alloc(&a, SIZE_MAX / 2, 3);
}
