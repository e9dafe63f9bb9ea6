// linear_matrix_avx2.c - the matrix path of our own: float32 multiply-adds for F32 and BF16, int16 pairs
// (vpmaddwd) for INT8.
// Bound by: multiply-adds.
//
// x and W are repacked into words of four bytes, a float32 or two neighbours of a row as int16, so that
// a tile of 6 x 16 sums in registers reads both front to back: x once a call, W a block of K_BLOCK words
// of 64 of its rows at a time, which stays in the second-level cache while all rows of x pass.
//
// Every sum is: the words of a block added in the order of k, then the blocks in their order. That is
// the same for every row wherever it stands, so tiles, threads and cuts do not show in the bits. INT8
// sums are int32 and exact.
// Measured, 512 rows, one core, GFLOP/s, ours | oneDNN alone with packed weights (its int8 product
// saturates, it has no bf16 here and its float32 stands in): 1024 x 384 f32 90 | 92, bf16 89 | 90,
// int8 141 | 137; 4096 x 1024 f32 91 | 89, bf16 91 | 85, int8 140 | 118; 1024 x 4096 f32 88 | 91,
// bf16 85 | 90, int8 136 | 140. The core does 103 in float32. Two cores, 1024 x 4096: f32 177 | 178, bf16
// 177 | 173, int8 275 | 270. AMD EPYC (Zen 3), 2026-11-24: ops_check perf linear 1, perf linear.
#include <immintrin.h>
#include <string.h>

#include "half.h"
#include "linear.h"

#define INLINE static inline __attribute__((always_inline))
// Loops over a tile must disappear, or its sums live in memory.
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    TILE_ROWS = LINEAR_GROUP,
    TILE_COLS = 16,
    K_BLOCK = LINEAR_PANEL / LINEAR_STRIP,
    ROW_BLOCK = 16 * TILE_ROWS, // rows of x that stay in cache beside the packed weights
};

// A word's bytes before it is packed.
INLINE size_t word_bytes(enum dtype type)
{
    return type == DTYPE_F32 ? 4 : 2;
}

// half_bf16 and back.
INLINE __m256 round8(__m256 v)
{
    const __m256i bits = _mm256_castps_si256(v), one = _mm256_set1_epi32(1);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
    const __m256i r = _mm256_blendv_epi8(up, quiet, _mm256_castps_si256(nan));
    return _mm256_castsi256_ps(_mm256_and_si256(r, _mm256_set1_epi32((int)0xffff0000)));
}

// Eight words at p.
INLINE __m256 load8(enum dtype type, bool round, const uint8_t *p)
{
    if (type == DTYPE_F32) {
        const __m256 v = _mm256_loadu_ps((const float *)(const void *)p);
        return round ? round8(v) : v;
    }
    const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    if (type == DTYPE_INT8)
        return _mm256_castsi256_ps(_mm256_cvtepi8_epi16(h));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

// One word at p; half of a pair when a row of INT8 ends there.
INLINE float load1(enum dtype type, bool round, const uint8_t *p, bool half)
{
    float word;
    if (type == DTYPE_F32) {
        memcpy(&word, p, sizeof word);
        if (round)
            word = half_bf16_value(half_bf16(word));
    } else if (type == DTYPE_BF16) {
        half_from_bf16(&word, p, 1);
    } else {
        const int16_t pair[2] = {(int8_t)p[0], half ? 0 : (int8_t)p[1]};
        memcpy(&word, pair, sizeof word);
    }
    return word;
}

INLINE void transpose8(__m256 v[8])
{
    __m256 a[8], b[8];
    UNROLL
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
            b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0xee);
        }
    UNROLL
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        v[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

// What is packed: `rows` rows of k values, ld bytes apart; zeros in place of rows that are missing.
struct source {
    const uint8_t *from;
    size_t ld;
    int rows, k;
    bool round; // F32 to bf16 values
};

// to[word][width] of the rows row0 .. row0 + 7 of a width; the last of them may be fewer.
INLINE void pack8(float *to, const struct source *s, enum dtype type, int row0, int width)
{
    const size_t size = word_bytes(type), ld = s->ld;
    const uint8_t *from = s->from + (size_t)row0 * ld;
    const int rows = s->rows - row0, lanes = width - row0 < 8 ? width - row0 : 8;
    const int whole = type == DTYPE_INT8 ? s->k / 2 : s->k;
    const bool half = type == DTYPE_INT8 && s->k % 2;
    int i = 0;
    to += row0;
    for (; i + 8 <= whole; i += 8) {
        __m256 v[8];
        UNROLL
        for (int r = 0; r < 8; r++)
            v[r] = r < lanes && r < rows
                       ? load8(type, s->round, from + (size_t)r * ld + (size_t)i * size)
                       : _mm256_setzero_ps();
        transpose8(v);
        UNROLL
        for (int j = 0; j < 8; j++, to += width) {
            _mm_storeu_ps(to, _mm256_castps256_ps128(v[j]));
            if (lanes == 8)
                _mm_storeu_ps(to + 4, _mm256_extractf128_ps(v[j], 1));
            else
                _mm_storel_pi((__m64 *)(void *)(to + 4), _mm256_extractf128_ps(v[j], 1));
        }
    }
    for (; i < whole + half; i++, to += width)
        for (int r = 0; r < lanes; r++)
            to[r] = r < rows ? load1(type, s->round, from + (size_t)r * ld + (size_t)i * size,
                                     i == whole)
                             : 0;
}

INLINE void pack(float *to, const struct source *s, enum dtype type, int width)
{
    for (int row0 = 0; row0 < width; row0 += 8)
        pack8(to, s, type, row0, width);
}

void linear_pack_avx2(float *to, const struct linear_x *x, int group)
{
    const size_t ld = (size_t)x->k * dtype_bytes(x->type);
    const int row = group * TILE_ROWS, left = x->rows - row;
    const struct source s = {.from = (const uint8_t *)x->x + (size_t)row * ld,
                             .ld = ld,
                             .rows = left < TILE_ROWS ? left : TILE_ROWS,
                             .k = x->k};
    to += (size_t)row * linear_words(x->type, x->k);
    if (x->round)
        pack(to, &(struct source){s.from, ld, s.rows, s.k, true}, DTYPE_F32, TILE_ROWS);
    else if (x->type == DTYPE_F32)
        pack(to, &s, DTYPE_F32, TILE_ROWS);
    else if (x->type == DTYPE_BF16)
        pack(to, &s, DTYPE_BF16, TILE_ROWS);
    else
        pack(to, &s, DTYPE_INT8, TILE_ROWS);
}

// One block of words for a whole tile of y.
struct tile {
    float *y;
    size_t ldy;
    const float *x, *w;             // [words, TILE_ROWS], [words, TILE_COLS], packed
    const float *x_scale, *w_scale; // [TILE_ROWS], [TILE_COLS]; INT8
    int words;
    bool first, last; // block
};

// The two are functions of their own: inlined into their callers' loops they lose registers.
// y is the blocks' sums so far.
static __attribute__((noinline)) void multiply_float(const struct tile *t)
{
    __m256 sums[2 * TILE_ROWS];
    UNROLL
    for (int s = 0; s < 2 * TILE_ROWS; s++)
        sums[s] = _mm256_setzero_ps();
    const float *x = t->x, *w = t->w;
    for (int i = 0; i < t->words; i++, x += TILE_ROWS, w += TILE_COLS) {
        const __m256 v[2] = {_mm256_load_ps(w), _mm256_load_ps(w + 8)};
        UNROLL
        for (int s = 0; s < 2 * TILE_ROWS; s++)
            sums[s] = _mm256_fmadd_ps(_mm256_broadcast_ss(x + s / 2), v[s % 2], sums[s]);
    }
    UNROLL
    for (int s = 0; s < 2 * TILE_ROWS; s++) {
        float *y = t->y + (size_t)(s / 2) * t->ldy + s % 2 * 8;
        _mm256_storeu_ps(y, t->first ? sums[s] : _mm256_add_ps(_mm256_loadu_ps(y), sums[s]));
    }
}

// y is int32 until the last block, which applies the scales.
static __attribute__((noinline)) void multiply_int8(const struct tile *t)
{
    __m256i sums[2 * TILE_ROWS];
    UNROLL
    for (int s = 0; s < 2 * TILE_ROWS; s++)
        sums[s] = _mm256_setzero_si256();
    const float *x = t->x, *w = t->w;
    for (int i = 0; i < t->words; i++, x += TILE_ROWS, w += TILE_COLS) {
        const __m256i v[2] = {_mm256_load_si256((const __m256i *)(const void *)w),
                              _mm256_load_si256((const __m256i *)(const void *)(w + 8))};
        UNROLL
        for (int s = 0; s < 2 * TILE_ROWS; s++) {
            const __m256i u = _mm256_castps_si256(_mm256_broadcast_ss(x + s / 2));
            sums[s] = _mm256_add_epi32(sums[s], _mm256_madd_epi16(u, v[s % 2]));
        }
    }
    UNROLL
    for (int s = 0; s < 2 * TILE_ROWS; s++) {
        __m256i *y = (void *)(t->y + (size_t)(s / 2) * t->ldy + s % 2 * 8);
        __m256i sum = sums[s];
        if (!t->first)
            sum = _mm256_add_epi32(sum, _mm256_loadu_si256(y));
        if (t->last)
            sum = _mm256_castps_si256(_mm256_mul_ps(
                _mm256_cvtepi32_ps(sum), _mm256_mul_ps(_mm256_set1_ps(t->x_scale[s / 2]),
                                                       _mm256_loadu_ps(t->w_scale + s % 2 * 8))));
        _mm256_storeu_si256(y, sum);
    }
}

// A tile of which only rows x cols are part of y.
static void multiply_edge(struct tile t, bool int8, int rows, int cols)
{
    float *y = t.y, whole[TILE_ROWS * TILE_COLS] = {0}, x_scale[TILE_ROWS] = {0};
    float w_scale[TILE_COLS] = {0};
    const size_t ldy = t.ldy, bytes = (size_t)cols * sizeof *y;
    if (int8) {
        memcpy(x_scale, t.x_scale, (size_t)rows * sizeof *x_scale);
        memcpy(w_scale, t.w_scale, bytes);
    }
    for (int r = 0; r < rows && !t.first; r++)
        memcpy(whole + r * TILE_COLS, y + (size_t)r * ldy, bytes);
    t.y = whole;
    t.ldy = TILE_COLS;
    t.x_scale = x_scale;
    t.w_scale = w_scale;
    if (int8)
        multiply_int8(&t);
    else
        multiply_float(&t);
    for (int r = 0; r < rows; r++)
        memcpy(y + (size_t)r * ldy, whole + r * TILE_COLS, bytes);
}

// All rows row0 .. row1 - 1, at most ROW_BLOCK, against the packed block that begins at word i0.
INLINE void multiply_rows(const struct linear_matrix *m, bool int8, int row0, int row1, int i0)
{
    const int end = m->col0 + m->cols, words = (int)linear_words(m->w.type, m->w.cols);
    struct tile t = {.ldy = (size_t)m->w.rows,
                     .words = words - i0 < K_BLOCK ? words - i0 : K_BLOCK,
                     .w = m->panel,
                     .first = i0 == 0,
                     .last = words - i0 <= K_BLOCK};
    for (int col = m->col0; col < end; col += TILE_COLS, t.w += TILE_COLS * K_BLOCK) {
        const int cols = end - col < TILE_COLS ? end - col : TILE_COLS;
        t.w_scale = m->w.scale + (int8 ? col : 0);
        for (int row = row0; row < row1; row += TILE_ROWS) {
            const int rows = row1 - row < TILE_ROWS ? row1 - row : TILE_ROWS;
            t.x = m->x + (size_t)row * (size_t)words + (size_t)i0 * TILE_ROWS;
            t.y = m->y + (size_t)row * t.ldy + (size_t)col;
            t.x_scale = m->scale + (int8 ? row : 0);
            if (rows < TILE_ROWS || cols < TILE_COLS)
                multiply_edge(t, int8, rows, cols);
            else if (int8)
                multiply_int8(&t);
            else
                multiply_float(&t);
        }
    }
}

// The block of k values that begins at k0, of all weight rows to do.
INLINE void pack_weights(const struct linear_matrix *m, enum dtype type, int k0, int k)
{
    const size_t size = dtype_bytes(type), ld = (size_t)m->w.cols * size;
    for (int col = 0; col < m->cols; col += TILE_COLS) {
        const size_t at = (size_t)(m->col0 + col) * ld + (size_t)k0 * size;
        const struct source s = {
            .from = (const uint8_t *)m->w.data + at, .ld = ld, .rows = m->cols - col, .k = k};
        pack(m->panel + col * K_BLOCK, &s, type, TILE_COLS);
    }
}

INLINE void all(const struct linear_matrix *m, enum dtype type)
{
    const int step = type == DTYPE_INT8 ? 2 * K_BLOCK : K_BLOCK, end = m->row0 + m->rows;
    for (int k0 = 0; k0 < m->w.cols; k0 += step) {
        const int left = m->w.cols - k0;
        pack_weights(m, type, k0, left < step ? left : step);
        for (int row = m->row0; row < end; row += ROW_BLOCK)
            multiply_rows(m, type == DTYPE_INT8, row, end - row < ROW_BLOCK ? end : row + ROW_BLOCK,
                          k0 / step * K_BLOCK);
    }
}

void linear_matrix_avx2(const struct linear_matrix *m)
{
    if (m->w.type == DTYPE_F32)
        all(m, DTYPE_F32);
    else if (m->w.type == DTYPE_BF16)
        all(m, DTYPE_BF16);
    else
        all(m, DTYPE_INT8);
}
