// gather.cu - keep the rows that need logits. Bound by: memory.
#include "pack.cuh"

template <typename word_t>
static __global__ void gather_rows(word_t *y, const word_t *x, const int *rows, size_t words)
{
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    const word_t *from = x + (size_t)rows[blockIdx.x] * words;
    word_t *to = y + (size_t)blockIdx.x * words;
    for (size_t i = threadIdx.x; i < words; i += blockDim.x)
        to[i] = from[i];
}

template <typename word_t> static void gather(struct dev *dev, const struct gather_args *a)
{
    const size_t words = (size_t)a->n * dtype_bytes(cuda_of(dev)->act) / sizeof(word_t);
    const struct cuda_shape shape = {(unsigned)a->n_rows, threads_for((int)words, 512)};
    cuda_launch(dev, "gather", shape, gather_rows<word_t>, (word_t *)a->y, (const word_t *)a->x,
                a->rows, words);
}

void cuda_gather(struct dev *dev, const struct gather_args *a)
{
    if (a->n_rows < 1)
        return;
    if ((size_t)a->n * dtype_bytes(cuda_of(dev)->act) % 16 == 0 && pack_aligned(a->y) &&
        pack_aligned(a->x))
        gather<uint4>(dev, a);
    else
        gather<uint16_t>(dev, a);
}
