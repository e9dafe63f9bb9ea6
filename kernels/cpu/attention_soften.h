// attention_soften.h - the online softmax of one row and one page, for attention.c and, compiled for
// their instruction sets, attention_avx2.c and attention_avx512.c.
//
// Maxima and sums run in 16 lanes that are then halved, in plain C, so that every compiler and
// instruction set makes vectors of them and all of them add in one order.
#ifndef ATTENTION_SOFTEN_H
#define ATTENTION_SOFTEN_H

#include <float.h>

#include "expf.h"
#include "ops.h"

struct attention_row {
    float *score;        // [PAGE_TOKENS] in: scores; out: weights, 0 where the row may not look
    float *o;            // [head_dim] sums so far, rescaled to the new maximum
    float *most, *total; // maximum and sum of weights so far
    int seen;            // keys of the page the row may look at; 0: nothing changes
    int head_dim;
};

void attention_soften_avx2(const struct attention_row *r);
void attention_soften_avx512(const struct attention_row *r);

enum { SOFTEN_LANES = 16 };

static inline float soften_largest(const float *s, float most)
{
    float m[SOFTEN_LANES];
    for (int l = 0; l < SOFTEN_LANES; l++)
        m[l] = most;
    for (int j = 0; j < PAGE_TOKENS; j += SOFTEN_LANES)
        for (int l = 0; l < SOFTEN_LANES; l++)
            m[l] = s[j + l] > m[l] ? s[j + l] : m[l];
    for (int half = SOFTEN_LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++)
            m[l] = m[half + l] > m[l] ? m[half + l] : m[l];
    return m[0];
}

static inline float soften_sum(const float *s)
{
    float m[SOFTEN_LANES] = {0};
    for (int j = 0; j < PAGE_TOKENS; j += SOFTEN_LANES)
        for (int l = 0; l < SOFTEN_LANES; l++)
            m[l] += s[j + l];
    for (int half = SOFTEN_LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++)
            m[l] += m[half + l];
    return m[0];
}

static inline void soften_row(const struct attention_row *r)
{
    float *s = r->score;
    for (int j = r->seen; j < PAGE_TOKENS; j++)
        s[j] = r->seen ? -FLT_MAX : 0; // also over whatever an unwritten key gave
    if (!r->seen)
        return;
    const float most = soften_largest(s, *r->most), fade = expf_fast(*r->most - most);
    for (int j = 0; j < PAGE_TOKENS; j++)
        s[j] = expf_fast(s[j] - most);
    for (int j = r->seen; j < PAGE_TOKENS; j++)
        s[j] = 0;
    *r->total = *r->total * fade + soften_sum(s);
    *r->most = most;
    if (fade != 1.0f)
        for (int i = 0; i < r->head_dim; i++)
            r->o[i] *= fade;
}

#endif
