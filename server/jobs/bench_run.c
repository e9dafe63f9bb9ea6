// bench_run.c - see bench_run.h.
#define _GNU_SOURCE
#include "bench_run.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "device_sync.h"
#include "run_delay.h"

static const double DELAY_SHARE = 0.1;      // of a sample's time: more is disturbed
enum { SAMPLE_US = 1000, REPS_MAX = 1000 }; // a warm sample lasts about this long
// What is copied to flush the caches: twice that goes through them. A GPU's are below 64 MiB; a
// processor says how large its own are, because the time of a flush is what cold samples take.
static const size_t FLUSH_MAX = (size_t)64 << 20, FLUSH_MIN = (size_t)4 << 20;

// Gives back memory, cancelled or not; a device that goes away takes the memory with it. A cancel that
// comes between asking and running is met by asking again.
static void clean_up(struct job_run *run,
                     int (*fn)(void *ud, const struct ops *ops, struct dev *dev, struct model *m,
                               struct err *e),
                     void *ud)
{
    struct err e = {0};
    if (job_run_device(run, fn, ud, NULL, &e) && e.code == ERR_CANCELLED)
        (void)!job_run_device(run, fn, ud, NULL, &e);
}

// --- flush ----------------------------------------------------------------------------------

struct flush_task {
    struct bench_flush *flush;
    enum dtype *act;
};

static size_t flush_bytes(const struct ops *ops)
{
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (strcmp(ops->name, "cpu") != 0 || cache < (long)FLUSH_MIN || cache > (long)FLUSH_MAX)
        return FLUSH_MAX;
    return (size_t)cache;
}

static int place_flush(void *ud, const struct ops *ops, struct dev *dev, struct model *m,
                       struct err *e)
{
    struct flush_task *t = ud;
    struct bench_flush *f = t->flush;
    (void)m;
    *t->act = ops->act(dev);
    for (f->bytes = flush_bytes(ops); f->bytes >= FLUSH_MIN; f->bytes /= 2) {
        f->from = ops->alloc(dev, f->bytes);
        f->to = f->from ? ops->alloc(dev, f->bytes) : NULL;
        if (f->to)
            return 0;
        ops->release(dev, f->from);
        f->from = NULL;
    }
    return err_set(e, ERR_TOO_LARGE, "device memory is out; start the server with less --kv-bytes");
}

static int release_flush(void *ud, const struct ops *ops, struct dev *dev, struct model *m,
                         struct err *e)
{
    struct bench_flush *f = ud;
    (void)m;
    (void)e;
    ops->release(dev, f->from);
    ops->release(dev, f->to);
    *f = (struct bench_flush){0};
    return 0;
}

int bench_flush_place(struct job_run *run, struct bench_flush *f, enum dtype *act, struct err *e)
{
    struct flush_task t = {f, act};
    return job_run_device(run, place_flush, &t, NULL, e);
}

void bench_flush_release(struct job_run *run, struct bench_flush *f)
{
    if (f->from)
        clean_up(run, release_flush, f);
}

// --- case -----------------------------------------------------------------------------------

static int release_case(void *ud, const struct ops *ops, struct dev *dev, struct model *m,
                        struct err *e)
{
    (void)m;
    (void)e;
    bench_release(ud, ops, dev);
    return 0;
}

static int place_case(void *ud, const struct ops *ops, struct dev *dev, struct model *m,
                      struct err *e)
{
    struct bench_case *c = ud;
    (void)m;
    if (bench_place(c, ops, dev, e))
        return -1;
    // What pages and slots hold has been waited for when an operation finds it there (op_args.h).
    bool failed = device_sync(ops, dev, e);
    if (!failed) {
        c->op->run(c, ops, dev);
        failed = device_sync(ops, dev, e);
    }
    if (failed) {
        bench_release(c, ops, dev);
        return -1;
    }
    bench_fetch(c, ops, dev);
    return 0;
}

int bench_case_place(struct job_run *run, struct bench_case *c, struct err *e)
{
    return job_run_device(run, place_case, c, NULL, e);
}

void bench_case_release(struct job_run *run, struct bench_case *c)
{
    if (c->n_bufs && c->bufs[0].dev)
        clean_up(run, release_case, c);
    bench_fini(c);
}

// --- samples --------------------------------------------------------------------------------

struct sample_task {
    struct bench_case *c;
    const struct bench_flush *flush;
    struct bench_sample *sample;
};

static int time_runs(struct sample_task *t, const struct ops *ops, struct dev *dev, struct err *e)
{
    const int reps = t->sample->reps;
    const int64_t delay_ns = run_delay_ns(), begun_ns = clock_ns();
    for (int i = 0; i < reps; i++)
        t->c->op->run(t->c, ops, dev);
    if (device_sync(ops, dev, e))
        return -1;
    const double ms = clock_ms_between(begun_ns, clock_ns());
    t->sample->us = ms * 1e3 / reps;
    // Waking a thread counts a little on any machine; one that lost its processor lost milliseconds.
    t->sample->disturbed = (double)(run_delay_ns() - delay_ns) > DELAY_SHARE * 1e6 * ms;
    return 0;
}

static int take_sample(void *ud, const struct ops *ops, struct dev *dev, struct model *m,
                       struct err *e)
{
    struct sample_task *t = ud;
    struct bench_sample *s = t->sample;
    (void)m;
    if (s->cold) {
        s->reps = 1;
        ops->copy(dev, t->flush->to, t->flush->from, t->flush->bytes);
        return device_sync(ops, dev, e) ? -1 : time_runs(t, ops, dev, e);
    }
    const bool first = s->reps == 0;
    const int reps = first ? 1 : s->reps;
    s->reps = 1;
    if (time_runs(t, ops, dev, e)) // warms what other work has displaced
        return -1;
    s->reps = first ? (int)fmin(fmax(ceil(SAMPLE_US / fmax(s->us, 1e-3)), 1), REPS_MAX) : reps;
    return time_runs(t, ops, dev, e);
}

int bench_case_sample(struct job_run *run, struct bench_case *c, const struct bench_flush *f,
                      struct bench_sample *s, struct err *e)
{
    struct sample_task t = {c, f, s};
    int contended = 0;
    if (job_run_device(run, take_sample, &t, &contended, e))
        return -1;
    s->contended = contended > s->contended ? contended : s->contended;
    return 0;
}
