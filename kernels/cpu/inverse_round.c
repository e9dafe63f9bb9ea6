// inverse_round.c - float32 values rounded to tf32, bf16 and fp16; fixed point in two int8 planes.
#include "inverse_round.h"

#include <math.h>

#include "half_value.h"

// Keeps 23 - drop bits of the mantissa. Infinity and NaN are kept whole: the carry would spoil them.
static inline float keep_bits(float x, int drop)
{
    const uint32_t u = half_bits_of(x), half = (1u << (drop - 1)) - 1;
    const uint32_t rounded = (u + half + ((u >> drop) & 1)) & ~((1u << drop) - 1);
    return half_float_of((u & 0x7f800000u) == 0x7f800000u ? u : rounded);
}

// fp16: 10 bits of mantissa, subnormal below 2^-14 with steps of 2^-24, infinite from 65520.
static inline float round_fp16(float x)
{
    const float size = fabsf(x);
    const float fine = (size + 0.75f) - 0.75f; // floats from 0.5 to 1 are 2^-24 apart
    float r = size < 0x1p-14f ? fine : keep_bits(size, 13);
    r = size >= 65520.0f ? INFINITY : r;
    return copysignf(r, x);
}

void inverse_round(float *x, size_t n, enum inverse_type type)
{
    switch (type) {
    case INVERSE_TF32:
        for (size_t i = 0; i < n; i++)
            x[i] = keep_bits(x[i], 13);
        break;
    case INVERSE_BF16:
        for (size_t i = 0; i < n; i++)
            x[i] = keep_bits(x[i], 16);
        break;
    case INVERSE_FP16:
        for (size_t i = 0; i < n; i++)
            x[i] = round_fp16(x[i]);
        break;
    case INVERSE_FP32:
    case INVERSE_INT8:
        break;
    }
}

// Nearest step of 2^-14, ties to even, clamped to the range; *lost counts what the clamp changed. No
// call and no branch, so that loops over it become vectors.
static inline int fixed(float x, int *lost)
{
    const float max = (float)INVERSE_INT8_MAX, round = 12582912.0f; // 1.5 * 2^23: its step is 1
    const float scaled = x * (float)(1 << INVERSE_INT8_SHIFT);
    float c = scaled < max ? scaled : max;
    c = c > -max ? c : -max;
    c = scaled == scaled ? c : 0.0f;
    *lost += c != scaled;
    return (int)((c + round) - round);
}

int inverse_split(struct inverse_planes p, const float *x, int ldx, int rows, int cols)
{
    int lost = 0;
    for (int i = 0; i < rows; i++) {
        int8_t *high = p.high + (long)i * p.ld, *low = p.low + (long)i * p.ld;
        for (int j = 0; j < cols; j++) {
            const int q = fixed(x[(long)i * ldx + j], &lost);
            const int h = (q + 128) >> 8; // so that low is within -128 .. 127
            high[j] = (int8_t)h;
            low[j] = (int8_t)(q - h * 256);
        }
    }
    return lost;
}

// sum[j] += a b[j]; the product of two int8 fits 16 bits, in which every processor multiplies vectors.
static inline void add_plane(int32_t *restrict sum, int a, const int8_t *restrict b, int n)
{
    for (int j = 0; j < n; j++)
        sum[j] += (int16_t)(a * b[j]);
}

int inverse_product_int8(const struct smallgemm *g, struct inverse_planes a,
                         struct inverse_planes b)
{
    enum { COLS_MAX = INVERSE_CHUNK_MAX };
    const float unit = 1.0f / (1 << INVERSE_INT8_SHIFT), sign = g->negative ? -unit : unit;
    int lost = 0;
    for (int i = 0; i < g->m; i++) {
        // Largest sum: 128 products of at most 2^14, two of them in `middle`: 2^22.
        int32_t high[COLS_MAX] = {0}, middle[COLS_MAX] = {0}, low[COLS_MAX] = {0};
        for (int k = 0; k < g->k; k++) {
            const int ah = a.high[(long)i * a.ld + k], al = a.low[(long)i * a.ld + k];
            add_plane(high, ah, b.high + (long)k * b.ld, g->n);
            add_plane(middle, ah, b.low + (long)k * b.ld, g->n);
            add_plane(middle, al, b.high + (long)k * b.ld, g->n);
            add_plane(low, al, b.low + (long)k * b.ld, g->n);
        }
        float *c = g->c + (long)i * g->ldc;
        for (int j = 0; j < g->n; j++) {
            const int64_t sum = (int64_t)high[j] * 65536 + (int64_t)middle[j] * 256 + low[j];
            const int64_t half = (int64_t)1 << (INVERSE_INT8_SHIFT - 1);
            const float rounded = (float)((sum + half) >> INVERSE_INT8_SHIFT) * sign;
            c[j] = (float)fixed((g->keep != 0 ? c[j] : 0.0f) + rounded, &lost) * unit;
        }
    }
    return lost;
}
