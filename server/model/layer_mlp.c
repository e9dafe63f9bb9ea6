// layer_mlp.c - SwiGLU: y = down_proj(SiLU(gate_proj(h)) * up_proj(h)). Source: Qwen3_5MLP.
#include "qwen35_model.h"

void layer_mlp(struct model *m, const struct layer *layer, const struct batch *b,
               const struct linear_norm *norm)
{
    struct scratch *s = &m->scratch;
    m->ops->linear(m->dev, &(struct linear_args){.y = {s->mlp.gate, s->mlp.up},
                                                 .x = s->x,
                                                 .norm = *norm,
                                                 .w = {layer->mlp.gate_proj, layer->mlp.up_proj},
                                                 .n = 2,
                                                 .t = b->t,
                                                 .t_gemm = b->t_prefill,
                                                 .glu = true});
    m->ops->linear(m->dev, &(struct linear_args){.y = {s->y},
                                                 .x = s->mlp.up,
                                                 .gate = s->mlp.gate,
                                                 .w = {layer->mlp.down_proj},
                                                 .n = 1,
                                                 .t = b->t,
                                                 .t_gemm = b->t_prefill});
}
