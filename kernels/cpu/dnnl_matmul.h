// dnnl_matmul.h - oneDNN's product y [t, n] = x [t, k] W^T, of oneDNN 2 (Debian 12) and of oneDNN 3
// (Debian 13, Ubuntu 24.04), which differ in how a product is described. Private to kernels/cpu and the
// test that holds our matrix path against oneDNN alone.
#ifndef DNNL_MATMUL_H
#define DNNL_MATMUL_H

#include <dnnl.h>
#include <stdbool.h>

#include "ops.h"

struct matmul {
    dnnl_primitive_t primitive;
    dnnl_memory_t x, w, y;
};

struct matmul_ask {
    enum dtype type; // of x and W; y is int32 for INT8, float32 for the rest
    int t, n, k;
    bool packed;                       // W as oneDNN likes it best, not as it lies
    bool (*takes)(const char *kernel); // by oneDNN's name of it; NULL: any
};

// The kernel that oneDNN prefers of those taken. NULL when there is none, else for
// dnnl_primitive_desc_destroy.
dnnl_primitive_desc_t matmul_describe(dnnl_engine_t engine, const struct matmul_ask *ask);

// data: DNNL_MEMORY_NONE, or DNNL_MEMORY_ALLOCATE for memory of the product's own.
bool matmul_make(struct matmul *m, dnnl_engine_t engine, dnnl_primitive_desc_t pd, void *data);
dnnl_status_t matmul_run(const struct matmul *m, dnnl_stream_t stream); // and waits
void matmul_free(struct matmul *m);                                     // zero is allowed

#endif
