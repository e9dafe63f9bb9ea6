// Tests of server/base/buf.c.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "mem.h"

Test(buf, appends_stay_in_order)
{
    struct buf b = {0};
    cr_assert(buf_add(&b, "ab\0c", 4));
    cr_assert(buf_str(&b, "de"));
    cr_assert(buf_format(&b, "%d-%s", 12, "f"));
    cr_assert(buf_add(&b, NULL, 0));
    cr_assert(eq(sz, b.n, 10));
    cr_assert(zero(memcmp(b.data, "ab\0cde12-f", 11)));
    buf_fini(&b);
    cr_assert(eq(ptr, b.data, NULL));
}

Test(buf, grows_as_needed)
{
    struct buf b = {0};
    for (int i = 0; i < 10000; i++)
        cr_assert(buf_format(&b, "%04d", i));
    cr_assert(eq(sz, b.n, 40000));
    for (int i = 0; i < 10000; i += 777) {
        char want[16];
        snprintf(want, sizeof want, "%04d", i);
        cr_assert(zero(memcmp(b.data + 4 * i, want, 4)));
    }
    buf_fini(&b);
}

Test(buf, a_maximum_is_kept_and_nothing_is_half_added)
{
    struct buf b = {.max = 5};
    cr_assert(buf_str(&b, "abc"));
    cr_assert(not(buf_str(&b, "def")));
    cr_assert(b.overflow);
    cr_assert(eq(str, b.data, "abc"));
    cr_assert(not(buf_format(&b, "%d", 123)));
    cr_assert(buf_str(&b, "de"));
    cr_assert(eq(str, b.data, "abcde"));
    buf_clear(&b);
    cr_assert(not(b.overflow));
    cr_assert(eq(str, b.data, ""));
    cr_assert(buf_str(&b, "vwxyz"));
    buf_fini(&b);
    cr_assert(eq(sz, b.max, 5));
}

Test(buf, drop_and_take)
{
    struct buf b = {0};
    buf_drop(&b, 0);
    buf_str(&b, "abcdef");
    buf_drop(&b, 2);
    cr_assert(eq(str, b.data, "cdef"));
    buf_drop(&b, 4);
    cr_assert(eq(str, b.data, ""));
    buf_str(&b, "x");
    char *s = buf_take(&b);
    cr_assert(eq(str, s, "x"));
    cr_assert(eq(sz, b.n, 0));
    mem_free(s);
    s = buf_take(&b);
    cr_assert(eq(str, s, ""));
    mem_free(s);
}

Test(buf, dropping_more_than_there_is_aborts, .signal = SIGABRT)
{
    struct buf b = {0};
    buf_str(&b, "ab");
    buf_drop(&b, 3);
}
