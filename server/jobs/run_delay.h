// run_delay.h - how long this process was kept from the processors: what tells a slow kernel from a busy
// machine. Any thread.
#ifndef RUN_DELAY_H
#define RUN_DELAY_H

#include <stdint.h>

// Time that threads of this process were ready to run and waited for a processor, since they began, summed
// (Linux: the second number of /proc/self/task/*/schedstat). 0 where the kernel does not count it.
int64_t run_delay_ns(void);

#endif
