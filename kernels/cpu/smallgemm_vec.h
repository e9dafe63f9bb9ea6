// smallgemm_vec.h - the vector of the instruction set that a file is compiled for, under one set of
// names, so that one body serves *_avx2.c and *_avx512.c. Included by those files only.
#ifndef SMALLGEMM_VEC_H
#define SMALLGEMM_VEC_H

#include <immintrin.h>

#ifdef __AVX512F__
typedef __m512 vec;
enum { VEC = 16 }; // floats
#define ISA_NAME(name) name##_avx512
#define vec_load _mm512_loadu_ps
#define vec_store _mm512_storeu_ps
#define vec_set _mm512_set1_ps
#define vec_zero _mm512_setzero_ps
#define vec_fma _mm512_fmadd_ps   // a b + c
#define vec_fnma _mm512_fnmadd_ps // c - a b
#define vec_mul _mm512_mul_ps
#define vec_add _mm512_add_ps
#define vec_sub _mm512_sub_ps
#define vec_max _mm512_max_ps
// x 2^n for integral n, flushing to zero far below
#define vec_scale _mm512_scalef_ps
#define vec_round(x) _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vec_sum _mm512_reduce_add_ps
#else
typedef __m256 vec;
enum { VEC = 8 };
#define ISA_NAME(name) name##_avx2
#define vec_load _mm256_loadu_ps
#define vec_store _mm256_storeu_ps
#define vec_set _mm256_set1_ps
#define vec_zero _mm256_setzero_ps
#define vec_fma _mm256_fmadd_ps
#define vec_fnma _mm256_fnmadd_ps
#define vec_mul _mm256_mul_ps
#define vec_add _mm256_add_ps
#define vec_sub _mm256_sub_ps
#define vec_max _mm256_max_ps
#define vec_round(x) _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

static inline __m256 vec_scale(__m256 x, __m256 n)
{
    __m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), e));
}

static inline float vec_sum(__m256 x)
{
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}
#endif

// Loops over a tile's rows and columns must disappear, or its sums live in memory.
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#endif
