// bpe.h - byte pair encoding of one piece: start with its bytes, and as long as two neighbours have a
// merge, join the pair of the lowest rank, the leftmost among equals. Immutable after building; any
// thread may merge with scratch of its own.
#ifndef BPE_H
#define BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tokenizer.h"

struct bpe {
    struct bpe_merge *slots; // open addressing by pair
    size_t mask;             // slots - 1
    int byte_id[256];        // the token of each byte
};

// Memory of one caller's merges, kept from piece to piece. All-zero is valid and empty.
struct bpe_scratch {
    struct bpe_node *nodes;
    uint64_t *heap;
    size_t size; // nodes
};

void bpe_init(struct bpe *b, size_t merges_max);
void bpe_fini(struct bpe *b);

// left and right, next to each other, become id. False when the pair already has a merge.
bool bpe_add(struct bpe *b, int left, int right, uint32_t rank, int id);

enum { BPE_PIECE_MAX = 1 << 30 };
// Append the ids of n bytes, n <= BPE_PIECE_MAX. O(n log n).
void bpe_merge(const struct bpe *b, const char *piece, size_t n, struct bpe_scratch *s,
               struct ids *out);
void bpe_scratch_fini(struct bpe_scratch *s);

#endif
