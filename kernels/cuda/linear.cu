// linear.cu - y = x W^T: the rounding of x and the choice of a path.
#include "linear.cuh"
#include "quantize.cuh"

bool linear_aligned(const struct weight *w)
{
    return pack_aligned(w->data) && (size_t)w->cols * dtype_bytes(w->type) % 16 == 0;
}

// All rows of x as int8 in scratch, with a scale each. False: no memory, kept for sync.
static bool quantize_x(struct dev *dev, const struct linear_args *a, struct product *p)
{
    const size_t cols = (size_t)p->w->cols, n = ((size_t)a->t * cols + 255) / 256 * 256;
    int8_t *q = (int8_t *)cuda_scratch(dev, CUDA_SLOT_LINEAR_X, n + (size_t)a->t * sizeof(float));
    if (!q)
        return false;
    p->x = q;
    p->x_type = DTYPE_INT8;
    p->x_scale = (float *)(q + n);
    const struct quantize_args args = {.q = q,
                                       .scale = (float *)(q + n),
                                       .x = a->x,
                                       .type = cuda_of(dev)->act,
                                       .rows = a->t,
                                       .cols = p->w->cols};
    quantize_rows(dev, &args);
    return true;
}

void cuda_linear(struct dev *dev, const struct linear_args *a)
{
    struct product p = {};
    p.t = a->t;
    p.x_type = cuda_of(dev)->act;
    p.y_type = a->wide ? DTYPE_F32 : cuda_of(dev)->act;
    for (int i = 0; i < a->n && a->t > 0; i++) {
        p.w = &a->w[i];
        p.y = a->y[i];
        p.x = a->x;
        if (p.w->type == DTYPE_INT8 && !quantize_x(dev, a, &p))
            return;
        linear_plain(dev, &p);
    }
}
