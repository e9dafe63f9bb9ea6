// slots.h - which state slots are free and whose the others are. A slot holds one sequence's recurrent
// and convolution state in every delta-net layer; the memory is the model's, and a sequence that
// starts at position 0 starts from zero state whatever the slot holds.
// Owner: engine thread.
#ifndef SLOTS_H
#define SLOTS_H

#include <stdint.h>

struct slots;

struct slots *slots_create(int n);
void slots_destroy(struct slots *s); // NULL is fine

int slots_free(const struct slots *s);
int slots_count(const struct slots *s);
int slots_take(struct slots *s, uint64_t owner); // lowest free slot, or -1; owner is not 0
void slots_give(struct slots *s, uint64_t owner, int slot);
uint64_t slots_owner(const struct slots *s, int slot); // 0: free

#endif
