// key_draws.h - what the inversion is tested with: keys of a given mean cosine, recorded and made gates.
#ifndef KEY_DRAWS_H
#define KEY_DRAWS_H

#include "ops_check.h"

// A direction that the keys of one head share, and one unit key: sqrt(rho) of it, the rest random, so
// that two keys have mean cosine rho; rho = 1 gives equal keys.
void keys_common(struct check_case *c, double *common, int n);
void keys_draw(struct check_case *c, double *key, const double *common, int n, double rho);

enum gate_kind {
    GATES_RECORDED, // a layer of Qwen3.5-0.8B, tests/data/gates
    GATES_SLOW,     // g = -1e-3, beta = 0.835: met in production together with equal keys
    GATES_12,       // g = -12 each token
    GATES_20,       // g = -20 each token
    GATES_MIXED,    // -20 for a third of each 64 tokens, then -1e-3
    GATES_FAR,      // -1e5 for every seventh, whose a is an infinity in f16, the others -1e-3
    GATES_NONE      // g = 0, beta = 1
};

struct gate {
    double g, beta;
};
struct gate gate_of(enum gate_kind kind, int token, int head);

#endif
