// pages.h - which pages of the KV pool are free and whose the others are. Numbers only: the memory is
// the model's. A page holds PAGE_TOKENS positions of one sequence in every full-attention layer.
// Owner: engine thread.
#ifndef PAGES_H
#define PAGES_H

#include <stdbool.h>
#include <stdint.h>

struct pages;

struct pages *pages_create(int n);
void pages_destroy(struct pages *p); // NULL is fine

int pages_for(int64_t n_tokens); // pages that hold n_tokens positions
int pages_free(const struct pages *p);
int pages_count(const struct pages *p);

// Take n pages for owner (not 0) and write their numbers to out [n]; false, and nothing taken, when
// fewer are free.
bool pages_take(struct pages *p, uint64_t owner, int n, int *out);

// Give back n pages that owner took.
void pages_give(struct pages *p, uint64_t owner, int n, const int *numbers);

uint64_t pages_owner(const struct pages *p, int page); // 0: free

#endif
