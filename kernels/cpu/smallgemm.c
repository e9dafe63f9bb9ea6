// smallgemm.c - the plain product, which defines it, and the choice of a faster one.
#include "smallgemm.h"

enum { COLS_MAX = 256 };

void smallgemm_base(const struct smallgemm *g)
{
    const float sign = g->negative ? -1.0f : 1.0f;
    for (int i = 0; i < g->m; i++) {
        float *c = g->c + (long)i * g->ldc;
        float sum[COLS_MAX];
        for (int j = 0; j < g->n; j++)
            sum[j] = g->keep != 0 ? g->keep * c[j] : 0.0f;
        const int k_end = g->a_lower && i + 1 < g->k ? i + 1 : g->k;
        for (int k = 0; k < k_end; k++) {
            const float a = sign * g->a[(long)i * g->lda + k];
            const float *b = g->b + (long)k * g->ldb;
            for (int j = 0; j < g->n; j++)
                sum[j] += a * b[j];
        }
        for (int j = 0; j < g->n; j++)
            c[j] = sum[j];
    }
}

void smallgemm(enum cpu_isa isa, const struct smallgemm *g)
{
    switch (isa) {
    case CPU_BASE:
        smallgemm_base(g);
        break;
    case CPU_AVX2:
        smallgemm_avx2(g);
        break;
    case CPU_AVX512:
        smallgemm_avx512(g);
        break;
    }
}
