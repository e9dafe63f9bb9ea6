// tiny_checkpoint.h - writes a complete Qwen3.5 checkpoint of two layers into a new directory, with one
// thing wrong if asked. Weights are a function of tensor name and index and exact in every float type.
#ifndef TINY_CHECKPOINT_H
#define TINY_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>

struct tiny {
    const char *prefix;  // NULL: "model.language_model."
    const char *dtype;   // of the tensors: "BF16" (NULL), "F16", "F32"
    const char *config;  // config.json's text; NULL: tiny_config
    const char *skip;    // a tensor (with prefix) that is left out
    const char *reshape; // a tensor that gets one row more
    const char *retype;  // a tensor stored as I32
    const char *extra;   // a tensor [4] that does not belong
    const char *head;    // name of an output matrix of its own
    bool sharded;        // two shards and an index
    bool odd;            // tensors lie on odd addresses
};

extern const char tiny_config[]; // nested, tied; dense; vocab 32, hidden 16, layers 2

enum { TINY_VOCAB = 32, TINY_HIDDEN = 16, TINY_LAYERS = 2 };

// Fill dir (at least 256 bytes) with the new directory's path. Aborts the test when the disk fails.
void tiny_write(char *dir, const struct tiny *t);
void tiny_remove(const char *dir); // everything below it too

void tiny_file(const char *dir, const char *name, const void *bytes, size_t n);

#endif
