// modes.h - what model_check does besides checking: measurements that print tables.
#ifndef MODES_H
#define MODES_H

#include "ops.h"

struct mode_options {
    const char *model; // directory
    enum dtype dtype;
    enum dtype state; // of recurrent states; not of inverse, whose table has both
    int threads;      // 0: every core
    int recall;       // inverse: prompts of each length
};

// perf.c: tokens a second by context length, the split by operation, floors. 0 or the exit status.
int mode_perf(const struct mode_options *o);

// decode_rate.c: decode of one sequence beside reading memory alone. 0 or the exit status.
int mode_decode(const struct mode_options *o);

// inverse_table.c: what each way of inverting does to held-out loss and to recall. 0 or the exit status.
int mode_inverse(const struct mode_options *o);

#endif
