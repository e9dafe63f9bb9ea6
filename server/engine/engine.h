// engine.h - the thread that owns the device: inbox -> plan -> forward -> sample -> events.
#ifndef ENGINE_H
#define ENGINE_H

#include <stdbool.h>

#include "err.h"
#include "gen.h"
#include "qwen35.h"
#include "tokenizer.h"

struct engine_options {
    int queue_max;     // gens that may wait
    const char *trace; // file for one line per decision of the planner, or NULL
    void (*device_lost)(void *ud,
                        const struct err *e); // engine thread; every gen has failed by then
    void *ud;
};

// Takes the model, also when it fails (ops and dev stay the caller's and must outlive it). tk may be
// NULL (ids only) and is borrowed for the engine's life. Starts the thread. ERR_BAD_REQUEST when the
// model's limits would let a gen wait for ever: batch_tokens and batch_rows must be at least
// sequences_max + chunk.
struct engine *engine_create(struct model *m_take, const struct ops *ops, struct dev *dev,
                             const struct tokenizer *tk, const struct engine_options *o,
                             struct err *e) MUST_USE;

// What an engine over m takes beside the model's own memory, device and host: settings, history and raw
// logits of the sampler. For the memory plan.
size_t engine_sampler_bytes(const struct model *m);

// No new gens from now on (ERR_SHUTTING_DOWN); those taken go on. Any thread.
void engine_drain(struct engine *en);
bool engine_idle(struct engine *en); // nothing waits or runs. Any thread.

// End every gen (ERR_SHUTTING_DOWN), join the thread, free the model. NULL is fine.
void engine_destroy(struct engine *en);

// A device task: work that needs the device and is no generation. It runs on the engine thread between
// two steps, so the device keeps one owner.
struct engine_task {
    // May use the model's pages and slots only when nothing runs beside it. Filled e has ERR_DEVICE only
    // when the device is lost.
    int (*fn)(void *ud, const struct ops *ops, struct dev *dev, struct model *m, struct err *e);
    void *ud;
    // Wait for a moment without generations, lull_ms at most, and hold back clients' generations that
    // come meanwhile until hold_ms after fn, when the next such task finds the device as quiet. No
    // client is held for longer than pause_ms (and one fn).
    bool exclusive;
    int lull_ms, hold_ms, pause_ms;
    bool (*cancelled)(void *ud); // asked while the task waits; takes no lock; NULL: never
};

// Run t->fn and wait for its end; returns what it returns. *beside (may be NULL): the generations that
// were running or about to when it began. Fails without running it with ERR_CANCELLED,
// ERR_SHUTTING_DOWN or ERR_DEVICE. Any thread but the engine's.
int engine_run(struct engine *en, const struct engine_task *t, int *beside, struct err *e) MUST_USE;

// For /health: has the thread made progress within limit_ms, or nothing to do? Any thread.
bool engine_alive(struct engine *en, int limit_ms);

// Are clients' generations held back now for exclusive tasks? Any thread.
bool engine_holds_clients(struct engine *en);

// Facts that do not change. Any thread.
const struct config *engine_config(const struct engine *en);
const struct model_memory *engine_memory(const struct engine *en);
const struct model_options *engine_model_options(const struct engine *en);

// Print what every gen, page and slot is doing now to stderr (SIGUSR1). Any thread; done by the engine
// at its next step.
void engine_dump(struct engine *en);

#endif
