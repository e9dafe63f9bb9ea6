// engine_rig.h - an engine over a small model for the tests of this folder: CPU operations with a gate
// before every step, so that a test can hold the engine where it wants it, and makers that wait for
// their gens. One rig a process (Criterion forks for every test).
#ifndef ENGINE_RIG_H
#define ENGINE_RIG_H

#include "engine.h"

enum { RIG_TOKENS_MAX = 512, RIG_VOCAB = 1200, RIG_CHUNK = 64 };

struct rig_options {
    const char *model; // folder of tests/golden, or "bundled"; NULL: dense_a
    enum dtype dtype;  // all-zero: F32
    int context_max;   // 0: 1024
    int batch_tokens;  // 0: 512
    int batch_rows;    // 0: batch_tokens
    int sequences_max; // 0: 8
    int n_pages;       // 0: as many as the model takes
    int queue_max;     // 0: 100
    const char *trace;
    bool text; // with the bundled tokenizer, whose ids cover every model here
    bool residuals;
    bool async; // ops' word for a device that queues what it is given; the CPU does not
};

struct rig {
    struct ops ops;
    struct dev *dev;
    struct tokenizer *tokenizer;
    struct engine *en;
    int lost; // calls of device_lost
};

void rig_open(struct rig *r, const struct rig_options *o); // fails the test with the reason
void rig_close(struct rig *r);                             // engine_destroy and the rest

// The gate. Open at the start.
void gate_close(void);
void gate_open(void);
void gate_steps(int n); // let n more steps through the closed gate
void gate_wait(void);   // until the engine stands before the closed gate
void gate_break(void);  // the next step fails, as if the device were lost
int gate_count(void);   // steps begun
int gate_longest(void); // tokens of the longest step

// One maker's view of one gen.
struct client {
    struct gen *g;
    struct gen_params params;
    struct gen_cursor cursor;
    struct gen_status status;
    struct buf text;
    struct gen_token tokens[RIG_TOKENS_MAX];
    int n;
    int wakes;
};

struct gen_params rig_params(const int *prompt, int n_prompt,
                             int max_tokens); // greedy, no logprobs
int client_submit(struct client *c, struct rig *r, const struct gen_params *p, struct err *e);
void client_start(struct client *c, struct rig *r, const struct gen_params *p); // must be taken
void client_read(struct client *c);                                             // all there is now
void client_finish(struct client *c); // reads until a final state
void client_drop(struct client *c);   // release, forget
void client_run(struct client *c, struct rig *r, const struct gen_params *p); // start and finish

// Ids 0 .. RIG_VOCAB - 1 that look random, the same for the same seed. Caller frees with mem_free.
int *rig_prompt(int n, unsigned seed);

// Everything given back: no gen waits or runs, no page and no slot is used.
void rig_check_empty(struct rig *r);

// Equal ids, equal bits of every logprob, equal best ids.
void client_check_same(const struct client *a, const struct client *b, const char *what);

#endif
