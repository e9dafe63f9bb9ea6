// rmsnorm.cu - optional residual add, then the zero-centred norm of Qwen3_5RMSNorm.
// Computes: sum = x + add; y = sum * rsqrt(mean(sum^2) + eps) * (1 + w), y from the sum before its rounding.
// Bound by: memory, x and add read, sum and y written; at few rows by its start and two barriers.
//
// One block a row, a pack of eight values a thread, held in registers between the sum and the product.
// Measured: 8192 x 4096 bf16 with add 68 us, 3.94 TB/s of 4.25; one row 1.7 us in a played step. NVIDIA
// H200, 2026-11-24. Rows longer than 1024 packs, or that packs do not fit, are read twice.
//
// Ahead of int8 weights y goes to int8 from the registers it is in (rmsnorm_int8), a launch and a reading less: 9B
// int8, before and after in turns on one card, ms: 112.5 to 109.7 for a prompt of 8,192, 3.96 to 3.90 and 7.63 to 7.48
// for 8 and 64 generated tokens at depth 2,048; 0.8B 1.326 to 1.270 and 2.83 to 2.76 (`model_check perf`, NVIDIA H200,
// 2026-12-01).
#include "quantize.cuh"

// The thread's pack of a row's y, in float32; zero beyond the row. The next kernel may begin.
template <typename act_t>
static __device__ __forceinline__ pack norm_pack(const struct rmsnorm_args &a, float *shared)
{
    const int i = PACK * threadIdx.x;
    const size_t at = (size_t)blockIdx.x * a.n + i;
    const bool mine = i < a.n;
    pack v = {}, weight = {};
    griddepcontrol_launch_dependents();
    if (mine)
        weight = pack_load(a.w + i);
    griddepcontrol_wait();
    float sum = 0;
    if (mine) {
        v = pack_load((const act_t *)a.x + at);
        if (a.add) {
            const pack other = pack_load((const act_t *)a.add + at);
#pragma unroll
            for (int j = 0; j < PACK; j++)
                v.v[j] = held_by<act_t>(v.v[j] + other.v[j]);
        }
        if (a.sum)
            pack_store((act_t *)a.sum + at, v);
#pragma unroll
        for (int j = 0; j < PACK; j++)
            sum += v.v[j] * v.v[j];
    }
    const float r = 1.0f / sqrtf(block_sum(sum, shared) / (float)a.n + a.eps);
#pragma unroll
    for (int j = 0; j < PACK; j++)
        v.v[j] = v.v[j] * r * (1.0f + weight.v[j]);
    return v;
}

template <typename act_t>
static __global__ void __launch_bounds__(1024) rmsnorm_packed(const struct rmsnorm_args a)
{
    __shared__ float shared[32];
    const pack v = norm_pack<act_t>(a, shared);
    const int i = PACK * threadIdx.x;
    if (i < a.n)
        pack_store((act_t *)a.y + (size_t)blockIdx.x * a.n + i, v);
}

// What quantize makes of y, from registers; y itself only where it is wanted.
template <typename act_t>
static __global__ void __launch_bounds__(1024)
    rmsnorm_int8(const struct rmsnorm_args a, int8_t *q, float *scales)
{
    __shared__ float shared[32];
    raw_pack<act_t> y;
    pack_store((act_t *)&y, norm_pack<act_t>(a, shared));
    const float scale = quantize_scale(block_largest(raw_largest(y, 0.0f), shared));
    const quantizer<act_t> to_int8(scale);
    const int i = PACK * threadIdx.x;
    const size_t at = (size_t)blockIdx.x * a.n + i;
    if (threadIdx.x == 0)
        scales[blockIdx.x] = scale;
    if (i >= a.n)
        return;
    *(uint2 *)(q + at) = to_int8.values(pack_open(y));
    if (a.y)
        *(raw_pack<act_t> *)((act_t *)a.y + at) = y;
}

template <typename act_t>
static __global__ void __launch_bounds__(256)
    rmsnorm_any(act_t *y, const act_t *x, const act_t *add, act_t *total, const float *w, int n,
                float eps)
{
    __shared__ float shared[32];
    const size_t at = (size_t)blockIdx.x * n;
    griddepcontrol_launch_dependents();
    griddepcontrol_wait();
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const float v = held_by<act_t>(to_float(x[at + i]) + (add ? to_float(add[at + i]) : 0.0f));
        sum += v * v;
    }
    const float r = 1.0f / sqrtf(block_sum(sum, shared) / (float)n + eps);
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const float v = held_by<act_t>(to_float(x[at + i]) + (add ? to_float(add[at + i]) : 0.0f));
        if (total)
            total[at + i] = from_float<act_t>(v);
        y[at + i] = from_float<act_t>(v * r * (1.0f + w[i]));
    }
}

// Are they rows of packs that a block holds?
static bool packs(const struct rmsnorm_args *a)
{
    return a->n % PACK == 0 && a->n <= 1024 * PACK && pack_aligned(a->y) && pack_aligned(a->x) &&
           pack_aligned(a->add) && pack_aligned(a->sum) && pack_aligned(a->w);
}

template <typename act_t> static void run(struct dev *dev, const struct rmsnorm_args *a)
{
    if (packs(a))
        cuda_launch(dev, "rmsnorm", {(unsigned)a->t, threads_for(a->n / PACK, 1024)},
                    rmsnorm_packed<act_t>, *a);
    else
        cuda_launch(dev, "rmsnorm", {(unsigned)a->t, 256}, rmsnorm_any<act_t>, (act_t *)a->y,
                    (const act_t *)a->x, (const act_t *)a->add, (act_t *)a->sum, a->w, a->n,
                    a->eps);
}

void cuda_rmsnorm(struct dev *dev, const struct rmsnorm_args *a)
{
    if (a->t > 0)
        ACT_SWITCH(dev, run<act_t>(dev, a));
}

bool rmsnorm_rows_int8(struct dev *dev, const struct rmsnorm_args *a, int8_t *q, float *scale)
{
    if (!packs(a) || !pack_aligned(q))
        return false;
    if (a->t > 0)
        ACT_SWITCH(dev,
                   cuda_launch(dev, "rmsnorm", {(unsigned)a->t, threads_for(a->n / PACK, 1024)},
                               rmsnorm_int8<act_t>, *a, q, scale));
    return true;
}
