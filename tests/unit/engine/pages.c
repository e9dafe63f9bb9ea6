// Tests of server/engine/pages.c.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>

#include "ops.h"
#include "pages.h"

Test(pages, tokens_round_up)
{
    cr_assert(eq(int, pages_for(0), 0));
    cr_assert(eq(int, pages_for(1), 1));
    cr_assert(eq(int, pages_for(PAGE_TOKENS), 1));
    cr_assert(eq(int, pages_for(PAGE_TOKENS + 1), 2));
}

Test(pages, all_or_nothing)
{
    struct pages *p = pages_create(5);
    int a[5], b[5];
    cr_assert(pages_take(p, 7, 3, a));
    cr_assert(eq(int, pages_free(p), 2));
    cr_assert(not(pages_take(p, 8, 3, b)));
    cr_assert(eq(int, pages_free(p), 2));
    cr_assert(pages_take(p, 8, 2, b));
    for (int i = 0; i < 3; i++)
        cr_assert(eq(u64, pages_owner(p, a[i]), 7));
    cr_assert(ne(int, b[0], b[1]));
    pages_give(p, 7, 3, a);
    cr_assert(eq(int, pages_free(p), 3));
    cr_assert(eq(u64, pages_owner(p, a[0]), 0));
    pages_give(p, 8, 2, b);
    cr_assert(eq(int, pages_free(p), pages_count(p)));
    pages_destroy(p);
}

Test(pages, a_page_has_one_owner)
{
    enum { N = 64 };
    struct pages *p = pages_create(N);
    int held[N];
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < N; i++)
            cr_assert(pages_take(p, (uint64_t)i + 1, 1, &held[i]));
        for (int i = 0; i < N; i++)
            cr_assert(eq(u64, pages_owner(p, held[i]), (uint64_t)i + 1));
        for (int i = 0; i < N; i++)
            pages_give(p, (uint64_t)((i * 37) % N) + 1, 1, &held[(i * 37) % N]);
    }
    cr_assert(eq(int, pages_free(p), N));
    pages_destroy(p);
}

Test(pages, given_back_twice_aborts, .signal = SIGABRT)
{
    struct pages *p = pages_create(2);
    int page;
    if (!pages_take(p, 1, 1, &page))
        return;
    pages_give(p, 1, 1, &page);
    pages_give(p, 1, 1, &page);
}
