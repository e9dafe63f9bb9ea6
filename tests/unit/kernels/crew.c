// Tests of kernels/cpu/crew.c: every item once, whoever comes late, loop after loop.
#define _GNU_SOURCE
#include "crew.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

enum { ITEMS_MAX = 500 };

struct tally {
    atomic_int times[ITEMS_MAX];
    atomic_bool busy[4]; // by worker
    int pause_us;        // in every item
};

static void count(void *ud, int i, int worker)
{
    struct tally *t = ud;
    cr_assert(!atomic_exchange(&t->busy[worker], true), "two workers have one number");
    atomic_fetch_add(&t->times[i], 1);
    if (t->pause_us)
        usleep((useconds_t)t->pause_us);
    atomic_store(&t->busy[worker], false);
}

static void expect_once(const struct tally *t, int n)
{
    for (int i = 0; i < ITEMS_MAX; i++)
        cr_assert_eq(t->times[i], i < n ? 1 : 0, "item %d of %d: %d times", i, n, t->times[i]);
}

Test(crew, every_item_once)
{
    for (int threads = 1; threads <= 4; threads++) {
        struct crew *c = crew_create(threads);
        cr_assert_not_null(c);
        for (int loop = 0; loop < 2000; loop++) {
            const int n = loop * 7 % (loop % 50 ? 9 : ITEMS_MAX);
            struct tally t = {0};
            crew_run(c, n, count, &t);
            expect_once(&t, n);
        }
        crew_destroy(c);
    }
}

// Long enough between loops, and in an item, that helpers sleep and that they come late.
Test(crew, helpers_sleep_and_wake)
{
    struct crew *c = crew_create(3);
    for (int loop = 0; loop < 20; loop++) {
        struct tally t = {.pause_us = 300};
        usleep(loop % 2 ? 2000 : 0);
        crew_run(c, 12, count, &t);
        expect_once(&t, 12);
    }
    crew_destroy(c);
}

Test(crew, destroyed_unused_or_asleep)
{
    crew_destroy(NULL);
    crew_destroy(crew_create(4));
    struct crew *c = crew_create(2);
    usleep(5000);
    crew_destroy(c);
}
