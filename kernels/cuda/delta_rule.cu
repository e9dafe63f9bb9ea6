// delta_rule.cu - the gated delta rule on the GPU: which kernels take which spans.
//
// Prefill spans with the shape of the matrix units go in slabs of chunks: delta_prepare does what does not
// depend on the state for all chunks of a slab at once, delta_chain then goes through them. Everything
// else takes delta_portable. Decode spans take the recurrence, delta_decode.cu.
//
// Measured: bf16, chunks of 64, inverse neumann:16,3,8/fp16, ms of one layer's rule from q, k, v, a, b:
//   16/16 heads  2048 0.067, 8192 0.210, 32768 0.707, 131072 2.66, four of 8192 0.411
//   16/32 heads  2048 0.075, 8192 0.231, 32768 0.766, 131072 2.84, four of 8192 0.592
//   16/48 heads  2048 0.080, 8192 0.262, 32768 0.892, 131072 3.47
// That is 2.7 to 8.3 times the floor and 1.4 to 3.2 times as fast as flash-linear-attention (fla-core 0.6.0) in
// the same call. NVIDIA H200, 2026-11-24, tests/gpu/delta_rule_rival.py; 2/8 heads, 8192, 0.182 before.
#include "delta.cuh"

// Units that there is room for: 17 KiB each.
static constexpr int UNITS_MAX = 8192;
// Room for states between slabs, where slots keep bf16: 1,024 heads of 128 x 128, several times what the
// device works on at once.
static constexpr size_t CARRY_BYTES = 64 << 20;
// Chunks of the first slab where the chain runs beside the preparation; each is twice the one before.
static constexpr int FIRST_SLAB = 16;

static int units_of_slab(const struct delta_rule_args *a)
{
    return delta_inverts_inside(a) ? UNITS_MAX : DELTA_OUTSIDE_MAX;
}

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
    if (a->state_type != DTYPE_F32 && a->state_type != DTYPE_BF16) {
        cuda_fail(dev, "delta_rule: state_type %s: must be f32 or bf16", dtype_name(a->state_type));
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

// What passes between prepare and chain, and from slab to slab.
struct handed_on {
    struct delta_unit *units;
    float *carry;
};

static void do_slabs(struct dev *dev, const struct delta_rule_args *a, struct delta_slab slab,
                     const struct handed_on &h)
{
    for (int n; (n = delta_slab_units(slab, &a->batch)) > 0; slab.first += slab.count) {
        delta_prepare(dev, a, slab, h.units, n);
        delta_chain(dev, a, slab, h.units, h.carry, cuda_of(dev)->stream);
    }
}

// Slab after slab on two streams: while the chain of one, of higher priority, is on some of the
// multiprocessors, the next is prepared on the others. Slabs take turns in the two halves of units.
static void do_slabs_beside(struct dev *dev, const struct delta_rule_args *a,
                            struct delta_slab slab, const struct handed_on &h, int most)
{
    struct cuda *cuda = cuda_of(dev);
    const int count_max = slab.count;
    int turn = 0;
    slab.count = FIRST_SLAB < count_max ? FIRST_SLAB : count_max;
    for (int n; (n = delta_slab_units(slab, &a->batch)) > 0; turn++) {
        const int place = turn % 2;
        struct delta_unit *mine = h.units + (size_t)place * most * a->v_heads;
        if (turn >= 2)
            cuda_ok(dev, cudaStreamWaitEvent(cuda->stream, cuda->chained[place], 0), "delta_rule");
        delta_prepare(dev, a, slab, mine, n);
        cuda_ok(dev, cudaEventRecord(cuda->prepared[place], cuda->stream), "delta_rule");
        cuda_ok(dev, cudaStreamWaitEvent(cuda->chain_stream, cuda->prepared[place], 0),
                "delta_rule");
        delta_chain(dev, a, slab, mine, h.carry, cuda->chain_stream);
        cuda_ok(dev, cudaEventRecord(cuda->chained[place], cuda->chain_stream), "delta_rule");
        slab.first += slab.count;
        slab.count = 2 * slab.count < count_max ? 2 * slab.count : count_max;
    }
    cuda_ok(dev, cudaStreamWaitEvent(cuda->stream, cuda->chained[(turn - 1) % 2], 0), "delta_rule");
}

static void by_matrix_units(struct dev *dev, const struct delta_rule_args *a, int n_spans,
                            float *carry)
{
    const bool beside = delta_chain_is_narrow(dev, a, n_spans);
    const int room = units_of_slab(a) / a->v_heads;
    struct delta_slab slab = {.first = 0,
                              .count = room / (beside ? 2 : 1) / n_spans,
                              .n_spans = n_spans,
                              .chunk = DELTA_CHUNK};
    slab.count = slab.count < 1 ? 1 : slab.count;
    struct delta_unit *units =
        (struct delta_unit *)cuda_scratch(dev, CUDA_SLOT_DELTA, UNITS_MAX * sizeof *units);
    if (!units)
        return;
    if (beside)
        do_slabs_beside(dev, a, slab, {units, carry}, room / 2);
    else
        do_slabs(dev, a, slab, {units, carry});
}

void delta_report(struct dev *dev, const struct delta_rule_args *a, const struct delta_slab &slab,
                  const struct tri_inverse_args *all)
{
    size_t at = 0;
    const size_t square = (size_t)a->chunk * a->chunk;
    if (!a->report || a->report_every <= 0)
        return;
    for (int i = 0; i < slab.n_spans; i++) {
        const struct span *span = &a->batch.host_spans[i];
        const int n = delta_slab_chunks(slab, span->t);
        for (int unit = 0; unit < n * a->v_heads; unit++, at += square) {
            const int number = span->pos0 / a->chunk + slab.first + unit / a->v_heads;
            if ((number + unit % a->v_heads) % a->report_every)
                continue;
            struct tri_inverse_args one = *all;
            one.t_out += at;
            one.a += at;
            one.n = 1;
            one.report = a->report;
            cuda_tri_inverse(dev, &one);
        }
    }
}

// The prefill spans, as many at once as there is room for one chunk and, if it must be, one state each.
static void prefill(struct dev *dev, const struct delta_rule_args *a, int n_spans)
{
    const bool fast = delta_fast(dev, a);
    int most = fast ? units_of_slab(a) / a->v_heads : delta_portable_spans(a);
    float *carry = NULL;
    struct delta_rule_args part = *a;
    if (a->state_type != DTYPE_F32 && n_spans > 0) {
        const size_t each = sizeof(float) * a->v_heads * a->k_dim * a->v_dim;
        const int fit = each < CARRY_BYTES ? (int)(CARRY_BYTES / each) : 1;
        most = most < fit ? most : fit;
        carry = (float *)cuda_scratch(dev, CUDA_SLOT_DELTA_CARRY,
                                      each < CARRY_BYTES ? CARRY_BYTES : each);
        if (!carry)
            return;
    }
    for (int first = 0; first < n_spans; first += most) {
        const int n = n_spans - first < most ? n_spans - first : most;
        part.batch.spans = a->batch.spans + first;
        part.batch.host_spans = a->batch.host_spans + first;
        if (fast)
            by_matrix_units(dev, &part, n, carry);
        else
            delta_portable(dev, &part, n, carry);
    }
}

void cuda_delta_rule(struct dev *dev, const struct delta_rule_args *a)
{
    if (!check_args(dev, a))
        return;
    const int n_prefill = batch_prefill_spans(&a->batch);
    prefill(dev, a, n_prefill);
    if (n_prefill < a->batch.n_spans)
        delta_steps(dev, a, n_prefill);
}
