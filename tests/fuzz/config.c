// config.c - any bytes as config.json: refused with a sentence, or every number is one the server can
// compute with. What is accepted is read again as generation_config.json.
#include "qwen35_config.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct config c;
    struct err e = {.code = ERR_OK};
    if (qwen35_config_parse(&c, (const char *)data, n, "fuzz", &e)) {
        CHECK(e.code != ERR_OK && e.text[0]);
        return 0;
    }
    CHECK(c.num_hidden_layers >= 1 && c.num_hidden_layers <= MODEL_LAYERS_MAX);
    CHECK(c.num_attention_heads % c.num_key_value_heads == 0 && c.head_dim % 16 == 0);
    CHECK(c.linear_num_value_heads % c.linear_num_key_heads == 0);
    CHECK(c.rotary_dim >= 2 && c.rotary_dim % 2 == 0 && c.rotary_dim <= c.head_dim);
    CHECK(c.vocab_size >= 1 && config_conv_channels(&c) > 0 && config_query_width(&c) > 0);
    for (int i = 0; i < c.n_eos; i++)
        CHECK(c.eos[i] >= 0 && c.eos[i] < c.vocab_size);
    if (qwen35_generation_parse(&c, (const char *)data, n, "fuzz", &e))
        CHECK(e.text[0]);
    return 0;
}
