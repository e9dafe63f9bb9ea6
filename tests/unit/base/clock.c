// Tests of server/base/clock.h.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "clock.h"

Test(clock, never_goes_back)
{
    int64_t last = clock_ns();
    for (int i = 0; i < 1000; i++) {
        int64_t now = clock_ns();
        cr_assert(ge(i64, now, last));
        last = now;
    }
}

Test(clock, milliseconds)
{
    cr_assert(epsilon_eq(dbl, clock_ms_between(1000000, 3500000), 2.5, 1e-12));
}
