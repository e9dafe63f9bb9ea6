// linear.cuh - what the files of linear share: one product of a call and who computes it.
// Private to kernels/cuda; the device's thread.
#ifndef LINEAR_CUH
#define LINEAR_CUH

#include "ops_cuda.cuh"

// y = x w^T for some rows of a call.
struct product {
    void *y;              // [t, w->rows]
    const void *x;        // [t, w->cols], rounded to the weights' type
    const float *x_scale; // [t]; int8 x only
    const struct weight *w;
    enum dtype y_type; // F32, or that of activations
    int t;
};

// convert.cu: convert for activations; what follows in the stream may start early, as after any kernel.
void convert_values(struct dev *dev, const struct convert_args *a);

// linear_plain.cu: any shape and alignment, slowly.
void linear_plain(struct dev *dev, const struct product *p);

// linear_lt.cu: cuBLASLt. False when it does not take the product: rows of W and y that are not whole
// multiples of 16 bytes.
bool linear_lt(struct dev *dev, const struct product *p);

// linear_int8.cu: int8 with the scales applied to the sums while they are in registers; sm_90a. Asks what
// linear_lt asks, which is who calls it.
bool linear_int8(struct dev *dev, const struct product *p);

#endif
