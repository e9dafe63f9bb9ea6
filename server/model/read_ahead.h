// read_ahead.h - brings the parts of a mapped file into memory ahead of whoever copies them, one part after
// another, so that the disk works while the copier does something else (figures in read_ahead.c).
// Private to the room. Owner and thread: whoever starts it; its own threads only read.
#ifndef READ_AHEAD_H
#define READ_AHEAD_H

#include <stddef.h>

struct read_ahead_part {
    const void *p; // in a mapping that outlives the reader
    size_t bytes;  // 0: nothing
};

// Begins with the first of n parts, in their order, and keeps no more than some hundred MiB ahead of what
// was passed. parts is copied. Without threads to be had nothing is read ahead, and nothing else changes.
struct read_ahead *read_ahead_start(const struct read_ahead_part *parts, int n);

// The first `bytes` of the parts, one after another, are done with.
void read_ahead_passed(struct read_ahead *r, size_t bytes);

// Waits for what is being read.
void read_ahead_stop(struct read_ahead *r);

#endif
