// tiny_checkpoint.c - see tiny_checkpoint.h.
#define _GNU_SOURCE
#include "tiny_checkpoint.h"

#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "err.h"

const char tiny_config[] =
    "{\"architectures\": [\"Qwen3_5ForConditionalGeneration\"], \"model_type\": \"qwen3_5\","
    " \"text_config\": {\"vocab_size\": 32, \"hidden_size\": 16, \"intermediate_size\": 32,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1,"
    " \"head_dim\": 16, \"linear_num_key_heads\": 1, \"linear_num_value_heads\": 2,"
    " \"linear_key_head_dim\": 16, \"linear_value_head_dim\": 16, \"linear_conv_kernel_dim\": 4,"
    " \"max_position_embeddings\": 512, \"rms_norm_eps\": 1e-6, \"eos_token_id\": 7,"
    " \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000,"
    " \"partial_rotary_factor\": 0.25}, \"layer_types\": [\"linear_attention\","
    " \"full_attention\"]}, \"tie_word_embeddings\": true}";

// Name without prefix and shape; layer 0 is a delta net, layer 1 attention, as tiny_config says.
static const struct {
    const char *name;
    int rows, cols; // cols 0: a vector
} TENSORS[] = {
    {"embed_tokens.weight", 32, 16},
    {"norm.weight", 16, 0},
    {"layers.0.input_layernorm.weight", 16, 0},
    {"layers.0.post_attention_layernorm.weight", 16, 0},
    {"layers.0.linear_attn.in_proj_qkv.weight", 64, 16},
    {"layers.0.linear_attn.in_proj_z.weight", 32, 16},
    {"layers.0.linear_attn.in_proj_b.weight", 2, 16},
    {"layers.0.linear_attn.in_proj_a.weight", 2, 16},
    {"layers.0.linear_attn.out_proj.weight", 16, 32},
    {"layers.0.linear_attn.conv1d.weight", 64, 4},
    {"layers.0.linear_attn.A_log", 2, 0},
    {"layers.0.linear_attn.dt_bias", 2, 0},
    {"layers.0.linear_attn.norm.weight", 16, 0},
    {"layers.0.mlp.gate_proj.weight", 32, 16},
    {"layers.0.mlp.up_proj.weight", 32, 16},
    {"layers.0.mlp.down_proj.weight", 16, 32},
    {"layers.1.input_layernorm.weight", 16, 0},
    {"layers.1.post_attention_layernorm.weight", 16, 0},
    {"layers.1.self_attn.q_proj.weight", 64, 16},
    {"layers.1.self_attn.k_proj.weight", 16, 16},
    {"layers.1.self_attn.v_proj.weight", 16, 16},
    {"layers.1.self_attn.o_proj.weight", 16, 32},
    {"layers.1.self_attn.q_norm.weight", 16, 0},
    {"layers.1.self_attn.k_norm.weight", 16, 0},
    {"layers.1.mlp.gate_proj.weight", 32, 16},
    {"layers.1.mlp.up_proj.weight", 32, 16},
    {"layers.1.mlp.down_proj.weight", 16, 32},
};
enum { N_TENSORS = sizeof TENSORS / sizeof *TENSORS };

// -0.875 .. 0.875 in eighths: four bits, so that every float type holds it.
static float value(const char *name, size_t i)
{
    uint32_t h = 2166136261u;
    for (const char *c = name; *c; c++)
        h = (h ^ (unsigned char)*c) * 16777619u;
    h = (h ^ (uint32_t)i) * 2654435761u;
    return ((float)((h >> 20) % 15) - 7) / 8;
}

static void add_value(struct buf *data, const char *dtype, float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (!strcmp(dtype, "BF16")) {
        uint16_t half = (uint16_t)(bits >> 16);
        buf_add(data, &half, sizeof half);
    } else if (!strcmp(dtype, "F16")) {
        uint16_t half =
            (uint16_t)((bits >> 16 & 0x8000) | (f == 0 ? 0 : (((bits >> 23) & 255) - 112) << 10) |
                       (f == 0 ? 0 : bits >> 13 & 1023));
        buf_add(data, &half, sizeof half);
    } else {
        buf_add(data, &bits, sizeof bits);
    }
}

struct file {
    struct buf header, data;
    struct buf *index; // the index's weight_map, or NULL
    const char *name;
};

static void add_tensor(struct file *f, const struct tiny *t, const char *prefix, int i)
{
    const char *dtype = t->dtype ? t->dtype : "BF16";
    char name[256], shape[64];
    snprintf(name, sizeof name, "%s%s", prefix, TENSORS[i].name);
    if (t->skip && !strcmp(t->skip, name))
        return;
    int rows = TENSORS[i].rows + (t->reshape && !strcmp(t->reshape, name));
    int cols = TENSORS[i].cols ? TENSORS[i].cols : 1;
    bool whole = t->retype && !strcmp(t->retype, name);
    bool conv = strstr(name, "conv1d") != NULL;
    snprintf(shape, sizeof shape, conv ? "%d,1,%d" : "%d,%d", rows, cols);
    if (!TENSORS[i].cols)
        snprintf(shape, sizeof shape, "%d", rows);
    size_t begin = f->data.n;
    for (int j = 0; j < rows * cols; j++) {
        const uint32_t zero = 0;
        if (whole)
            buf_add(&f->data, &zero, sizeof zero);
        else
            add_value(&f->data, dtype, value(TENSORS[i].name, (size_t)j));
    }
    buf_format(&f->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
               f->header.n > 1 ? "," : "", name, whole ? "I32" : dtype, shape, begin, f->data.n);
    if (f->index)
        buf_format(f->index, "%s\"%s\":\"%s\"", f->index->n > 1 ? "," : "", name, f->name);
}

static void add_plain(struct file *f, const char *name, int rows, int cols)
{
    size_t begin = f->data.n;
    for (int j = 0; j < rows * (cols ? cols : 1); j++)
        add_value(&f->data, "F32", value(name, (size_t)j));
    buf_format(&f->header,
               ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%d%s%.0d],\"data_offsets\":[%zu,%zu]}", name,
               rows, cols ? "," : "", cols, begin, f->data.n);
}

void tiny_file(const char *dir, const char *name, const void *bytes, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, n, f) == n);
    CHECK(!fclose(f));
}

static void write_file(const char *dir, struct file *f, bool odd)
{
    struct buf out = {0};
    buf_str(&f->header, "}");
    while ((f->header.n + (odd ? 1 : 0)) % 8)
        buf_str(&f->header, " ");
    uint64_t n = f->header.n;
    buf_add(&out, &n, sizeof n);
    buf_add(&out, f->header.data, f->header.n);
    buf_add(&out, f->data.data, f->data.n);
    tiny_file(dir, f->name, out.data, out.n);
    buf_fini(&out);
    buf_fini(&f->header);
    buf_fini(&f->data);
}

void tiny_write(char *dir, const struct tiny *t)
{
    const char *prefix = t->prefix ? t->prefix : "model.language_model.";
    const char *config = t->config ? t->config : tiny_config;
    struct buf index = {0};
    snprintf(dir, 256, "%s/tiny-XXXXXX", TEST_BINARY_DIR);
    CHECK(mkdtemp(dir));
    tiny_file(dir, "config.json", config, strlen(config));
    buf_str(&index, "{");
    struct file files[2] = {
        {.name = t->sharded ? "model-00001-of-00002.safetensors" : "model.safetensors"},
        {.name = "model-00002-of-00002.safetensors"}};
    for (int i = 0; i < 2; i++) {
        buf_str(&files[i].header, "{");
        files[i].index = t->sharded ? &index : NULL;
    }
    for (int i = 0; i < N_TENSORS; i++)
        add_tensor(&files[t->sharded && i % 3 == 2], t, prefix, i);
    if (t->extra)
        add_plain(&files[0], t->extra, 4, 0);
    if (t->head)
        add_plain(&files[0], t->head, TINY_VOCAB, TINY_HIDDEN);
    write_file(dir, &files[0], t->odd);
    if (t->sharded) {
        struct buf text = {0};
        write_file(dir, &files[1], t->odd);
        buf_format(&text, "{\"metadata\":{\"total_size\":1},\"weight_map\":%s}}", index.data);
        tiny_file(dir, "model.safetensors.index.json", text.data, text.n);
        buf_fini(&text);
    } else {
        buf_fini(&files[1].header);
    }
    buf_fini(&index);
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *ftw)
{
    (void)s;
    (void)type;
    (void)ftw;
    return remove(path);
}

void tiny_remove(const char *dir)
{
    CHECK(!nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS));
}
