// pack.cuh - eight values of a row at once, as float32: what the kernels that treat rows load and store.
// Private to kernels/cuda. Pointers are 16-byte aligned.
#ifndef PACK_CUH
#define PACK_CUH

#include <cstdint>

#include "ops_cuda.cuh"

enum { PACK = 8 };

struct pack {
    float v[PACK];
};

static inline bool pack_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

// A pack as it lies in memory: what a thread keeps of a row, or has asked for.
template <typename type_t> struct raw_pack {
    uint4 part[PACK * sizeof(type_t) / sizeof(uint4)];
};

template <typename type_t> __device__ __forceinline__ raw_pack<type_t> pack_fetch(const type_t *p)
{
    return *(const raw_pack<type_t> *)p;
}

template <typename type_t> __device__ __forceinline__ pack pack_open(const raw_pack<type_t> &raw)
{
    type_t values[PACK];
    memcpy(values, &raw, sizeof values);
    pack x;
#pragma unroll
    for (int i = 0; i < PACK; i++)
        x.v[i] = (float)values[i];
    return x;
}

template <typename type_t> __device__ __forceinline__ pack pack_load(const type_t *p)
{
    return pack_open(pack_fetch(p));
}

// The largest magnitude and `most`; NaN is passed over.
__device__ __forceinline__ float pack_largest(const pack &x, float most)
{
#pragma unroll
    for (int i = 0; i < PACK; i++)
        most = fmaxf(most, fabsf(x.v[i]));
    return most;
}

// The same of a pack as it lies; of 16-bit values by pairs, half the work.
__device__ __forceinline__ float raw_largest(const raw_pack<float> &raw, float most)
{
    return pack_largest(pack_open(raw), most);
}
template <typename half_t>
__device__ __forceinline__ float raw_largest(const raw_pack<half_t> &raw, float most)
{
    using pair_t = std::conditional_t<std::is_same_v<half_t, f16>, __half2, __nv_bfloat162>;
    pair_t x[PACK / 2];
    memcpy(x, &raw, sizeof x);
    pair_t both = __habs2(x[0]);
#pragma unroll
    for (int i = 1; i < PACK / 2; i++)
        both = __hmax2(both, __habs2(x[i]));
    return fmaxf(most, fmaxf(__low2float(both), __high2float(both)));
}

__device__ __forceinline__ void pack_store(float *p, const pack &x)
{
    ((float4 *)p)[0] = {x.v[0], x.v[1], x.v[2], x.v[3]};
    ((float4 *)p)[1] = {x.v[4], x.v[5], x.v[6], x.v[7]};
}
template <typename half_t> __device__ __forceinline__ void pack_store(half_t *p, const pack &x)
{
    uint32_t h[PACK / 2];
#pragma unroll
    for (int i = 0; i < PACK / 2; i++)
        h[i] = cvt_x2<half_t>(x.v[2 * i], x.v[2 * i + 1]);
    *(uint4 *)p = {h[0], h[1], h[2], h[3]};
}

// Sum and largest over the block, in an order that only the block's size decides; `shared` holds 32
// floats. The barriers order the use of `shared` before, inside and after: it may be used again at once.
template <bool LARGEST> __device__ __forceinline__ float block_fold(float x, float *shared)
{
#pragma unroll
    for (int lane = 16; lane; lane /= 2) {
        const float other = __shfl_xor_sync(~0u, x, lane);
        x = LARGEST ? fmaxf(x, other) : x + other;
    }
    __syncthreads(); // whoever read `shared` last time is done
    if (threadIdx.x % 32 == 0)
        shared[threadIdx.x / 32] = x;
    __syncthreads(); // every warp's part is there
    const unsigned n_warps = (blockDim.x + 31) / 32;
    x = threadIdx.x % 32 < n_warps ? shared[threadIdx.x % 32] : 0.0f;
#pragma unroll
    for (int lane = 16; lane; lane /= 2) {
        const float other = __shfl_xor_sync(~0u, x, lane);
        x = LARGEST ? fmaxf(x, other) : x + other;
    }
    return x;
}
__device__ __forceinline__ float block_sum(float x, float *shared)
{
    return block_fold<false>(x, shared);
}
__device__ __forceinline__ float block_largest(float x, float *shared) // of numbers >= 0
{
    return block_fold<true>(x, shared);
}

// SiLU; exact to float32's rounding for float activations, to far below theirs for 16-bit ones.
template <typename act_t> __device__ __forceinline__ float silu(float x)
{
    if (sizeof(act_t) == sizeof(float))
        return x / (1.0f + expf(-x));
    return __fdividef(x, 1.0f + __expf(-x));
}

// SiLU(gate) * up of activations.
template <typename act_t> __device__ __forceinline__ float swiglu(float gate, float up)
{
    return silu<act_t>(held_by<act_t>(gate)) * held_by<act_t>(up);
}

// Whole warps for n items, at most `most` threads.
static inline unsigned threads_for(int n, int most)
{
    const int threads = (n + 31) / 32 * 32;
    return (unsigned)(threads < most ? threads : most);
}

#endif
