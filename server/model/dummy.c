// dummy.c - see dummy.h. Sizes: the config.json of each Qwen3.5 checkpoint.
#include "dummy.h"

#include <math.h>
#include <string.h>

static const char PREFIX[] = "dummy:";

static const struct size {
    const char *name;
    int hidden, layers, intermediate, heads, kv_heads, v_heads;
    bool tied;
} SIZES[] = {
    {"0.8B", 1024, 24, 3584, 8, 2, 16, true},   {"2B", 2048, 24, 6144, 8, 2, 16, true},
    {"4B", 2560, 32, 9216, 16, 4, 32, true},    {"9B", 4096, 32, 12288, 16, 4, 32, false},
    {"27B", 5120, 64, 17408, 24, 4, 48, false},
};

bool dummy_is(const char *dir)
{
    return !strncmp(dir, PREFIX, sizeof PREFIX - 1);
}

static void fill_config(struct config *c, const struct size *s)
{
    *c = (struct config){
        .vocab_size = 248320,
        .hidden_size = s->hidden,
        .intermediate_size = s->intermediate,
        .num_hidden_layers = s->layers,
        .num_attention_heads = s->heads,
        .num_key_value_heads = s->kv_heads,
        .head_dim = 256,
        .linear_num_key_heads = 16,
        .linear_num_value_heads = s->v_heads,
        .linear_key_head_dim = 128,
        .linear_value_head_dim = 128,
        .max_position_embeddings = 262144,
        .rotary_dim = 64,
        .rope_theta = 1e7f,
        .rms_norm_eps = 1e-6f,
        .tie_word_embeddings = s->tied,
        .eos = {248046, 248044},
        .n_eos = 2,
        .temperature = NAN,
        .top_p = NAN,
        .top_k = -1,
    };
    for (int i = 0; i < s->layers; i++)
        c->full_attention[i] = i % 4 == 3;
}

int dummy_config(struct config *c, const char *dir, struct err *e)
{
    const char *name = dir + sizeof PREFIX - 1;
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++)
        if (!strcmp(name, SIZES[i].name)) {
            fill_config(c, &SIZES[i]);
            return 0;
        }
    return err_set(e, ERR_NOT_FOUND,
                   "the model '%.100s' does not exist; use dummy:0.8B, dummy:2B, dummy:4B, "
                   "dummy:9B or dummy:27B",
                   dir);
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

struct dummy_values dummy_values(const char *name, int cols)
{
    if (ends_with(name, "linear_attn.norm.weight"))
        return (struct dummy_values){1, 0.1f}; // a plain weight, not 1 + w
    if (ends_with(name, "norm.weight"))
        return (struct dummy_values){0, 0.1f};
    if (ends_with(name, "A_log") || ends_with(name, "dt_bias"))
        return (struct dummy_values){0, 1};
    if (ends_with(name, "conv1d.weight"))
        return (struct dummy_values){0, 0.5f};
    if (ends_with(name, "embed_tokens.weight"))
        return (struct dummy_values){0, 1};
    return (struct dummy_values){0, 1 / sqrtf((float)cols)};
}
