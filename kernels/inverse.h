// inverse.h - which inverse of I + A the delta rule uses: names, limits, defaults.
//
// A is strictly lower triangular, C x C (C = chunk). Wanted: T = (I + A)^-1. Source: arXiv 2606.06034
// (banded truncated series, structural mask, parallel residual correction) and, for the block merges,
// arXiv 2605.21325. Pure functions, any thread.
//
//   substitution  row by row, the sequential reference.                                    exact
//   neumann       inside diagonal blocks of width `block`: T0 = mask o sum_{i<order} (-A)^i, the mask
//                 keeping the first `order` sub-diagonals (those are exact); E = I - (I + A) T0;
//                 T = T0 (I + E + ... + E^(residual-1)) by doubling; blocks are then merged pairwise,
//                 X21 = -X22 A21 X11, up to C.          exact when order * residual >= block
//   merge         the same merges from 2 x 2 up, no series at all.                         exact
#ifndef INVERSE_H
#define INVERSE_H

#include <stdbool.h>
#include <stddef.h>

enum inverse_method { INVERSE_SUBSTITUTION, INVERSE_NEUMANN, INVERSE_MERGE };

// The type the operands of every product are rounded to; sums are float32 (int32 for int8).
// int8: fixed point in two int8 planes, q = 256 high + low, value q / 2^14, clamped to 1.99 and counted;
// four products of planes, one rounding back to 2^-14. T errs by at most 1.5e-3 with the default.
enum inverse_type { INVERSE_FP32, INVERSE_TF32, INVERSE_FP16, INVERSE_BF16, INVERSE_INT8 };

// Who runs the products on a device that has a choice; the CPU has none. fused: one kernel, everything
// on chip. cublas: strided-batched library products, every intermediate in memory.
enum inverse_executor { INVERSE_FUSED, INVERSE_CUBLAS };

enum { INVERSE_CHUNK_MIN = 16, INVERSE_CHUNK_MAX = 128 };

struct inverse {
    enum inverse_method method;
    enum inverse_type type;
    int block;    // neumann: width of the diagonal blocks, a power of two, 4 .. chunk
    int order;    // neumann: terms of the series, >= 2 and <= block
    int residual; // neumann: terms of the residual series, >= 1
    enum inverse_executor executor;
};

// What an inversion leaves behind when asked; lives in device memory. A backend only ever raises it.
struct inverse_report {
    float residual_max; // largest |I - (I + A) T| of the chunks looked at
    float value_max;    // largest |entry| of any intermediate product before rounding
    unsigned checked;   // chunks looked at
    unsigned nonfinite; // chunks whose T holds inf or NaN, or whose integers left their range
};

// The sound default for a chunk size: neumann, block 16, order 3, residual 8, then merges.
struct inverse inverse_auto(int chunk, enum inverse_type type);

// The paper's literal choice: block = chunk, order 3, residual 8 (chunk 32: 4, 3; chunk 128: two
// blocks of 64 and a merge).
struct inverse inverse_paper(int chunk, enum inverse_type type);

bool inverse_exact(const struct inverse *v); // algebraically exact, whatever A

// "auto", "paper", "substitution", "merge", "neumann" or "neumann:BLOCK,ORDER,RESIDUAL" with type
// "fp32", "tf32", "fp16", "bf16" or "int8". 0, or -1 and one sentence in why.
int inverse_parse(struct inverse *out, const char *method, const char *type, int chunk, char *why,
                  size_t why_size);

// 0 if v is allowed with this chunk, else -1 and one sentence in why.
int inverse_check(const struct inverse *v, int chunk, char *why, size_t why_size);

// "neumann:16,3,8/fp32": what inverse_parse takes, a slash and the type; "@cublas" behind it when the
// executor is not the fused one.
const char *inverse_name(const struct inverse *v, char *text, size_t size);

#endif
