// load.c - checkpoints on disk: prefixes, shards, types, links and everything that can be missing or
// wrong; the memory plan; and that every way of storing the same weights gives the same logits.
#define _GNU_SOURCE
#include "qwen35.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint.h"
#include "tiny_checkpoint.h"

#define EXPECT(text, want) cr_assert(strstr(text, want), "'%s' lacks '%s'", text, want)

static struct model_options options(enum dtype dtype)
{
    return (struct model_options){.dtype = dtype,
                                  .batch_tokens = 64,
                                  .batch_rows = 64,
                                  .sequences_max = 2,
                                  .chunk = 16,
                                  .inverse = inverse_auto(16, INVERSE_FP32)};
}

static struct dev *device(void)
{
    static struct dev *dev;
    char why[256];
    if (!dev)
        dev = ops_cpu.open(&(struct dev_options){.threads = 1}, why, sizeof why);
    cr_assert(dev != NULL);
    return dev;
}

static struct model *load(const char *dir, const struct model_options *o, struct err *e)
{
    *e = (struct err){0};
    return model_load(dir, o, &ops_cpu, device(), e);
}

// The sentence for a checkpoint with something wrong in it.
static const char *refusal(const struct tiny *t)
{
    static struct err e;
    char dir[256];
    const struct model_options o = options(DTYPE_F32);
    tiny_write(dir, t);
    cr_assert(load(dir, &o, &e) == NULL);
    tiny_remove(dir);
    cr_assert_eq(e.code, ERR_BAD_REQUEST);
    return e.text;
}

// Logits of the last of 20 tokens.
static void run(struct model *m, float *logits)
{
    int ids[20], pages[1] = {0}, row = 19;
    const struct span span = {.t = 20, .slot = 1};
    for (int i = 0; i < 20; i++)
        ids[i] = (i * 11 + 3) % TINY_VOCAB;
    const struct step s = {.ids = ids,
                           .batch = {.spans = &span,
                                     .host_spans = &span,
                                     .n_spans = 1,
                                     .t = 20,
                                     .t_prefill = 20,
                                     .pages = pages,
                                     .pages_max = 1},
                           .rows = &row,
                           .n_rows = 1};
    model_forward(m, &s);
    ops_cpu.download(device(), logits, model_logits(m), TINY_VOCAB * sizeof *logits);
}

static void logits_of(const struct tiny *t, enum dtype dtype, float *logits)
{
    char dir[256];
    struct err e;
    const struct model_options o = options(dtype);
    tiny_write(dir, t);
    struct model *m = load(dir, &o, &e);
    cr_assert(m != NULL, "%s", e.text);
    run(m, logits);
    model_destroy(m);
    tiny_remove(dir);
}

// Every stored form of the same weights: equal bits.
Test(load, forms)
{
    static const struct tiny forms[] = {
        {.dtype = "F16"},
        {.dtype = "F32"},
        {.sharded = true},
        {.sharded = true, .odd = true},
        {.odd = true},
        {.odd = true, .dtype = "F32"},
        {.prefix = "model."},
        {.prefix = "language_model.model."},
        {.prefix = "model.model."},
        {.extra = "mtp.norm.weight"},
        {.extra = "model.visual.pos_embed.weight"},
        {.extra = "model.language_model.layers.1.self_attn.rotary_emb.inv_freq"},
    };
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_INT8};
    for (int d = 0; d < 3; d++) {
        float want[TINY_VOCAB], got[TINY_VOCAB];
        logits_of(&(struct tiny){0}, types[d], want);
        for (int i = 0; i < TINY_VOCAB; i++)
            cr_assert(want[i] == want[i] && want[i] != 0);
        for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
            logits_of(&forms[i], types[d], got);
            cr_assert(!memcmp(want, got, sizeof want), "form %zu, %s", i, dtype_name(types[d]));
        }
    }
}

// lm_head.weight: used when config.json does not tie, wherever it stands; ignored when it does.
Test(load, heads)
{
    static const char *const names[] = {"lm_head.weight", "language_model.lm_head.weight",
                                        "model.lm_head.weight"};
    float tied[TINY_VOCAB], got[TINY_VOCAB];
    char *untied = strdup(tiny_config);
    char *flag = strstr(untied, "true}");
    memcpy(flag, "null}", 5); // silent: its own head if there is one
    logits_of(&(struct tiny){0}, DTYPE_F32, tied);
    logits_of(&(struct tiny){.config = untied}, DTYPE_F32, got);
    cr_assert(!memcmp(tied, got, sizeof got));
    for (int i = 0; i < 3; i++) {
        const char *prefix = i == 1 ? "language_model.model." : NULL;
        logits_of(&(struct tiny){.config = untied, .head = names[i], .prefix = prefix}, DTYPE_F32,
                  got);
        cr_assert(memcmp(tied, got, sizeof got), "%s was not used", names[i]);
        if (i != 2)
            logits_of(&(struct tiny){.head = names[i], .prefix = prefix}, DTYPE_F32, got);
        cr_assert(i == 2 || !memcmp(tied, got, sizeof got), "%s was used", names[i]);
    }
    free(untied);
}

Test(load, tensors)
{
    EXPECT(
        refusal(&(struct tiny){.skip = "model.language_model.layers.0.linear_attn.A_log"}),
        "model.safetensors: tensor 'model.language_model.layers.0.linear_attn.A_log' is missing");
    EXPECT(refusal(&(struct tiny){.skip = "model.language_model.embed_tokens.weight"}),
           "no tensor embed_tokens.weight under");
    EXPECT(refusal(&(struct tiny){.reshape = "model.language_model.layers.1.mlp.up_proj.weight"}),
           "layers.1.mlp.up_proj.weight' has shape [33, 16]; config.json asks for [32, 16]");
    EXPECT(refusal(&(struct tiny){.reshape =
                                      "model.language_model.layers.0.linear_attn.conv1d.weight"}),
           "conv1d.weight' has shape [65, 1, 4]; config.json asks for [64, 4]");
    EXPECT(refusal(&(struct tiny){.reshape = "model.language_model.norm.weight"}),
           "norm.weight' has shape [17]; config.json asks for [16]");
    EXPECT(refusal(&(struct tiny){.retype = "model.language_model.layers.0.mlp.up_proj.weight"}),
           "layers.0.mlp.up_proj.weight' has dtype I32; wanted BF16, F16 or F32");
    EXPECT(refusal(&(struct tiny){.extra = "model.language_model.layers.1.self_attn.q_proj.bias"}),
           "self_attn.q_proj.bias' is not part of a dense Qwen3.5 model");
    EXPECT(refusal(&(struct tiny){.head = "lm_head.weight",
                                  .skip = "model.language_model.layers.0.mlp.gate_proj.weight"}),
           "layers.0.mlp.gate_proj.weight' is missing");
}

// A sharded checkpoint whose index says something else; text replaces it.
static const char *index_refusal(const char *text, const char *lost)
{
    static struct err e;
    char dir[256], path[600];
    const struct model_options o = options(DTYPE_F32);
    tiny_write(dir, &(struct tiny){.sharded = true});
    if (text)
        tiny_file(dir, "model.safetensors.index.json", text, strlen(text));
    snprintf(path, sizeof path, "%s/%s", dir, lost ? lost : "");
    cr_assert(!lost || !unlink(path));
    cr_assert(load(dir, &o, &e) == NULL);
    tiny_remove(dir);
    return e.text;
}

Test(load, index)
{
    EXPECT(index_refusal("{}", NULL), "weight_map is missing, empty or not an object");
    EXPECT(index_refusal("{\"weight_map\": {}}", NULL), "weight_map is missing, empty");
    EXPECT(index_refusal("{", NULL), "model.safetensors.index.json: ");
    EXPECT(
        index_refusal("{\"weight_map\": {\"a\": \"../x.safetensors\"}}", NULL),
        "weight_map['a'] is '../x.safetensors'; wanted the name of a file in the same directory");
    EXPECT(index_refusal("{\"weight_map\": {\"a\": \"/etc/passwd\"}}", NULL), "wanted the name");
    EXPECT(index_refusal("{\"weight_map\": {\"a\": \"..\"}}", NULL), "wanted the name");
    EXPECT(index_refusal("{\"weight_map\": {\"a\": 3}}", NULL),
           "weight_map['a'] is 'not a string'");
    EXPECT(index_refusal("{\"weight_map\": {\"a\": \"model-00001-of-00002.safetensors\"}}", NULL),
           "tensor 'a' is not in model-00001-of-00002.safetensors as it says");
    EXPECT(index_refusal(NULL, "model-00002-of-00002.safetensors"),
           "model-00002-of-00002.safetensors: No such file");
    EXPECT(index_refusal("{\"weight_map\": {\"model.language_model.embed_tokens.weight\": "
                         "\"model-00001-of-00002.safetensors\"}}",
                         NULL),
           "is missing; is a shard absent?");
}

Test(load, directories)
{
    char dir[256], cache[300], path[600], target[600];
    struct err e;
    tiny_write(dir, &(struct tiny){0});
    cr_assert(model_directory("/nonexistent", path, sizeof path, &e));
    cr_assert_eq(e.code, ERR_NOT_FOUND);
    EXPECT(e.text, "/nonexistent/config.json is missing");
    cr_assert(!model_directory(dir, path, sizeof path, &e));
    cr_assert_str_eq(path, dir);
    cr_assert(model_directory(dir, path, 8, &e));
    EXPECT(e.text, "too long");

    // A cache entry: files are links, refs/main names the snapshot.
    snprintf(cache, sizeof cache, "%s/models--org--name", dir);
    const char *const made[] = {"", "/refs", "/snapshots", "/snapshots/0123abc"};
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s%s", cache, made[i]);
        cr_assert(!mkdir(path, 0700));
    }
    tiny_file(cache, "refs/main", "0123abc\n", 8);
    const char *const names[] = {"config.json", "model.safetensors"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/snapshots/0123abc/%s", cache, names[i]);
        snprintf(target, sizeof target, "../../../%s", names[i]);
        cr_assert(!symlink(target, path));
    }
    const struct model_options o = options(DTYPE_BF16);
    struct model *m = load(cache, &o, &e);
    cr_assert(m != NULL, "%s", e.text);
    model_destroy(m);
    const char *const refs[] = {"../0123abc", "", ".."};
    for (int i = 0; i < 3; i++) {
        tiny_file(cache, "refs/main", refs[i], strlen(refs[i]));
        cr_assert(load(cache, &o, &e) == NULL);
        EXPECT(e.text, "is not the name of a snapshot");
    }
    tiny_remove(dir);
}

Test(load, generation_config)
{
    char dir[256];
    struct err e;
    const struct model_options o = options(DTYPE_F32);
    tiny_write(dir, &(struct tiny){0});
    const char *text = "{\"top_k\": 20, \"eos_token_id\": [1, 2]}";
    tiny_file(dir, "generation_config.json", text, strlen(text));
    struct model *m = load(dir, &o, &e);
    cr_assert(m != NULL, "%s", e.text);
    cr_assert(model_config(m)->top_k == 20 && model_config(m)->n_eos == 2);
    model_destroy(m);
    tiny_file(dir, "generation_config.json", "{", 1);
    cr_assert(load(dir, &o, &e) == NULL);
    EXPECT(e.text, "generation_config.json: ");
    tiny_remove(dir);
}

Test(load, memory)
{
    char dir[256];
    struct err e;
    struct model_options o = options(DTYPE_BF16);
    tiny_write(dir, &(struct tiny){0});
    struct model *m = load(dir, &o, &e);
    cr_assert(m != NULL, "%s", e.text);
    const struct model_memory *p = model_memory(m);
    cr_assert_eq(model_options(m)->context_max, 512); // max_position_embeddings
    cr_assert_eq(p->n_pages, 2 * 512 / PAGE_TOKENS);
    cr_assert_eq(p->n_slots, 2);
    cr_assert_eq(p->kv_bytes_per_token, 2 * 16 * 2); // K and V, one head of 16, bf16
    cr_assert_eq(p->kv_pages, 2 * 512 * 64);         // sequences, tokens, bytes
    cr_assert_eq(p->state_bytes_per_sequence, (2 * 16 * 16 + 3 * 64) * 4);
    cr_assert_eq(p->n_params, 8132);
    cr_assert(p->mapped > p->weights && p->scratch > 0);
    model_destroy(m);

    o.state_dtype = DTYPE_BF16; // halves the recurrent state; the convolution's columns stay
    m = load(dir, &o, &e);
    cr_assert(m != NULL, "%s", e.text);
    cr_assert_eq(model_memory(m)->state_bytes_per_sequence, 2 * 16 * 16 * 2 + 3 * 64 * 4);
    cr_assert_eq(model_memory(m)->state, 2 * model_memory(m)->state_bytes_per_sequence);
    model_destroy(m);

    o.kv_bytes = (size_t)1 << 42; // more than any machine has
    cr_assert(load(dir, &o, &e) == NULL);
    cr_assert_eq(e.code, ERR_TOO_LARGE);
    EXPECT(e.text, "the model needs 4096.");
    EXPECT(e.text, "KV pages 4096.00");
    o.kv_bytes = 4096 * 3; // three pages: the context shrinks when nobody asked for one
    m = load(dir, &o, &e);
    cr_assert(m != NULL, "%s", e.text);
    cr_assert_eq(model_options(m)->context_max, 3 * PAGE_TOKENS);
    model_destroy(m);
    o.context_max = 500;
    cr_assert(load(dir, &o, &e) == NULL);
    EXPECT(e.text, "one sequence of context_max 500 tokens needs 32768 bytes of KV pages and "
                   "kv_bytes is 12288");
    tiny_remove(dir);
}

Test(load, options)
{
    char dir[256];
    struct err e;
    tiny_write(dir, &(struct tiny){0});
#define REFUSED(change, want)                                                                      \
    do {                                                                                           \
        struct model_options o = options(DTYPE_F32);                                               \
        change;                                                                                    \
        cr_assert(load(dir, &o, &e) == NULL);                                                      \
        EXPECT(e.text, want);                                                                      \
    } while (0)
    REFUSED(
        o.dtype = DTYPE_F16,
        "dtype is f16, but the device computes with activations of f32; f16 goes with f16, which "
        "only a GPU has");
    REFUSED(o.dtype = DTYPE_INT32, "dtype is int32; give f32, bf16, f16 or int8");
    REFUSED(o.state_dtype = DTYPE_INT8, "state_dtype is int8; give f32 or bf16");
    REFUSED(o.batch_tokens = 0, "batch_tokens is 0");
    REFUSED(o.batch_rows = -1, "batch_rows is -1");
    REFUSED(o.sequences_max = 5000, "sequences_max is 5000");
    REFUSED(o.context_max = 513, "context_max is 513; this model's max_position_embeddings is 512");
    REFUSED(o.residual_every = -1, "residual_every is -1");
    REFUSED(o.chunk = 24, "inverse: ");
#undef REFUSED
    tiny_remove(dir);
}

static void count(void *ud, size_t done, size_t all)
{
    size_t *last = ud;
    cr_assert(done > last[0] && done <= all);
    last[0] = done;
    last[1] = all;
}

Test(load, progress)
{
    char dir[256];
    struct err e;
    size_t last[2] = {0, 1};
    struct model_options o = options(DTYPE_INT8);
    o.progress = count;
    o.progress_ud = last;
    tiny_write(dir, &(struct tiny){0});
    struct model *m = model_load(dir, &o, &ops_cpu, device(), &e);
    cr_assert(m != NULL, "%s", e.text);
    cr_assert_eq(last[0], last[1]);
    model_destroy(m);
    model_destroy(NULL);
    tiny_remove(dir);
}
