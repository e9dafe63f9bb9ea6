// config.c - config.json and generation_config.json: what is read, and every refusal with its sentence.
#define _GNU_SOURCE
#include "qwen35_config.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "mem.h"
#include "tiny_checkpoint.h"

#define EXPECT(text, want) cr_assert(strstr(text, want), "'%s' lacks '%s'", text, want)

// text with its first `from` replaced; the caller frees.
static char *edited(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    cr_assert(at != NULL, "'%s' is not in the text", from);
    struct buf b = {0};
    buf_add(&b, text, (size_t)(at - text));
    buf_str(&b, to);
    buf_str(&b, at + strlen(from));
    return buf_take(&b);
}

static struct config accepted(const char *from, const char *to)
{
    struct config c;
    struct err e;
    char *text = edited(tiny_config, from, to);
    cr_assert(!qwen35_config_parse(&c, text, strlen(text), "config.json", &e), "%s", e.text);
    mem_free(text);
    return c;
}

// The sentence for tiny_config with its first `from` replaced.
static const char *refusal(const char *from, const char *to)
{
    static struct err e;
    struct config c;
    char *text = edited(tiny_config, from, to);
    e = (struct err){0};
    cr_assert(qwen35_config_parse(&c, text, strlen(text), "config.json", &e), "accepted %s", to);
    cr_assert_eq(e.code, ERR_BAD_REQUEST);
    cr_assert(!strncmp(e.text, "config.json: ", 13), "%s", e.text);
    mem_free(text);
    return e.text;
}

Test(config, nested)
{
    struct config c = accepted("{", "{");
    cr_assert_eq(c.vocab_size, 32);
    cr_assert_eq(c.num_attention_heads, 2);
    cr_assert_eq(c.rotary_dim, 4);
    cr_assert(c.rope_theta == 10000 && c.rms_norm_eps == 1e-6f);
    cr_assert(c.tie_word_embeddings && !c.full_attention[0] && c.full_attention[1]);
    cr_assert(c.n_eos == 1 && c.eos[0] == 7);
    cr_assert(isnan(c.temperature) && isnan(c.top_p) && c.top_k == -1);
    cr_assert_eq(config_conv_channels(&c), 64);
    cr_assert_eq(config_value_width(&c), 32);
    cr_assert_eq(config_query_width(&c), 32);
    cr_assert_eq(config_kv_width(&c), 16);
    cr_assert_eq(config_attention_layers(&c), 1);
}

Test(config, flat)
{
    struct config c;
    struct err e;
    char *inner = edited(tiny_config, "\"text_config\": {", "");
    char *type = edited(inner, "\"qwen3_5\"", "\"qwen3_5_text\"");
    char *name = edited(type, "ForConditionalGeneration", "ForCausalLM");
    char *text = edited(name, "]}, \"tie", "], \"tie");
    cr_assert(!qwen35_config_parse(&c, text, strlen(text), "config.json", &e), "%s", e.text);
    cr_assert(c.hidden_size == 16 && c.tie_word_embeddings);
    mem_free(text);
    mem_free(name);
    mem_free(type);
    mem_free(inner);
}

Test(config, layer_interval)
{
    const char *list = ", \"layer_types\": [\"linear_attention\", \"full_attention\"]";
    struct config c = accepted(list, ", \"full_attention_interval\": 2");
    cr_assert(!c.full_attention[0] && c.full_attention[1]);
    c = accepted(list, "");
    cr_assert(!c.full_attention[0] && !c.full_attention[1]); // every fourth
}

Test(config, rope)
{
    struct config c = accepted("\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": "
                               "10000, \"partial_rotary_factor\": 0.25}",
                               "\"rope_theta\": 1e7, \"partial_rotary_factor\": 0.5");
    cr_assert(c.rope_theta == 1e7f && c.rotary_dim == 8); // older, flat keys
    EXPECT(refusal("\"rope_type\": \"default\"", "\"rope_type\": \"yarn\", \"factor\": 4"),
           "rope_parameters.rope_type is 'yarn'; wanted default");
    EXPECT(refusal("\"layer_types\"", "\"rope_scaling\": {\"type\": \"yarn\"}, \"layer_types\""),
           "rope_scaling.rope_type is 'yarn'");
    EXPECT(refusal("\"rope_theta\": 10000,", ""), "rope_theta is missing");
    EXPECT(refusal("\"rope_theta\": 10000", "\"rope_theta\": \"x\""), "rope_theta");
    EXPECT(refusal("\"partial_rotary_factor\": 0.25", "\"partial_rotary_factor\": 0.3"),
           "rotates 4.8 of head_dim 16");
    EXPECT(refusal("\"partial_rotary_factor\": 0.25", "\"partial_rotary_factor\": 2"),
           "partial_rotary_factor");
}

Test(config, eos)
{
    struct config c = accepted("\"eos_token_id\": 7", "\"eos_token_id\": [3, 4]");
    cr_assert(c.n_eos == 2 && c.eos[0] == 3 && c.eos[1] == 4);
    c = accepted("\"eos_token_id\": 7", "\"eos_token_id\": null");
    cr_assert_eq(c.n_eos, 0);
    EXPECT(refusal("\"eos_token_id\": 7", "\"eos_token_id\": 32"),
           "not an id below vocab_size, 32");
    EXPECT(refusal("\"eos_token_id\": 7", "\"eos_token_id\": [\"a\"]"), "not an id");
    EXPECT(refusal("\"eos_token_id\": 7", "\"eos_token_id\": [1,2,3,4,5,6,7,8,9]"),
           "eos_token_id has 9 entries; wanted at most 8");
}

Test(config, other_models)
{
    EXPECT(refusal("Qwen3_5ForConditionalGeneration", "LlamaForCausalLM"),
           "architectures is 'LlamaForCausalLM'; wanted Qwen3_5ForConditionalGeneration");
    EXPECT(refusal("Qwen3_5ForConditionalGeneration", "Qwen3NextForCausalLM"),
           "Qwen3NextForCausalLM");
    EXPECT(refusal("Qwen3_5ForConditionalGeneration", "Qwen4ExpForConditionalGeneration"),
           "Qwen4ExpForConditionalGeneration");
    EXPECT(refusal("\"qwen3_5\"", "\"qwen3_next\""), "model_type is 'qwen3_next'; wanted qwen3_5");
    EXPECT(refusal("\"architectures\": [\"Qwen3_5ForConditionalGeneration\"], \"model_type\": "
                   "\"qwen3_5\",",
                   ""),
           "architectures is ''");
}

Test(config, mixture_of_experts)
{
    EXPECT(refusal("Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration"),
           "mixture-of-experts model ('Qwen3_5MoeForConditionalGeneration')");
    EXPECT(refusal("\"qwen3_5\"", "\"qwen3_5_moe\""), "mixture-of-experts");
    EXPECT(refusal("\"vocab_size\"", "\"num_experts\": 8, \"vocab_size\""), "mixture-of-experts");
}

Test(config, quantized)
{
    EXPECT(refusal("\"model_type\"", "\"quantization_config\": {\"quant_method\": \"fp8\"}, "
                                     "\"model_type\""),
           "quantization_config says the checkpoint is quantized (fp8)");
    EXPECT(refusal("\"vocab_size\"", "\"quantization_config\": {}, \"vocab_size\""),
           "method not named");
    EXPECT(refusal("\"vocab_size\"", "\"compression_config\": {}, \"vocab_size\""),
           "compression_config");
    accepted("\"model_type\"", "\"quantization_config\": null, \"model_type\"");
}

Test(config, fixed_keys)
{
    EXPECT(refusal("\"vocab_size\"", "\"hidden_act\": \"gelu\", \"vocab_size\""),
           "hidden_act is 'gelu'; wanted silu");
    EXPECT(refusal("\"vocab_size\"", "\"output_gate_type\": \"sigmoid\", \"vocab_size\""),
           "output_gate_type is 'sigmoid'; wanted swish or silu");
    EXPECT(refusal("\"vocab_size\"", "\"attention_bias\": true, \"vocab_size\""),
           "attention_bias is true; wanted false");
    EXPECT(refusal("\"vocab_size\"", "\"attn_output_gate\": false, \"vocab_size\""),
           "attn_output_gate is false; wanted true");
    EXPECT(refusal("\"linear_conv_kernel_dim\": 4", "\"linear_conv_kernel_dim\": 2"),
           "linear_conv_kernel_dim is 2; wanted 4");
    accepted("\"vocab_size\"", "\"hidden_act\": \"silu\", \"output_gate_type\": \"swish\", "
                               "\"attention_bias\": false, \"vocab_size\"");
}

Test(config, heads)
{
    EXPECT(refusal("\"head_dim\": 16", "\"head_dim\": 24"),
           "head_dim is 24; wanted a multiple of 16");
    EXPECT(refusal("\"linear_key_head_dim\": 16", "\"linear_key_head_dim\": 40"),
           "linear_key_head_dim is 40");
    EXPECT(refusal("\"linear_value_head_dim\": 16", "\"linear_value_head_dim\": 272"),
           "linear_value_head_dim");
    EXPECT(refusal("\"num_key_value_heads\": 1", "\"num_key_value_heads\": 3"),
           "num_attention_heads is 2; wanted a multiple of num_key_value_heads, 3");
    EXPECT(refusal("\"linear_num_key_heads\": 1", "\"linear_num_key_heads\": 4"),
           "linear_num_value_heads is 2; wanted a multiple of linear_num_key_heads, 4");
}

Test(config, sizes)
{
    EXPECT(refusal("\"vocab_size\": 32", "\"vocab_size\": 1048577"), "vocab_size");
    EXPECT(refusal("\"hidden_size\": 16", "\"hidden_size\": 65537"), "hidden_size");
    EXPECT(refusal("\"hidden_size\": 16", "\"hidden_size\": -16"), "hidden_size");
    EXPECT(refusal("\"hidden_size\": 16", "\"hidden_size\": 9223372036854775807"), "hidden_size");
    EXPECT(refusal("\"hidden_size\": 16,", ""), "hidden_size");
    EXPECT(refusal("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 257"), "num_hidden_layers");
    EXPECT(refusal("\"num_attention_heads\": 2", "\"num_attention_heads\": 0"),
           "num_attention_heads");
    EXPECT(refusal("\"rms_norm_eps\": 1e-6", "\"rms_norm_eps\": 0"), "rms_norm_eps");
    EXPECT(refusal("\"max_position_embeddings\": 512", "\"max_position_embeddings\": 1e9"),
           "max_position_embeddings");
}

Test(config, layer_types)
{
    EXPECT(refusal("\"linear_attention\", ", ""),
           "layer_types has 1 entries; wanted num_hidden_layers, 2");
    EXPECT(refusal("\"linear_attention\"", "\"sliding_attention\""),
           "layer_types[0] is 'sliding_attention'; wanted linear_attention or full_attention");
    EXPECT(refusal("\"linear_attention\"", "3"), "layer_types[0] is 'not a string'");
}

Test(config, documents)
{
    struct config c;
    struct err e;
    cr_assert(qwen35_config_parse(&c, "{", 1, "config.json", &e));
    EXPECT(e.text, "config.json: ");
    cr_assert(qwen35_config_parse(&c, "[]", 2, "config.json", &e));
    EXPECT(e.text, "config.json: the file is not a JSON object");
    cr_assert(qwen35_config_parse(&c, "", 0, "config.json", &e));
    EXPECT(refusal("{\"vocab_size\": 32", "3, \"x\": {\"vocab_size\": 32"),
           "text_config is not an object");
}

Test(config, generation)
{
    struct config c = accepted("{", "{");
    struct err e;
    const char *text = "{\"temperature\": 0.6, \"top_k\": 20, \"eos_token_id\": [5, 6]}";
    cr_assert(!qwen35_generation_parse(&c, text, strlen(text), "generation_config.json", &e), "%s",
              e.text);
    cr_assert(c.temperature == 0.6 && isnan(c.top_p) && c.top_k == 20);
    cr_assert(c.n_eos == 2 && c.eos[1] == 6);
    cr_assert(!qwen35_generation_parse(&c, "{}", 2, "g", &e));
    cr_assert(c.temperature == 0.6 && c.n_eos == 2); // silence changes nothing
    const char *const wrong[] = {"{\"temperature\": 3}",   "{\"top_p\": 0}",     "{\"top_k\": -1}",
                                 "{\"eos_token_id\": -1}", "{\"top_k\": \"a\"}", "x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cr_assert(qwen35_generation_parse(&c, wrong[i], strlen(wrong[i]), "g", &e), "%s", wrong[i]);
        cr_assert(!strncmp(e.text, "g: ", 3), "%s", e.text);
    }
}
