// tensor_map.cu - see tensor_map.cuh. The driver's own function is asked for by name, so that programs need
// not be linked with the driver.
#include "tensor_map.cuh"

#include <cudaTypedefs.h>
#include <cuda_runtime.h>

static PFN_cuTensorMapEncodeTiled_v12000 find_encode()
{
    void *entry = NULL;
    cudaDriverEntryPointQueryResult found;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault,
                                         &found) != cudaSuccess ||
        found != cudaDriverEntryPointSuccess)
        return NULL;
    return (PFN_cuTensorMapEncodeTiled_v12000)entry;
}

bool tensor_map(CUtensorMap *map, const struct tensor_array *a)
{
    static const PFN_cuTensorMapEncodeTiled_v12000 encode = find_encode();
    const cuuint32_t steps[3] = {1, 1, 1};
    return encode && encode(map, a->type, a->rank, (void *)a->p, a->size, a->stride, a->box, steps,
                            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                            CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                            CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}
