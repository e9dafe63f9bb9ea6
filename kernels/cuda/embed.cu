// embed.cu - rows of the embedding table as activations. Bound by: memory, one row a token.
#include "pack.cuh"

template <typename act_t, typename table_t, bool PACKED>
static __global__ void embed_rows(act_t *y, const int *ids, const table_t *table, int n)
{
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    const table_t *row = table + (size_t)ids[blockIdx.x] * n;
    act_t *to = y + (size_t)blockIdx.x * n;
    if (PACKED) {
        for (int i = PACK * threadIdx.x; i < n; i += PACK * blockDim.x)
            pack_store(to + i, pack_load(row + i));
    } else {
        for (int i = threadIdx.x; i < n; i += blockDim.x)
            to[i] = from_float<act_t>(to_float(row[i]));
    }
}

template <typename act_t, typename table_t>
static void embed(struct dev *dev, const struct embed_args *a)
{
    const int n = a->table.cols;
    const table_t *table = (const table_t *)a->table.data;
    const struct cuda_shape shape = {(unsigned)a->t, threads_for(n / PACK + 1, 512)};
    if (n % PACK == 0 && pack_aligned(a->y) && pack_aligned(table))
        cuda_launch(dev, "embed", shape, embed_rows<act_t, table_t, true>, (act_t *)a->y, a->ids,
                    table, n);
    else
        cuda_launch(dev, "embed", shape, embed_rows<act_t, table_t, false>, (act_t *)a->y, a->ids,
                    table, n);
}

void cuda_embed(struct dev *dev, const struct embed_args *a)
{
    if (a->t < 1)
        return;
    if (a->table.type == cuda_half(dev))
        ACT_SWITCH(dev, (embed<act_t, half_of<act_t>>(dev, a)));
    else
        ACT_SWITCH(dev, (embed<act_t, float>(dev, a)));
}
