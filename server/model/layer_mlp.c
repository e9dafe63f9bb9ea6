// layer_mlp.c - SwiGLU: y = down_proj(SiLU(gate_proj(h)) * up_proj(h)). Source: Qwen3_5MLP.
#include "qwen35_model.h"

void layer_mlp(struct model *m, const struct layer *layer, const struct batch *b)
{
    struct scratch *s = &m->scratch;
    project(m, s->mlp.gate, s->h, &layer->mlp.gate_proj, b);
    project(m, s->mlp.up, s->h, &layer->mlp.up_proj, b);
    m->ops->silu_mul(m->dev, &(struct silu_mul_args){.y = s->mlp.gate,
                                                     .gate = s->mlp.gate,
                                                     .up = s->mlp.up,
                                                     .t = b->t,
                                                     .n = m->config.intermediate_size});
    project(m, s->y, s->mlp.gate, &layer->mlp.down_proj, b);
}
