// ops_timed.h - a table of operations around another: the same results, and how long each took. One at a
// time in a process, one thread, as a device has; each operation is followed by a sync.
#ifndef OPS_TIMED_H
#define OPS_TIMED_H

#include <stdint.h>

#include "ops.h"

enum ops_timed_index {
#define X(op) OPS_TIMED_##op,
    OPS(X)
#undef X
        OPS_TIMED_N
};

struct op_time {
    const char *name;
    int64_t calls, ns; // since the last reset
};

// The table to use in inner's place; devices are inner's own.
const struct ops *ops_timed(const struct ops *inner);

// Off: the table only hands on, and steps may be recorded. On, as at the start: each operation is waited
// for and counted, and no step is recorded.
void ops_timed_switch(bool on);

const struct op_time *ops_timed_read(void); // [OPS_TIMED_N], indexed by enum ops_timed_index
void ops_timed_reset(void);

#endif
