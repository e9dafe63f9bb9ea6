// utf8.c - tests of server/text/utf8.c.
#include "utf8.h"

#include <criterion/criterion.h>
#include <string.h>

// Every row: bytes, and what Python's bytes.decode(errors="replace") makes of them; the last
// incomplete character is not replaced, so rest says how many bytes of it are left.
static const struct {
    const char *bytes, *text;
    size_t rest;
} LOSSY[] = {
    {"", "", 0},
    {"abc", "abc", 0},
    {"\xC3\xA9", "\xC3\xA9", 0},
    {"\xE4\xB8\xAD\xF0\x9F\x98\x80", "\xE4\xB8\xAD\xF0\x9F\x98\x80", 0},
    {"\x80", "\xEF\xBF\xBD", 0},
    {"a\x80\xBF"
     "b",
     "a\xEF\xBF\xBD\xEF\xBF\xBD"
     "b",
     0},
    {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD", 0}, // overlong
    {"\xE0\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 0},
    {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 0}, // surrogate
    {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 0},
    {"\xF5", "\xEF\xBF\xBD", 0},
    {"\xF0\x9F\x98"
     "a",
     "\xEF\xBF\xBD"
     "a",
     0}, // three bytes of four are one subpart
    {"\xE4\xB8"
     "a",
     "\xEF\xBF\xBD"
     "a",
     0},
    {"\xE4"
     "\xE4\xB8\xAD",
     "\xEF\xBF\xBD\xE4\xB8\xAD", 0},
    {"a\xF0\x9F\x98", "a", 3},
    {"a\xE4", "a", 1},
    {"\xC3", "", 1},
};

Test(utf8, lossy)
{
    for (size_t i = 0; i < sizeof LOSSY / sizeof LOSSY[0]; i++) {
        struct buf out = {0};
        size_t n = strlen(LOSSY[i].bytes);
        cr_expect_eq(utf8_lossy(&out, LOSSY[i].bytes, n), n - LOSSY[i].rest, "row %zu", i);
        cr_expect_str_eq(out.data, LOSSY[i].text, "row %zu", i);
        buf_fini(&out);
    }
}

Test(utf8, check_names_the_first_bad_byte)
{
    cr_expect_eq(utf8_check("", 0), 0);
    cr_expect_eq(utf8_check("0123456789abcdef", 16), 16);
    cr_expect_eq(utf8_check("0123456789\xFF"
                            "bcdef",
                            16),
                 10);
    cr_expect_eq(utf8_check("01234567\xE4\xB8\xAD", 11), 11);
    cr_expect_eq(utf8_check("01234567\xE4\xB8\xAD", 10), 8);
}

Test(utf8, every_code_point_comes_back)
{
    for (uint32_t c = 0; c < 0x110000; c++) {
        struct buf out = {0};
        utf8_add(&out, c);
        bool surrogate = c >= 0xD800 && c <= 0xDFFF;
        const char *at = out.data;
        if ((utf8_check(out.data, out.n) == out.n) == surrogate)
            cr_assert(false, "U+%04X is %s", c, surrogate ? "taken" : "refused");
        if (!surrogate && utf8_decode(&at) != c)
            cr_assert(false, "U+%04X comes back as another", c);
        cr_assert(surrogate || at == out.data + out.n);
        buf_fini(&out);
    }
}
