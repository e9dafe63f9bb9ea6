// accuracy.h - what accuracy_report measures and its files share. Job thread.
#ifndef ACCURACY_H
#define ACCURACY_H

#include "eval_feed.h"
#include "eval_score.h"
#include "eval_text.h"
#include "layer_probe.h"

enum {
    ACCURACY_SETTINGS_MAX = 33, // with the reference
    ACCURACY_LENGTHS_MAX = 8,
    ACCURACY_BLOCK = 256, // tokens of the blocks that the bootstrap draws
    ACCURACY_RESTARTS = 8 // of one window or prompt, when clients' generations came between
};

// One setting and what was found. [0] is the reference.
struct accuracy_setting {
    struct eval_setting setting;
    char skipped[200];            // why it was not measured
    struct score *scores;         // [text.ids.n], of token i; those of windows' first tokens unused
    struct probe_figures *layers; // [layers, heads]
    int right[ACCURACY_LENGTHS_MAX], asked[ACCURACY_LENGTHS_MAX];
};

// One way to compute the same tokens, against the first.
struct accuracy_variant {
    const char *name, *expected; // "same bits" or "rounding"
    int tokens, same_bits, same_top;
    double largest; // |difference| of a log-probability
    int first;      // token whose most likely token differs first, or -1
    bool measured;
};
enum { ACCURACY_VARIANTS_MAX = 8 };

struct accuracy {
    struct job_run *run;
    const json_t *spec;
    struct accuracy_setting settings[ACCURACY_SETTINGS_MAX];
    int n;
    struct eval_text text;
    bool read; // the text, under every setting
    int layers, heads, lengths;
    struct accuracy_variant variants[ACCURACY_VARIANTS_MAX];
    int n_variants;
    char no_recall[200], no_variants[200]; // why they are missing
    double done, total;                    // tokens, for the progress
};

// The settings of an expanded spec: the reference, the served one, the listed ones. -1 with e and the
// param for one that does not parse.
int accuracy_settings(struct accuracy *a, const struct job_node *node, const json_t *spec,
                      struct err *e) MUST_USE;

// accuracy_measure.c
int accuracy_text(struct accuracy *a, struct err *e) MUST_USE;
int accuracy_recall(struct accuracy *a, struct err *e) MUST_USE;
// accuracy_variants.c
int accuracy_variants(struct accuracy *a, struct err *e) MUST_USE;

void accuracy_progress(struct accuracy *a, int tokens, const char *stage, const char *message);

// accuracy_result.c: the document. Takes environment.
json_t *accuracy_result(const struct accuracy *a, json_t *environment_take, bool partial);

#endif
