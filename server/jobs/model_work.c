// model_work.c - see model_work.h.
#include "model_work.h"

struct model_work model_work_of(const struct config *c, const struct model_options *o,
                                const struct model_memory *p)
{
    double h = c->hidden_size, q = (double)c->num_attention_heads * c->head_dim;
    double kv = (double)c->num_key_value_heads * c->head_dim;
    double values = (double)c->linear_num_value_heads * c->linear_value_head_dim;
    double keys = (double)c->linear_num_key_heads * c->linear_key_head_dim;
    double attention = h * (2 * q + 2 * kv) + q * h;
    double delta = h * (2 * keys + 2 * values + 2.0 * c->linear_num_value_heads) + values * h;
    double embed = (double)c->vocab_size * h * (double)dtype_bytes(model_act(o->dtype));
    struct model_work w = {.head_flops = 2.0 * c->vocab_size * h};
    for (int i = 0; i < c->num_hidden_layers; i++) {
        w.layer_flops += 2 * 3 * h * c->intermediate_size;
        if (c->full_attention[i]) {
            w.layer_flops += 2 * attention;
            w.key_flops += 4 * q;
        } else {
            // Decay, S^T k, the update and S^T q: seven operations a value of the state.
            w.layer_flops += 2 * delta + 7 * values * c->linear_key_head_dim;
        }
    }
    w.weight_bytes = (double)(p->weights + p->mapped) - (c->tie_word_embeddings ? 0 : embed);
    w.state_bytes = 2.0 * (double)p->state_bytes_per_sequence;
    w.key_bytes = (double)p->kv_bytes_per_token;
    return w;
}

void model_work_prefill(const struct model_work *w, int n, int step, double *flops, double *bytes)
{
    const double steps = (n + step - 1) / step, pairs = 0.5 * n * (n + 1.0);
    *flops = n * w->layer_flops + w->head_flops + pairs * w->key_flops;
    // Every step reads the weights, the state and the keys so far.
    *bytes = steps * (w->weight_bytes + w->state_bytes) + steps * n / 2 * w->key_bytes;
}

void model_work_decode(const struct model_work *w, int depth, int batch, double *flops,
                       double *bytes)
{
    *flops = batch * (w->layer_flops + w->head_flops + depth * w->key_flops);
    *bytes = w->weight_bytes + batch * (w->state_bytes + depth * w->key_bytes);
}
