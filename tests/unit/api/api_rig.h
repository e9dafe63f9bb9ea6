// api_rig.h - the api room over a real engine and a small model, without sockets: calls a route's
// handler and pulls its reply as the http room does. One rig a process (Criterion starts one a test).
#ifndef API_RIG_H
#define API_RIG_H

#include <pthread.h>

#include "api.h"
#include "json.h"

struct rig_options {
    const char *model; // "dense_a" (random weights, no text) or "bundled"
    int queue_max;     // 0: 100
    int n_max;         // 0: 4
    bool thinking_by_default;
    bool break_device; // the first step fails as a lost device does
};

struct rig {
    struct ops ops;
    struct dev *dev;
    struct tokenizer *tokenizer;
    struct engine *engine;
    struct api_server server;
};

void rig_open(struct rig *r, const struct rig_options *o); // fails the test with the reason
void rig_close(struct rig *r);
void rig_wait_idle(struct rig *r); // until the engine has nothing to do

// One request and its reply.
struct call {
    struct request request;
    struct reply reply;
    struct arena arena;
    struct err err; // of a handler that failed
    int status;
    bool ended;
    struct buf body; // all that was sent
    json_t *json;    // body parsed, when it is JSON
};

void call_begin(struct call *c, struct rig *r, const char *method, const char *path,
                const char *body);
void call_pull(struct call *c); // until something was sent, or the end
void call_end(struct call *c);  // gone; also before the reply is complete

// The three above, all of the reply. call_end is still the caller's.
void call_run(struct call *c, struct rig *r, const char *method, const char *path,
              const char *body);

// One value of c->json by path ("choices.0.text"); fails the test when it is not there.
json_t *call_at(const struct call *c, const char *path);
json_t *json_at(json_t *v, const char *path);

// The JSON of every event of a stream, without "[DONE]", which must be last unless an error is. Caller
// owns the array.
json_t *call_events(const struct call *c);

// One field of all events' choice `index`, joined: "text", "delta.content".
char *events_text(json_t *events, int index, const char *path); // mem_free

#endif
