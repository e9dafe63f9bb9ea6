// layer_attention.c - full attention with an output gate:
//   q, gate = q_proj(h); k = k_proj(h); v = v_proj(h); q and k normed per head, then rotated
//   y = o_proj(softmax(q k^T / sqrt(head_dim)) v * sigmoid(gate))
// Source: Qwen3_5Attention. K and V live in pages that the engine hands out.
#include "qwen35_model.h"

void layer_attention(struct model *m, const struct layer *layer, const struct batch *b,
                     const struct linear_norm *norm)
{
    const struct config *c = &m->config;
    const struct attention_weights *w = &layer->attention;
    struct scratch *s = &m->scratch;
    m->ops->linear(m->dev,
                   &(struct linear_args){.y = {s->attention.qg, s->attention.k, s->attention.v},
                                         .x = s->x,
                                         .norm = *norm,
                                         .w = {w->q_proj, w->k_proj, w->v_proj},
                                         .n = 3,
                                         .t = b->t,
                                         .t_gemm = b->t_prefill});
    m->ops->attn_prep(m->dev, &(struct attn_prep_args){.q = s->attention.q,
                                                       .qg = s->attention.qg,
                                                       .k = s->attention.k,
                                                       .v = s->attention.v,
                                                       .k_pages = layer->k_pages,
                                                       .v_pages = layer->v_pages,
                                                       .kv_type = m->kv_type,
                                                       .q_norm = w->q_norm,
                                                       .k_norm = w->k_norm,
                                                       .batch = *b,
                                                       .heads = c->num_attention_heads,
                                                       .kv_heads = c->num_key_value_heads,
                                                       .head_dim = c->head_dim,
                                                       .rot = c->rotary_dim,
                                                       .eps = c->rms_norm_eps,
                                                       .rope_theta = c->rope_theta});
    m->ops->attention(m->dev, &(struct attention_args){.o = s->attention.o,
                                                       .q = s->attention.q,
                                                       .qg = s->attention.qg,
                                                       .k_pages = layer->k_pages,
                                                       .v_pages = layer->v_pages,
                                                       .kv_type = m->kv_type,
                                                       .batch = *b,
                                                       .heads = c->num_attention_heads,
                                                       .kv_heads = c->num_key_value_heads,
                                                       .head_dim = c->head_dim});
    project(m, s->y, s->attention.o, &w->o_proj, b);
}
