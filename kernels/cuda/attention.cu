// attention.cu - paged causal attention with an output gate: which kernel, and the one for every shape.
// Computes: o = softmax(q k^T / sqrt(head_dim)) v * sigmoid(gate), per row, softmax over pages in the
// order of positions.
//
// 16-bit activations and pages with head_dim 256 have kernels of their own (attention_prefill.cu,
// attention_decode.cu). The kernel here is for float32, other head sizes and older chips: float32
// throughout, every sum in the order of its index; bound by shared memory, not meant to be fast.
#include <cfloat>

#include "attention.cuh"

namespace
{

constexpr int DIM_MAX = 256, ROWS = 16, LANES = 16, KEYS = PAGE_TOKENS, PAD = 1;

// Floats of shared memory: q [ROWS, dim], a block of a page [KEYS, dim + PAD], scores [ROWS, KEYS + PAD].
__host__ __device__ constexpr int shared_floats(int dim)
{
    return ROWS * dim + KEYS * (dim + PAD) + ROWS * (KEYS + PAD);
}

template <typename kv_t>
__device__ void load_block(float *page, const kv_t *block, int dim, int keys)
{
    const int swizzled = kv_swizzled(sizeof(kv_t) == 2 ? DTYPE_BF16 : DTYPE_F32, dim);
    for (int i = threadIdx.x; i < KEYS * dim; i += blockDim.x) {
        const int row = i / dim, d = i % dim; // rows that may not be seen yet count as zeros
        page[row * (dim + PAD) + d] =
            row < keys ? to_float(block[kv_index(swizzled, dim, row, d)]) : 0.0f;
    }
}

// One row's softmax over a page by its LANES threads: scores to weights; returns the factor for what the
// row has so far.
__device__ float soften(float *score, float *most, float *total, int seen, int lane)
{
    float top = *most, sum = 0;
    for (int j = lane; j < KEYS; j += LANES)
        top = j < seen ? fmaxf(top, score[j]) : top;
    for (int d = LANES / 2; d > 0; d /= 2)
        top = fmaxf(top, __shfl_xor_sync(~0u, top, d, LANES));
    for (int j = lane; j < KEYS; j += LANES) {
        score[j] = j < seen ? expf(score[j] - top) : 0.0f;
        sum += score[j];
    }
    for (int d = LANES / 2; d > 0; d /= 2)
        sum += __shfl_xor_sync(~0u, sum, d, LANES);
    const float scale = expf(*most - top);
    *most = top;
    *total = *total * scale + sum;
    return scale;
}

template <typename act_t, typename kv_t>
__global__
__launch_bounds__(ROWS *LANES) void attend(const __grid_constant__ struct attention_job job)
{
    extern __shared__ float memory[];
    const struct attention_args &a = job.a;
    const int dim = a.head_dim, group = a.heads / a.kv_heads;
    float *q = memory, *page = q + ROWS * dim, *scores = page + KEYS * (dim + PAD);
    struct span_tile tile;
    if (!span_tile_find(&tile, a.batch, job.first, blockIdx.x, group, ROWS))
        return;
    const int kv_head = blockIdx.y, r = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int end = tile.span.t * group - 1,
              row = min(tile.row0 + r, end); // rows past the end repeat it
    const int position = tile.span.pos0 + row / group;
    const int last = tile.span.pos0 + min(tile.row0 + ROWS - 1, end) / group;
    const size_t at =
        (size_t)(tile.span.t0 + row / group) * a.heads + (size_t)kv_head * group + row % group;
    const int *pages = a.batch.pages + (size_t)tile.index * a.batch.pages_max;
    const float scale = 1.0f / sqrtf((float)dim);
    float *score = scores + r * (KEYS + PAD), o[DIM_MAX / LANES] = {}, most = -FLT_MAX, total = 0;
    for (int d = lane; d < dim; d += LANES)
        q[r * dim + d] = to_float(((const act_t *)a.q)[at * dim + d]) * scale;
    for (int p = 0; p <= last / KEYS; p++) {
        const size_t block = ((size_t)pages[p] * a.kv_heads + kv_head) * KEYS * dim;
        __syncthreads(); // the page before is used up
        load_block(page, (const kv_t *)a.k_pages + block, dim, last + 1 - p * KEYS);
        __syncthreads(); // K and, the first time, q are there
        for (int j = lane; j < KEYS; j += LANES) {
            float sum = 0;
#pragma unroll 4
            for (int d = 0; d < dim; d++)
                sum = fmaf(q[r * dim + d], page[j * (dim + PAD) + d], sum);
            score[j] = sum;
        }
        __syncthreads(); // K is used up, the row's scores are there
        load_block(page, (const kv_t *)a.v_pages + block, dim, last + 1 - p * KEYS);
        const float keep = soften(score, &most, &total, position + 1 - p * KEYS, lane);
        __syncthreads(); // V and the weights are there
#pragma unroll
        for (int i = 0; i < DIM_MAX / LANES; i++) {
            const int d = lane + i * LANES;
            o[i] *= keep;
#pragma unroll 4
            for (int j = 0; j < KEYS && d < dim; j++)
                o[i] = fmaf(score[j], page[j * (dim + PAD) + d], o[i]);
        }
    }
    if (tile.row0 + r > end)
        return;
#pragma unroll
    for (int i = 0; i < DIM_MAX / LANES; i++) {
        const int d = lane + i * LANES;
        if (d < dim) {
            const float gate = to_float(((const act_t *)a.qg)[(2 * at + 1) * dim + d]);
            ((act_t *)a.o)[at * dim + d] = from_float<act_t>(o[i] / total / (1.0f + expf(-gate)));
        }
    }
}

template <typename act_t> void attend_any(struct dev *dev, const struct attention_job *job)
{
    const dim3 grid(job->tiles, job->a.kv_heads);
    const int bytes = shared_floats(job->a.head_dim) * (int)sizeof(float);
    auto kernel =
        job->a.kv_type == DTYPE_F32 ? attend<act_t, float> : attend<act_t, half_of<act_t>>;
    if (!cuda_ok(dev,
                 cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                 "attention: shared memory"))
        return;
    kernel<<<grid, ROWS * LANES, bytes, cuda_of(dev)->stream>>>(*job);
    LAUNCHED(dev, "attention");
}

// Tiles of `rows` (token, query head) rows of one KV head in the prefill spans.
int count_tiles(const struct attention_args *a, int spans, int rows)
{
    int n = 0;
    for (int i = 0; i < spans; i++)
        n += (a->batch.host_spans[i].t * (a->heads / a->kv_heads) + rows - 1) / rows;
    return n;
}

// K and V of the longest prompt: more than a part of the L2 cache, and the heads take turns.
bool beyond_cache(const struct cuda *cuda, const struct attention_args *a, int spans)
{
    size_t most = 0;
    for (int i = 0; i < spans; i++) {
        const struct span *s = &a->batch.host_spans[i];
        const size_t n = (size_t)(s->pos0 + s->t);
        most = n > most ? n : most;
    }
    return most * a->kv_heads * a->head_dim * 2 * dtype_bytes(a->kv_type) > cuda->l2_bytes / 3;
}

} // namespace

void cuda_attention(struct dev *dev, const struct attention_args *a)
{
    const struct cuda *cuda = cuda_of(dev);
    const int group = a->heads / a->kv_heads, decode = a->batch.t - a->batch.t_prefill;
    const bool fast = cuda->act != DTYPE_F32 && a->kv_type == cuda->act && a->head_dim == 256;
    // A step of generated tokens alone must not look at host_spans: see ops_cuda.cuh.
    struct attention_job job = {*a, a->batch.t_prefill > 0 ? batch_prefill_spans(&a->batch) : 0, 0,
                                false};
    const int spans = job.first;
    if (a->head_dim > DIM_MAX) {
        cuda_fail(dev, "attention: head_dim %d, at most %d", a->head_dim, DIM_MAX);
        return;
    }
    if (a->kv_type != DTYPE_F32 && a->kv_type != cuda_half(dev)) {
        cuda_fail(dev, "attention: pages of %s with activations of %s; f16 goes with f16",
                  dtype_name(a->kv_type), dtype_name(cuda->act));
        return;
    }
    if (decode > 0 && fast && cuda->arch >= 90) {
        job.tiles = decode;
        attention_decode(dev, &job);
    } else if (decode > 0) {
        job.tiles = decode * blocks_for(group, ROWS);
        ACT_SWITCH(dev, attend_any<act_t>(dev, &job));
    }
    job.first = 0;
    if (spans > 0 && fast && cuda->arch == 90) {
        job.tiles = count_tiles(a, spans, PREFILL_ROWS);
        job.by_head = beyond_cache(cuda, a, spans);
        attention_prefill(dev, &job);
    } else if (spans > 0) {
        job.tiles = count_tiles(a, spans, ROWS);
        ACT_SWITCH(dev, attend_any<act_t>(dev, &job));
    }
}
