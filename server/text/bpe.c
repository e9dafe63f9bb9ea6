// bpe.c - see bpe.h. Words are short: their pairs are searched linearly. A long piece (a megabyte of one
// letter is one) keeps its pairs in a heap.
#include "bpe.h"

#include <string.h>

#include "err.h"
#include "mem.h"

enum { SHORT_BYTES = 64 };
#define NONE UINT32_MAX // no merge, no neighbour

struct bpe_merge {
    uint64_t pair; // left << 32 | right
    uint32_t rank; // NONE: the slot is free
    uint32_t id;
};

// One token of a long piece. A node swallowed by its left neighbour is dead; its rank is NONE and no
// link leads to it.
struct bpe_node {
    uint32_t previous, next; // index of the neighbours, NONE at the ends
    uint32_t id;
    uint32_t rank; // of the merge with next
};

static const struct bpe_merge NO_MERGE = {.rank = NONE};

static size_t slot_of(const struct bpe *b, uint64_t pair)
{
    return (size_t)(pair * UINT64_C(0x9E3779B97F4A7C15) >> 32) & b->mask;
}

static const struct bpe_merge *find(const struct bpe *b, uint32_t left, uint32_t right)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    for (size_t i = slot_of(b, pair);; i = (i + 1) & b->mask) {
        const struct bpe_merge *m = &b->slots[i];
        if (m->pair == pair || m->rank == NONE)
            return m->rank == NONE ? &NO_MERGE : m;
    }
}

void bpe_init(struct bpe *b, size_t merges_max)
{
    size_t n = 16;
    while (n < merges_max * 2)
        n *= 2;
    *b = (struct bpe){.slots = mem_alloc(n * sizeof *b->slots), .mask = n - 1};
    for (size_t i = 0; i < n; i++)
        b->slots[i] = NO_MERGE;
}

void bpe_fini(struct bpe *b)
{
    mem_free(b->slots);
    b->slots = NULL;
}

bool bpe_add(struct bpe *b, int left, int right, uint32_t rank, int id)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = slot_of(b, pair);
    for (; b->slots[i].rank != NONE; i = (i + 1) & b->mask)
        if (b->slots[i].pair == pair)
            return false;
    b->slots[i] = (struct bpe_merge){.pair = pair, .rank = rank, .id = (uint32_t)id};
    return true;
}

static void merge_short(const struct bpe *b, const unsigned char *piece, size_t n, struct ids *out)
{
    uint32_t id[SHORT_BYTES], rank[SHORT_BYTES],
        whole[SHORT_BYTES]; // rank[i], whole[i]: i with i + 1
    for (size_t i = 0; i < n; i++)
        id[i] = (uint32_t)b->byte_id[piece[i]];
    for (size_t i = 0; i + 1 < n; i++) {
        const struct bpe_merge *m = find(b, id[i], id[i + 1]);
        rank[i] = m->rank;
        whole[i] = m->id;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NONE)
            break;
        id[best] = whole[best];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            id[i] = id[i + 1];
            rank[i - 1] = rank[i];
            whole[i - 1] = whole[i];
        }
        for (size_t i = best ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const struct bpe_merge *m = find(b, id[i], id[i + 1]);
            rank[i] = m->rank;
            whole[i] = m->id;
        }
    }
    for (size_t i = 0; i < n; i++)
        ids_add(out, (int)id[i]);
}

// The heap holds rank << 32 | node, smallest first, so that equal ranks come from left to right.
static void heap_push(uint64_t *heap, size_t *n, uint64_t key)
{
    size_t i = (*n)++;
    while (i > 0 && heap[(i - 1) / 2] > key) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = key;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0], key = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= key)
            break;
        heap[i] = heap[child];
    }
    heap[i] = key;
    return top;
}

// Look up the merge of node i with its neighbour, and put it into the heap when there is one.
static void rate(const struct bpe *b, struct bpe_scratch *s, uint32_t i, size_t *n_heap)
{
    struct bpe_node *node = &s->nodes[i];
    node->rank = node->next == NONE ? NONE : find(b, node->id, s->nodes[node->next].id)->rank;
    if (node->rank != NONE)
        heap_push(s->heap, n_heap, (uint64_t)node->rank << 32 | i);
}

static void scratch_grow(struct bpe_scratch *s, size_t n)
{
    if (n <= s->size)
        return;
    s->size = n > 2 * s->size ? n : 2 * s->size;
    s->nodes = mem_resize(s->nodes, s->size, sizeof *s->nodes);
    // At most n - 1 pairs at the start; each of at most n - 1 merges takes one out and puts two in.
    s->heap = mem_resize(s->heap, s->size, 2 * sizeof *s->heap);
}

static void merge_long(const struct bpe *b, const unsigned char *piece, size_t n,
                       struct bpe_scratch *s, struct ids *out)
{
    size_t n_heap = 0;
    scratch_grow(s, n);
    for (uint32_t i = 0; i < n; i++)
        s->nodes[i] = (struct bpe_node){.previous = i ? i - 1 : NONE,
                                        .next = i + 1 < n ? i + 1 : NONE,
                                        .id = (uint32_t)b->byte_id[piece[i]]};
    for (uint32_t i = 0; i < n; i++)
        rate(b, s, i, &n_heap);
    while (n_heap) {
        uint64_t key = heap_pop(s->heap, &n_heap);
        uint32_t i = (uint32_t)key;
        struct bpe_node *left = &s->nodes[i];
        if (left->rank != key >> 32)
            continue; // a neighbour has changed since
        struct bpe_node *right = &s->nodes[left->next];
        left->id = find(b, left->id, right->id)->id;
        left->next = right->next;
        right->rank = NONE;
        if (left->next != NONE)
            s->nodes[left->next].previous = i;
        rate(b, s, i, &n_heap);
        if (left->previous != NONE)
            rate(b, s, left->previous, &n_heap);
    }
    for (uint32_t i = 0; i != NONE; i = s->nodes[i].next)
        ids_add(out, (int)s->nodes[i].id);
}

void bpe_merge(const struct bpe *b, const char *piece, size_t n, struct bpe_scratch *s,
               struct ids *out)
{
    CHECK(n <= BPE_PIECE_MAX);
    if (n <= SHORT_BYTES)
        merge_short(b, (const unsigned char *)piece, n, out);
    else
        merge_long(b, (const unsigned char *)piece, n, s, out);
}

void bpe_scratch_fini(struct bpe_scratch *s)
{
    mem_free(s->nodes);
    mem_free(s->heap);
    *s = (struct bpe_scratch){0};
}
