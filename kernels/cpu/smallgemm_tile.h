// smallgemm_tile.h - the product by tiles whose sums stay in registers. Included once by
// smallgemm_avx2.c and smallgemm_avx512.c, which define TILE_ROWS; a tile is that many rows by
// TILE_COLS vectors.
//
// Bound by: multiply-adds. A tile of R x 2 vectors needs 2 + R loads for 2 R multiply-adds, and
// 2 R independent sums cover the latency of one.
#include "smallgemm.h"
#include "smallgemm_vec.h"

enum { TILE_COLS = 2 };

static inline __attribute__((always_inline)) void tile(const struct smallgemm *g, int i, int j,
                                                       const int rows, const int cols)
{
    vec sum[TILE_ROWS][TILE_COLS];
    float *c = g->c + (long)i * g->ldc + j;
    const float keep = g->negative ? -g->keep : g->keep;
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
    for (int q = 0; q < cols; q++)
        sum[r][q] = keep != 0 ? vec_mul(vec_set(keep), vec_load(c + (long)r * g->ldc + q * VEC))
                              : vec_zero();

    const float *a = g->a + (long)i * g->lda, *b = g->b + j;
    const int k_end = g->a_lower && i + rows < g->k ? i + rows : g->k;
    for (int k = 0; k < k_end; k++, b += g->ldb) {
        vec x[TILE_COLS];
        UNROLL
        for (int q = 0; q < cols; q++)
            x[q] = vec_load(b + q * VEC);
        UNROLL
        for (int r = 0; r < rows; r++) {
            const vec y = vec_set(a[(long)r * g->lda + k]);
            UNROLL
            for (int q = 0; q < cols; q++)
                sum[r][q] = vec_fma(y, x[q], sum[r][q]);
        }
    }

    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
    for (int q = 0; q < cols; q++) {
        const vec s = g->negative ? vec_sub(vec_zero(), sum[r][q]) : sum[r][q];
        vec_store(c + (long)r * g->ldc + q * VEC, s);
    }
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
