// model_work.h - what a token costs a model at least, whatever the kernels: operations and bytes, for floors
// and shares. Pure functions, any thread.
#ifndef MODEL_WORK_H
#define MODEL_WORK_H

#include "qwen35.h"

struct model_work {
    double layer_flops;  // matrices and delta rule of all layers, a token
    double head_flops;   // a row of logits
    double key_flops;    // attention: a token and a key it looks at
    double weight_bytes; // read once a step
    double state_bytes;  // of a sequence, read and written once a step
    double key_bytes;    // K and V of a token, all layers
};

struct model_work model_work_of(const struct config *c, const struct model_options *o,
                                const struct model_memory *p);

// Of one step that reads n prompt tokens of a sequence from position 0 in steps of `step`; of one step
// that generates a token of each of `batch` sequences with `depth` tokens before it.
void model_work_prefill(const struct model_work *w, int n, int step, double *flops, double *bytes);
void model_work_decode(const struct model_work *w, int depth, int batch, double *flops,
                       double *bytes);

#endif
