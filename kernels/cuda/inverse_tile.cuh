// inverse_tile.cuh - the product of 16 x 16 tiles that the inversion is made of, in each of its types.
//
// Tiles are float32 in shared memory; operands are rounded on their way into registers, sums are
// float32 (int32 for int8). A warp makes a tile, on the tensor cores (mma.sync, every chip from sm_80 on).
// fp32 has no such instruction: it is ordinary multiply-adds, and where speed counts TRI_SPLIT_FP32, three
// products of tf32: x = high + low, high to 11 bits and low to the 11 after them, low by low left out.
#ifndef INVERSE_TILE_CUH
#define INVERSE_TILE_CUH

#include "ops_cuda.cuh"
#include "ptx.cuh"

// A way to multiply beside those of inverse_type.
static constexpr int TRI_SPLIT_FP32 = INVERSE_INT8 + 1;

// What a thread saw of the products it took part in; see inverse_report.
struct tri_seen {
    float value_max;
    int lost; // integers that left their range
};

__device__ __forceinline__ int tri_lane()
{
    return threadIdx.x % 32;
}

// The entries of a tile that a thread holds.
static constexpr int TILE_VALUES = 8;

__device__ __forceinline__ int tile_row(int e)
{
    return tri_lane() / 4 + (e >> 1 & 1) * 8;
}
__device__ __forceinline__ int tile_col(int e)
{
    return tri_lane() % 4 * 2 + (e & 1) + (e >> 2) * 8;
}

template <int TYPE> struct tile_sum {
    float v[TILE_VALUES];
};
// High by high, the two mixed products together, low by low.
template <> struct tile_sum<INVERSE_INT8> {
    int high[TILE_VALUES], middle[TILE_VALUES], low[TILE_VALUES];
};

// One number as an operand of the type, in float32.
template <int TYPE> __device__ __forceinline__ float tri_round(float x)
{
    if constexpr (TYPE == INVERSE_TF32)
        return __uint_as_float(cvt_rna_tf32(x));
    else if constexpr (TYPE == INVERSE_FP16)
        return __half2float(__float2half_rn(x));
    else if constexpr (TYPE == INVERSE_BF16)
        return __bfloat162float(__float2bfloat16_rn(x));
    else
        return x;
}

// The sums of columns 8 h .. 8 h + 7: what one instruction makes.
template <typename T> __device__ __forceinline__ T (&tri_half(T *sums, int h))[4]
{
    return *(T(*)[4])(sums + 4 * h);
}

// Two numbers as operands of a 16-bit type.
template <int TYPE> __device__ __forceinline__ uint32_t tri_pack(float low, float high)
{
    return TYPE == INVERSE_FP16 ? cvt_f16x2(low, high) : cvt_bf16x2(low, high);
}
template <int TYPE>
__device__ __forceinline__ void tri_mma_16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                           uint32_t b1)
{
    mma_m16n8k16<std::conditional_t<TYPE == INVERSE_FP16, f16, bf16>>(d, a, b0, b1);
}

// int8: the fixed point of inverse.h, 2^-14 a step, held as 256 high + low.
static constexpr int TRI_SHIFT = 14, TRI_FIXED_MAX = 127 * 256 + 127;

// Nearest step, ties to even, clamped; counts what the clamp changed. NaN counts and becomes 0.
__device__ __forceinline__ int tri_fixed(float x, int &lost)
{
    const float scaled = x * (float)(1 << TRI_SHIFT), max = (float)TRI_FIXED_MAX;
    const float c = scaled == scaled ? fminf(fmaxf(scaled, -max), max) : 0.0f;
    lost += c != scaled;
    return __float2int_rn(c);
}

// Four numbers to four bytes in each plane. Low is within -128 .. 127.
__device__ __forceinline__ void tri_split(const float *x, uint32_t &high, uint32_t &low, int &lost)
{
    high = low = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int q = tri_fixed(x[i], lost), h = (q + 128) >> 8;
        high |= (uint32_t)(h & 255) << 8 * i;
        low |= (uint32_t)((q - h * 256) & 255) << 8 * i;
    }
}

// Sums put together and rounded once, ties up, back to 2^-14; added to `keep` and rounded again.
__device__ __forceinline__ float tri_join(int high, int middle, int low, float keep, float sign,
                                          int &lost)
{
    const float unit = 1.0f / (1 << TRI_SHIFT);
    const long long sum = (long long)high * 65536 + (long long)middle * 256 + low;
    const float rounded = (float)((sum + (1 << (TRI_SHIFT - 1))) >> TRI_SHIFT) * unit * sign;
    return (float)tri_fixed(keep + rounded, lost) * unit;
}

// x = high + low. What low loses by being cut to tf32 is 2^-22 of x. A NaN stays in low.
__device__ __forceinline__ void tri_split_fp32(float x, uint32_t &high, uint32_t &low)
{
    high = (__float_as_uint(x) + 0x1000u) & ~0x1fffu;
    low = __float_as_uint(x - __uint_as_float(high));
}

// d += a b, 8 deep, for operands in two parts; the small products first.
__device__ __forceinline__ void tri_mma_fp32(float (&d)[4], const uint32_t (&high)[4],
                                             const uint32_t (&low)[4], const float *b)
{
    uint32_t b_high[2], b_low[2];
    tri_split_fp32(b[0], b_high[0], b_low[0]);
    tri_split_fp32(b[1], b_high[1], b_low[1]);
    mma_m16n8k8_tf32(d, low, b_high[0], b_high[1]);
    mma_m16n8k8_tf32(d, high, b_low[0], b_low[1]);
    mma_m16n8k8_tf32(d, high, b_high[0], b_high[1]);
}

// sum += a b for tiles with rows ld apart. The sixteen k may be taken in any order that a and b share: in
// one that makes a's neighbours.
template <int TYPE>
__device__ __forceinline__ void tile_add(tile_sum<TYPE> &sum, const float *a, int lda,
                                         const float *b, int ldb, tri_seen &seen)
{
    const int g = tri_lane() / 4, t = tri_lane() % 4;
    if constexpr (TYPE == INVERSE_FP32) {
#pragma unroll
        for (int k = 0; k < 16; k += 4) {
            const float4 rows[2] = {*(const float4 *)(a + g * lda + k),
                                    *(const float4 *)(a + (g + 8) * lda + k)};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *p = b + (k + i) * ldb + 2 * t;
                const float2 columns[2] = {*(const float2 *)p, *(const float2 *)(p + 8)};
#pragma unroll
                for (int e = 0; e < TILE_VALUES; e++)
                    sum.v[e] += (&rows[e >> 1 & 1].x)[i] * (&columns[e >> 2].x)[e & 1];
            }
        }
    } else if constexpr (TYPE == TRI_SPLIT_FP32) {
#pragma unroll
        for (int k = 0; k < 16; k += 8) {
            const float2 x = *(const float2 *)(a + g * lda + k + 2 * t);
            const float2 y = *(const float2 *)(a + (g + 8) * lda + k + 2 * t);
            uint32_t high[4], low[4];
            tri_split_fp32(x.x, high[0], low[0]);
            tri_split_fp32(y.x, high[1], low[1]);
            tri_split_fp32(x.y, high[2], low[2]);
            tri_split_fp32(y.y, high[3], low[3]);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float *p = b + (k + 2 * t) * ldb + g + 8 * h;
                const float column[2] = {p[0], p[ldb]};
                tri_mma_fp32(tri_half(sum.v, h), high, low, column);
            }
        }
    } else if constexpr (TYPE == INVERSE_TF32) {
#pragma unroll
        for (int k = 0; k < 16; k += 8) {
            const float2 x = *(const float2 *)(a + g * lda + k + 2 * t);
            const float2 y = *(const float2 *)(a + (g + 8) * lda + k + 2 * t);
            const uint32_t left[4] = {cvt_rna_tf32(x.x), cvt_rna_tf32(y.x), cvt_rna_tf32(x.y),
                                      cvt_rna_tf32(y.y)};
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float *p = b + (k + 2 * t) * ldb + g + 8 * h;
                mma_m16n8k8_tf32(tri_half(sum.v, h), left, cvt_rna_tf32(p[0]),
                                 cvt_rna_tf32(p[ldb]));
            }
        }
    } else if constexpr (TYPE == INVERSE_INT8) {
        uint32_t left[4], high, low; // high planes of rows g and g + 8, then their low ones
        tri_split(a + g * lda + 4 * t, left[0], left[2], seen.lost);
        tri_split(a + (g + 8) * lda + 4 * t, left[1], left[3], seen.lost);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float *p = b + 4 * t * ldb + g + 8 * h;
            const float column[4] = {p[0], p[ldb], p[2 * ldb], p[3 * ldb]};
            tri_split(column, high, low, seen.lost);
            mma_m16n8k16_s8(tri_half(sum.high, h), left, high);
            mma_m16n8k32_s8(tri_half(sum.middle, h), left, low, high);
            mma_m16n8k16_s8(tri_half(sum.low, h), left + 2, low);
        }
    } else {
        uint32_t left[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 x = *(const float2 *)(a + (g + (i & 1) * 8) * lda + 2 * t + (i >> 1) * 8);
            left[i] = tri_pack<TYPE>(x.x, x.y);
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float *p = b + 2 * t * ldb + g + 8 * h, *q = p + 8 * ldb;
            tri_mma_16<TYPE>(tri_half(sum.v, h), left, tri_pack<TYPE>(p[0], p[ldb]),
                             tri_pack<TYPE>(q[0], q[ldb]));
        }
    }
}

// The entry e of keep + sign * sum, as the type leaves it.
template <int TYPE>
__device__ __forceinline__ float tile_value(const tile_sum<TYPE> &sum, int e, float keep,
                                            float sign, tri_seen &seen)
{
    float x;
    if constexpr (TYPE == INVERSE_INT8)
        x = tri_join(sum.high[e], sum.middle[e], sum.low[e], keep, sign, seen.lost);
    else
        x = keep + sign * sum.v[e];
    seen.value_max = fmaxf(seen.value_max, fabsf(x));
    return x;
}

#endif
