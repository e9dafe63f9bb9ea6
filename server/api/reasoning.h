// reasoning.h - parts an answer that begins inside a think block into reasoning and content, at
// "</think>", while the text comes in pieces of any size. Loop thread only.
#ifndef REASONING_H
#define REASONING_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

enum reasoning_state { REASONING_CONTENT, REASONING_THINKS, REASONING_ENDED };

// All-zero: everything is content.
struct reasoning {
    enum reasoning_state state; // THINKS at the start when the prompt opens the block
    char held[16];              // text that may belong to the block's end
    size_t n_held;
    int newlines;     // skipped between the end of the block and the answer
    size_t end_bytes; // bytes of text up to and with "</think>"; SIZE_MAX before that
    size_t bytes;     // of text pushed
};

void reasoning_init(struct reasoning *r, bool thinks);

// Add a piece of text to the part it belongs to. Left out are "</think>", one line break before it and
// up to two behind it: the template writes them around both parts, they are in neither. last: nothing
// follows, what was held back is let out.
void reasoning_push(struct reasoning *r, const char *text, size_t n, bool last,
                    struct buf *reasoning, struct buf *content);

#endif
