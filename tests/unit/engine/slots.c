// Tests of server/engine/slots.c.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>

#include "slots.h"

Test(slots, lowest_first_until_none_is_left)
{
    struct slots *s = slots_create(3);
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, slots_take(s, 10 + (uint64_t)i), i));
    cr_assert(eq(int, slots_take(s, 20), -1));
    cr_assert(eq(u64, slots_owner(s, 1), 11));
    slots_give(s, 11, 1);
    cr_assert(eq(int, slots_free(s), 1));
    cr_assert(eq(u64, slots_owner(s, 1), 0));
    cr_assert(eq(int, slots_take(s, 21), 1));
    cr_assert(eq(int, slots_free(s), 0));
    cr_assert(eq(int, slots_count(s), 3));
    slots_destroy(s);
}

Test(slots, only_the_owner_gives_back, .signal = SIGABRT)
{
    struct slots *s = slots_create(1);
    slots_take(s, 5);
    slots_give(s, 6, 0);
}
