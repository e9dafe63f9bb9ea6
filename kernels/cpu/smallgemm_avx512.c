// smallgemm_avx512.c - the small product for AVX-512.
#include "smallgemm_tile.h"
