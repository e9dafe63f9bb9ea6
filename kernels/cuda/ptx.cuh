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

#endif
