// kv_pages.h - where the CUDA backend keeps the values of a page of K or V: one place that attn_prep
// writes by, attention reads by, and tests look up by. Plain C and CUDA.
//
// A page of one KV head is a block of PAGE_TOKENS * head_dim values, blocks in the order
// [n_pages, kv_heads]. K and V alike:
//   BF16 and F16, head_dim a multiple of 64: [head_dim / 64, PAGE_TOKENS, 64], and in each row of 64 values
//     (128 bytes) the eight 16-byte pieces are exchanged by row % 8. That is the 128-byte swizzle of
//     the matrix units: a block goes into shared memory as it lies, in one copy, and is read there
//     without bank conflicts, as rows (K) and as columns (V).
//   otherwise: [PAGE_TOKENS, head_dim].
#ifndef KV_PAGES_H
#define KV_PAGES_H

#include "op_args.h"

#ifdef __CUDACC__
#define KV_PAGES_FN static __host__ __device__ __forceinline__
#else
#define KV_PAGES_FN static inline
#endif

enum { KV_CHUNK = 64 }; // values of a row that lie together

KV_PAGES_FN int kv_swizzled(enum dtype kv_type, int head_dim)
{
    return (kv_type == DTYPE_BF16 || kv_type == DTYPE_F16) && head_dim % KV_CHUNK == 0;
}

// Value i of the token in row `row` of its page: index inside the block.
KV_PAGES_FN int kv_index(int swizzled, int head_dim, int row, int i)
{
    if (!swizzled)
        return row * head_dim + i;
    const int piece = (i % KV_CHUNK / 8) ^ (row % 8);
    return (i / KV_CHUNK * PAGE_TOKENS + row) * KV_CHUNK + piece * 8 + i % 8;
}

#endif
