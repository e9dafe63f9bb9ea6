// logprobs.cu - log-softmax of one id and of the largest, from raw logits.
// Computes: logit - log(sum exp(logit)) over ids < n_tokens; the sum in whole numbers of 2^-44 of the
// largest term, so that its bits do not depend on how the row is shared out.
// Bound by: latency of passes over shared memory and of cluster barriers (vocab.cuh).
// Measured, NVIDIA H200, 2026-11-24, 248320 entries, a graph of launches, us of one row / 8 rows / 64 rows:
// 16 / 16 / 82, with the 20 largest 41 / 41 / 214.
// NaN logits count as -inf; what is -inf has -inf.
#include "vocab.cuh"

namespace
{

struct top_list {
    uint64_t key[LOGPROBS_MAX]; // vocab_key
    int n;
};

__device__ float log_sum_exp(struct vocab_row &v, float most)
{
    if (!isfinite(most))
        return most;
    const struct vocab_exp weight = {most, VOCAB_LOG2E};
    uint64_t sum = 0;
    for (int i = v.begin; i < v.end; i++)
        sum += weight(vocab_at(v, i));
    sum = cluster_fold<vocab_add>(v, block_fold<vocab_add>(v.sh, sum), NULL);
    return most + (float)log((double)sum * 0x1p-44);
}

__device__ float logprob(float x, float lse)
{
    return x == -INFINITY ? x : x - lse;
}

// The top_n largest in order: each block lists its own, the first puts the lists in order.
__device__ void find_top(struct vocab_row &v, const struct logprobs_args &a, float most, float lse,
                         size_t row, struct top_list *list)
{
    __shared__ struct top_list all;
    const int n = min(a.top_n, a.n_tokens);
    const uint64_t wanted = (uint64_t)n;
    const struct vocab_cut cut =
        vocab_find_cut(v, most, 32.0f, vocab_count(), [=](uint64_t) { return wanted; });
    if (threadIdx.x == 0)
        list->n = all.n = 0;
    __syncthreads(); // the lists are empty
    for (int i = v.begin; i < v.end; i++)
        if (vocab_stays(cut, vocab_at(v, i), v.base + i))
            list->key[atomicAdd(&list->n, 1)] = vocab_key(vocab_at(v, i), v.base + i);
    cluster_sync(); // all blocks' lists are there
    if (v.rank > 0)
        return;
    if (threadIdx.x < v.ranks * LOGPROBS_MAX) {
        const struct top_list *other = mapa(list, threadIdx.x / LOGPROBS_MAX);
        const int i = threadIdx.x % LOGPROBS_MAX;
        if (i < other->n)
            all.key[atomicAdd(&all.n, 1)] = other->key[i];
    }
    __syncthreads(); // the lists are one
    if (threadIdx.x >= (unsigned)a.top_n)
        return;
    int at = threadIdx.x, id = 0; // past the last token: id 0, -inf
    float x = -INFINITY;
    if (at < n) {
        const uint64_t key = all.key[at];
        at = 0;
        for (int i = 0; i < n; i++)
            at += all.key[i] > key;
        id = (int)~(uint32_t)key;
        x = vocab_key_value(key);
    }
    a.top_ids[row * a.top_n + at] = id;
    a.top_logprob[row * a.top_n + at] = logprob(x, lse);
}

__global__ __launch_bounds__(VOCAB_THREADS,
                             1) void logprobs(const __grid_constant__ struct logprobs_args a,
                                              bool in_shared)
{
    extern __shared__ float memory[];
    __shared__ struct vocab_shared sh;
    __shared__ struct top_list list;
    const int row = blockIdx.x / cluster_nctarank();
    griddepcontrol_wait();
    float *logits = (float *)a.logits + (size_t)row * a.vocab; // only read
    struct vocab_row v = vocab_open(&sh, in_shared ? memory : NULL, logits, a.n_tokens);
    if (in_shared)
        vocab_load(v, logits);
    const float most = vocab_key_value(vocab_largest(v, v.x)), lse = log_sum_exp(v, most);
    if (v.rank == 0 && threadIdx.x == 0)
        a.logprob[row] = logprob(vocab_clean(logits[a.ids[row]]), lse);
    if (a.top_n > 0)
        find_top(v, a, most, lse, (size_t)row, &list);
    cluster_sync(); // nobody leaves while others read its shared memory
}

} // namespace

void cuda_logprobs(struct dev *dev, const struct logprobs_args *a)
{
    if (a->n == 0)
        return;
    const struct cuda_shape shape = vocab_shape(dev, a->n, a->n_tokens);
    cuda_launch(dev, "logprobs", shape, logprobs, *a, shape.shared > 0);
}
