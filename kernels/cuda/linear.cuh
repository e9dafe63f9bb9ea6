// linear.cuh - what the files of linear share: activations rounded for a type of weights, and one
// product of a call. Private to kernels/cuda; the device's thread.
#ifndef LINEAR_CUH
#define LINEAR_CUH

#include "ops_cuda.cuh"

// y = x w^T for some rows of a call.
struct product {
    void *y;              // [t, w->rows], float32 or the activations' type
    const void *x;        // [t, w->cols] of x_type
    enum dtype x_type;    // the weights', unless the path rounds x itself: then the activations'
    const float *x_scale; // [t]; int8 x only
    const struct weight *w;
    enum dtype y_type;
    int t;
};

// Does w begin and step in multiples of 16 bytes? What the fast paths ask of a matrix; x and y always do.
bool linear_aligned(const struct weight *w);

// Each of these takes what it can and says whether it did.
// linear_plain.cu: any shape; one warp a value, k dealt to its lanes. x of the activations' type for
// float weights, int8 for INT8.
void linear_plain(struct dev *dev, const struct product *p);

#endif
