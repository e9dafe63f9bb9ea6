// smallgemm_avx512.c - the small product for AVX-512. 8 rows divide every chunk size.
enum { TILE_ROWS = 8 };
#include "smallgemm_tile.h"
