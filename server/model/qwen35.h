// qwen35.h - Qwen3.5 (dense) over ops.h: config, weights, state, one step. Every shape is in this
// file. Names are Hugging Face's. Facts: Qwen3_5ForCausalLM of transformers.
//
// Owner: the engine thread, once model_load has returned.
#ifndef QWEN35_H
#define QWEN35_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "ops.h"

enum { MODEL_LAYERS_MAX = 256, MODEL_EOS_MAX = 8 };

// config.json, checked: every product of these fits an int and every divisibility holds.
struct config {
    int vocab_size, hidden_size, intermediate_size, num_hidden_layers;
    int num_attention_heads, num_key_value_heads, head_dim;
    int linear_num_key_heads, linear_num_value_heads, linear_key_head_dim, linear_value_head_dim;
    int max_position_embeddings;
    int rotary_dim; // head_dim * partial_rotary_factor
    float rope_theta, rms_norm_eps;
    bool tie_word_embeddings;
    bool full_attention[MODEL_LAYERS_MAX]; // layer_types[i] == "full_attention"
    int eos[MODEL_EOS_MAX], n_eos;         // generation_config.json, else config.json
    // generation_config.json's sampling defaults; NaN or -1 where it is silent.
    double temperature, top_p;
    int top_k;
};

struct model_options {
    enum dtype dtype;       // F32, BF16, F16 (beside F16 activations), INT8: of the large matrices
    enum dtype state_dtype; // F32, BF16: of the recurrent states in their slots, see delta_rule
    int context_max;   // tokens a sequence may reach; <= max_position_embeddings; 0: that, or what
                       // the page pool holds if it is less
    int batch_tokens;  // most tokens of one step
    int batch_rows;    // most rows of logits of one step (sampled rows + prompt_logprobs rows)
    int sequences_max; // state slots
    size_t kv_bytes; // budget of the page pool; 0: sequences_max * context_max, at most 1/4 of RAM
    int chunk;       // delta rule: 16, 32, 64, 128
    struct inverse inverse;
    int residual_every; // 0: off; else every n-th chunk's inverse is checked and reported
    // Called with the bytes of weights loaded so far, on the thread of model_load; may be NULL.
    void (*progress)(void *ud, size_t done, size_t all);
    void *progress_ud;
};

// The memory plan, bytes; printed at start and by --check.
struct model_memory {
    size_t weights;  // allocated here
    size_t mapped;   // used from the mapped file as they are
    size_t kv_pages; // pool of n_pages
    size_t state;    // recurrent + convolution, all slots
    size_t scratch;  // activations of the largest step
    int n_pages, n_slots;
    size_t kv_bytes_per_token, state_bytes_per_sequence;
    int64_t n_params;
};

struct model;

// Where a checkpoint's files are: dir itself when it holds config.json, or the snapshot that refs/main
// names when dir is a models--ORG--NAME folder of a Hugging Face cache. The tokenizer's files are in the
// same place. ERR_NOT_FOUND when there is no config.json; size is of out, in bytes. Any thread.
int model_directory(const char *dir, char *out, size_t size, struct err *e) MUST_USE;

// One step: prefill spans first, then decode spans (ops.h). All arrays are host memory, read during
// the call only.
struct step {
    const int *ids; // [batch.t]
    struct batch batch;
    const int *rows; // [n_rows] tokens whose logits are wanted: rows of prompt_logprobs first
    int n_rows;
    int n_gemm_rows; // the first n_gemm_rows of rows go through the matrix path (prompt_logprobs),
                     // the rest through the few-rows path (sampling), see linear in ops.h
};

// The activations that a device is opened with for large matrices of type dtype. A device that computes in
// float32 alone is opened for that, whatever dtype is.
enum dtype model_act(enum dtype dtype);

// Load a directory (or Hugging Face cache snapshot): config.json, generation_config.json if there,
// model.safetensors or its shards; dir as model_directory takes it. Every dtype, shape and offset is
// checked against the config; the error names file, tensor, found and expected. ERR_BAD_REQUEST for a
// wrong file, ERR_NOT_FOUND for a missing one, ERR_TOO_LARGE when the plan does not fit this machine's
// memory or memory is out. ops and dev stay the caller's and must outlive the model.
struct model *model_load(const char *dir, const struct model_options *o, const struct ops *ops,
                         struct dev *dev, struct err *e) MUST_USE;
void model_destroy(struct model *m); // NULL is fine

const struct config *model_config(const struct model *m);
const struct model_options *model_options(const struct model *m); // with the zeros filled in
const struct model_memory *model_memory(const struct model *m);

// Enqueue one step. Afterwards model_logits(m) is device memory float32 [n_rows, vocab_size], valid
// until the next step; the caller may change it in place. A failure of the device comes out of
// ops->sync.
void model_forward(struct model *m, const struct step *s);
float *model_logits(struct model *m);

// The residual check's figures since the start (zero when it is off).
void model_inverse_report(struct model *m, struct inverse_report *out);

// Change how chunks are inverted from the next step on (accuracy reports do).
void model_set_inverse(struct model *m, int chunk, struct inverse inverse);

// Run its operations through this table from the next step on: the one it was loaded with, or one around
// it that looks at what passes. Borrowed.
void model_set_ops(struct model *m, const struct ops *ops);

#endif
