// ops_timed.c - see ops_timed.h. The wrappers come from the OPS list, so a new operation is timed as soon
// as it is in it.
#define _GNU_SOURCE
#include "ops_timed.h"

#include <time.h>

static const struct ops *inner;
static struct ops table;
static char first_failure[256]; // of the syncs in between, until the caller's own
static int failed;
static bool on = true;
static struct op_time times[OPS_TIMED_N] = {
#define X(op) {#op, 0, 0},
    OPS(X)
#undef X
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void ops_timed_switch(bool value)
{
    on = value;
}

static bool timed_step_begin(struct dev *dev, const struct step_key *key)
{
    return !on && inner->step_begin(dev, key);
}

static void timed_step_end(struct dev *dev)
{
    if (!on)
        inner->step_end(dev);
}

static void finish(struct dev *dev, enum ops_timed_index op, int64_t begin_ns)
{
    if (!on)
        return;
    if (!failed && inner->sync(dev, first_failure, sizeof first_failure))
        failed = -1;
    times[op].ns += now_ns() - begin_ns;
    times[op].calls++;
}

#define X(op)                                                                                      \
    static void timed_##op(struct dev *dev, const struct op##_args *a)                             \
    {                                                                                              \
        int64_t begin_ns = now_ns();                                                               \
        inner->op(dev, a);                                                                         \
        finish(dev, OPS_TIMED_##op, begin_ns);                                                     \
    }
OPS(X)
#undef X

static int timed_sync(struct dev *dev, char *why, size_t why_size)
{
    int rc = inner->sync(dev, why, why_size);
    if (failed && why_size) {
        size_t i = 0;
        for (; i + 1 < why_size && first_failure[i]; i++)
            why[i] = first_failure[i];
        why[i] = '\0';
    }
    rc = failed ? failed : rc;
    failed = 0;
    return rc;
}

const struct ops *ops_timed(const struct ops *wrapped)
{
    inner = wrapped;
    table = *wrapped;
    table.sync = timed_sync;
    table.step_begin = timed_step_begin;
    table.step_end = timed_step_end;
#define X(op) table.op = timed_##op;
    OPS(X)
#undef X
    return &table;
}

const struct op_time *ops_timed_read(void)
{
    return times;
}

void ops_timed_reset(void)
{
    for (int i = 0; i < OPS_TIMED_N; i++)
        times[i].calls = times[i].ns = 0;
    failed = 0;
}
