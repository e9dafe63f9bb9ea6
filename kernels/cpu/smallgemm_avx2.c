// smallgemm_avx2.c - the small product for AVX2. Its 16 registers hold 6 x 2 sums, 2 of b, 1 of a.
enum { TILE_ROWS = 6 };
#include "smallgemm_tile.h"
