// no_library.c - preloaded, leaves cuBLASLt without a proposal, so that linear takes its own kernels for every
// product. For compute-sanitizer's racecheck: kernels on clusters that it does not instrument, as the library's
// are, end in "failed to handle a hardware exception", and instrumented they take minutes a product.
#include <cublas_v2.h>

// As linked with, by name: the real one takes ten arguments, of which none is looked at. No proposal is found
// and none is written where they were wanted.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(void);

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(void)
{
    return CUBLAS_STATUS_NOT_SUPPORTED;
}
