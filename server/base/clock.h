// clock.h - monotonic time. Any thread.
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

int64_t clock_ns(void); // nanoseconds since some fixed point; never goes back

static inline double clock_ms_between(int64_t from_ns, int64_t to_ns)
{
    return (double)(to_ns - from_ns) / 1e6;
}

#endif
