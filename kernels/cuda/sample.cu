// sample.cu - one token from each row of logits.
// Computes: struct sample_row's order (op_args.h): bias, penalties, then argmax at temperature 0, else
// temperature, top_k, top_p, min_p and one draw by Philox 4x32-10 (Salmon et al. 2011).
// Bound by: reading the logits (argmax); latency of passes over shared memory and of cluster barriers
// (drawing). A cluster of eight blocks holds a row in shared memory (vocab.cuh).
// Measured, NVIDIA H200, 2026-11-24, 248320 entries, normal of deviation 3, a graph of launches, us of one
// row / 8 rows / 64 rows (floor of reading them: 0.24 / 1.9 / 15): argmax 9 / 9 / 48, plain draw 17 / 19 /
// 91, top_p 0.9 48 / 49 / 249, top_k 20 with top_p 0.95 71 / 73 / 369, argmax after penalties over 4096
// tokens 20 / 20 / 105. 64 rows are four rounds of 16 clusters.
// Nothing is sorted, nothing depends on an order of additions: weights and their sums are whole numbers.
#include "vocab.cuh"

namespace
{

__device__ void philox_round(uint32_t (&c)[4], uint32_t k0, uint32_t k1)
{
    const uint32_t high0 = __umulhi(0xD2511F53, c[0]), low0 = 0xD2511F53 * c[0];
    const uint32_t high2 = __umulhi(0xCD9E8D57, c[2]), low2 = 0xCD9E8D57 * c[2];
    c[0] = high2 ^ c[1] ^ k0;
    c[1] = low2;
    c[2] = high0 ^ c[3] ^ k1;
    c[3] = low0;
}

// Uniform in [0, 1), 53 bits, a function of seed and counter alone.
__device__ double uniform(uint64_t seed, uint64_t counter)
{
    uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int i = 0; i < 10; i++) {
        philox_round(c, k0, k1);
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return (double)(((uint64_t)c[0] << 32 | c[1]) >> 11) * 0x1p-53;
}

// Biases of ids in this block's slice; the thread of an id's first entry adds all of that id in order.
__device__ void bias_slice(const struct vocab_row &v, const struct sample_args &a,
                           const struct sample_row &r)
{
    const int *ids = a.bias_ids + r.bias0;
    const float *bias = a.bias + r.bias0;
    for (int i = threadIdx.x; i < r.n_bias; i += VOCAB_THREADS) {
        const int at = ids[i] - v.base;
        if (at < 0 || at >= v.n)
            continue;
        int j = 0;
        while (ids[j] != ids[i])
            j++;
        if (j < i)
            continue;
        float x = v.x[at];
        for (; j < r.n_bias; j++)
            x += ids[j] == ids[i] ? bias[j] : 0.0f;
        v.x[at] = vocab_clean(x);
    }
    __syncthreads(); // penalties come after
}

// Penalties see how often a token stands in the output. counts: [vocab] of the row, all zero, and left so.
__device__ void penalise_slice(const struct vocab_row &v, const struct sample_args &a,
                               const struct sample_row &r, int *counts)
{
    const int *history = a.history + r.history0;
    const int n = r.n_prompt + r.n_output;
    counts += v.base;
    for (int i = r.n_prompt + threadIdx.x; i < n; i += VOCAB_THREADS) {
        const int at = history[i] - v.base;
        if (at >= 0 && at < v.n)
            atomicAdd(&counts[at], 1);
    }
    __syncthreads(); // all are counted
    for (int i = threadIdx.x; i < n; i += VOCAB_THREADS) {
        const int at = history[i] - v.base;
        const int count = at >= 0 && at < v.n ? atomicExch(&counts[at], -1) : -1;
        if (count < 0)
            continue; // another block's, or done already
        float x = v.x[at];
        x = x > 0 ? x / r.repetition : x * r.repetition;
        x -= r.frequency * (float)count + (count > 0 ? r.presence : 0);
        v.x[at] = vocab_clean(x);
    }
    __syncthreads(); // all marks have been seen
    for (int i = threadIdx.x; i < n; i += VOCAB_THREADS) {
        const int at = history[i] - v.base;
        if (at >= 0 && at < v.n)
            counts[at] = 0;
    }
    __syncthreads(); // the slice is as the penalties leave it
}

__device__ void drop(const struct vocab_row &v, const struct vocab_cut &cut)
{
    for (int i = v.begin; i < v.end; i++)
        if (!vocab_stays(cut, vocab_at(v, i), v.base + i))
            v.x[i] = -INFINITY;
}

// The id at which the sum of weights, in the order of ids, passes u of the whole.
__device__ void draw(struct vocab_row &v, int *id, const struct vocab_exp &weight, float min_p,
                     double u)
{
    auto mass = [&](float x) {
        const float w = weight.weight(x);
        return w < min_p ? (uint64_t)0 : (uint64_t)(w * VOCAB_UNIT); // the largest weight is 1
    };
    uint64_t own = 0, block, lower;
    for (int i = v.begin; i < v.end; i++)
        own += mass(vocab_at(v, i));
    uint64_t sum = block_scan(v.sh, own, &block);
    const uint64_t total = cluster_fold<vocab_add>(v, block, &lower);
    const uint64_t want = min((uint64_t)(u * (double)total), total - 1);
    sum += lower;
    if (sum > want || sum + own <= want)
        return;
    for (int i = v.begin; i < v.end; i++) {
        sum += mass(vocab_at(v, i));
        if (sum > want) {
            *id = v.base + i;
            return;
        }
    }
}

// Temperature is above 0 and the largest logit finite.
__device__ void draw_row(struct vocab_row &v, const struct sample_row &r, float most, int n_tokens,
                         int *id)
{
    const struct vocab_exp weight = {most, VOCAB_LOG2E / r.temperature};
    if (r.top_k > 0 && r.top_k < n_tokens) {
        const uint64_t k = (uint64_t)r.top_k;
        drop(v, vocab_find_cut(v, most, 32.0f, vocab_count(), [=](uint64_t) { return k; }));
    }
    if (r.top_p < 1) {
        const double p = fmax((double)r.top_p, 0.0);
        auto want = [=](uint64_t total) { return max((uint64_t)(p * (double)total), (uint64_t)1); };
        drop(v, vocab_find_cut(v, most, fminf(32.0f / r.temperature, 1e30f), weight, want));
    }
    draw(v, id, weight, r.min_p, uniform(r.seed, r.counter));
}

__global__ __launch_bounds__(VOCAB_THREADS,
                             1) void sample(const __grid_constant__ struct sample_args a,
                                            int *counts, bool in_shared)
{
    extern __shared__ float memory[];
    __shared__ struct vocab_shared sh;
    const int row = blockIdx.x / cluster_nctarank();
    griddepcontrol_wait();
    const struct sample_row &r = a.rows[row];
    float *logits = a.logits + (size_t)row * a.vocab;
    struct vocab_row v = vocab_open(&sh, in_shared ? memory : NULL, logits, a.n_tokens);
    const bool changed = r.n_bias > 0 || r.n_prompt + r.n_output > 0;
    const float *x = logits + v.base;
    if (r.temperature > 0 || changed) {
        vocab_load(v, logits);
        x = v.x;
        if (r.n_bias > 0)
            bias_slice(v, a, r);
        if (r.n_prompt + r.n_output > 0)
            penalise_slice(v, a, r, counts + (size_t)row * a.vocab);
    }
    const uint64_t most = vocab_largest(v, x);
    if (r.temperature == 0 || !isfinite(vocab_key_value(most))) {
        if (v.rank == 0 && threadIdx.x == 0)
            a.ids[row] = (int)~(uint32_t)most;
    } else {
        draw_row(v, r, vocab_key_value(most), a.n_tokens, &a.ids[row]);
    }
    cluster_sync(); // nobody leaves while others read its shared memory
}

} // namespace

void cuda_sample(struct dev *dev, const struct sample_args *a)
{
    struct cuda *cuda = cuda_of(dev);
    const size_t bytes = (size_t)a->n * a->vocab * sizeof(int),
                 had = cuda->scratch[CUDA_SLOT_SAMPLE].bytes;
    int *counts = (int *)cuda_scratch(dev, CUDA_SLOT_SAMPLE, bytes);
    if (a->n == 0 || !counts)
        return;
    if (bytes > had) // new, so not the zeros that every run leaves
        cuda_ok(dev, cudaMemsetAsync(counts, 0, bytes, cuda->stream), "sample: counts");
    const struct cuda_shape shape = vocab_shape(dev, a->n, a->n_tokens);
    cuda_launch(dev, "sample", shape, sample, *a, counts, shape.shared > 0);
}
