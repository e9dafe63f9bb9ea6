// machine.h - what this machine can do, measured: the floors that the figures are compared with.
#ifndef MACHINE_H
#define MACHINE_H

struct machine {
    int threads;
    double bytes_per_s;  // reading memory, all threads together
    double flops_per_s;  // float32 multiply-adds (two operations each), all threads together
    const char *vectors; // which instructions the figure above used
};

// Takes about a second. threads 0: every core.
struct machine machine_measure(int threads);

#endif
