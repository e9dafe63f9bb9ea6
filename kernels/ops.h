// ops.h - the seam: a table of function pointers, one struct of arguments per operation. Above it
// plain C that knows Qwen3.5 and no device; below it backends that know shapes and no Qwen3.5.
//
// Every backend fills every entry; the OPS list makes the fields, the prototypes and the list of
// checks, so a missing implementation is a link error that names it.
//
// Words used in op_args.h: T tokens of one step, all sequences one after another; "act" is the activation
// type of the device (float32 on the CPU); shapes are given outermost first and are contiguous unless
// a stride is named. Pointers are device memory unless they say host. Kernels use nothing of server/.
//
// F16 ends at 65504: what is beyond is stored as that. Only linear's matrix path may leave an infinity. Whatever reads
// a projection takes it for +-65504 (conv, attn_prep, gated_norm, delta_decode, silu_mul, rmsnorm in its sum), or its
// arithmetic comes to a number by itself (attention's gate, delta_rule's a and b).
//
// Threads: a device belongs to one thread (the engine's). Compute entries enqueue and return nothing;
// the first failure is kept and comes out of sync().
//
// Row independence: a row's result depends on that row, its sequence's past and the kind of its span
// only, never on how many rows stand beside it. What differs by kind is said at `linear`.
#ifndef OPS_H
#define OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "op_args.h"

size_t dtype_bytes(enum dtype type);
const char *dtype_name(enum dtype type);
// The other way; false: no type is called that.
bool dtype_named(const char *name, enum dtype *type);
// The 16-bit type that weights and pages have beside activations of type act: F16 beside F16, else BF16.
enum dtype dtype_half(enum dtype act);

#define OPS(X)                                                                                     \
    X(embed)                                                                                       \
    X(rmsnorm)                                                                                     \
    X(linear)                                                                                      \
    X(attn_prep)                                                                                   \
    X(attention)                                                                                   \
    X(conv)                                                                                        \
    X(delta_rule)                                                                                  \
    X(delta_decode)                                                                                \
    X(tri_inverse)                                                                                 \
    X(quantize)                                                                                    \
    X(convert)                                                                                     \
    X(fill)                                                                                        \
    X(gated_norm)                                                                                  \
    X(silu_mul)                                                                                    \
    X(gather)                                                                                      \
    X(sample)                                                                                      \
    X(logprobs)

struct dev; // a backend's own

struct dev_options {
    int index;            // which device
    int threads;          // CPU: OpenMP threads, 0 = all cores
    size_t scratch_bytes; // 0, or a cap on what the backend takes for its own scratch
    enum dtype act;       // activations: F32 (also what 0 says), CUDA also BF16 and F16
};

// What a recorded step depends on besides the contents of device memory.
struct step_key {
    int t, n_spans, pages_max, n_rows;
};

struct ops {
    const char *name;                                                             // "cpu", "cuda"
    struct dev *(*open)(const struct dev_options *o, char *why, size_t why_size); // NULL on failure
    void (*close)(struct dev *dev);                                               // NULL is fine
    void *(*alloc)(struct dev *dev, size_t bytes); // 64-aligned, zeroed; NULL when memory is out
    void (*release)(struct dev *dev, void *p);
    void (*upload)(struct dev *dev, void *dst, const void *src, size_t bytes);   // src: host
    void (*download)(struct dev *dev, void *dst, const void *src, size_t bytes); // dst: host; syncs
    void (*copy)(struct dev *dev, void *dst, const void *src,
                 size_t bytes);                               // both device; enqueued
    int (*sync)(struct dev *dev, char *why, size_t why_size); // 0, or -1 and the first failure
    enum dtype (*act)(struct dev *dev);                       // type of activations
    size_t (*memory)(struct dev *dev); // bytes there are for everything, taken or not
    // A step whose launches depend on key alone may be recorded and played again. step_begin returns
    // true when it has enqueued a recording: the caller then enqueues nothing. Otherwise the caller
    // enqueues the step and calls step_end.
    bool (*step_begin)(struct dev *dev, const struct step_key *key);
    void (*step_end)(struct dev *dev);
    // Compute entries return before they are done: what the host has to do costs no time behind them.
    bool async;
    // The backend sizes its scratch and chooses its algorithms in its first steps, so whoever loads a
    // model runs the largest ones and calls warm(true) before saying it is ready: to need more later is a
    // failure. warm(false) around work that has the device to itself and asks for what no step does.
    bool warm_up;
    void (*warm)(struct dev *dev, bool warm);
    // Host memory that the device can read as it is (a mapped file on the CPU), else NULL.
    const void *(*borrow)(struct dev *dev, const void *host, size_t bytes);
    // One line for the log: what the device is and which instructions it uses.
    void (*describe)(struct dev *dev, char *text, size_t size);
#define X(op) void (*op)(struct dev * dev, const struct op##_args *a);
    OPS(X)
#undef X
};

extern const struct ops ops_cpu;
extern const struct ops ops_cuda; // in a build with WITH_CUDA

#ifdef __cplusplus
}
#endif
#endif
