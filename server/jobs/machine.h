// machine.h - what this processor can do, measured: the floors that figures are compared with. Any thread.
#ifndef MACHINE_H
#define MACHINE_H

#include <stddef.h>

struct machine {
    int threads;
    double bytes_per_s;      // reading memory, all threads together
    double copy_bytes_per_s; // copying it, bytes read and bytes written
    double flops_per_s;      // float32 multiply-adds (two operations each), all threads together
    const char *vectors;     // which instructions the figure above used
};

// Takes about a second and 512 MiB. threads 0: every core.
struct machine machine_measure(int threads);

// Bytes a second that `threads` threads read of `bytes` at data, once (which stays as it is). One thread: of its own time, so
// that what else the machine does hardly shows (clock.h has wall time only).
double machine_read(void *data, size_t bytes, int threads);
double machine_seconds(int threads); // the clock of that: of this thread for one, else wall time

#endif
