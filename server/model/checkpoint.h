// checkpoint.h - the files of one checkpoint directory: where they are, its config, its tensors by their
// names without prefix. Private to the room and its tests. Owner: the thread that loads; what it hands
// out points into the mapped files and lives until checkpoint_close.
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"
#include "qwen35.h"
#include "safetensors.h"

enum { CHECKPOINT_PATH_MAX = 4096, CHECKPOINT_SHARDS_MAX = 1024, CHECKPOINT_NAME_MAX = 96 };

// A tensor that no file holds: its data is NULL (dummy.h says with what it is filled).
struct made_up {
    char name[CHECKPOINT_NAME_MAX];
    struct tensor tensor;
};

struct checkpoint {
    char dir[CHECKPOINT_PATH_MAX]; // with config.json in it
    struct config config;
    struct safetensors *shards[CHECKPOINT_SHARDS_MAX];
    bool *used[CHECKPOINT_SHARDS_MAX]; // [tensors of the shard] handed out
    int n_shards;
    const char *prefix;      // of the text model's tensors, e.g. "model.language_model."
    struct made_up *made_up; // [made_up_max] of a "dummy:" model, else NULL
    int n_made_up, made_up_max;
};

// dir as model_load takes it. On failure everything is closed again. Shards are either the files that
// model.safetensors.index.json names or model.safetensors; symbolic links are followed.
int checkpoint_open(struct checkpoint *ck, const char *dir, struct err *e) MUST_USE;
void checkpoint_close(struct checkpoint *ck); // an all-zero checkpoint is fine

// The tensor of that name (after the prefix), marked as used; its shape must be rows x cols (cols 0: a
// vector of rows) where dimensions of 1 do not count, its type BF16, F16 or F32.
// NULL with e filled: the sentence names the file, the tensor, what was found and what is wanted.
const struct tensor *checkpoint_take(struct checkpoint *ck, const char *name, int rows, int cols,
                                     struct err *e) MUST_USE;

// The output matrix [rows, cols] in *out, or NULL there when the files hold none (it is tied to
// embed_tokens then). Its name has no layer prefix, so it is looked for in the places it is known from.
int checkpoint_take_head(struct checkpoint *ck, int rows, int cols, const struct tensor **out,
                         struct err *e) MUST_USE;

// Fails if the text model has a tensor that nothing asked for: a bias or a scale that would silently be
// left out of the arithmetic.
int checkpoint_check_unused(const struct checkpoint *ck, struct err *e) MUST_USE;

#endif
