// bench.h - one operation of the seam as a benchmark: buffers, arguments, work, and the proof that what
// was timed computes what it should. kernel_benchmark.c drives it; bench_*.c describe the operations.
//
// A case lives on two threads in turn: host arrays are filled and judged on the job thread, while the
// engine thread stands free; place, run, fetch and release run as device tasks.
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "ops.h"
#include "qwen35.h"

enum { BENCH_BUFS_MAX = 24, BENCH_SAMPLES_MAX = 64 };

// The sizes that an operation takes from a model. Facts of the named ones: config.json of Qwen3.5.
struct bench_shape {
    char name[48];
    int hidden, intermediate, vocab;
    int heads, kv_heads, head_dim, rot;
    int k_heads, v_heads, k_dim, v_dim;
};

// "served" (the node's model) or the name of a Qwen3.5 size. false: unknown.
bool bench_shape_find(const char *name, const struct config *served, struct bench_shape *out);
extern const char *const BENCH_SHAPES[]; // what it knows, ended by NULL

// One row of a benchmark.
struct bench_point {
    struct bench_shape shape;
    int tokens; // prompt tokens of one sequence; rows of an operation that knows no sequences
    int depth;  // tokens that stand before them
    int batch;  // sequences, for generated tokens
    int chunk;  // delta rule
    double rho; // mean cosine of the keys
    struct inverse inverse;
    enum dtype weights;   // F32, BF16, F16, INT8
    enum dtype state;     // of recurrent states: F32, BF16
    const char *data_dir; // recorded gates, or NULL
};

enum bench_role { BENCH_INPUT, BENCH_OUTPUT, BENCH_STATE }; // STATE: read and written

struct bench_buf {
    enum bench_role role;
    enum dtype type;
    size_t n;
    void *host;    // [n] of type; NULL: made on the device by fill
    void *dev;     // [n], while placed
    uint64_t seed; // of fill
    float deviation;
};

struct bench_case {
    const struct bench_op *op;
    struct bench_point at;
    enum dtype act;
    struct bench_buf bufs[BENCH_BUFS_MAX];
    int n_bufs;
    union {
#define X(op) struct op##_args op;
        OPS(X)
#undef X
    } args;
    struct attn_prep_args prep; // attention: what wrote the pages
    struct span *spans;         // host, as batch.host_spans wants them
    double bytes, flops;        // of one run, by the definition, not by the implementation
    uint64_t random;
    void *kept; // what bind took down from the device for judge; mem_free
    // Of judge: the largest error by the operation's measure, its limit, and why it is that.
    double error, limit;
    const char *measure, *why;
    bool judged;
};

enum bench_uses {
    BENCH_TOKENS = 1,
    BENCH_DEPTH = 2,
    BENCH_BATCH = 4,
    BENCH_CHUNK = 8, // and the inversion
    BENCH_WEIGHTS = 16,
    BENCH_KEYS = 32, // how much keys are alike
    BENCH_STATES = 64,
};

struct bench_op {
    const char *name, *title;
    unsigned uses; // which members of the point distinguish rows
    // Job thread: declare buffers, fill the host sides, set bytes and flops.
    void (*prepare)(struct bench_case *c);
    // Engine thread: arguments from the buffers' device sides; may run what must come before.
    void (*bind)(struct bench_case *c, const struct ops *ops, struct dev *dev);
    void (*run)(struct bench_case *c, const struct ops *ops, struct dev *dev); // enqueue once
    // Job thread, after a run and bench_fetch: compare a sample of the results with float64.
    void (*judge)(struct bench_case *c);
};

extern const struct bench_op *const BENCH_OPS[]; // ended by NULL
extern const char *const BENCH_OP_NAMES[];       // the same, ended by NULL
const struct bench_op *bench_op_find(const char *name);

// Bytes of device memory that the case will take, before anything is made: for limits. Pure.
double bench_bytes(const struct bench_op *op, const struct bench_point *at);

// Job thread. A case whose act is set; free it with bench_fini.
void bench_prepare(struct bench_case *c, const struct bench_op *op, const struct bench_point *at,
                   enum dtype act);
void bench_fini(struct bench_case *c);

// Engine thread. ERR_TOO_LARGE when device memory is out (nothing stays allocated).
int bench_place(struct bench_case *c, const struct ops *ops, struct dev *dev,
                struct err *e) MUST_USE;
void bench_fetch(struct bench_case *c, const struct ops *ops, struct dev *dev); // outputs, states
void bench_release(struct bench_case *c, const struct ops *ops, struct dev *dev);

// --- for bench_*.c --------------------------------------------------------------------------

// Declares n values; returns the index of the buffer, by which it is found again. Host memory is zero.
int bench_buf(struct bench_case *c, enum bench_role role, enum dtype type, size_t n);
// Declares an input of random values that the device makes itself: weights.
int bench_filled(struct bench_case *c, enum dtype type, size_t n, double deviation);

double bench_get(const struct bench_case *c, int buf, size_t i);
void bench_set(struct bench_case *c, int buf, size_t i, double v);  // rounded to the buffer's type
void bench_normal(struct bench_case *c, int buf, double deviation); // all of it
void *bench_dev(const struct bench_case *c, int buf);
void bench_raise(struct bench_case *c,
                 double error); // c->error = the larger; NaN counts as infinite

// Declares spans; decode: `batch` sequences of one token, else one sequence of `tokens`.
int bench_spans(struct bench_case *c, bool decode);
struct batch bench_batch(const struct bench_case *c, int spans);

// What rounding to a type changes, relative: 2^-24, 2^-9, 2^-12 (F32, BF16, F16). And to the device's activations:
// limits are multiples of it that were chosen with bf16 (gdn_prefill errs by 0.35 of its limit in the H200's report
// under deploy/reports). With f16, of the bundled model on an H200, it errs by 0.18 of its limit, and of the 15
// operations run none but quantize by more than 0.38 (kernel_benchmark, 2026-12-01).
double bench_type_error(enum dtype type);
double bench_act_error(const struct bench_case *c);

#endif
