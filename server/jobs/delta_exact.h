// delta_exact.h - the gated delta rule and its inverse in float64, as written down: what timed kernels and
// served layers are compared with. Pure functions, any thread.
//
// Source: delta_rule in kernels/op_args.h (Qwen3_5GatedDeltaNet), inverse.h.
#ifndef DELTA_EXACT_H
#define DELTA_EXACT_H

#include "inverse.h"

enum { DELTA_DIM_MAX = 256 };

struct delta_gate {
    double g, beta; // log-decay <= 0; step size in (0, 1)
};
struct delta_gate delta_gate_of(double a, double b, double A_log, double dt_bias);
// The a that gives g when A_log and dt_bias are 0, and the b that gives beta.
double delta_gate_a(double g);
double delta_gate_b(double beta);

// x /= sqrt(sum x^2 + 1e-6), times scale.
void delta_normalise(double *x, int n, double scale);

// What one token of one head comes with: q and k [k_dim] normalised, q scaled; v [v_dim].
struct delta_input {
    const double *q, *k, *v;
    struct delta_gate gate;
};

// One token of one head: state [k_dim, v_dim] in and out, o [v_dim] out.
void delta_token(double *state, double *o, const struct delta_input *in, int k_dim, int v_dim);

// A[t][s] = beta_t (k_t . k_s) exp(G_t - G_s) for s < t, else 0; row-major [n, n]. keys [n, k_dim].
void delta_matrix(double *a, const double *keys, const struct delta_gate *gates, int n, int k_dim);

// T = (I + A)^-1, row by row. [n, n] both; t is not a.
void delta_invert(double *t, const double *a, int n);

// What a sound method errs by at most: entries of T are at most 1 in size and it stays near that, so the
// error is some tens of the type's rounding, 2^-24, 2^-11, 2^-8, 2^-14 (tests/kernels/tri_inverse.c has
// the stress cases).
double delta_T_limit(enum inverse_type type);

// The largest |I - (I + A) T|; t as a device left it.
double delta_residual(const double *a, const double *t, int n);

// The largest sum of |entries| of a row of A.
double delta_row_sum(const double *a, int n);

// Mean cosine of the pairs of n keys of unit length.
double delta_mean_cosine(const double *keys, int n, int k_dim);

#endif
