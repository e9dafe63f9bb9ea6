// attention.cuh - what the kernels of attention.cu share. Private to it.
//
// All three look at keys in tiles of a page in the order of positions, with the online softmax: m the
// running largest score, l the running sum of exp(score - m), o the running weighted sum of V.
#ifndef ATTENTION_CUH
#define ATTENTION_CUH

#include "kv_pages.h"
#include "spans.cuh"

// Spans first .. of a step: its prefill spans or its decode spans.
struct attention_job {
    struct attention_args a;
    int first;    // span
    int tiles;    // of one KV head: their number, or (decode) a bound of it
    bool by_head; // all tiles of a KV head after another: they share its K and V in the cache
};

static __device__ __forceinline__ float sigmoid(float x)
{
    return __fdividef(1.0f, 1.0f + __expf(-x));
}

// attention_prefill.cu: 16-bit activations and pages, head_dim 256, sm_90a.
void attention_prefill(struct dev *dev, const struct attention_job *job);
constexpr int PREFILL_ROWS = 128; // of a tile

// attention_decode.cu: the same, head_dim 256, sm_90 and later.
void attention_decode(struct dev *dev, const struct attention_job *job);

#endif
