// layer_probe.h - what the delta rule of every layer does with a prompt's piece: its inputs, output and
// states are taken down while the model runs, and A, T, o and the state are computed again in float64.
//
// Capturing runs on the engine thread (eval_feed.h's probe), judging on the job thread. One probe captures
// at a time in a process: a device has one owner.
#ifndef LAYER_PROBE_H
#define LAYER_PROBE_H

#include "eval_setting.h"
#include "job_type.h"

enum { PROBE_HEADS_MAX = 8 };

// Sums over the pieces looked at, of one head of one layer under one setting.
struct probe_figures {
    int chunks;
    double T_error;  // largest |T - exact T|, A as the layer made it
    double residual; // largest |I - (I + A) T|
    double row_sum;  // largest sum of |A| over a row
    double cosine;   // sum over chunks of the keys' mean cosine
    // Squares of differences, and of what they are differences from: the layer against float64 from the
    // same inputs and first state; against the reference setting's run.
    double o, o_of, state, state_of;
    double o_drift, o_drift_of, state_drift, state_drift_of;
};

struct layer_probe;

// Looks at heads_max value heads of every layer, spread evenly.
struct layer_probe *probe_create(const struct config *c, int heads_max);
void probe_destroy(struct layer_probe *p); // NULL is fine
int probe_layers(const struct layer_probe *p);
int probe_heads(const struct layer_probe *p);
int probe_head(const struct layer_probe *p, int i); // which value head the i-th is
int probe_layer_index(const struct config *c,
                      int layer); // of the model, of the layer-th delta layer

// Engine thread: the table to run one step of one prompt through; forgets what was captured before.
const struct ops *probe_table(void *probe, const struct ops *ops);

// Adds what the captured piece shows to out, [layers, heads]. reference: what its setting captured of the
// same piece. Inverts the captured A on the device under the setting.
int probe_judge(struct job_run *run, const struct layer_probe *p, const struct eval_setting *s,
                const struct layer_probe *reference, struct probe_figures *out,
                struct err *e) MUST_USE;

#endif
