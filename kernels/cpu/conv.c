// conv.c - causal depthwise convolution of width 4 and SiLU over the q, k, v channels.
// Computes: y[t][ch] = SiLU(sum_j w[ch][j] x[t - 3 + j][ch]); columns before the span from its slot.
// Bound by: memory, x read once (its last rows from cache), y written once, one exp a value.
#include <string.h>

#include "cpu.h"
#include "expf.h"

enum { PAST = CONV_WIDTH - 1 };

// x[t - back] of a span: its own rows, then the slot's columns (zero at the start of a sequence).
static const float *column(const struct conv_args *a, const struct span *s, const float *zero,
                           int t)
{
    const size_t n = (size_t)a->channels;
    if (t >= 0)
        return (const float *)a->x + (size_t)(s->t0 + t) * n;
    if (s->pos0 == 0)
        return zero;
    return a->state + ((size_t)s->slot * PAST + (size_t)(PAST + t)) * n;
}

static void conv_row(const struct conv_args *a, const struct span *s, const float *zero, int t)
{
    const float *x[CONV_WIDTH];
    float *y = (float *)a->y + (size_t)(s->t0 + t) * (size_t)a->channels;
    for (int j = 0; j < CONV_WIDTH; j++)
        x[j] = column(a, s, zero, t - PAST + j);
    for (int ch = 0; ch < a->channels; ch++) {
        const float *w = a->w + (size_t)ch * CONV_WIDTH;
        float v = w[0] * x[0][ch] + w[1] * x[1][ch] + w[2] * x[2][ch] + w[3] * x[3][ch];
        y[ch] = v / (1.0f + expf_fast(-v));
    }
}

// The slot is left holding the span's last columns; oldest first, so a short span shifts the old ones.
static void keep_columns(const struct conv_args *a, const struct span *s)
{
    const size_t n = (size_t)a->channels;
    float *state = a->state + (size_t)s->slot * PAST * n;
    for (int j = 0; j < PAST; j++) {
        int t = s->t - PAST + j;
        if (t >= 0)
            memcpy(state + (size_t)j * n, (const float *)a->x + (size_t)(s->t0 + t) * n,
                   n * sizeof(float));
        else if (s->pos0 == 0)
            memset(state + (size_t)j * n, 0, n * sizeof(float));
        else
            memmove(state + (size_t)j * n, state + (size_t)(PAST + t) * n, n * sizeof(float));
    }
}

void cpu_conv(struct dev *dev, const struct conv_args *a)
{
    const int threads = cpu_of(dev)->threads;
    (void)threads; // without OpenMP
    float *zero = cpu_scratch(dev, 0, (size_t)a->channels * sizeof(float));
    if (!zero)
        return;
    memset(zero, 0, (size_t)a->channels * sizeof(float));
    for (int i = 0; i < a->batch.n_spans; i++) {
        const struct span *s = &a->batch.spans[i];
#pragma omp parallel for num_threads(threads) if (s->t > 4) schedule(static)
        for (int t = 0; t < s->t; t++)
            conv_row(a, s, zero, t);
        if (s->save_t)
            keep_columns(a, &(struct span){.t0 = s->t0, .t = s->save_t, .slot = s->save_slot});
        keep_columns(a, s);
    }
}
