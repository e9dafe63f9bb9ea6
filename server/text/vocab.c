// vocab.c - see vocab.h.
#include "vocab.h"

#include <stdlib.h>
#include <string.h>

#include "mem.h"

struct vocab_slot {
    uint32_t hash;
    int32_t id; // -1: free
};

// Multiply and shift over 8 bytes at a time; keys are short.
static uint32_t hash_of(const char *s, size_t n)
{
    const uint64_t k = UINT64_C(0x9E3779B97F4A7C15);
    uint64_t h = n * k, eight;
    for (; n >= sizeof eight; s += sizeof eight, n -= sizeof eight) {
        memcpy(&eight, s, sizeof eight);
        h = (h ^ eight) * k;
        h ^= h >> 32;
    }
    eight = 0;
    for (size_t i = 0; i < n; i++)
        eight = eight << 8 | (unsigned char)s[i];
    h = (h ^ eight) * k;
    return (uint32_t)(h >> 32);
}

bool vocab_set(struct vocab *v, int id, const char *bytes, size_t n, unsigned kind)
{
    CHECK(id >= 0 && id < VOCAB_IDS_MAX && n && n <= VOCAB_TOKEN_BYTES_MAX);
    if ((size_t)id >= v->size) {
        size_t size = v->size ? v->size : 1024;
        while (size <= (size_t)id)
            size *= 2;
        v->tokens = mem_resize(v->tokens, size, sizeof *v->tokens);
        memset(v->tokens + v->size, 0, (size - v->size) * sizeof *v->tokens);
        v->size = size;
    }
    struct vocab_token *t = &v->tokens[id];
    if (t->kind)
        return false;
    *t = (struct vocab_token){(uint32_t)v->bytes.n, (uint16_t)n, VOCAB_USED};
    buf_add(&v->bytes, bytes, n);
    buf_add(&v->bytes, "", 1);
    if ((size_t)id >= v->count)
        v->count = (size_t)id + 1;
    vocab_mark(v, id, kind);
    return true;
}

void vocab_mark(struct vocab *v, int id, unsigned kind)
{
    struct vocab_token *t = &v->tokens[id];
    t->kind |= (uint16_t)kind;
    if ((kind & VOCAB_BASE) && t->n > v->token_bytes_max)
        v->token_bytes_max = t->n;
}

const char *vocab_bytes(const struct vocab *v, int id, size_t *n)
{
    *n = 0;
    if (id < 0 || (size_t)id >= v->count || !v->tokens[id].kind)
        return "";
    *n = v->tokens[id].n;
    return v->bytes.data + v->tokens[id].start;
}

unsigned vocab_kind(const struct vocab *v, int id)
{
    return id < 0 || (size_t)id >= v->count ? 0 : v->tokens[id].kind;
}

int vocab_find(const struct vocab *v, const char *bytes, size_t n)
{
    uint32_t hash = hash_of(bytes, n);
    for (size_t i = hash & v->mask; v->slots[i].id >= 0; i = (i + 1) & v->mask) {
        if (v->slots[i].hash != hash)
            continue;
        const struct vocab_token *t = &v->tokens[v->slots[i].id];
        if (t->n == n && memcmp(v->bytes.data + t->start, bytes, n) == 0)
            return v->slots[i].id;
    }
    return -1;
}

static int index_base(struct vocab *v, struct err *e)
{
    size_t n = 16;
    while (n < v->count * 2)
        n *= 2;
    v->slots = mem_alloc(n * sizeof *v->slots);
    v->mask = n - 1;
    for (size_t i = 0; i < n; i++)
        v->slots[i].id = -1;
    for (size_t id = 0; id < v->count; id++) {
        const struct vocab_token *t = &v->tokens[id];
        if (!(t->kind & VOCAB_BASE))
            continue;
        const char *bytes = v->bytes.data + t->start;
        int other = vocab_find(v, bytes, t->n);
        if (other >= 0)
            return err_set(e, ERR_BAD_REQUEST,
                           "tokenizer.json: ids %d and %zu of model.vocab are the same token",
                           other, id);
        uint32_t hash = hash_of(bytes, t->n);
        size_t i = hash & v->mask;
        while (v->slots[i].id >= 0)
            i = (i + 1) & v->mask;
        v->slots[i] = (struct vocab_slot){hash, (int32_t)id};
    }
    return 0;
}

// Order of two byte strings; where one begins with the other, the shorter is first.
static int compare(const char *a, size_t a_n, const char *b, size_t b_n)
{
    int c = memcmp(a, b, a_n < b_n ? a_n : b_n);
    return c ? c : (a_n > b_n) - (a_n < b_n);
}

struct added {
    const char *bytes;
    size_t n;
    int id;
};

static int compare_added(const void *a, const void *b)
{
    const struct added *x = a, *y = b;
    return compare(x->bytes, x->n, y->bytes, y->n);
}

static int index_added(struct vocab *v, struct err *e)
{
    struct added *list = mem_zero(VOCAB_ADDED_MAX, sizeof *list);
    int rc = 0;
    for (size_t id = 0; id < v->count && rc == 0; id++) {
        if (!(v->tokens[id].kind & VOCAB_ADDED))
            continue;
        if (v->n_added == VOCAB_ADDED_MAX)
            rc = err_set(e, ERR_BAD_REQUEST, "tokenizer: more than %d added tokens",
                         VOCAB_ADDED_MAX);
        else
            list[v->n_added++] =
                (struct added){v->bytes.data + v->tokens[id].start, v->tokens[id].n, (int)id};
    }
    qsort(list, v->n_added, sizeof *list, compare_added);
    v->added = mem_zero(v->n_added, sizeof *v->added);
    for (size_t i = 0; i < v->n_added && rc == 0; i++) {
        v->added[i] = list[i].id;
        if (i && compare_added(&list[i - 1], &list[i]) == 0)
            rc = err_set(e, ERR_BAD_REQUEST, "tokenizer: added tokens %d and %d are the same text",
                         list[i - 1].id, list[i].id);
    }
    for (size_t c = 0, i = 0; c <= 256; c++) {
        while (i < v->n_added && (unsigned char)list[i].bytes[0] < c)
            i++;
        v->added_from[c] = (uint16_t)i;
    }
    mem_free(list);
    return rc;
}

int vocab_index(struct vocab *v, struct err *e)
{
    if (index_base(v, e) != 0)
        return -1;
    return index_added(v, e);
}

int vocab_match_added(const struct vocab *v, const char *s, size_t n)
{
    unsigned char c = (unsigned char)s[0];
    // Prefixes of s are in ascending order of length, so the last one that matches is the longest.
    for (size_t i = v->added_from[c + 1]; i > v->added_from[c]; i--) {
        const struct vocab_token *t = &v->tokens[v->added[i - 1]];
        if (t->n <= n && memcmp(v->bytes.data + t->start, s, t->n) == 0)
            return v->added[i - 1];
    }
    return -1;
}

void vocab_fini(struct vocab *v)
{
    mem_free(v->tokens);
    mem_free(v->slots);
    mem_free(v->added);
    buf_fini(&v->bytes);
    *v = (struct vocab){0};
}
