// layer_delta.c - Gated DeltaNet:
//   q, k, v = SiLU(conv(in_proj_qkv(h))); z, a, b = in_proj_z/a/b(h)
//   o = the gated delta rule over q, k, v with decay from a and step size from b
//   y = out_proj(RMSNorm(o) * w * SiLU(z))
// Source: Qwen3_5GatedDeltaNet. The state is of one size whatever the context; it lives in the slot
// that the engine gave the sequence.
#include "qwen35_model.h"

static void mix(struct model *m, const struct layer *layer, const struct batch *b)
{
    const struct config *c = &m->config;
    struct scratch *s = &m->scratch;
    int every = m->options.residual_every;
    m->ops->delta_rule(m->dev, &(struct delta_rule_args){.o = s->delta.o,
                                                         .qkv = s->delta.conv,
                                                         .a = s->delta.a,
                                                         .b = s->delta.b,
                                                         .A_log = layer->delta.A_log,
                                                         .dt_bias = layer->delta.dt_bias,
                                                         .state = layer->state,
                                                         .batch = *b,
                                                         .k_heads = c->linear_num_key_heads,
                                                         .v_heads = c->linear_num_value_heads,
                                                         .k_dim = c->linear_key_head_dim,
                                                         .v_dim = c->linear_value_head_dim,
                                                         .chunk = m->options.chunk,
                                                         .inverse = m->options.inverse,
                                                         .report = every ? m->report : NULL,
                                                         .report_every = every});
}

void layer_delta(struct model *m, const struct layer *layer, const struct batch *b)
{
    const struct config *c = &m->config;
    const struct delta_weights *w = &layer->delta;
    struct scratch *s = &m->scratch;
    project(m, s->delta.qkv, s->h, &w->in_proj_qkv, b);
    project(m, s->delta.z, s->h, &w->in_proj_z, b);
    project(m, s->delta.b, s->h, &w->in_proj_b, b);
    project(m, s->delta.a, s->h, &w->in_proj_a, b);
    m->ops->conv(m->dev, &(struct conv_args){.y = s->delta.conv,
                                             .x = s->delta.qkv,
                                             .w = w->conv1d,
                                             .state = layer->conv_state,
                                             .batch = *b,
                                             .channels = config_conv_channels(c)});
    mix(m, layer, b);
    m->ops->gated_norm(m->dev, &(struct gated_norm_args){.y = s->delta.o,
                                                         .o = s->delta.o,
                                                         .z = s->delta.z,
                                                         .w = w->norm,
                                                         .t = b->t,
                                                         .heads = c->linear_num_value_heads,
                                                         .dim = c->linear_value_head_dim,
                                                         .eps = c->rms_norm_eps});
    project(m, s->y, s->delta.o, &w->out_proj, b);
}
