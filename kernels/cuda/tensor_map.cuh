// tensor_map.cuh - what the copy engine must know of an array to fetch boxes of it (sm_90). Private to the
// kernels that do; they hand the map to a kernel as a __grid_constant__ argument.
//
// A box's inner dimension is 128 bytes, and its rows of that many land swizzled: 16 bytes i of row r at
// i ^ r % 8. What of a box lies outside the array is zeros.
#ifndef TENSOR_MAP_CUH
#define TENSOR_MAP_CUH

#include <cuda.h>

struct tensor_array {
    const void *p; // 16-aligned
    CUtensorMapDataType type;
    unsigned rank;      // 2 or 3
    cuuint64_t size[3]; // in elements, the inner one first
    cuuint64_t
        stride[2]; // in bytes, multiples of 16, from one row to the next, of size[2] to the next
    cuuint32_t box[3]; // in elements
};

// False: the driver does not take such an array.
bool tensor_map(CUtensorMap *map, const struct tensor_array *a);

#endif
