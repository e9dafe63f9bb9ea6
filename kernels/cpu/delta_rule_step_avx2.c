// delta_rule_step_avx2.c - the decode step for AVX2: 32 columns at a time.
enum { STEP_COLS = 4 };
#include "delta_rule_step_body.h"
