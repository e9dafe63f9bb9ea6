// delta_decode.c - the mixer of a generated token: the definition, one operation after another. On the
// CPU a state stays in a cache between them, so one loop over it would win nothing.
#include <string.h>

#include "cpu.h"

enum { SLOT_CONV = CPU_SLOTS - 1 }; // none of the three operations uses it

// The decode spans alone.
static struct batch decode_part(const struct batch *all)
{
    struct batch part = *all;
    const int n = batch_prefill_spans(all);
    part.spans += n;
    part.host_spans += n;
    part.n_spans -= n;
    return part;
}

void cpu_delta_decode(struct dev *dev, const struct delta_decode_args *a)
{
    const struct batch batch = decode_part(&a->batch);
    const int channels = 2 * a->k_heads * a->k_dim + a->v_heads * a->v_dim;
    if (batch.n_spans == 0)
        return;
    const size_t row = (size_t)batch.host_spans[0].t0;
    const size_t at = row * (size_t)a->v_heads * (size_t)a->v_dim;
    float *conv = cpu_scratch(dev, SLOT_CONV, (size_t)batch.t * (size_t)channels * sizeof *conv);
    if (!conv)
        return;
    cpu_conv(dev, &(struct conv_args){.y = conv,
                                      .x = a->qkv,
                                      .w = a->conv_w,
                                      .state = a->conv_state,
                                      .batch = batch,
                                      .channels = channels});
    cpu_delta_rule(
        dev, &(struct delta_rule_args){.o = a->y,
                                       .qkv = conv,
                                       .a = a->a,
                                       .b = a->b,
                                       .A_log = a->A_log,
                                       .dt_bias = a->dt_bias,
                                       .state = a->state,
                                       .state_type = a->state_type,
                                       .batch = batch,
                                       .k_heads = a->k_heads,
                                       .v_heads = a->v_heads,
                                       .k_dim = a->k_dim,
                                       .v_dim = a->v_dim,
                                       .chunk = INVERSE_CHUNK_MIN, // not used
                                       .inverse = inverse_auto(INVERSE_CHUNK_MIN, INVERSE_FP32)});
    cpu_gated_norm(dev, &(struct gated_norm_args){.y = (float *)a->y + at,
                                                  .o = (float *)a->y + at,
                                                  .z = (const float *)a->z + at,
                                                  .w = a->norm_w,
                                                  .t = batch.t - (int)row,
                                                  .heads = a->v_heads,
                                                  .dim = a->v_dim,
                                                  .eps = a->eps});
}
