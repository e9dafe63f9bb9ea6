// dummy.h - models that have a published shape and made-up weights, so that a node can be measured
// before its weights arrive: "dummy:0.8B", "dummy:2B", "dummy:4B", "dummy:9B", "dummy:27B". Private to
// the room. Pure functions: any thread.
#ifndef DUMMY_H
#define DUMMY_H

#include <stdbool.h>

#include "err.h"
#include "qwen35.h"

bool dummy_is(const char *dir); // does it begin with "dummy:"?

// The published config of that size; ERR_NOT_FOUND with the sizes there are.
int dummy_config(struct config *c, const char *dir, struct err *e) MUST_USE;

// How a tensor's values are drawn, by its name without prefix: around `mean`, as far as a trained
// model's, so that activations neither grow nor vanish from layer to layer.
struct dummy_values {
    float mean, deviation;
};
struct dummy_values dummy_values(const char *name, int cols);

#endif
