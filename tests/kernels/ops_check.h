// ops_check.h - what a case file needs: buffers with guards, fills, expected values, limits.
//
// Each operation has one file in this folder, named as the operation, which defines
//     const struct op_check check_<op> = { .n_cases = .., .make = .., .part = .. };
// make() names a case, declares its buffers, fills the host side, sets the arguments to the device
// side and computes the expected values in double. The runner does the rest for every variant of
// the device (on the CPU: each instruction set the processor has):
//
//   check   the expected values: same inf and NaN places, abs-or-rel, normalised mean square
//   poison  outputs begin as NaN, guards around every buffer stay, inputs stay as they were. What an
//           operation must not read (unused pages, slots, padding) the case fills with check_poison
//   repeat  a second run, a run with other thread counts and a run in parts give the same bits
//   perf    cases with flops or bytes: time, rates, and the ratio to what the machine can do
//
// Activations are of the device's type: check_act(), rows_act(), and check_act_limit() for outputs.
//
// Single-threaded; everything belongs to the case and dies with it. Out of memory ends the program.
#ifndef OPS_CHECK_H
#define OPS_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ops.h"

// An element passes when |got - want| <= abs + rel |want|; a buffer when also
// sum (got - want)^2 <= nmse sum want^2. All zero: equal values. `why` says where they come from.
struct check_limit {
    double abs, rel, nmse;
    const char *why;
};

// CHECK_WORK is read and left changed in no stated way: only its guards and its bits in `repeat` count.
enum check_role { CHECK_INPUT, CHECK_OUTPUT, CHECK_IN_OUT, CHECK_WORK };

struct check_buf {
    const char *name;
    enum dtype type;
    size_t n; // elements
    enum check_role role;
    void *host; // [n]; what the device side holds before a run. Outputs begin as NaN (all bits set)
    void *dev;  // [n]; for the arguments; guarded on both sides
    double *want; // [n]; outputs only; begins as NaN, so an unset one is found
    struct check_limit limit;
    struct check_buf *next; // the runner's
};

union check_args {
#define X(op) struct op##_args op;
    OPS(X)
#undef X
};

struct check_case {
    char name[120];        // what distinguishes it, e.g. "t=65 n=1024"
    union check_args args; // set by make()
    double flops, bytes;   // of one run, for perf; both 0: not timed
    void *user;            // whatever part() needs; freed with free()
    // The runner's:
    const struct ops *ops;
    struct dev *dev;
    struct check_buf *bufs;
    uint64_t random;
};

struct op_check {
    int n_cases;
    int n_perf; // further cases, i >= n_cases, too large to check: perf alone makes and runs them
    void (*make)(struct check_case *c, int i);
    // Narrows c->args (reset to make()'s before each call) to the i-th part of the same work, e.g.
    // one row or one span, in order; false when there is no such part. All parts together must write
    // what the whole writes, with the same bits. NULL only if part_why says why.
    bool (*part)(struct check_case *c, int i);
    const char *part_why;
    // Checks of another form, by check_true(). Run once, on the device's best variant. May be NULL.
    void (*extra)(const struct ops *ops, struct dev *dev);
    // Figures of another form, printed after the cases' in perf mode. May be NULL.
    void (*perf_extra)(const struct ops *ops, struct dev *dev);
};

// Declares a buffer of n elements of the case. Limits belong to outputs.
struct check_buf *check_input(struct check_case *c, const char *name, enum dtype type, size_t n);
struct check_buf *check_output(struct check_case *c, const char *name, enum dtype type, size_t n,
                               struct check_limit limit);
// Read and written: fill the host side, then check_keep() makes it the expected value too.
struct check_buf *check_in_out(struct check_case *c, const char *name, enum dtype type, size_t n,
                               struct check_limit limit);
void check_keep(struct check_buf *b);
struct check_buf *check_work(struct check_case *c, const char *name, enum dtype type, size_t n);

// The device's type of activations, and p moved on by n of them.
enum dtype check_act(const struct check_case *c);
// A case's type of weights or pages as the device has it: bf16 is f16 where activations are.
enum dtype check_type(const struct check_case *c, enum dtype type);
// A number as type can hold it: beyond the range of f16, its largest.
double check_held(enum dtype type, double value);
void *check_act_at(const struct check_case *c, const void *p, size_t n);
// limit for an output that is stored as type: where that has 16 bits, one rounding to its 8 or 11 more. For
// one that is an activation.
struct check_limit check_stored_limit(enum dtype type, struct check_limit limit);
struct check_limit check_act_limit(const struct check_case *c, struct check_limit limit);

// Random numbers of the case, the same in every run of the program. uniform: [0, 1).
double check_uniform(struct check_case *c);
double check_normal(struct check_case *c);
int check_below(struct check_case *c, int n); // 0 .. n - 1

void check_fill_normal(struct check_case *c, struct check_buf *b, double scale);
void check_fill_uniform(struct check_case *c, struct check_buf *b, double low, double high);
void check_poison(struct check_buf *b, size_t first, size_t n); // NaN; for integers all bits set

// One element of the host side, converted (rounded to nearest even, saturating for int8).
void check_set(struct check_buf *b, size_t i, double value);
double check_get(const struct check_buf *b, size_t i);
enum { CHECK_SPAN_INTS = sizeof(struct span) / sizeof(int) };
void check_set_span(struct check_buf *b, int at, const struct span *s); // b: of DTYPE_INT32
double check_load(const void *p, enum dtype type, size_t i); // the same, of any host memory

// Counts one check and prints the sentence when it failed.
bool check_true(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));

// The memory ceiling in bytes/s of sweeping a working set this large with this many threads, and the
// float32 multiply-add ceiling in FLOP/s. Measured when first asked for.
double ceiling_bandwidth(size_t bytes, int threads);
double ceiling_flops(int threads);
double ceiling_clock(int threads); // seconds; processor time of the thread when threads is 1

// Tables of errors by method and type: of the inverse, and of the delta rule. ops_check inverse.
void inverse_table(const struct ops *ops, struct dev *dev);
void delta_rule_table(const struct ops *ops, struct dev *dev);

#define X(op) extern const struct op_check check_##op;
OPS(X)
#undef X

#endif
