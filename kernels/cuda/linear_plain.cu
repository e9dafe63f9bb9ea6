// linear_plain.cu - y = x W^T for shapes that no fast path takes: rows of W that do not begin at
// multiples of 16 bytes, float32 weights in the few-rows path.
// Bound by: instructions. One warp a row of W and up to ROWS rows of x: lane l adds k = l, l + 32, ..,
// then the lanes add up, so a value's order does not depend on what stands beside it.
#include "linear.cuh"
#include "pack.cuh"

enum { ROWS = 8, WARPS = 8 };

template <typename w_t, typename y_t>
static __global__ void __launch_bounds__(32 * WARPS)
    plain_float(y_t *y, const w_t *x, const w_t *w, int t, int n, int k)
{
    const int col = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    const int row0 = blockIdx.y * ROWS;
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    if (col >= n)
        return;
    float sum[ROWS] = {};
    for (int i = lane; i < k; i += 32) {
        const float v = to_float(w[(size_t)col * k + i]);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (row0 + r < t)
                sum[r] += to_float(x[(size_t)(row0 + r) * k + i]) * v;
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int other = 16; other; other /= 2)
            sum[r] += __shfl_xor_sync(~0u, sum[r], other);
        if (lane == 0 && row0 + r < t)
            y[(size_t)(row0 + r) * n + col] = from_float<y_t>(sum[r]);
    }
}

template <typename y_t>
static __global__ void __launch_bounds__(32 * WARPS)
    plain_int8(y_t *y, const int8_t *x, const float *x_scale, struct weight w, int t)
{
    const int col = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    const int row0 = blockIdx.y * ROWS, k = w.cols;
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    if (col >= w.rows)
        return;
    int sum[ROWS] = {};
    for (int i = lane; i < k; i += 32) {
        const int v = ((const int8_t *)w.data)[(size_t)col * k + i];
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (row0 + r < t)
                sum[r] += x[(size_t)(row0 + r) * k + i] * v;
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int exact = __reduce_add_sync(~0u, sum[r]);
        if (lane == 0 && row0 + r < t)
            y[(size_t)(row0 + r) * w.rows + col] =
                from_float<y_t>((float)exact * (x_scale[row0 + r] * w.scale[col]));
    }
}

template <typename y_t> static void run(struct dev *dev, const struct product *p)
{
    const struct weight *w = p->w;
    const struct cuda_shape shape = {
        dim3(blocks_for((size_t)w->rows, WARPS), blocks_for((size_t)p->t, ROWS)), 32 * WARPS};
    y_t *y = (y_t *)p->y;
    if (w->type == DTYPE_INT8)
        cuda_launch(dev, "linear", shape, plain_int8<y_t>, y, (const int8_t *)p->x, p->x_scale, *w,
                    p->t);
    else if (w->type == cuda_half(dev))
        HALF_SWITCH(dev, cuda_launch(dev, "linear", shape, plain_float<half_t, y_t>, y,
                                     (const half_t *)p->x, (const half_t *)w->data, p->t, w->rows,
                                     w->cols));
    else
        cuda_launch(dev, "linear", shape, plain_float<float, y_t>, y, (const float *)p->x,
                    (const float *)w->data, p->t, w->rows, w->cols);
}

void linear_plain(struct dev *dev, const struct product *p)
{
    if (p->y_type == DTYPE_F32)
        run<float>(dev, p);
    else
        HALF_SWITCH(dev, run<half_t>(dev, p));
}
