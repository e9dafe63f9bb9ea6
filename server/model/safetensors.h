// safetensors.h - the file format, nothing else: one mapped, read-only file. A file is hostile until
// proven otherwise: header length, JSON, dtypes, dims, products, offsets, overlaps and the file's real
// size are all checked at open. Source: github.com/huggingface/safetensors, format section.
// Immutable after opening: any thread. The file must not be cut short or written over while it is open
// (the system ends a process that reads a mapped page which is gone): replace a checkpoint by renaming.
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "ops.h"

enum { TENSOR_DIMS_MAX = 8 };

struct tensor {
    const char *name;
    const char *dtype_text; // as the file says it: "BF16"
    int dtype;              // enum dtype, or -1 for one this server has no use for
    int n_dims;
    int64_t dims[TENSOR_DIMS_MAX];
    const void *data; // into the mapping
    size_t bytes;
};

struct safetensors;

struct safetensors *safetensors_open(const char *path, struct err *e) MUST_USE;
void safetensors_close(struct safetensors *st); // NULL is fine; tensors die with it
const char *safetensors_path(const struct safetensors *st);
size_t safetensors_count(const struct safetensors *st);
const struct tensor *safetensors_at(const struct safetensors *st, size_t i);
const struct tensor *safetensors_find(const struct safetensors *st, const char *name); // or NULL

// As safetensors_open, over bytes in memory (the fuzz target's door); data is borrowed.
struct safetensors *safetensors_parse(const void *data, size_t n, const char *path,
                                      struct err *e) MUST_USE;

#endif
