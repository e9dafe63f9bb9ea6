// pretokenize.c - tests of server/text/pretokenize.c: where each expression cuts. Cuts are written as |.
#include "pretokenize.h"

#include <criterion/criterion.h>
#include <string.h>

#include "buf.h"

static const char *const QWEN35_ROWS[] = {
    // (?i:'s|'t|'re|'ve|'m|'ll|'d)
    "The| cat|'s| hat",
    "it|'S|d",
    "x|'ſ|y",
    "'ll|'LL|'lL",
    "don|'t",
    "we|'re|'ve|'M",
    "''|s",
    "'l",
    "'r",
    "rock|'n|'roll",
    // [^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+
    "a",
    "the| cat",
    "(hello|)",
    "\tx",
    "\u00a0x",
    "\n|\tx",
    "\u200bx",
    "中文|，字",
    "😀a",
    "e\u0301a",
    "!\u0301",
    " \u0301x",
    "1|\u0301",
    "\n|\u0301",
    "\u0301\u0301",
    "हिन्दी| में",
    "ab|.c",
    // \p{N}
    "1|2|3",
    "a|1|b",
    " |1",
    "a| | |1",
    "½|Ⅷ|²",
    //  ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*
    "((|hello",
    " ((|hello",
    "!\n",
    "!\n\n|x",
    " !!\r\n|x",
    "!\n| \n|x",
    "😀😀| b",
    "\t|!",
    // \s*[\r\n]+
    "a|\n|b",
    "a|\n\n| b",
    "a|  \n| | b|  ",
    "\n\n",
    " \n \n",
    "a|\r\n|b",
    // \s+(?!\S)|\s+
    "  | x",
    "x|  ",
    " ",
    "   ",
    "\u00a0|\u00a0x",
    "\u3000|\u3000|.",
    "a|\t|\t|1",
};
static const char *const QWEN2_ROWS[] = {
    "e|\u0301a",    "!\u0301",     " \u0301|x", "\u0301\u0301", "1|\u0301",
    "ह|िन|्द|ी| म|ें", "The| cat|'s", "  | x",     "(hello|)",     "中文|，字",
};

// Cut the row, less its |, and compare the places with those of the |.
static bool cuts_equal(const struct pretokenizer *p, const char *row)
{
    struct buf text = {0}, cut = {0};
    for (const char *s = row; *s; s++)
        if (*s != '|')
            buf_add(&text, s, 1);
    for (size_t at = 0, k; at < text.n; at += k) {
        k = pretokenize_next(p, text.data + at, text.n - at);
        cr_assert(k > 0 && k <= text.n - at, "row %s", row);
        buf_str(&cut, at ? "|" : "");
        buf_add(&cut, text.data + at, k);
    }
    bool equal = strcmp(cut.data, row) == 0;
    buf_fini(&text);
    buf_fini(&cut);
    return equal;
}

static void check_rows(const char *regex, const char *const *rows, size_t n)
{
    struct unicode u;
    struct pretokenizer p;
    unicode_init(&u);
    cr_assert(pretokenizer_init(&p, &u, regex));
    for (size_t i = 0; i < n; i++)
        cr_expect(cuts_equal(&p, rows[i]), "%s", rows[i]);
    unicode_fini(&u);
}

Test(pretokenize, qwen35)
{
    check_rows(PRETOKENIZE_QWEN35, QWEN35_ROWS, sizeof QWEN35_ROWS / sizeof QWEN35_ROWS[0]);
}

Test(pretokenize, qwen2)
{
    check_rows(PRETOKENIZE_QWEN2, QWEN2_ROWS, sizeof QWEN2_ROWS / sizeof QWEN2_ROWS[0]);
}

Test(pretokenize, other_expressions_are_refused)
{
    struct pretokenizer p;
    cr_expect(!pretokenizer_init(&p, NULL, "\\p{L}+"));
    cr_expect(!pretokenizer_init(&p, NULL, ""));
}
