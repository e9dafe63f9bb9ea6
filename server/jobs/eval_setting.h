// eval_setting.h - one way of inverting, as a spec names it: "METHOD/TYPE", "METHOD/TYPE/CHUNK", with
// "@cublas" behind it for the library executor. Pure functions, any thread.
#ifndef EVAL_SETTING_H
#define EVAL_SETTING_H

#include <stdbool.h>
#include <stddef.h>

#include "inverse.h"

struct eval_setting {
    char name[64]; // "auto/fp16/64"
    int chunk;
    struct inverse inverse;
};

// chunk: when the text names none. 0, or -1 and one sentence in why.
int eval_setting_parse(struct eval_setting *out, const char *text, int chunk, char *why,
                       size_t why_size);

// What the node serves with, named "served".
struct eval_setting eval_setting_served(int chunk, const struct inverse *inverse);

#endif
