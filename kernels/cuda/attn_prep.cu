// attn_prep.cu - what stands between the projections and the scores of a full-attention layer.
// Computes, per token and head: zero-centred norm of q and k, rotation of the first `rot` values (pairs
// i, i + rot/2), and the token's K and V into its page (kv_pages.h). Source: Qwen3_5Attention.
// Bound by: memory. A warp takes one head of one token.
// Measured, NVIDIA H200, 2026-11-24, bf16, 16 query and 4 KV heads of 256, a graph of launches: 8192
// tokens 70 us (floor at 4.2 TB/s 48, ratio 1.45), 64 generated tokens 3.1 us, one 2.7. Since then angles, pages
// and weights are asked for before the projections have ended (attention_decode.cu says what that gave).
#include <math.h>

#include "kv_pages.h"
#include "spans.cuh"

namespace
{

constexpr int WARPS = 8, DIM_MAX = 256, EACH = DIM_MAX / 32; // values a lane holds

// Rounded on the host as the reference forms them: inverse frequency first, then the product.
struct frequencies {
    float f[DIM_MAX / 2];
};

// Cosine and sine of the float32 angle, which is right to a part of 2^-24 of a half turn at any position:
// turns are taken off in float64.
__device__ float2 cos_sin(float angle)
{
    double half_turns = (double)angle * 0.31830988618379067154;
    half_turns -= 2.0 * rint(half_turns * 0.5);
    float2 r;
    sincospif((float)half_turns, &r.y, &r.x);
    return r;
}

// A lane's values 8 lane .. 8 lane + 7 of a row of n; zero beyond it. Whole rows of 256 are read 16 bytes
// at a time.
template <typename T> __device__ void load_row(float (&x)[EACH], const T *row, int n, int lane)
{
    if (n == DIM_MAX) {
        alignas(16) T part[EACH];
        for (int i = 0; i < (int)sizeof part / 16; i++)
            ((uint4 *)part)[i] = ((const uint4 *)(row + lane * EACH))[i];
        for (int j = 0; j < EACH; j++)
            x[j] = held_float(part[j]);
        return;
    }
    for (int j = 0; j < EACH; j++)
        x[j] = lane * EACH + j < n ? held_float(row[lane * EACH + j]) : 0.0f;
}

template <typename T> __device__ void store_row(T *row, const float (&x)[EACH], int n, int lane)
{
    if (n == DIM_MAX) {
        alignas(16) T part[EACH];
        for (int j = 0; j < EACH; j++)
            part[j] = from_float<T>(x[j]);
        for (int i = 0; i < (int)sizeof part / 16; i++)
            ((uint4 *)(row + lane * EACH))[i] = ((const uint4 *)part)[i];
        return;
    }
    for (int j = 0; j < EACH && lane * EACH + j < n; j++)
        row[lane * EACH + j] = from_float<T>(x[j]);
}

// Row `row` of a block of a page. A lane's eight values lie together when the block is swizzled.
template <typename T>
__device__ void store_kv(T *block, const float (&x)[EACH], int n, int row, int lane)
{
    const int swizzled = kv_swizzled(sizeof(T) == 2 ? DTYPE_BF16 : DTYPE_F32, n);
    if (!swizzled) {
        store_row(block + row * n, x, n, lane);
    } else if (lane * EACH < n) {
        alignas(16) T part[EACH];
        for (int j = 0; j < EACH; j++)
            part[j] = from_float<T>(x[j]);
        for (int i = 0; i < (int)sizeof part / 16; i++)
            ((uint4 *)(block + kv_index(1, n, row, lane * EACH)))[i] = ((const uint4 *)part)[i];
    }
}

__device__ float inverse_norm(const float (&x)[EACH], int n, float eps)
{
    float sum = 0;
    for (int j = 0; j < EACH; j++)
        sum += x[j] * x[j];
    for (int d = 16; d > 0; d /= 2)
        sum += __shfl_xor_sync(~0u, sum, d);
    return rsqrtf(sum / (float)n + eps);
}

// head_dim 256 and rot 64, the family's: a lane's partners are all in the lane four away. w: the lane's.
__device__ void norm_rotate_64(float (&x)[EACH], const float (&w)[EACH], float eps,
                               const float2 *turn)
{
    const int lane = threadIdx.x % 32;
    const float r = inverse_norm(x, DIM_MAX, eps);
    for (int j = 0; j < EACH; j++)
        x[j] *= r * (1.0f + w[j]);
    for (int j = 0; j < EACH; j++) {
        const float partner = __shfl_xor_sync(~0u, x[j], 4);
        const float2 t = turn[lane % 4 * EACH + j];
        const float turned = x[j] * t.x + (lane < 4 ? -partner : partner) * t.y;
        x[j] = lane < 8 ? turned : x[j];
    }
}

// Any head_dim and rot. row: scratch of the warp, the normed values, of which a lane needs the partners
// of its own.
__device__ void norm_rotate(float (&x)[EACH], const float *w, const struct attn_prep_args &a,
                            const float2 *turn, float *row)
{
    const int lane = threadIdx.x % 32, n = a.head_dim, half = a.rot / 2;
    const float r = inverse_norm(x, n, a.eps);
    for (int j = 0; j < EACH; j++) {
        const int i = lane * EACH + j;
        x[j] *= i < n ? r * (1.0f + w[i]) : 0.0f;
        if (i < a.rot)
            row[i] = x[j];
    }
    __syncwarp(); // the rotated part of the row is written, partners read it
    for (int j = 0; j < EACH; j++) {
        const int i = lane * EACH + j;
        if (i < half)
            x[j] = x[j] * turn[i].x - row[i + half] * turn[i].y;
        else if (i < a.rot)
            x[j] = x[j] * turn[i - half].x + row[i - half] * turn[i - half].y;
    }
}

// A block takes eight heads of one token. USUAL: head_dim 256 and rot 64.
template <typename act_t, typename kv_t, bool USUAL>
__global__ __launch_bounds__(WARPS *
                             32) void prepare(const __grid_constant__ struct attn_prep_args a,
                                              const __grid_constant__ struct frequencies f)
{
    __shared__ alignas(16) float2 turn[DIM_MAX / 2];
    __shared__ float rows[USUAL ? 1 : WARPS][DIM_MAX];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, n = USUAL ? DIM_MAX : a.head_dim;
    const int item = blockIdx.y * WARPS + warp;
    const int kind = item < a.heads ? 0 : 1 + (item - a.heads) / a.kv_heads; // q, k, v, nothing
    const int head = kind ? (item - a.heads) % a.kv_heads : item;
    const size_t token = blockIdx.x;
    griddepcontrol_launch_dependents();
    // The step's spans and pages, and the weights, are there before the projections are.
    const struct span_row r = span_row_find(a.batch, (int)token);
    if (r.index < 0)
        return;
    const int *pages = a.batch.pages + (size_t)r.index * a.batch.pages_max;
    const int page = kind ? pages[r.position / PAGE_TOKENS] : 0;
    for (int i = threadIdx.x; i < a.rot / 2; i += blockDim.x)
        turn[i] = cos_sin((float)r.position * f.f[i]);
    float x[EACH], w[EACH];
    if (kind < 2 && USUAL)
        load_row(w, kind ? a.k_norm : a.q_norm, n, lane);
    griddepcontrol_wait();
    if (kind == 0)
        load_row(x, (const act_t *)a.qg + (token * a.heads + head) * 2 * n, n, lane);
    else if (kind < 3)
        load_row(x, (const act_t *)(kind == 1 ? a.k : a.v) + (token * a.kv_heads + head) * n, n,
                 lane);
    __syncthreads(); // the angles are there
    if (kind >= 3)
        return;
    if (kind < 2 && USUAL)
        norm_rotate_64(x, w, a.eps, turn);
    else if (kind < 2)
        norm_rotate(x, kind ? a.k_norm : a.q_norm, a, turn, rows[warp]);
    const size_t block = ((size_t)page * a.kv_heads + head) * PAGE_TOKENS * n;
    if (kind == 0)
        store_row((act_t *)a.q + (token * a.heads + head) * n, x, n, lane);
    else
        store_kv((kv_t *)(kind == 1 ? a.k_pages : a.v_pages) + block, x, n,
                 r.position % PAGE_TOKENS, lane);
}

template <typename act_t, typename kv_t>
void launch(struct dev *dev, const struct attn_prep_args *a, const struct frequencies &f)
{
    const dim3 grid(a->batch.t, blocks_for(a->heads + 2 * a->kv_heads, WARPS));
    auto kernel = a->head_dim == 256 && a->rot == 64 ? prepare<act_t, kv_t, true>
                                                     : prepare<act_t, kv_t, false>;
    cuda_launch(dev, "attn_prep", {grid, WARPS * 32}, kernel, *a, f);
}

template <typename act_t>
void launch_any(struct dev *dev, const struct attn_prep_args *a, const struct frequencies &f)
{
    if (a->kv_type == DTYPE_F32)
        launch<act_t, float>(dev, a, f);
    else
        launch<act_t, half_of<act_t>>(dev, a, f);
}

} // namespace

void cuda_attn_prep(struct dev *dev, const struct attn_prep_args *a)
{
    struct frequencies f = {};
    if (a->batch.t == 0)
        return;
    if (a->head_dim > DIM_MAX || (a->kv_type != DTYPE_F32 && a->kv_type != cuda_half(dev))) {
        cuda_fail(dev, "attn_prep: head_dim %d with pages of %s; at most %d, f32 or %s",
                  a->head_dim, dtype_name(a->kv_type), DIM_MAX, dtype_name(cuda_half(dev)));
        return;
    }
    for (int i = 0; i < a->rot / 2; i++)
        f.f[i] = 1.0f / powf(a->rope_theta, (float)(2 * i) / (float)a->rot);
    ACT_SWITCH(dev, launch_any<act_t>(dev, a, f));
}
