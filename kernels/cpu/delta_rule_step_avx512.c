// delta_rule_step_avx512.c - the decode step for AVX-512: 64 columns at a time.
enum { STEP_COLS = 4 };
#include "delta_rule_step_body.h"
