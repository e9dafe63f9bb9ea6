// answer.h - an answer under way: the generations behind one request, read when they have news and
// written as one JSON object or as a stream of events. What completions and chat write differently is
// in their struct answer_shape. Loop thread only, but for the wake-up.
//
// A whole reply and a stream go through the same reader and the same writers of their shape, so both
// carry the same text, tokens and figures.
#ifndef ANSWER_H
#define ANSWER_H

#include "inputs.h"
#include "logprobs.h"
#include "params.h"
#include "reasoning.h"

// One of the request's answers.
struct choice {
    int index;
    const struct ids *prompt;
    struct gen *g;
    struct gen_cursor cursor;
    struct gen_status status; // as of the last read
    bool begun;               // something of it has been written
    bool ended;               // its last event has been written
    // All text so far: the prompt's when it is echoed, then the answer's.
    struct buf text;
    size_t prompt_bytes;         // of the echoed prompt
    size_t told_bytes;           // of text, in news already
    size_t next_bytes;           // completions: where in text the next token begins
    size_t offset_bytes, offset; // offset characters begin in text[0 .. offset_bytes)
    struct reasoning reasoning;  // chat
    int n_reasoning;             // tokens of it
};

// What the last read of a choice found; its buffers are used again and again.
struct news {
    const char *text; // [n_text], of the choice
    size_t n_text;
    struct buf reasoning, content; // chat: the new text in its two parts
    struct logprobs logprobs;      // completions
    struct buf chat_logprobs;      // chat: elements of "content", with commas
    struct buf ids;                // "1,2,3"
    int n_tokens;
    bool last; // the choice is complete
};

struct answer;

struct answer_shape {
    const char *id_prefix, *object, *chunk_object;
    // What happens to a choice's text and tokens beyond being collected; text comes first.
    void (*take_text)(struct answer *a, struct choice *c, struct news *w);
    void (*take_token)(struct answer *a, struct choice *c, struct news *w,
                       const struct gen_token *t);
    // One complete element of "choices".
    void (*write)(struct answer *a, struct choice *c, struct news *w, struct buf *out);
    // The same news as one or more events.
    void (*write_events)(struct answer *a, struct choice *c, struct news *w, struct buf *out);
    // Top-level fields of a whole reply, each with a leading comma; NULL: none.
    void (*write_fields)(struct answer *a, struct buf *out);
};

struct answer {
    struct api_server *server;
    const struct request *request;
    const struct answer_shape *shape;
    struct params params; // and the inputs in it
    struct logprobs_form form;
    struct choice *choices; // [n_choices], by prompt, then by number
    int n_choices;
    struct news news;
    struct gen_token *tokens; // [tokens_max], of one read
    int tokens_max;
    struct buf head;  // what every event and the whole reply begin with, from '{' on
    int64_t ended_ns; // when the last choice's end was read; 0: not yet
};

// Make the generations that p asks for, hand them to the engine, and fill r. Takes p->inputs, also
// when it fails.
int answer_start(struct api_server *s, const struct request *q, const struct answer_shape *shape,
                 const struct params *p, struct reply *r, struct err *e) MUST_USE;

// For shapes: what an event has before the elements of "choices", and after their ']'. ended is the
// choice whose last event this is, or NULL.
void answer_begin_event(struct answer *a, struct buf *out);
void answer_end_event(struct answer *a, const struct choice *ended, struct buf *out);

// "stop" and the like, quoted; "null" while the choice is not complete.
const char *answer_finish_reason(const struct choice *c);
// The stop string or the stop id that ended it, else null (also for the model's own end).
void answer_write_stop_reason(const struct answer *a, const struct choice *c, struct buf *out);
void answer_write_ids(const struct ids *ids, struct buf *out); // [1,2,3]

// Characters of c's text that begin before byte; calls come with growing bytes.
size_t answer_offset(struct choice *c, size_t byte);

#endif
