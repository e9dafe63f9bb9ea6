// smallgemm_avx2.c - the small product for AVX2.
#include "smallgemm_tile.h"
