// smallgemm_tile.h - the product by tiles whose sums stay in registers. Included once by
// smallgemm_avx2.c and smallgemm_avx512.c.
//
// Bound by: multiply-adds. A tile of 6 x 2 vectors has 12 independent sums, which cover the latency of
// two units, needs 8 loads for 12 multiply-adds, and fits the 16 registers of AVX2.
// Measured: 64 x 128 x 128: 110 GFLOP/s with AVX-512, 107 with AVX2, of 116 the core can do
// (ops_check perf delta_rule 1 prints the ceiling); one core of an AMD EPYC, 2026-11-23.
#include "smallgemm.h"
#include "smallgemm_vec.h"

enum { TILE_ROWS = 6, TILE_COLS = 2 };

// One flat loop over the sums, row by row: both compilers unroll that, and not always a nest.
static inline __attribute__((always_inline)) void tile(const struct smallgemm *g, int i, int j,
                                                       const int rows, const int cols)
{
    vec sum[TILE_ROWS * TILE_COLS];
    float *c = g->c + (long)i * g->ldc + j;
    UNROLL
    for (int s = 0; s < rows * cols; s++)
        sum[s] = vec_zero();
    if (g->keep != 0) {
        const vec keep = vec_set(g->negative ? -g->keep : g->keep);
        UNROLL
        for (int s = 0; s < rows * cols; s++)
            sum[s] = vec_mul(keep, vec_load(c + (long)(s / cols) * g->ldc + s % cols * VEC));
    }

    const float *a = g->a + (long)i * g->lda, *b = g->b + j;
    const int k_end = g->a_lower && i + rows < g->k ? i + rows : g->k;
    for (int k = 0; k < k_end; k++, b += g->ldb) {
        UNROLL
        for (int s = 0; s < rows * cols; s++)
            sum[s] = vec_fma(vec_set(a[(long)(s / cols) * g->lda + k]),
                             vec_load(b + s % cols * VEC), sum[s]);
    }

    const vec sign = vec_set(g->negative ? -1.0f : 1.0f);
    UNROLL
    for (int s = 0; s < rows * cols; s++)
        vec_store(c + (long)(s / cols) * g->ldc + s % cols * VEC, vec_mul(sign, sum[s]));
}

// All columns of `rows` rows.
static inline __attribute__((always_inline)) void strip(const struct smallgemm *g, int i,
                                                        const int rows)
{
    const int n = g->c_lower && i + rows < g->n ? i + rows : g->n;
    int j = 0;
    for (; j + TILE_COLS * VEC <= g->n && j < n; j += TILE_COLS * VEC)
        tile(g, i, j, rows, TILE_COLS);
    for (; j < n; j += VEC)
        tile(g, i, j, rows, 1);
}

void ISA_NAME(smallgemm)(const struct smallgemm *g)
{
    int i = 0;
    for (; i + TILE_ROWS <= g->m; i += TILE_ROWS)
        strip(g, i, TILE_ROWS);
    if (i + 4 <= g->m) {
        strip(g, i, 4);
        i += 4;
    }
    for (; i < g->m; i++)
        strip(g, i, 1);
}
