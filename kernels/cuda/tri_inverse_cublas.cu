// tri_inverse_cublas.cu - the cublas executor: the same steps as library products, strided-batched over
// all blocks of all matrices, every intermediate in device memory and a small kernel for each mask,
// rounding and copy. The plain form, for comparison: bound by memory traffic that the fused kernel
// does not have, some thirty passes over the matrices, and by products too small for the library.
//
// 16,384 matrices of 64 x 64, NVIDIA H200, 2026-11-24, `ops_check inverse --device cuda`, ms:
//                     fp32   tf32   fp16   bf16   int8
//   substitution      7.7   10.0   11.6   11.3   55.1
//   merge             3.8    5.3    5.8    5.8   37.5
//   neumann:16,3,8    3.0    4.4    4.8    4.8
//   neumann:64,4,16   6.9   10.8    9.9
//
// Blocks at work lie one after another, [batch, width, width]; a slice of the matrices at a time, so that
// scratch stays within SCRATCH_BYTES.
#include "tri_inverse.cuh"

#include <algorithm>
#include <cmath>

static constexpr size_t SCRATCH_BYTES = (size_t)256 << 20;
static constexpr int THREADS = 256, BUFFERS = 5;

// The blocks of one slice. A product's operands in their type: floats, 16-bit numbers or two planes.
struct library {
    struct dev *dev;
    cudaStream_t stream;
    struct inverse v;
    struct inverse_report *report;
    int n, chunk;     // matrices of the slice
    int width, batch; // blocks at work
    size_t room;      // entries of a buffer
    float *buffer[BUFFERS];
    char *left, *right; // [room] of up to four bytes
    int *sums[3];       // int8: high, middle, low
    unsigned *bad;      // [n], of each matrix: integers lost or an entry not finite
};

// Which entries of a block, relative to its corner, are taken from A; the others are 0.
enum part { PART_ALL, PART_BELOW, PART_OWN, PART_BETWEEN };

static __device__ bool is_taken(enum part part, int narrow, int i, int j)
{
    switch (part) {
    case PART_BELOW:
        return j < i;
    case PART_OWN: // of the narrow blocks on the diagonal
        return j < i && i / narrow == j / narrow;
    case PART_BETWEEN: // between the two narrow blocks of a pair
        return i / (2 * narrow) == j / (2 * narrow) && i / narrow > j / narrow;
    case PART_ALL:
        break;
    }
    return true;
}

// Where blocks lie in whole matrices: block b of a matrix has its corner at (row, col) + b * step.
struct place {
    int chunk, width, row, col, step;
};

static __device__ size_t place_at(const struct place &p, size_t entry, int *i, int *j)
{
    const int blocks = p.chunk / p.step;
    const size_t block = entry / (p.width * p.width);
    *i = (int)(entry / p.width % p.width);
    *j = (int)(entry % p.width);
    const int corner = (int)(block % blocks) * p.step;
    return block / blocks * p.chunk * p.chunk + (size_t)(corner + p.row + *i) * p.chunk + corner +
           p.col + *j;
}

static __device__ size_t entry_of_thread()
{
    return (size_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __global__ void gather_kernel(float *to, const float *whole, struct place p, size_t n,
                                     enum part part, int narrow)
{
    const size_t k = entry_of_thread();
    int i, j;
    if (k >= n)
        return;
    const size_t from = place_at(p, k, &i, &j);
    to[k] = is_taken(part, narrow, i, j) ? whole[from] : 0.0f;
}

static __global__ void scatter_kernel(float *whole, const float *from, struct place p, size_t n)
{
    const size_t k = entry_of_thread();
    int i, j;
    if (k < n)
        whole[place_at(p, k, &i, &j)] = from[k];
}

// T = I, with the first sub-diagonal when there is a series.
static __global__ void begin_kernel(float *t, const float *a, int width, size_t n, bool series)
{
    const size_t k = entry_of_thread();
    const int i = (int)(k / width % width), j = (int)(k % width);
    if (k < n)
        t[k] = i == j ? 1.0f : series && i == j + 1 ? -a[k] : 0.0f;
}

// to = from on sub-diagonals first .. last; elsewhere as it was, or 0 with clear.
static __global__ void band_kernel(float *to, const float *from, int width, size_t n, int first,
                                   int last, bool clear)
{
    const size_t k = entry_of_thread();
    const int d = (int)(k / width % width) - (int)(k % width);
    if (k >= n)
        return;
    if (d >= first && d <= last)
        to[k] = from[k];
    else if (clear)
        to[k] = 0.0f;
}

// Rows `first` .. first + rows - 1 of each block, entry k of those.
static __device__ size_t row_entry(size_t k, int width, int first, int rows)
{
    const size_t part = (size_t)rows * width;
    return k / part * width * width + (size_t)first * width + k % part;
}

// Where an entry goes: itself, or its mirror image in its block.
static __device__ size_t mirrored(size_t at, int width, bool mirror)
{
    const size_t block = at / (width * width) * (width * width);
    const int i = (int)(at / width % width), j = (int)(at % width);
    return mirror ? block + (size_t)j * width + i : at;
}

template <typename T>
static __global__ void round_kernel(T *to, const float *from, int width, size_t n, int first,
                                    int rows)
{
    const size_t k = entry_of_thread(), at = row_entry(k, width, first, rows);
    if (k >= n)
        return;
    if constexpr (sizeof(T) == sizeof(float))
        to[at] = tri_round<INVERSE_TF32>(from[at]);
    else
        to[at] = (T)from[at];
}

static __global__ void split_kernel(int8_t *high, int8_t *low, unsigned *bad, const float *from,
                                    int width, size_t n, int first, int rows, int per_matrix,
                                    bool mirror)
{
    const size_t k = entry_of_thread(), at = row_entry(k, width, first, rows);
    if (k >= n)
        return;
    int lost = 0;
    const int q = tri_fixed(from[at], lost), h = (q + 128) >> 8;
    const size_t to = mirrored(at, width, mirror);
    high[to] = (int8_t)h;
    low[to] = (int8_t)(q - h * 256);
    if (lost)
        bad[at / per_matrix] = 1;
}

static __global__ void join_kernel(float *to, const int *high, const int *middle, const int *low,
                                   unsigned *bad, int width, size_t n, int first, int rows,
                                   float keep, float sign, int per_matrix)
{
    const size_t k = entry_of_thread(), at = row_entry(k, width, first, rows);
    if (k >= n)
        return;
    int lost = 0;
    to[at] = tri_join(high[at], middle[at], low[at], keep != 0.0f ? to[at] : 0.0f, sign, lost);
    if (lost)
        bad[at / per_matrix] = 1;
}

// The largest entry of a product, for the report.
static __global__ void note_kernel(struct inverse_report *report, const float *x, int width,
                                   size_t n, int first, int rows)
{
    const size_t k = entry_of_thread();
    float most = k < n ? fabsf(x[row_entry(k, width, first, rows)]) : 0.0f;
    for (int lanes = 16; lanes > 0; lanes /= 2)
        most = fmaxf(most, __shfl_xor_sync(~0u, most, lanes));
    if (threadIdx.x % 32 == 0)
        tri_raise(&report->value_max, most);
}

// A finished row of a substitution: what lies above the diagonal is nothing but rounding of zero.
static __global__ void row_kernel(float *t, int width, int batch, int row)
{
    const size_t k = entry_of_thread();
    const int j = (int)(k % width);
    if (k < (size_t)batch * width && j >= row)
        t[row_entry(k, width, row, 1)] = j == row ? 1.0f : 0.0f;
}

static __global__ void finite_kernel(unsigned *bad, const float *t, int size, size_t n)
{
    const size_t k = entry_of_thread();
    if (k < n && !isfinite(t[k]))
        bad[k / size] = 1;
}

static __global__ void count_kernel(struct inverse_report *report, const unsigned *bad, int n)
{
    const int k = (int)entry_of_thread();
    if (k < n && bad[k])
        atomicAdd(&report->nonfinite, 1u);
}

#define LAUNCH(lib, kernel, n, ...)                                                                \
    do {                                                                                           \
        kernel<<<blocks_for(n, THREADS), THREADS, 0, (lib)->stream>>>(__VA_ARGS__);                \
        LAUNCHED((lib)->dev, #kernel);                                                             \
    } while (0)

static size_t entries(const struct library *lib)
{
    return (size_t)lib->batch * (size_t)(lib->width * lib->width);
}

// Rows of every block that a product makes, and how deep its sums are.
struct rows {
    int first, n, depth;
};

// A product of blocks wider than a leaf in int8 takes its right operand transposed: the library has it in
// no other form.
static bool is_mirrored(const struct library *lib, const struct rows *r)
{
    return lib->v.type == INVERSE_INT8 && r->n == lib->width && lib->width > TRI_LEAF;
}

static void to_operand(struct library *lib, char *to, const float *from, int first, int n_rows,
                       bool mirror = false)
{
    const size_t n = (size_t)lib->batch * (size_t)(n_rows * lib->width);
    const int w = lib->width, per_matrix = lib->batch / lib->n * w * w;
    switch (lib->v.type) {
    case INVERSE_FP32:
        break; // taken as they are
    case INVERSE_TF32:
        LAUNCH(lib, round_kernel, n, (float *)to, from, w, n, first, n_rows);
        break;
    case INVERSE_FP16:
        LAUNCH(lib, round_kernel, n, (__half *)to, from, w, n, first, n_rows);
        break;
    case INVERSE_BF16:
        LAUNCH(lib, round_kernel, n, (bf16 *)to, from, w, n, first, n_rows);
        break;
    case INVERSE_INT8:
        LAUNCH(lib, split_kernel, n, (int8_t *)to, (int8_t *)to + lib->room, lib->bad, from, w, n,
               first, n_rows, per_matrix, mirror);
        break;
    }
}

struct numbers {
    cudaDataType_t operand, sum, scale;
    cublasComputeType_t compute;
    size_t bytes; // of an operand
};

static struct numbers numbers_of(enum inverse_type type)
{
    switch (type) {
    case INVERSE_FP16:
        return {CUDA_R_16F, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, 2};
    case INVERSE_BF16:
        return {CUDA_R_16BF, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, 2};
    case INVERSE_INT8:
        return {CUDA_R_8I, CUDA_R_32I, CUDA_R_32I, CUBLAS_COMPUTE_32I, 1};
    case INVERSE_TF32:
        return {CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32, 4};
    case INVERSE_FP32:
        break;
    }
    return {CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, 4};
}

// c = keep c + sign a b for the rows of every block. The library's matrices are columns first, in which
// a row-major product is that of the operands exchanged.
static void gemm(struct library *lib, void *c, const void *a, const void *b, struct rows r,
                 float keep, float sign)
{
    const struct numbers k = numbers_of(lib->v.type);
    const int w = lib->width;
    const long long stride = (long long)w * w;
    const int whole_keep = (int)keep, whole_sign = (int)sign;
    const bool whole = k.scale == CUDA_R_32I;
    const void *alpha = whole ? (const void *)&whole_sign : (const void *)&sign;
    const void *beta = whole ? (const void *)&whole_keep : (const void *)&keep;
    cuda_blas_ok(lib->dev,
                 cublasGemmStridedBatchedEx(
                     cuda_of(lib->dev)->blas, is_mirrored(lib, &r) ? CUBLAS_OP_T : CUBLAS_OP_N,
                     CUBLAS_OP_N, w, r.n, r.depth, alpha, b, k.operand, w, stride,
                     (const char *)a + (size_t)(r.first * w) * k.bytes, k.operand, w, stride, beta,
                     (char *)c + (size_t)(r.first * w) * 4, k.sum, w, stride, lib->batch, k.compute,
                     CUBLAS_GEMM_DEFAULT),
                 "tri_inverse: cublasGemmStridedBatchedEx");
}

// The product of operands made ready in left and right.
static void multiply_ready(struct library *lib, float *c, const float *a, const float *b,
                           struct rows r, float keep, float sign)
{
    const size_t n = (size_t)lib->batch * (size_t)(r.n * lib->width);
    const int w = lib->width, per_matrix = lib->batch / lib->n * w * w;
    if (lib->v.type == INVERSE_INT8) {
        const char *left_low = lib->left + lib->room, *right_low = lib->right + lib->room;
        gemm(lib, lib->sums[0], lib->left, lib->right, r, 0, 1);
        gemm(lib, lib->sums[1], lib->left, right_low, r, 0, 1);
        gemm(lib, lib->sums[1], left_low, lib->right, r, 1, 1);
        gemm(lib, lib->sums[2], left_low, right_low, r, 0, 1);
        LAUNCH(lib, join_kernel, n, c, lib->sums[0], lib->sums[1], lib->sums[2], lib->bad, w, n,
               r.first, r.n, keep, sign, per_matrix);
    } else if (lib->v.type == INVERSE_FP32) {
        gemm(lib, c, a, b, r, keep, sign);
    } else {
        gemm(lib, c, lib->left, lib->right, r, keep, sign);
    }
    if (lib->report)
        LAUNCH(lib, note_kernel, n, lib->report, c, w, n, r.first, r.n);
}

// c = keep c + sign a b of whole blocks; c is neither a nor b when the type is fp32.
static void multiply(struct library *lib, float *c, const float *a, const float *b, float keep,
                     float sign)
{
    const struct rows all = {0, lib->width, lib->width};
    to_operand(lib, lib->left, a, 0, lib->width);
    to_operand(lib, lib->right, b, 0, lib->width, is_mirrored(lib, &all));
    multiply_ready(lib, c, a, b, all, keep, sign);
}

static void copy(struct library *lib, float *to, const float *from)
{
    cuda_ok(lib->dev,
            cudaMemcpyAsync(to, from, entries(lib) * sizeof(float), cudaMemcpyDeviceToDevice,
                            lib->stream),
            "tri_inverse: copy");
}

enum { A, T, POWER, E, X }; // the buffers

static void exchange(struct library *lib, int one, int other)
{
    std::swap(lib->buffer[one], lib->buffer[other]);
}

// T = keep T + sign T b: through a copy, which a product in place needs.
static void multiply_t(struct library *lib, const float *b, float sign)
{
    copy(lib, lib->buffer[X], lib->buffer[T]);
    multiply(lib, lib->buffer[T], lib->buffer[X], b, 1, sign);
}

static void raise_power(struct library *lib, const float *b)
{
    multiply(lib, lib->buffer[X], lib->buffer[POWER], b, 0, 1);
    exchange(lib, X, POWER);
}

// As tri_series in inverse_any.cuh.
static void series(struct library *lib, int width)
{
    const size_t n = entries(lib);
    const int w = lib->width, order = std::min(lib->v.order, width), terms = lib->v.residual;
    float *const *at = lib->buffer;
    for (int d = 2; d < order; d++) {
        multiply(lib, at[X], at[A], at[T], 0, -1);
        LAUNCH(lib, band_kernel, n, at[T], at[X], w, n, d, d, false);
    }
    if (terms < 2)
        return;
    multiply(lib, at[POWER], at[A], at[T], 0, -1);
    LAUNCH(lib, band_kernel, n, at[POWER], at[POWER], w, n, order, w, true);
    if (terms & (terms - 1))
        copy(lib, at[E], at[POWER]);
    int digit = 1;
    while (digit * 2 <= terms)
        digit *= 2;
    while ((digit /= 2) > 0) {
        multiply_t(lib, at[POWER], 1);
        if (digit > 1)
            raise_power(lib, at[POWER]);
        if (terms & digit) {
            // T0 + T E: T0 is T's first sub-diagonals, on which T E is zero.
            multiply(lib, at[X], at[T], at[E], 0, 1);
            LAUNCH(lib, band_kernel, n, at[T], at[X], w, n, order, w, false);
            if (digit > 1)
                raise_power(lib, at[E]);
        }
    }
}

static void gather(struct library *lib, int to, const float *whole, struct place p, enum part part,
                   int narrow)
{
    const size_t n = entries(lib);
    LAUNCH(lib, gather_kernel, n, lib->buffer[to], whole, p, n, part, narrow);
}

static void set_blocks(struct library *lib, int width, int per_matrix)
{
    lib->width = width;
    lib->batch = lib->n * per_matrix;
}

// Diagonal blocks of `width` rows, at least a leaf; narrower ones side by side in a leaf, then merged.
static void diagonal_blocks(struct library *lib, float *t, const float *a, int width)
{
    const int w = std::max(width, TRI_LEAF), c = lib->chunk;
    const struct place place = {c, w, 0, 0, w};
    set_blocks(lib, w, c / w);
    const size_t n = entries(lib);
    gather(lib, A, a, place, width < w ? PART_OWN : PART_BELOW, width);
    LAUNCH(lib, begin_kernel, n, lib->buffer[T], lib->buffer[A], w, n, width > 1);
    if (width > 1)
        series(lib, width);
    for (int merged = width; merged < w; merged *= 2) {
        gather(lib, A, a, place, PART_BETWEEN, merged);
        multiply(lib, lib->buffer[POWER], lib->buffer[A], lib->buffer[T], 0, 1);
        multiply_t(lib, lib->buffer[POWER], -1);
    }
    LAUNCH(lib, scatter_kernel, n, t, lib->buffer[T], place, n);
}

static void merge_pairs(struct library *lib, float *t, const float *a, int width)
{
    const int c = lib->chunk;
    set_blocks(lib, width, c / (2 * width));
    const size_t n = entries(lib);
    const struct place lower = {c, width, width, 0, 2 * width};
    gather(lib, A, a, lower, PART_ALL, 0);
    gather(lib, T, t, {c, width, 0, 0, 2 * width}, PART_ALL, 0);
    multiply(lib, lib->buffer[X], lib->buffer[A], lib->buffer[T], 0, 1);
    gather(lib, T, t, {c, width, width, width, 2 * width}, PART_ALL, 0);
    multiply(lib, lib->buffer[POWER], lib->buffer[T], lib->buffer[X], 0, -1);
    LAUNCH(lib, scatter_kernel, n, t, lib->buffer[POWER], lower, n);
}

// Row by row, one thin product each; sums go on to a multiple of 16, where A is zero.
static void substitute(struct library *lib, float *t, const float *a)
{
    const int c = lib->chunk;
    set_blocks(lib, c, 1);
    const size_t n = entries(lib);
    gather(lib, A, a, {c, c, 0, 0, c}, PART_BELOW, 0);
    LAUNCH(lib, begin_kernel, n, t, lib->buffer[A], c, n, false);
    to_operand(lib, lib->left, lib->buffer[A], 0, c);
    to_operand(lib, lib->right, t, 0, c);
    for (int i = 1; i < c; i++) {
        const int depth = (i + TRI_LEAF - 1) / TRI_LEAF * TRI_LEAF;
        multiply_ready(lib, t, lib->buffer[A], t, {i, 1, depth}, 0, -1);
        LAUNCH(lib, row_kernel, (size_t)lib->batch * c, t, c, lib->batch, i);
        to_operand(lib, lib->right, t, i, 1);
    }
}

static void invert_slice(struct library *lib, float *t, const float *a)
{
    const int c = lib->chunk;
    const size_t size = (size_t)lib->n * (size_t)(c * c);
    const int width = lib->v.method == INVERSE_MERGE ? 1 : lib->v.block;
    cuda_ok(lib->dev, cudaMemsetAsync(lib->bad, 0, (size_t)lib->n * sizeof *lib->bad, lib->stream),
            "tri_inverse: memset");
    if (lib->v.method == INVERSE_SUBSTITUTION) {
        substitute(lib, t, a);
    } else {
        cuda_ok(lib->dev, cudaMemsetAsync(t, 0, size * sizeof *t, lib->stream),
                "tri_inverse: memset");
        diagonal_blocks(lib, t, a, width);
        for (int merged = std::max(width, TRI_LEAF); merged < c; merged *= 2)
            merge_pairs(lib, t, a, merged);
    }
    if (!lib->report)
        return;
    LAUNCH(lib, finite_kernel, size, lib->bad, t, c * c, size);
    LAUNCH(lib, count_kernel, (size_t)lib->n, lib->report, lib->bad, lib->n);
}

// Entries of a buffer that one matrix needs: its diagonal blocks, or the pairs of the last merge.
static size_t room_of(const struct tri_inverse_args *a)
{
    const int c = a->chunk, wide = a->inverse.method == INVERSE_SUBSTITUTION ? c
                                   : a->inverse.method == INVERSE_MERGE      ? TRI_LEAF
                                                                             : a->inverse.block;
    return (size_t)c * (size_t)std::max({wide, TRI_LEAF, c / 4});
}

void cuda_tri_inverse_cublas(struct dev *dev, const struct tri_inverse_args *a)
{
    const size_t room = room_of(a), each = room * (BUFFERS * 4 + 2 * 4 + 3 * 4);
    const int most = (int)std::min<size_t>((size_t)a->n, SCRATCH_BYTES / each);
    const size_t size = (size_t)(a->chunk * a->chunk);
    struct library lib = {};
    lib.dev = dev;
    lib.stream = cuda_of(dev)->stream;
    lib.v = a->inverse;
    lib.report = a->report;
    lib.chunk = a->chunk;
    lib.room = room * (size_t)most;
    float *floats =
        (float *)cuda_scratch(dev, CUDA_SLOT_INVERSE, BUFFERS * lib.room * sizeof(float));
    char *rest =
        (char *)cuda_scratch(dev, CUDA_SLOT_INVERSE_2, 5 * lib.room * 4 + (size_t)most * 4);
    if (!floats || !rest)
        return;
    for (int i = 0; i < BUFFERS; i++)
        lib.buffer[i] = floats + (size_t)i * lib.room;
    lib.left = rest;
    lib.right = rest + 4 * lib.room;
    for (int i = 0; i < 3; i++)
        lib.sums[i] = (int *)(rest + (size_t)(i + 2) * 4 * lib.room);
    lib.bad = (unsigned *)(rest + 5 * 4 * lib.room);
    for (int first = 0; first < a->n; first += most) {
        lib.n = std::min(most, a->n - first);
        invert_slice(&lib, a->t_out + (size_t)first * size, a->a + (size_t)first * size);
    }
}
