// usage.h - what an answer cost: OpenAI's "usage", llama-server's "timings", and two headers.
// Loop thread only.
#ifndef USAGE_H
#define USAGE_H

#include "answer.h"

void usage_write(const struct answer *a, struct buf *out);         // the object "usage"
void usage_write_timings(const struct answer *a, struct buf *out); // the object "timings"

// openai-processing-ms and Server-Timing, as far as they are known now.
void usage_add_headers(const struct answer *a, struct reply *r);

#endif
