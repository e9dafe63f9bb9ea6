// qwen35_config.h - config.json and generation_config.json of a checkpoint -> struct config. Private to
// the room and its tests. Pure functions of the caller's bytes: any thread.
#ifndef QWEN35_CONFIG_H
#define QWEN35_CONFIG_H

#include <stddef.h>

#include "err.h"
#include "qwen35.h"

// What a config file may say and this server computes with; see the checks in qwen35_config.c.
enum {
    CONFIG_VOCAB_MAX = 1 << 20,
    CONFIG_HIDDEN_MAX = 65536,
    CONFIG_INTERMEDIATE_MAX = 1 << 18,
    CONFIG_HEADS_MAX = 1024,
    CONFIG_HEAD_DIM_MAX = 256,
    CONFIG_POSITIONS_MAX = 1 << 24,
};

// Fill *c from n bytes of config.json, nested (text_config) or flat. path is for error texts. Fails
// with ERR_BAD_REQUEST: one sentence with the file, the key, the value found and what is wanted. On
// failure *c is partly filled.
int qwen35_config_parse(struct config *c, const char *json, size_t n, const char *path,
                        struct err *e) MUST_USE;

// Fill eos, n_eos, temperature, top_p and top_k of *c, already filled by qwen35_config_parse, from n
// bytes of generation_config.json. Keys that are absent leave *c as it is.
int qwen35_generation_parse(struct config *c, const char *json, size_t n, const char *path,
                            struct err *e) MUST_USE;

// Sizes that several files need, in values a token.
int config_conv_channels(const struct config *c); // q, k and v of a delta-net layer
int config_value_width(const struct config *c);   // v, z and o of a delta-net layer
int config_query_width(const struct config *c);   // q and o of an attention layer, without the gate
int config_kv_width(const struct config *c);      // k of an attention layer; v is as wide
int config_attention_layers(const struct config *c);

#endif
