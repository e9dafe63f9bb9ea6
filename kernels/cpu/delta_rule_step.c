// delta_rule_step.c - one token of one head as ops.h writes it: the definition of the recurrence, and
// the choice of a faster body.
#include "delta_rule.h"

void delta_step_base(const struct delta_step *d)
{
    float u[DELTA_DIM_MAX] = {0}; // first s^T k, then beta (v - s^T k)
    for (int i = 0; i < d->k_dim; i++) {
        float *row = d->s + (long)i * d->v_dim;
        for (int j = 0; j < d->v_dim; j++) {
            row[j] *= d->decay;
            u[j] += row[j] * d->k[i];
        }
    }
    for (int j = 0; j < d->v_dim; j++) {
        u[j] = d->beta * (d->v[j] - u[j]);
        d->o[j] = 0;
    }
    for (int i = 0; i < d->k_dim; i++) {
        float *row = d->s + (long)i * d->v_dim;
        for (int j = 0; j < d->v_dim; j++) {
            row[j] += d->k[i] * u[j];
            d->o[j] += row[j] * d->q[i];
        }
    }
}

void delta_step(enum cpu_isa isa, const struct delta_step *d)
{
    switch (isa) {
    case CPU_BASE:
        delta_step_base(d);
        break;
    case CPU_AVX2:
        delta_step_avx2(d);
        break;
    case CPU_AVX512:
        delta_step_avx512(d);
        break;
    }
}
