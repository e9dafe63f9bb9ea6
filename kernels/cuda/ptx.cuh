// ptx.cuh - instructions that CUDA C++ has no word for, one a function.
// Private to kernels/cuda. What each does is the PTX manual's; here stand only the facts a caller needs.
#ifndef PTX_CUH
#define PTX_CUH

#include <cstdint>

// Programmatic dependent launch (sm_90): everything before this grid in the stream has ended and can be
// read. Every block of a kernel launched by cuda_launch calls it.
__device__ __forceinline__ void pdl_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next grid may start once every block of this one has come here or ended.
__device__ __forceinline__ void pdl_release()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// A 64-bit L2 policy: what is read with it is the first to leave the cache. For weights, read once a step.
__device__ __forceinline__ uint64_t l2_evict_first()
{
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

// 16 bytes from device to shared memory in the background, `bytes` of them (0 or 16) read, the rest zero.
__device__ __forceinline__ void copy_async_16(void *shared, const void *p, int bytes,
                                              uint64_t policy)
{
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(
                     (unsigned)__cvta_generic_to_shared(shared)),
                 "l"(p), "r"(bytes), "l"(policy)
                 : "memory");
}

// Closes a group of this thread's copies.
__device__ __forceinline__ void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// All but the latest PENDING groups have arrived; for this thread alone.
template <int PENDING> __device__ __forceinline__ void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Clusters (sm_90): the block's number in its cluster.
__device__ __forceinline__ unsigned cluster_rank()
{
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// Every thread of the cluster has come here, and what it wrote before is seen after cluster_wait().
__device__ __forceinline__ void cluster_arrive()
{
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait()
{
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Where block `rank` of the cluster has what lies at `shared` here.
__device__ __forceinline__ unsigned cluster_address(const void *shared, unsigned rank)
{
    unsigned address;
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(address)
        : "r"((unsigned)__cvta_generic_to_shared(shared)), "r"(rank));
    return address;
}
__device__ __forceinline__ uint4 cluster_load_16(unsigned address)
{
    uint4 v;
    asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(address)
                 : "memory");
    return v;
}

// sum[16 x 8] += a[16 x 16] b[16 x 8], bf16 to float32.
__device__ __forceinline__ void mma_bf16(float sum[4], const unsigned a[4], const unsigned b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// sum[16 x 8] += a[16 x 32] b[32 x 8], int8 to int32.
__device__ __forceinline__ void mma_int8(int sum[4], const unsigned a[4], const unsigned b[2])
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
