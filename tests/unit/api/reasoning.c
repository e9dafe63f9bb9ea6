// Tests of server/api/reasoning.c: the same parts however the text is cut into pieces.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdint.h>
#include <string.h>

#include "reasoning.h"

static const struct {
    bool thinks;
    const char *text, *reasoning, *content;
    size_t end; // of "</think>" in text; SIZE_MAX: none
} CASES[] = {
    {false, "plain", "", "plain", 0},
    {false, "</think>not mine", "", "</think>not mine", 0},
    {true, "", "", "", SIZE_MAX},
    {true, "a b", "a b", "", SIZE_MAX},
    {true, "a\n", "a\n", "", SIZE_MAX},
    {true, "a\n</thin", "a\n</thin", "", SIZE_MAX},
    {true, "a</think>b", "a", "b", 9},
    {true, "a\n</think>\n\nb", "a", "b", 10},
    {true, "a\n\n</think>\n\n\nb", "a\n", "\nb", 11},
    {true, "</think>", "", "", 8},
    {true, "\n</think>\n", "", "", 9},
    {true, "<</think>b", "<", "b", 9},
    {true, "</</think></think>", "</", "</think>", 10},
    {true, "</thin\n</think>\nb", "</thin", "b", 15},
    {true, "a < b\n<\n</think>c", "a < b\n<", "c", 16},
};

static void check(size_t i, size_t piece)
{
    struct reasoning r;
    struct buf thought = {0}, content = {0};
    size_t n = strlen(CASES[i].text);
    reasoning_init(&r, CASES[i].thinks);
    for (size_t at = 0; at < n; at += piece)
        reasoning_push(&r, CASES[i].text + at, at + piece > n ? n - at : piece, false, &thought,
                       &content);
    reasoning_push(&r, "", 0, true, &thought, &content);
    buf_str(&thought, "");
    buf_str(&content, "");
    cr_assert(eq(str, thought.data, (char *)CASES[i].reasoning), "case %zu by %zu", i, piece);
    cr_assert(eq(str, content.data, (char *)CASES[i].content), "case %zu by %zu", i, piece);
    cr_assert(eq(sz, r.end_bytes, CASES[i].end), "case %zu by %zu", i, piece);
    cr_assert(eq(sz, r.bytes, n), "case %zu by %zu", i, piece);
    buf_fini(&thought);
    buf_fini(&content);
}

Test(reasoning, parts_do_not_depend_on_the_pieces)
{
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        for (size_t piece = 1; piece <= 20; piece++)
            check(i, piece);
}

// What cannot belong to the end of the block is let out at once.
Test(reasoning, nothing_is_held_longer_than_needed)
{
    struct reasoning r;
    struct buf thought = {0}, content = {0};
    reasoning_init(&r, true);
    reasoning_push(&r, "so\n</th", 7, false, &thought, &content);
    cr_assert(eq(str, thought.data, "so"));
    reasoning_push(&r, "e", 1, false, &thought, &content);
    cr_assert(eq(str, thought.data, "so\n</the"));
    buf_fini(&thought);
    buf_fini(&content);
}
