// delta_exact.c - the reference that everything is judged by: against itself from two sides.
#include "delta_exact.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "bench_inputs.h"
#include "sample_stats.h"

enum { N = 32, DIM = 16 };

static struct delta_gate gates[N];
static double keys[N * DIM], values[N * DIM], queries[N * DIM];

static void draw(double rho)
{
    uint64_t random = 11;
    keys_draw(keys, N, DIM, rho, &random);
    for (int t = 0; t < N; t++)
        gates[t] =
            (struct delta_gate){-0.02 * stat_uniform(&random), 0.5 + 0.4 * stat_uniform(&random)};
    for (int i = 0; i < N * DIM; i++) {
        values[i] = stat_normal(&random);
        queries[i] = stat_normal(&random);
    }
}

// What the recurrence adds to the state is U = T diag(beta) (V - diag(e^G) K S0): with S0 = 0 the chunk
// form's T and the recurrence must agree about the last state.
Test(delta_exact, the_chunk_form_and_the_recurrence_agree)
{
    static double a[N * N], t[N * N], state[DIM * DIM];
    double o[DIM], sums[N], sum = 0;
    draw(0.6);
    delta_matrix(a, keys, gates, N, DIM);
    delta_invert(t, a, N);
    memset(state, 0, sizeof state);
    for (int i = 0; i < N; i++) {
        sums[i] = sum += gates[i].g;
        delta_token(
            state, o,
            &(struct delta_input){queries + i * DIM, keys + i * DIM, values + i * DIM, gates[i]},
            DIM, DIM);
    }
    for (int i = 0; i < DIM; i++)
        for (int j = 0; j < DIM; j++) {
            double want = 0;
            for (int r = 0; r < N; r++) {
                double u = 0;
                for (int s = 0; s <= r; s++)
                    u += t[r * N + s] * gates[s].beta * values[s * DIM + j];
                want += exp(sums[N - 1] - sums[r]) * keys[r * DIM + i] * u;
            }
            cr_assert(fabs(want - state[i * DIM + j]) < 1e-12, "%g, %g", want, state[i * DIM + j]);
        }
}

Test(delta_exact, the_residual_sees_a_wrong_entry)
{
    static double a[N * N], t[N * N];
    draw(0.9);
    delta_matrix(a, keys, gates, N, DIM);
    delta_invert(t, a, N);
    cr_assert(delta_residual(a, t, N) < 1e-13);
    t[5 * N + 2] += 0.25;
    cr_assert(delta_residual(a, t, N) >= 0.25);
    t[5 * N + 2] = NAN;
    cr_assert(isinf(delta_residual(a, t, N)));
}

Test(delta_exact, gates_go_there_and_back)
{
    const double G[] = {-1e-6, -1e-3, -0.5, -4, -25}, BETA[] = {0.01, 0.5, 0.835, 0.999};
    for (int i = 0; i < 20; i++) {
        const struct delta_gate gate =
            delta_gate_of(delta_gate_a(G[i % 5]), delta_gate_b(BETA[i / 5]), 0, 0);
        cr_assert(fabs(gate.g / G[i % 5] - 1) < 1e-9, "%g", gate.g);
        cr_assert(fabs(gate.beta - BETA[i / 5]) < 1e-9);
    }
}

Test(delta_exact, keys_are_as_alike_as_asked)
{
    static double many[512 * 64];
    const double RHO[] = {0, 0.3, 0.8, 1};
    for (int i = 0; i < 4; i++) {
        uint64_t random = 1;
        keys_draw(many, 512, 64, RHO[i], &random);
        cr_assert(fabs(delta_mean_cosine(many, 512, 64) - RHO[i]) < 0.03);
    }
}

Test(delta_exact, row_sums_of_equal_keys)
{
    static double a[N * N];
    for (int i = 0; i < N; i++) {
        gates[i] = (struct delta_gate){0, 1};
        memset(keys + i * DIM, 0, DIM * sizeof *keys);
        keys[i * DIM] = 1;
    }
    delta_matrix(a, keys, gates, N, DIM);
    cr_assert(fabs(delta_row_sum(a, N) - (N - 1)) < 1e-12);
}
