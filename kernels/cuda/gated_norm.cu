// gated_norm.cu - the delta-net layer's output norm, Qwen3_5RMSNormGated: plain weight, SiLU gate.
// Computes: y = o * rsqrt(mean(o^2) + eps) * w * SiLU(z), per head.
// Bound by: memory, two values read and one written.
//
// A head is LANES lanes of a pack each (LANES * 8 >= dim), so a warp holds 32 / LANES heads and the sum
// needs no barrier. Heads that do not fit get a warp each, value by value.
// Measured: 8192 x 32 x 128 bf16 48 us, 4.16 TB/s of 4.25; one row 1.3 us. NVIDIA H200, 2026-11-24.
#include "pack.cuh"

template <typename act_t, int LANES>
static __global__ void __launch_bounds__(256)
    gated_norm_packed(act_t *y, const act_t *o, const act_t *z, struct gated_norm_args a)
{
    const size_t head = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
    const int i = PACK * (threadIdx.x % LANES);
    const bool mine = head < (size_t)a.t * a.heads && i < a.dim;
    const size_t at = head * a.dim + i;
    pack v = {}, gate = {}, w = {};
    griddepcontrol_launch_dependents();
    if (mine)
        w = pack_load(a.w + i);
    griddepcontrol_wait();
    if (mine) {
        v = pack_load(o + at);
        gate = pack_load(z + at);
    }
    float sum = 0;
#pragma unroll
    for (int j = 0; j < PACK; j++)
        sum += v.v[j] * v.v[j];
#pragma unroll
    for (int lane = LANES / 2; lane; lane /= 2)
        sum += __shfl_xor_sync(~0u, sum, lane);
    const float r = 1.0f / sqrtf(sum / (float)a.dim + a.eps);
    if (!mine)
        return;
#pragma unroll
    for (int j = 0; j < PACK; j++)
        v.v[j] = v.v[j] * r * w.v[j] * silu<act_t>(held_by<act_t>(gate.v[j]));
    pack_store(y + at, v);
}

template <typename act_t>
static __global__ void __launch_bounds__(256)
    gated_norm_any(act_t *y, const act_t *o, const act_t *z, struct gated_norm_args a)
{
    const size_t head = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    if (head >= (size_t)a.t * a.heads)
        return;
    const size_t at = head * a.dim;
    float sum = 0;
    for (int i = threadIdx.x % 32; i < a.dim; i += 32)
        sum += to_float(o[at + i]) * to_float(o[at + i]);
#pragma unroll
    for (int lane = 16; lane; lane /= 2)
        sum += __shfl_xor_sync(~0u, sum, lane);
    const float r = 1.0f / sqrtf(sum / (float)a.dim + a.eps);
    for (int i = threadIdx.x % 32; i < a.dim; i += 32)
        y[at + i] =
            from_float<act_t>(to_float(o[at + i]) * r * a.w[i] * silu<act_t>(held_float(z[at + i])));
}

template <typename act_t> static void run(struct dev *dev, const struct gated_norm_args *a)
{
    act_t *y = (act_t *)a->y;
    const act_t *o = (const act_t *)a->o, *z = (const act_t *)a->z;
    const size_t heads = (size_t)a->t * (size_t)a->heads;
    const bool packed = a->dim % PACK == 0 && pack_aligned(y) && pack_aligned(o) &&
                        pack_aligned(z) && pack_aligned(a->w);
    if (packed && a->dim <= 16 * PACK)
        cuda_launch(dev, "gated_norm", {blocks_for(heads, 256 / 16), 256},
                    gated_norm_packed<act_t, 16>, y, o, z, *a);
    else if (packed && a->dim <= 32 * PACK)
        cuda_launch(dev, "gated_norm", {blocks_for(heads, 256 / 32), 256},
                    gated_norm_packed<act_t, 32>, y, o, z, *a);
    else
        cuda_launch(dev, "gated_norm", {blocks_for(heads, 256 / 32), 256}, gated_norm_any<act_t>, y,
                    o, z, *a);
}

void cuda_gated_norm(struct dev *dev, const struct gated_norm_args *a)
{
    if (a->t > 0)
        ACT_SWITCH(dev, run<act_t>(dev, a));
}
