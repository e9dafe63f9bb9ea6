// Tests of server/base/mem.c.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "mem.h"

Test(mem, zeroed_resized_copied)
{
    int *p = mem_zero(4, sizeof *p);
    for (int i = 0; i < 4; i++)
        cr_assert(zero(p[i]));
    p[3] = 7;
    p = mem_resize(p, 4000, sizeof *p);
    cr_assert(eq(int, p[3], 7));
    mem_free(p);
    char *s = mem_string("hello", 4);
    cr_assert(eq(str, s, "hell"));
    mem_free(s);
    mem_free(NULL);
}

Test(mem, nothing_is_something)
{
    void *a = mem_alloc(0), *b = mem_zero(0, 8), *c = mem_resize(NULL, 0, 8);
    cr_assert(ne(ptr, a, NULL));
    cr_assert(ne(ptr, b, NULL));
    cr_assert(ne(ptr, c, NULL));
    mem_free(a);
    mem_free(b);
    mem_free(c);
}

Test(mem, a_product_that_overflows_aborts, .signal = SIGABRT)
{
    mem_free(mem_resize(NULL, SIZE_MAX / 2, 3));
}
