// Tests of server/jobs/run_delay.c: waiting for a processor is counted, having one is not.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <pthread.h>
#include <unistd.h>

#include "clock.h"
#include "run_delay.h"

enum { THREADS_MAX = 64, BUSY_MS = 300 };

static void *be_busy(void *arg)
{
    const int64_t begun_ns = clock_ns();
    (void)arg;
    while (clock_ms_between(begun_ns, clock_ns()) < BUSY_MS)
        ;
    return NULL;
}

// More busy threads than processors: together they wait for a good part of the time.
Test(run_delay, waiting_for_a_processor_is_counted)
{
    pthread_t thread[THREADS_MAX];
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const int n = 3 * (int)cores < THREADS_MAX ? 3 * (int)cores : THREADS_MAX;
    if (access("/proc/self/schedstat", R_OK) || cores > THREADS_MAX / 3)
        cr_skip_test("skip: run_delay: no schedstat here, or too many processors to fill");
    const int64_t before_ns = run_delay_ns();
    for (int i = 0; i < n; i++)
        cr_assert(pthread_create(&thread[i], NULL, be_busy, NULL) == 0);
    usleep(BUSY_MS * 500);
    const double waited_ms = clock_ms_between(before_ns, run_delay_ns());
    for (int i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    cr_assert(waited_ms > BUSY_MS / 4, "%g ms", waited_ms);
}
