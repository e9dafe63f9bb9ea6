// delta_rule_step_body.h - one token of one head by vectors. Included once by delta_rule_step_avx2.c
// and delta_rule_step_avx512.c, which define STEP_COLS.
//
// The columns of the state do not know of each other, so a block of STEP_COLS vectors goes through
// both passes before the next: the second pass then reads what the first left in the nearest cache.
// Bound by: memory, k_dim * v_dim * 4 bytes read and written; by arithmetic while states stay in cache.
// Measured: 4 sequences of 16 heads of 128 x 128: 118 us on one thread with AVX-512, 72 GB/s, 1.66 of
// the floor. `ops_check perf delta_rule 1`, one core of an AMD EPYC, 2026-11-23.
#include "delta_rule.h"
#include "smallgemm_vec.h"

static inline __attribute__((always_inline)) void step_columns(const struct delta_step *d, int j,
                                                               const int cols)
{
    const vec decay = vec_set(d->decay);
    vec sum[2 * STEP_COLS], u[STEP_COLS], o[STEP_COLS];
    UNROLL
    for (int c = 0; c < cols; c++)
        sum[c] = sum[cols + c] = o[c] = vec_zero();

    float *s = d->s + j;
    // Two sums a column, of even and of odd rows: one would wait for itself.
    for (int i = 0; i < d->k_dim; i += 2, s += 2L * d->v_dim) {
        UNROLL
        for (int c = 0; c < 2 * cols; c++)
            sum[c] = vec_fma(vec_set(d->k[i + c / cols]),
                             vec_load(s + (long)(c / cols) * d->v_dim + c % cols * VEC), sum[c]);
    }
    UNROLL
    for (int c = 0; c < cols; c++) {
        const vec m = vec_mul(decay, vec_add(sum[c], sum[cols + c]));
        u[c] = vec_mul(vec_set(d->beta), vec_sub(vec_load(d->v + j + c * VEC), m));
    }

    s = d->s + j;
    for (int i = 0; i < d->k_dim; i++, s += d->v_dim) {
        const vec k = vec_set(d->k[i]), q = vec_set(d->q[i]);
        UNROLL
        for (int c = 0; c < cols; c++) {
            const vec x = vec_fma(k, u[c], vec_mul(decay, vec_load(s + c * VEC)));
            vec_store(s + c * VEC, x);
            o[c] = vec_fma(q, x, o[c]);
        }
    }
    UNROLL
    for (int c = 0; c < cols; c++)
        vec_store(d->o + j + c * VEC, o[c]);
}

void ISA_NAME(delta_step)(const struct delta_step *d)
{
    int j = 0;
    for (; j + STEP_COLS * VEC <= d->v_dim; j += STEP_COLS * VEC)
        step_columns(d, j, STEP_COLS);
    for (; j < d->v_dim; j += VEC)
        step_columns(d, j, 1);
}
