// attn_prep.cu - what stands between the projections and the scores of a full-attention layer.
// Computes, per token and head: zero-centred norm of q and k, rotation of the first `rot` values (pairs
// i, i + rot/2), and the token's K and V into its page (kv_pages.h). Source: Qwen3_5Attention.
// Bound by: memory. A warp takes one head of one token.
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
            x[j] = to_float(part[j]);
        return;
    }
    for (int j = 0; j < EACH; j++)
        x[j] = lane * EACH + j < n ? to_float(row[lane * EACH + j]) : 0.0f;
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

// rows: scratch of the warp, the normed values, of which a lane needs the partners of its own.
__device__ void norm_rotate(float (&x)[EACH], const float *w, const struct attn_prep_args &a,
                            const float2 *turn, float *row)
{
    const int lane = threadIdx.x % 32, n = a.head_dim, half = a.rot / 2;
    float sum = 0;
    for (int j = 0; j < EACH; j++)
        sum += x[j] * x[j];
    for (int d = 16; d > 0; d /= 2)
        sum += __shfl_xor_sync(~0u, sum, d);
    const float r = rsqrtf(sum / (float)n + a.eps);
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

template <typename act_t, typename kv_t>
__global__ __launch_bounds__(WARPS *
                             32) void prepare(const __grid_constant__ struct attn_prep_args a,
                                              const __grid_constant__ struct frequencies f)
{
    __shared__ float2 turn[DIM_MAX / 2];
    __shared__ float rows[WARPS][DIM_MAX];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, t = blockIdx.x, n = a.head_dim;
    struct span_tile tile;
    // Tiles of one row: their numbers run backwards inside a span, so the u-th is not row u; any
    // one-to-one map does.
    if (!span_tile_find(&tile, a.batch, 0, t, 1, 1))
        return;
    const int token = tile.span.t0 + tile.row0, position = tile.span.pos0 + tile.row0;
    for (int i = threadIdx.x; i < a.rot / 2; i += blockDim.x)
        turn[i] = cos_sin((float)position * f.f[i]);
    __syncthreads(); // the angles are there
    const int item = blockIdx.y * WARPS + warp;
    float x[EACH];
    if (item < a.heads) {
        const size_t row = (size_t)token * a.heads + item;
        load_row(x, (const act_t *)a.qg + row * 2 * n, n, lane);
        norm_rotate(x, a.q_norm, a, turn, rows[warp]);
        store_row((act_t *)a.q + row * n, x, n, lane);
        return;
    }
    const int head = (item - a.heads) % a.kv_heads, is_v = (item - a.heads) / a.kv_heads;
    if (is_v > 1)
        return;
    const int page = a.batch.pages[(size_t)tile.index * a.batch.pages_max + position / PAGE_TOKENS];
    const size_t block = ((size_t)page * a.kv_heads + head) * PAGE_TOKENS * n;
    const size_t row = (size_t)token * a.kv_heads + head;
    load_row(x, (const act_t *)(is_v ? a.v : a.k) + row * n, n, lane);
    if (!is_v)
        norm_rotate(x, a.k_norm, a, turn, rows[warp]);
    store_kv((kv_t *)(is_v ? a.v_pages : a.k_pages) + block, x, n, position % PAGE_TOKENS, lane);
}

template <typename act_t>
void launch(struct dev *dev, const struct attn_prep_args *a, const struct frequencies &f)
{
    const dim3 grid(a->batch.t, blocks_for(a->heads + 2 * a->kv_heads, WARPS));
    if (a->kv_type == DTYPE_BF16)
        prepare<act_t, bf16><<<grid, WARPS * 32, 0, cuda_of(dev)->stream>>>(*a, f);
    else
        prepare<act_t, float><<<grid, WARPS * 32, 0, cuda_of(dev)->stream>>>(*a, f);
}

} // namespace

void cuda_attn_prep(struct dev *dev, const struct attn_prep_args *a)
{
    struct frequencies f = {};
    if (a->batch.t == 0)
        return;
    if (a->head_dim > DIM_MAX || a->kv_type == DTYPE_F16) {
        cuda_fail(dev, "attn_prep: head_dim %d with pages of %s; at most %d, f32 or bf16",
                  a->head_dim, dtype_name(a->kv_type), DIM_MAX);
        return;
    }
    for (int i = 0; i < a->rot / 2; i++)
        f.f[i] = 1.0f / powf(a->rope_theta, (float)(2 * i) / (float)a->rot);
    ACT_SWITCH(dev, launch<act_t>(dev, a, f));
    LAUNCHED(dev, "attn_prep");
}
