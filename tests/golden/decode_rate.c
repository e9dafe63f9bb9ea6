// decode_rate.c - one sequence decoded, beside how fast the same threads read memory. A generated token
// reads every weight once, so when no cache holds them its rate of bytes should be near that of reading
// alone. The two are taken in turns, so that both see the same machine, and the best of each counts:
// the mean of a shared machine says more about its other users.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"
#include "mem.h"
#include "modes.h"
#include "ops_timed.h"
#include "rig.h"

enum { ROUNDS = 24, STEPS = 4, DEPTH = 256 };
static const size_t READ_BYTES = (size_t)256 << 20;

struct rate {
    double read;                // bytes a second
    double step;                // seconds
    double bytes;               // of a step
    int64_t split[OPS_TIMED_N]; // ns, of the best step
};

// The weights, one row of an embedding that is not the head too, the state read and written, the keys.
static double step_bytes(struct model *m)
{
    const struct config *c = model_config(m);
    const struct model_memory *p = model_memory(m);
    const enum dtype type = model_act(model_options(m)->dtype); // the embedding's
    const double embed = (double)c->vocab_size * c->hidden_size * (double)dtype_bytes(type);
    return (double)(p->weights + p->mapped) - (c->tie_word_embeddings ? 0 : embed) +
           2.0 * (double)p->state_bytes_per_sequence + DEPTH * (double)p->kv_bytes_per_token;
}

static void decode(struct rig *rig, int threads, struct rate *r)
{
    static const int ID = 1;
    const struct feed f = {.seq = 0, .ids = &ID, .t = 1, .decode = true, .last = true};
    rig_reset(rig);
    rig->pos[0] = DEPTH; // what the caches hold does not change the time
    for (int i = 0; i < STEPS; i++) {
        ops_timed_reset();
        const double begin = machine_seconds(threads);
        rig_step(rig, &f, 1);
        const double seconds = machine_seconds(threads) - begin;
        if (r->step > 0 && seconds >= r->step)
            continue;
        r->step = seconds;
        for (int op = 0; op < OPS_TIMED_N; op++)
            r->split[op] = ops_timed_read()[op].ns;
    }
}

static void print(const struct rate *r)
{
    int64_t sum = 0;
    for (int op = 0; op < OPS_TIMED_N; op++)
        sum += r->split[op];
    printf("reading %.1f GB/s, decode %.1f tok/s = %.3f GB a step, %.1f GB/s, ratio %.2f\n",
           r->read * 1e-9, 1 / r->step, r->bytes * 1e-9, r->bytes / r->step * 1e-9,
           r->bytes / r->step / r->read);
    for (int op = 0; op < OPS_TIMED_N; op++)
        if (r->split[op] * 200 > sum)
            printf("  %-12s %9.1f us %5.1f%%\n", ops_timed_read()[op].name,
                   (double)r->split[op] / 1e3, 100.0 * (double)r->split[op] / (double)sum);
}

int mode_decode(const struct mode_options *o)
{
    const int threads = o->threads ? o->threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
    const struct rig_options ro = {.dtype = o->dtype,
                                   .state = o->state,
                                   .threads = threads,
                                   .sequences = 1,
                                   .context = DEPTH + PAGE_TOKENS};
    struct rig rig;
    struct rate r = {0};
    char text[256];
    if (rig_open(&rig, o->model, &ro, ops_timed(&ops_cpu)))
        return 1;
    rig.ops->describe(rig.dev, text, sizeof text);
    printf("%s, %s, one sequence at depth %d; %s\n", o->model, dtype_name(o->dtype), DEPTH, text);
    r.bytes = step_bytes(rig.m);
    char *data = mem_alloc(READ_BYTES);
    memset(data, 1, READ_BYTES);
    for (int i = 0; i < ROUNDS; i++) {
        const double read = machine_read(data, READ_BYTES, threads);
        r.read = read > r.read ? read : r.read;
        decode(&rig, threads, &r);
    }
    print(&r);
    mem_free(data);
    rig_close(&rig);
    return 0;
}
