// qwen35_model.h - a loaded model from the inside: weights and caches by layer, scratch, and the slabs
// they lie in. Private to the room. Owner: the engine thread.
//
// Words: T tokens of a step, H hidden_size, C conv channels, V width of a delta-net layer's values
// (v_heads * v_dim), Q width of an attention layer's queries (heads * head_dim).
#ifndef QWEN35_MODEL_H
#define QWEN35_MODEL_H

#include <stdbool.h>
#include <stddef.h>

#include "checkpoint.h"
#include "ops.h"
#include "qwen35.h"
#include "qwen35_config.h"

struct attention_weights {
    struct weight q_proj;         // [2 Q, H]
    struct weight k_proj;         // [kv_heads * head_dim, H]
    struct weight v_proj;         // [kv_heads * head_dim, H]
    struct weight o_proj;         // [H, Q]
    const float *q_norm, *k_norm; // [head_dim]
};

struct delta_weights {
    struct weight in_proj_qkv;    // [C, H]
    struct weight in_proj_z;      // [V, H]
    struct weight in_proj_b;      // [v_heads, H]
    struct weight in_proj_a;      // [v_heads, H]
    struct weight out_proj;       // [H, V]
    const float *conv1d;          // [C, CONV_WIDTH]
    const float *A_log, *dt_bias; // [v_heads]
    const float *norm;            // [v_dim]
};

struct mlp_weights {
    struct weight gate_proj, up_proj; // [intermediate_size, H]
    struct weight down_proj;          // [H, intermediate_size]
};

struct layer {
    bool full_attention;
    const float *input_layernorm, *post_attention_layernorm; // [H]
    struct attention_weights attention;                      // when full_attention
    struct delta_weights delta;                              // when not
    struct mlp_weights mlp;
    void *k_pages, *v_pages; // attention: [n_pages, kv_heads, PAGE_TOKENS, head_dim]
    void *state;             // delta: state_dtype [n_slots, v_heads, k_dim, v_dim]
    float *conv_state;       // delta: [n_slots, CONV_WIDTH - 1, C]
};

// Device buffers of one step. The three groups of layer buffers share one place: a layer's parts run
// one after another.
struct scratch {
    void *x, *x_next; // [T, H]: residual stream, before and after what is added
    void *h, *y;      // [T, H]: its norm, what a part of a layer adds to it
    struct {
        void *qg, *k, *v, *q, *o; // [T, 2 Q], [T, kv_heads * head_dim] twice, [T, Q] twice
    } attention;
    struct {
        void *qkv, *conv; // [T, C]
        void *z, *o;      // [T, V]
        void *a, *b;      // [T, v_heads]
    } delta;
    struct {
        void *gate, *up; // [T, intermediate_size]
    } mlp;
    void *rows_x, *rows_y; // [n_rows, H]
    float *logits;         // [n_rows, vocab_size]
};

// What the engine says of a step, one array behind another, in host and in device memory.
struct inputs {
    char *host, *device;
    size_t bytes;    // that there are of each
    int *ids, *rows; // of this step: [T], [n_rows], in device memory
};

// Memory handed out in order. With base NULL nothing is handed out but the sum is the same, so the plan
// and the placement cannot differ.
struct slab {
    char *base;
    size_t used;
    bool overflow; // the sum left size_t
};

enum { SLAB_ALIGN = 64 };

// n * bytes_each bytes, SLAB_ALIGN aligned; NULL while measuring.
void *slab_take(struct slab *s, size_t n, size_t bytes_each);

// One tensor of the files and where it goes; made by weights_bind.
struct binding {
    const struct tensor *from;
    struct weight *matrix; // either a matrix
    const float **vector;  // or a vector of float32
    enum dtype type;       // of the matrix here
    int rows, cols;
    bool borrowed; // the device reads the mapped file
};

struct model {
    struct config config;
    struct model_options options; // zeros filled in
    struct model_memory memory;
    enum dtype kv_type;
    size_t act_bytes; // of one activation value on this device
    const struct ops *ops;
    struct dev *dev;
    struct checkpoint checkpoint; // open while weights are borrowed from it
    struct binding *bindings;     // while loading
    int n_bindings;
    struct weight embed_tokens, lm_head;  // [vocab_size, H]
    const float *norm;                    // [H]
    struct layer *layers;                 // [num_hidden_layers]
    struct slab weights, kv, state, step; // the memory itself
    struct scratch scratch;               // in step
    struct inputs inputs;                 // its device memory in step
    struct inverse_report *report;        // in step
};

// weights.c. Bind: every tensor that config.json asks for, checked. Place: give each its room in
// m->weights. Fill: convert and upload.
int weights_bind(struct model *m, struct err *e) MUST_USE;
void weights_place(struct model *m);
void weights_fill(struct model *m);

// memory_plan.c. Fill in the options' zeros, compute m->memory with checked arithmetic, and refuse what
// does not fit in physical_bytes. Then memory_place gives layers and scratch their pointers.
int memory_plan(struct model *m, size_t physical_bytes, struct err *e) MUST_USE;
void memory_place(struct model *m);         // while the slabs' base is NULL it only measures
int model_pages_max(const struct model *m); // pages of one sequence of context_max tokens

// The parts of a layer: read scratch.x by way of the norm, write scratch.y; b is the step's batch in device
// memory.
void layer_attention(struct model *m, const struct layer *layer, const struct batch *b,
                     const struct linear_norm *norm);
void layer_delta(struct model *m, const struct layer *layer, const struct batch *b,
                 const struct linear_norm *norm);
void layer_mlp(struct model *m, const struct layer *layer, const struct batch *b,
               const struct linear_norm *norm);

// y = x W^T for every token of a step: prompt tokens by the matrix path, generated ones by the other.
static inline void project(struct model *m, void *y, const void *x, const struct weight *w,
                           const struct batch *b)
{
    m->ops->linear(m->dev,
                   &(struct linear_args){
                       .y = {y}, .x = x, .w = {*w}, .n = 1, .t = b->t, .t_gemm = b->t_prefill});
}

#endif
