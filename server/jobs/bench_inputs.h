// bench_inputs.h - what the delta rule is benchmarked with: keys that are alike as real ones are, and the
// gates of a real layer. Job thread.
#ifndef BENCH_INPUTS_H
#define BENCH_INPUTS_H

#include <stdbool.h>
#include <stdint.h>

#include "delta_exact.h"

// Gates by token and head. Recorded in a layer of Qwen3.5-0.8B where data_dir has them (gates/README.md
// there); else drawn alike: half of the heads hardly forget, the others within a few tokens.
struct gates {
    float *g, *beta; // [tokens, heads] of the recording; NULL: drawn
};
struct gates gates_open(const char *data_dir);
void gates_close(struct gates *gates);
struct delta_gate gates_at(const struct gates *gates, int token, int head);

// n keys of unit length and mean cosine rho, [n, dim]: sqrt(rho) of a direction that all share, the rest
// random. rho = 1 gives equal keys.
void keys_draw(double *keys, int n, int dim, double rho, uint64_t *random);

#endif
