// unicode.c - see unicode.h. Data from utf8proc, less or more the code points that its version and
// the library's versions know differently; Hangul by arithmetic (the Unicode Standard, section 3.12).
#include "unicode.h"

#include <string.h>
#include <utf8proc.h>

#include "err.h"
#include "mem.h"

enum {
    HANGUL_S = 0xAC00,
    HANGUL_L = 0x1100,
    HANGUL_V = 0x1161,
    HANGUL_T = 0x11A7, // one before the first trailing consonant: T index 0 means none
    HANGUL_L_N = 19,
    HANGUL_V_N = 21,
    HANGUL_T_N = 28,
    HANGUL_S_N = HANGUL_L_N * HANGUL_V_N * HANGUL_T_N
};

struct range {
    uint32_t first, last;
};

// Assigned by Unicode 15.1 and 16, after utf8proc 2.8's Unicode 15.
static const struct range NEW_LETTERS[] = {
    {0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3},
    {0x10D4A, 0x10D65}, {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4}, {0x11380, 0x11389},
    {0x1138B, 0x1138B}, {0x1138E, 0x1138E}, {0x11390, 0x113B5}, {0x113B7, 0x113B7},
    {0x113D1, 0x113D1}, {0x113D3, 0x113D3}, {0x11BC0, 0x11BE0}, {0x13460, 0x143FA},
    {0x16100, 0x1611D}, {0x16D40, 0x16D6C}, {0x18CFF, 0x18CFF}, {0x1E5D0, 0x1E5ED},
    {0x1E5F0, 0x1E5F0}, {0x2EBF0, 0x2EE5D},
};
static const struct range NEW_MARKS[] = {
    {0x0897, 0x0897},   {0x10D69, 0x10D6D}, {0x10EFC, 0x10EFC}, {0x113B8, 0x113C0},
    {0x113C2, 0x113C2}, {0x113C5, 0x113C5}, {0x113C7, 0x113CA}, {0x113CC, 0x113D0},
    {0x113D2, 0x113D2}, {0x113E1, 0x113E2}, {0x11F5A, 0x11F5A}, {0x1611E, 0x1612F},
    {0x1E5EE, 0x1E5EF},
};
static const struct range NEW_NUMBERS[] = {
    {0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9}, {0x16130, 0x16139},
    {0x16D70, 0x16D79}, {0x1CCF0, 0x1CCF9}, {0x1E5F1, 0x1E5FA},
};

// Code points that got a combining class or a decomposition after Unicode 9. The library's normaliser
// does not know them: they neither move, nor come apart, nor arise.
static const struct range UNNORMALISED[] = {
    {0x07FD, 0x07FD},   {0x0897, 0x089F},   {0x08CA, 0x08D3},   {0x09FE, 0x09FE},
    {0x0C3C, 0x0C3C},   {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0x105C9, 0x105C9},
    {0x105E4, 0x105E4}, {0x10D24, 0x10D27}, {0x10D69, 0x10D6D}, {0x10EAB, 0x10EAC},
    {0x10EFC, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
    {0x1133B, 0x1133B}, {0x11383, 0x11383}, {0x11385, 0x11385}, {0x1138E, 0x1138E},
    {0x11391, 0x11391}, {0x113C5, 0x113C5}, {0x113C7, 0x113C8}, {0x113CE, 0x113D0},
    {0x113E1, 0x113E2}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11938, 0x11938},
    {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16121, 0x16128}, {0x1612F, 0x1612F},
    {0x16D68, 0x16D6A}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1E5EE, 0x1E5EF},
};

static const struct range SPACES[] = {
    {0x09, 0x0D},     {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
};

#define N(array) (sizeof(array) / sizeof(array)[0])

static bool in_ranges(const struct range *r, size_t n, uint32_t code)
{
    size_t low = 0, high = n; // the first range that ends at or after code is in [low, high]
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (r[mid].last < code)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n && r[low].first <= code;
}

int unicode_combining(uint32_t code)
{
    int class = utf8proc_get_property((utf8proc_int32_t)code)->combining_class;
    return class && !in_ranges(UNNORMALISED, N(UNNORMALISED), code) ? class : 0;
}

static int decompose_hangul(uint32_t code, uint32_t *out)
{
    uint32_t s = code - HANGUL_S, t = s % HANGUL_T_N;
    out[0] = HANGUL_L + s / (HANGUL_V_N * HANGUL_T_N);
    out[1] = HANGUL_V + s / HANGUL_T_N % HANGUL_V_N;
    if (!t)
        return 2;
    out[2] = HANGUL_T + t;
    return 3;
}

int unicode_decompose(uint32_t code, uint32_t out[UNICODE_DECOMPOSED_MAX])
{
    if (code - HANGUL_S < HANGUL_S_N)
        return decompose_hangul(code, out);
    out[0] = code;
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)code);
    // decomp_type 0 is canonical; other types are compatibility mappings, which NFC leaves alone.
    if (p->decomp_seqindex == UINT16_MAX || p->decomp_type != 0 ||
        in_ranges(UNNORMALISED, N(UNNORMALISED), code))
        return 1;
    utf8proc_int32_t to[UNICODE_DECOMPOSED_MAX];
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char(
        (utf8proc_int32_t)code, to, UNICODE_DECOMPOSED_MAX,
        (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE), &boundary);
    CHECK(n >= 1 && n <= UNICODE_DECOMPOSED_MAX);
    for (utf8proc_ssize_t i = 0; i < n; i++)
        out[i] = (uint32_t)to[i];
    return (int)n;
}

uint32_t unicode_compose(uint32_t first, uint32_t second)
{
    if (first - HANGUL_L < HANGUL_L_N && second - HANGUL_V < HANGUL_V_N)
        return HANGUL_S + ((first - HANGUL_L) * HANGUL_V_N + (second - HANGUL_V)) * HANGUL_T_N;
    uint32_t s = first - HANGUL_S;
    if (s < HANGUL_S_N) {
        bool tail = s % HANGUL_T_N == 0 && second - HANGUL_T - 1 < HANGUL_T_N - 1;
        return tail ? first + (second - HANGUL_T) : 0;
    }
    utf8proc_int32_t pair[2] = {(utf8proc_int32_t)first, (utf8proc_int32_t)second};
    utf8proc_ssize_t n =
        utf8proc_normalize_utf32(pair, 2, (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (n != 1 || in_ranges(UNNORMALISED, N(UNNORMALISED), (uint32_t)pair[0]))
        return 0;
    return (uint32_t)pair[0];
}

static unsigned class_of(uint32_t code)
{
    if (in_ranges(SPACES, N(SPACES), code))
        return UNICODE_SPACE;
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
    if (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO)
        return UNICODE_LETTER;
    if (c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME)
        return UNICODE_MARK;
    if (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO)
        return UNICODE_NUMBER;
    if (c != UTF8PROC_CATEGORY_CN)
        return 0;
    if (in_ranges(NEW_LETTERS, N(NEW_LETTERS), code))
        return UNICODE_LETTER;
    if (in_ranges(NEW_MARKS, N(NEW_MARKS), code))
        return UNICODE_MARK;
    return in_ranges(NEW_NUMBERS, N(NEW_NUMBERS), code) ? UNICODE_NUMBER : 0;
}

// Does code come back when its decomposition d is composed from the left?
static bool recomposes(uint32_t code, const uint32_t *d, int n)
{
    uint32_t c = d[0];
    for (int i = 1; i < n && c; i++)
        c = unicode_compose(c, d[i]);
    return c == code;
}

// NFC_Quick_Check for all code points. What does not come back is "No". What can be the second half
// of a composite, the last one of its full decomposition, is "Maybe".
static void mark_changes(uint8_t *flags)
{
    for (uint32_t code = 0; code < UNICODE_CODES; code++) {
        uint32_t d[UNICODE_DECOMPOSED_MAX];
        if (code - HANGUL_S < HANGUL_S_N)
            continue;
        int n = unicode_decompose(code, d);
        if (n > 1 || d[0] != code)
            flags[recomposes(code, d, n) ? d[n - 1] : code] |= UNICODE_CHANGES;
    }
    for (uint32_t i = 0; i < HANGUL_V_N; i++)
        flags[HANGUL_V + i] |= UNICODE_CHANGES;
    for (uint32_t i = 1; i < HANGUL_T_N; i++)
        flags[HANGUL_T + i] |= UNICODE_CHANGES;
}

static size_t find_block(const struct unicode *u, const uint8_t *block)
{
    size_t i = 0;
    while (i < u->n_blocks && memcmp(u->flags + i * UNICODE_BLOCK, block, UNICODE_BLOCK) != 0)
        i++;
    return i;
}

void unicode_init(struct unicode *u)
{
    uint8_t *flags = mem_alloc(UNICODE_CODES);
    for (uint32_t code = 0; code < UNICODE_CODES; code++)
        flags[code] = (uint8_t)(class_of(code) | (unicode_combining(code) ? UNICODE_REORDERS : 0));
    mark_changes(flags);
    // In place: a block is moved to its shared position, which is never behind its own.
    *u = (struct unicode){.flags = flags};
    for (size_t b = 0; b < UNICODE_CODES / UNICODE_BLOCK; b++) {
        size_t at = find_block(u, flags + b * UNICODE_BLOCK);
        if (at == u->n_blocks)
            memmove(flags + u->n_blocks++ * UNICODE_BLOCK, flags + b * UNICODE_BLOCK,
                    UNICODE_BLOCK);
        u->block[b] = (uint16_t)at;
    }
    u->flags = mem_resize(flags, u->n_blocks, UNICODE_BLOCK);
}

void unicode_fini(struct unicode *u)
{
    mem_free(u->flags);
    *u = (struct unicode){0};
}
