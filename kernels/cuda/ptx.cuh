// ptx.cuh - the instructions that CUDA C++ has no name for, one a function. Names follow the PTX manual.
// What needs a newer chip than the one compiled for traps: callers choose their path by `cuda->arch`.
#ifndef PTX_CUH
#define PTX_CUH

#include <cstdint>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// The 16-bit types of activations and weights: half_t where a function takes either.
using bf16 = __nv_bfloat16;
using f16 = __half;

// wgmma and setmaxnreg exist on sm_90a alone; bulk copies and clusters from sm_90 on.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PTX_SM90A 1
#else
#define PTX_SM90A 0
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define PTX_SM90 1
#else
#define PTX_SM90 0
#endif

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

// 2^x, to 2 units in the last place; 0 for -inf.
static __device__ __forceinline__ float ex2_approx(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Two floats rounded to nearest even: low in the low half. What f16 has no number for becomes an infinity.
static __device__ __forceinline__ uint32_t cvt_bf16x2(float low, float high)
{
    uint32_t y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}
static __device__ __forceinline__ uint32_t cvt_f16x2(float low, float high)
{
    uint32_t y;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

// The same for either, in as many instructions; beyond f16's largest number is that number.
template <typename half_t> static __device__ __forceinline__ uint32_t cvt_x2(float low, float high)
{
    uint32_t y;
    if constexpr (std::is_same_v<half_t, f16>)
        asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    else
        y = cvt_bf16x2(low, high);
    return y;
}

// And back.
template <typename half_t> static __device__ __forceinline__ float2 widen_x2(uint32_t x)
{
    if constexpr (std::is_same_v<half_t, f16>)
        return __half22float2(*(const half2 *)&x);
    else
        return {__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000u)};
}

// ---- warp matrices ------------------------------------------------------------------------------

static __device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

static __device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// An 8 x 8 matrix of 16-bit values over a warp, transposed.
static __device__ __forceinline__ uint32_t movmatrix_trans(uint32_t x)
{
    uint32_t y;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}

// Writes ASM(TYPES) with the names of half_t's products: operands of that type, float32 sums.
#define PTX_HALVES(ASM)                                                                            \
    do {                                                                                           \
        if constexpr (std::is_same_v<half_t, f16>)                                                 \
            ASM("f32.f16.f16");                                                                    \
        else                                                                                       \
            ASM("f32.bf16.bf16");                                                                  \
    } while (0)

// d[16 x 8] += a[16 x 16] b[16 x 8]
template <typename half_t>
static __device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
                                                    uint32_t b0, uint32_t b1)
{
#define MMA(TYPES)                                                                                 \
    asm volatile("mma.sync.aligned.m16n8k16.row.col." TYPES ".f32 "                                \
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                 \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                  \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
    PTX_HALVES(MMA);
#undef MMA
}

// What ldmatrix_x4 reads, written.
static __device__ __forceinline__ void stmatrix_x4(uint32_t address, const uint32_t (&r)[4])
{
#if PTX_SM90
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
#else
    __trap();
#endif
}

// 16 bytes from global to shared memory; bytes 0 writes zeros instead.
static __device__ __forceinline__ void cp_async_16(uint32_t dst, const void *src, uint32_t bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(bytes)
                 : "memory");
}

static __device__ __forceinline__ void cp_async_wait_all()
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

// ---- barriers in shared memory and bulk copies (sm_90) --------------------------------------------

static __device__ __forceinline__ void mbarrier_init(uint32_t barrier, uint32_t count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

// Makes initialised barriers visible to the copy engine.
static __device__ __forceinline__ void fence_mbarrier_init()
{
#if PTX_SM90
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

static __device__ __forceinline__ void mbarrier_arrive(uint32_t barrier)
{
#if PTX_SM90
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
#else
    __trap();
#endif
}

static __device__ __forceinline__ void mbarrier_arrive_expect_tx(uint32_t barrier, uint32_t bytes)
{
#if PTX_SM90
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
#else
    __trap();
#endif
}

static __device__ __forceinline__ bool mbarrier_try_wait_parity(uint32_t barrier, uint32_t parity)
{
    uint32_t done = 0;
#if PTX_SM90
    asm volatile("{\n.reg .pred p;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n}"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
#else
    __trap();
#endif
    return done;
}

static __device__ __forceinline__ void mbarrier_wait(uint32_t barrier, uint32_t parity)
{
    while (!mbarrier_try_wait_parity(barrier, parity))
        ;
}

// bytes from global to shared memory, both multiples of 16; completes on the barrier.
static __device__ __forceinline__ void cp_async_bulk(uint32_t dst, const void *src, uint32_t bytes,
                                                     uint32_t barrier)
{
#if PTX_SM90
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(dst),
                 "l"(src), "r"(bytes), "r"(barrier)
                 : "memory");
#else
    __trap();
#endif
}

// A box of a tensor map, its first element at column x of row y, to shared memory.
static __device__ __forceinline__ void cp_async_bulk_tensor_2d(uint32_t dst, const void *map, int x,
                                                               int y, uint32_t barrier)
{
#if PTX_SM90
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(dst),
                 "l"(map), "r"(barrier), "r"(x), "r"(y)
                 : "memory");
#else
    __trap();
#endif
}

// The same of a map of three dimensions, with a policy for L2.
static __device__ __forceinline__ void cp_async_bulk_tensor_3d_hint(uint32_t dst, const void *map,
                                                                    const int (&at)[3],
                                                                    uint32_t barrier,
                                                                    uint64_t policy)
{
#if PTX_SM90
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".L2::cache_hint [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(dst),
                 "l"(map), "r"(barrier), "r"(at[0]), "r"(at[1]), "r"(at[2]), "l"(policy)
                 : "memory");
#else
    __trap();
#endif
}

// bytes from shared to global memory, both multiples of 16.
static __device__ __forceinline__ void cp_async_bulk_store(void *dst, uint32_t src, uint32_t bytes)
{
#if PTX_SM90
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(dst), "r"(src),
                 "r"(bytes)
                 : "memory");
#else
    __trap();
#endif
}

static __device__ __forceinline__ void cp_async_bulk_commit_group()
{
#if PTX_SM90
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#endif
}

// Until the sources of all but the last N groups of this thread have been read.
template <int N> static __device__ __forceinline__ void cp_async_bulk_wait_group_read()
{
#if PTX_SM90
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
#endif
}

// Orders this thread's ordinary writes of shared memory before reads by matrix units and copy engine.
static __device__ __forceinline__ void fence_proxy_async_shared()
{
#if PTX_SM90
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// `threads` threads of the block meet at barrier `id`.
static __device__ __forceinline__ void bar_sync(uint32_t id, uint32_t threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// The same, without waiting: counts the caller as arrived.
static __device__ __forceinline__ void bar_arrive(uint32_t id, uint32_t threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- dependent launches (sm_90) -------------------------------------------------------------------

// Waits until the kernel before this one in the stream has ended and its writes are seen.
static __device__ __forceinline__ void griddepcontrol_wait()
{
#if PTX_SM90
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the kernel after this one begin; it waits for the end of this one at its griddepcontrol_wait.
static __device__ __forceinline__ void griddepcontrol_launch_dependents()
{
#if PTX_SM90
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- clusters (sm_90) -----------------------------------------------------------------------------

static __device__ __forceinline__ uint32_t cluster_ctarank()
{
    uint32_t r = 0;
#if PTX_SM90
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
#endif
    return r;
}

static __device__ __forceinline__ uint32_t cluster_nctarank()
{
    uint32_t r = 1;
#if PTX_SM90
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(r));
#endif
    return r;
}

// The release waits until the whole device would see what this thread wrote.
static __device__ __forceinline__ void barrier_cluster_arrive()
{
#if PTX_SM90
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
}

// Without that: for meetings after which nobody reads what others wrote before.
static __device__ __forceinline__ void barrier_cluster_arrive_relaxed()
{
#if PTX_SM90
    asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
#endif
}

static __device__ __forceinline__ void barrier_cluster_wait()
{
#if PTX_SM90
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
}

// The address in block `rank` of the cluster of what has generic address p, in shared memory, here.
template <typename T> static __device__ __forceinline__ T *mapa(T *p, uint32_t rank)
{
#if PTX_SM90
    uint64_t y;
    asm("mapa.u64 %0, %1, %2;" : "=l"(y) : "l"(p), "r"(rank));
    return (T *)y;
#else
    return p;
#endif
}

// The same of a 32-bit shared address, as st_async_v4 wants it.
static __device__ __forceinline__ uint32_t mapa_shared(uint32_t address, uint32_t rank)
{
    uint32_t y = address;
#if PTX_SM90
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(y) : "r"(address), "r"(rank));
#endif
    return y;
}

// 16 bytes to the shared memory of a block of the cluster; they count on the barrier, which is there too.
static __device__ __forceinline__ void st_async_v4(uint32_t to, const uint4 &v, uint32_t barrier)
{
#if PTX_SM90
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 "
                 "[%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
                 "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(barrier)
                 : "memory");
#else
    __trap();
#endif
}

// ---- warpgroup matrices (sm_90a) ------------------------------------------------------------------

template <int N> static __device__ __forceinline__ void setmaxnreg_inc()
{
#if PTX_SM90A
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
#endif
}

template <int N> static __device__ __forceinline__ void setmaxnreg_dec()
{
#if PTX_SM90A
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
#endif
}

// Orders register and earlier accesses before the products that follow.
static __device__ __forceinline__ void wgmma_fence()
{
#if PTX_SM90A
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

static __device__ __forceinline__ void wgmma_commit_group()
{
#if PTX_SM90A
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

template <int N> static __device__ __forceinline__ void wgmma_wait_group()
{
#if PTX_SM90A
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
#endif
}

#define PTX_F4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define PTX_F16(d, i) PTX_F4(d, i), PTX_F4(d, i + 4), PTX_F4(d, i + 8), PTX_F4(d, i + 12)
#define PTX_F32(d, i) PTX_F16(d, i), PTX_F16(d, i + 16)

// d[64 x 64] (+)= a[64 x 16] b[64 x 16]^T, both in shared memory with the 16 values contiguous.
// keep 0: d is overwritten.
template <typename half_t>
static __device__ __forceinline__ void wgmma_m64n64k16(float (&d)[32], uint64_t a, uint64_t b,
                                                       int keep)
{
#if PTX_SM90A
#define WGMMA(TYPES)                                                                               \
    asm volatile(                                                                                  \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"                                               \
        "wgmma.mma_async.sync.aligned.m64n64k16." TYPES " "                                        \
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                  \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "        \
        "%32, %33, p, 1, 1, 0, 0;\n}"                                                              \
        : PTX_F32(d, 0)                                                                            \
        : "l"(a), "l"(b), "r"(keep))
    PTX_HALVES(WGMMA);
#undef WGMMA
#else
    __trap();
#endif
}

// d[64 x 256] (+)= a[64 x 16] b[16 x 256]: a in registers, b in shared memory with the 256 contiguous
// (in chunks of 64).
template <typename half_t>
static __device__ __forceinline__ void
wgmma_m64n256k16_rs_trans(float (&d)[128], const uint32_t (&a)[4], uint64_t b, int keep)
{
#if PTX_SM90A
#define WGMMA(TYPES)                                                                               \
    asm volatile(                                                                                  \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %133, 0;\n"                                              \
        "wgmma.mma_async.sync.aligned.m64n256k16." TYPES " "                                       \
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                  \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "         \
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "         \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "         \
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "         \
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "         \
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "   \
        "%111, "                                                                                   \
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, "     \
        "%126, "                                                                                   \
        "%127}, {%128, %129, %130, %131}, %132, p, 1, 1, 1;\n}"                                    \
        : PTX_F32(d, 0), PTX_F32(d, 32), PTX_F32(d, 64), PTX_F32(d, 96)                            \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep))
    PTX_HALVES(WGMMA);
#undef WGMMA
#else
    __trap();
#endif
}

// d[64 x 64] (+)= a[64 x 16] b[64 x 16]^T: a in registers, b in shared memory with the 16 contiguous.
template <typename half_t>
static __device__ __forceinline__ void wgmma_m64n64k16_rs(float (&d)[32], const uint32_t *a,
                                                          uint64_t b, int keep)
{
#if PTX_SM90A
#define WGMMA(TYPES)                                                                               \
    asm volatile(                                                                                  \
        "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"                                               \
        "wgmma.mma_async.sync.aligned.m64n64k16." TYPES " "                                        \
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                  \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "        \
        "{%32, %33, %34, %35}, %36, p, 1, 1, 0;\n}"                                                \
        : PTX_F32(d, 0)                                                                            \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep))
    PTX_HALVES(WGMMA);
#undef WGMMA
#else
    __trap();
#endif
}

// The same for 32 and 16 columns of d, always added to.
template <typename half_t>
static __device__ __forceinline__ void wgmma_m64n32k16_rs(float (&d)[16], const uint32_t *a,
                                                          uint64_t b)
{
#if PTX_SM90A
#define WGMMA(TYPES)                                                                               \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                        \
                 "wgmma.mma_async.sync.aligned.m64n32k16." TYPES " "                               \
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "        \
                 "{%16, %17, %18, %19}, %20, p, 1, 1, 0;\n}"                                       \
                 : PTX_F16(d, 0)                                                                   \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
    PTX_HALVES(WGMMA);
#undef WGMMA
#else
    __trap();
#endif
}

template <typename half_t>
static __device__ __forceinline__ void wgmma_m64n16k16_rs(float (&d)[8], const uint32_t *a,
                                                          uint64_t b)
{
#if PTX_SM90A
#define WGMMA(TYPES)                                                                               \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                        \
                 "wgmma.mma_async.sync.aligned.m64n16k16." TYPES " "                               \
                 "{%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9, %10, %11}, %12, p, 1, 1, 0;\n}"       \
                 : PTX_F4(d, 0), PTX_F4(d, 4)                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
    PTX_HALVES(WGMMA);
#undef WGMMA
#else
    __trap();
#endif
}

// d[64 x 128] += a[64 x 16] b[16 x 128]: a in registers, b in shared memory with the 128 contiguous
// (in chunks of 64).
template <typename half_t>
static __device__ __forceinline__ void wgmma_m64n128k16_rs_trans(float (&d)[64], const uint32_t *a,
                                                                 uint64_t b)
{
#if PTX_SM90A
#define WGMMA(TYPES)                                                                               \
    asm volatile(                                                                                  \
        "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                                 \
        "wgmma.mma_async.sync.aligned.m64n128k16." TYPES " "                                       \
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                  \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "         \
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "         \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "        \
        "{%64, %65, %66, %67}, %68, p, 1, 1, 1;\n}"                                                \
        : PTX_F32(d, 0), PTX_F32(d, 32)                                                            \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
    PTX_HALVES(WGMMA);
#undef WGMMA
#else
    __trap();
#endif
}

// Descriptor of a matrix in shared memory with the 128-byte swizzle (rows of 128 bytes, 1024-aligned).
// lead: bytes between chunks of 64 values along the contiguous side, where that side is longer than one
// chunk and is not the one summed over; groups of 8 rows follow each other (1024 bytes).
static __device__ __forceinline__ uint64_t wgmma_descriptor(uint32_t address, uint32_t lead)
{
    return (uint64_t)((address & 0x3FFFF) >> 4) | (uint64_t)(lead >> 4) << 16 |
           (uint64_t)(1024 >> 4) << 32 | 1ull << 62;
}

// The same of a matrix without swizzle: cores of 8 rows of 16 bytes, each contiguous. lead: bytes from a core to
// the next along the side summed over; stride: to that of the next 8 rows.
static __device__ __forceinline__ uint64_t wgmma_descriptor_plain(uint32_t address, uint32_t lead,
                                                                  uint32_t stride)
{
    return (uint64_t)((address & 0x3FFFF) >> 4) | (uint64_t)(lead >> 4) << 16 |
           (uint64_t)(stride >> 4) << 32;
}

// A policy for L2: what is read with it is the first to leave. For weights, read once a step.
static __device__ __forceinline__ uint64_t createpolicy_evict_first()
{
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

// 16 bytes from global to shared memory; bytes 0 writes zeros instead.
static __device__ __forceinline__ void cp_async_16_hint(uint32_t dst, const void *src,
                                                        uint32_t bytes, uint64_t policy)
{
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(dst),
                 "l"(src), "r"(bytes), "l"(policy)
                 : "memory");
}

static __device__ __forceinline__ void cp_async_commit_group()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Until all but the last N groups of this thread have arrived.
template <int N> static __device__ __forceinline__ void cp_async_wait_group()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

static __device__ __forceinline__ void mma_m16n8k32_s8(int (&d)[4], const uint32_t (&a)[4],
                                                       uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Arrives at the barrier that block `rank` of the cluster has where `barrier` is here. Relaxed: it says
// that shared memory has been read, and hands no writes over; with a release it would wait, every time,
// until the device has taken all earlier ones.
static __device__ __forceinline__ void mbarrier_arrive_cluster(uint32_t barrier, uint32_t rank)
{
#if PTX_SM90
    asm volatile("{\n.reg .b32 at;\n"
                 "mapa.shared::cluster.u32 at, %0, %1;\n"
                 "mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [at];\n}" ::"r"(barrier),
                 "r"(rank)
                 : "memory");
#else
    __trap();
#endif
}

// The same to each block of the cluster in `blocks` (a bit each), at the same place and barrier there.
static __device__ __forceinline__ void cp_async_bulk_tensor_2d_multicast(uint32_t dst,
                                                                         const void *map, int x,
                                                                         int y, uint32_t barrier,
                                                                         uint16_t blocks)
{
#if PTX_SM90
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(dst),
                 "l"(map), "r"(barrier), "r"(x), "r"(y), "h"(blocks)
                 : "memory");
#else
    __trap();
#endif
}

#define PTX_R4(d, i) "+r"(d[i]), "+r"(d[i + 1]), "+r"(d[i + 2]), "+r"(d[i + 3])
#define PTX_R16(d, i) PTX_R4(d, i), PTX_R4(d, i + 4), PTX_R4(d, i + 8), PTX_R4(d, i + 12)
#define PTX_R32(d, i) PTX_R16(d, i), PTX_R16(d, i + 16)

// d[64 x 256] (+)= a[64 x 32] b[256 x 32]^T, both in shared memory with the 32 values contiguous.
// keep 0: d is overwritten.
static __device__ __forceinline__ void wgmma_m64n256k32_s8(int (&d)[128], uint64_t a, uint64_t b,
                                                           int keep)
{
#if PTX_SM90A
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
                 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
                 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
                 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, "
                 "%110, %111, "
                 "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, "
                 "%125, %126, %127}, "
                 "%128, %129, p;\n}"
                 : PTX_R32(d, 0), PTX_R32(d, 32), PTX_R32(d, 64), PTX_R32(d, 96)
                 : "l"(a), "l"(b), "r"(keep));
#else
    __trap();
#endif
}

// d[64 x N] += a[64 x 32] b[N x 32]^T: a in registers, b in shared memory with the 32 values contiguous.
static __device__ __forceinline__ void wgmma_m64n64k32_s8_rs(int (&d)[32], const uint32_t *a,
                                                             uint64_t b)
{
#if PTX_SM90A
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.s8 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "{%32, %33, %34, %35}, %36, p;\n}"
                 : PTX_R32(d, 0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#else
    __trap();
#endif
}

static __device__ __forceinline__ void wgmma_m64n32k32_s8_rs(int (&d)[16], const uint32_t *a,
                                                             uint64_t b)
{
#if PTX_SM90A
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n32k32.s32.s8.s8 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
                 "{%16, %17, %18, %19}, %20, p;\n}"
                 : PTX_R16(d, 0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#else
    __trap();
#endif
}

static __device__ __forceinline__ void wgmma_m64n16k32_s8_rs(int (&d)[8], const uint32_t *a,
                                                             uint64_t b)
{
#if PTX_SM90A
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n16k32.s32.s8.s8 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9, %10, %11}, %12, p;\n}"
                 : PTX_R4(d, 0), PTX_R4(d, 4)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#else
    __trap();
#endif
}

// float32 to the nearest tf32, ties away from zero.
static __device__ __forceinline__ uint32_t cvt_rna_tf32(float x)
{
    uint32_t y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
}

// d[16 x 8] += a[16 x 8] b[8 x 8], tf32 to float32.
static __device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                                        uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// d[16 x 8] += a[16 x 16] b[16 x 8], int8 to int32: half as deep as mma_int8.
static __device__ __forceinline__ void mma_m16n8k16_s8(int *d, const uint32_t *a, uint32_t b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
}

#endif
