// delta_rule.cu - the gated delta rule on the GPU: which kernels take which spans.
//
// Prefill spans with the shape of the matrix units go in slabs of chunks: delta_prepare does what does not
// depend on the state for all chunks of a slab at once, delta_chain then goes through them. Everything
// else takes delta_portable. Decode spans take the recurrence, delta_decode.cu.
#include "delta.cuh"

// Units that there is room for: 17 KiB each.
static constexpr int UNITS_MAX = 8192;
// Chunks of the first slab where the chain runs beside the preparation; each is twice the one before.
static constexpr int FIRST_SLAB = 16;

static bool check_args(struct dev *dev, const struct delta_rule_args *a)
{
    char why[160];
    if (a->k_dim <= 0 || a->k_dim > DELTA_DIM_MAX || a->k_dim % 16 || a->v_dim <= 0 ||
        a->v_dim > DELTA_DIM_MAX || a->v_dim % 16) {
        cuda_fail(dev, "delta_rule: k_dim %d, v_dim %d: each must be a multiple of 16 up to %d",
                  a->k_dim, a->v_dim, DELTA_DIM_MAX);
        return false;
    }
    if (a->k_heads <= 0 || a->v_heads <= 0 || a->v_heads % a->k_heads) {
        cuda_fail(dev, "delta_rule: v_heads %d is not a multiple of k_heads %d", a->v_heads,
                  a->k_heads);
        return false;
    }
    if (inverse_check(&a->inverse, a->chunk, why, sizeof why)) {
        cuda_fail(dev, "delta_rule: %s", why);
        return false;
    }
    return true;
}

int delta_slab_units(const struct delta_slab &slab, const struct batch *b)
{
    int n = 0;
    for (int i = 0; i < slab.n_spans; i++)
        n += delta_slab_chunks(slab, b->host_spans[i].t);
    return n;
}

static void do_slabs(struct dev *dev, const struct delta_rule_args *a, struct delta_slab slab,
                     struct delta_unit *units)
{
    for (int n; (n = delta_slab_units(slab, &a->batch)) > 0; slab.first += slab.count) {
        delta_prepare(dev, a, slab, units, n);
        delta_chain(dev, a, slab, units, cuda_of(dev)->stream);
    }
}

// Slab after slab on two streams: while the chain of one, of higher priority, is on some of the
// multiprocessors, the next is prepared on the others. Slabs take turns in the two halves of units.
static void do_slabs_beside(struct dev *dev, const struct delta_rule_args *a,
                            struct delta_slab slab, struct delta_unit *units, int most)
{
    struct cuda *cuda = cuda_of(dev);
    const int count_max = slab.count;
    int turn = 0;
    slab.count = FIRST_SLAB < count_max ? FIRST_SLAB : count_max;
    for (int n; (n = delta_slab_units(slab, &a->batch)) > 0; turn++) {
        const int place = turn % 2;
        struct delta_unit *mine = units + (size_t)place * most * a->v_heads;
        if (turn >= 2)
            cuda_ok(dev, cudaStreamWaitEvent(cuda->stream, cuda->chained[place], 0), "delta_rule");
        delta_prepare(dev, a, slab, mine, n);
        cuda_ok(dev, cudaEventRecord(cuda->prepared[place], cuda->stream), "delta_rule");
        cuda_ok(dev, cudaStreamWaitEvent(cuda->chain_stream, cuda->prepared[place], 0),
                "delta_rule");
        delta_chain(dev, a, slab, mine, cuda->chain_stream);
        cuda_ok(dev, cudaEventRecord(cuda->chained[place], cuda->chain_stream), "delta_rule");
        slab.first += slab.count;
        slab.count = 2 * slab.count < count_max ? 2 * slab.count : count_max;
    }
    cuda_ok(dev, cudaStreamWaitEvent(cuda->stream, cuda->chained[(turn - 1) % 2], 0), "delta_rule");
}

static void by_matrix_units(struct dev *dev, const struct delta_rule_args *a, int n_spans)
{
    const bool beside = delta_chain_is_narrow(dev, a, n_spans);
    struct delta_slab slab = {.first = 0,
                              .count = UNITS_MAX / (beside ? 2 : 1) / a->v_heads / n_spans,
                              .n_spans = n_spans,
                              .chunk = DELTA_CHUNK};
    slab.count = slab.count < 1 ? 1 : slab.count;
    const int most = delta_slab_units(slab, &a->batch);
    struct delta_unit *units = (struct delta_unit *)cuda_scratch(
        dev, CUDA_SLOT_DELTA, (size_t)(beside ? 2 : 1) * most * a->v_heads * sizeof *units);
    if (!units)
        return;
    if (beside)
        do_slabs_beside(dev, a, slab, units, most);
    else
        do_slabs(dev, a, slab, units);
}

void cuda_delta_rule(struct dev *dev, const struct delta_rule_args *a)
{
    if (!check_args(dev, a))
        return;
    const int n_prefill = batch_prefill_spans(&a->batch);
    if (n_prefill > 0 && delta_fast(dev, a))
        by_matrix_units(dev, a, n_prefill);
    else if (n_prefill > 0)
        delta_portable(dev, a, n_prefill);
    if (n_prefill < a->batch.n_spans)
        delta_steps(dev, a, n_prefill);
}
