// nfc.c - tests of server/text/nfc.c and unicode.c. Expected forms from the Unicode Standard (Annex 15
// and its data files); the whole of Unicode is compared by tests/text/tokenizer_parity.py.
#include "nfc.h"

#include <criterion/criterion.h>
#include <string.h>

#include "mem.h"
#include "utf8.h"

static const struct {
    uint32_t from[8], to[8]; // ended by 0
} FORMS[] = {
    {{'a', 'b'}, {'a', 'b'}},
    {{'e', 0x301}, {0xE9}},
    {{0xE9}, {0xE9}},
    {{0x212B}, {0xC5}},                         // singleton
    {{0x2126, 0x301}, {0x38F}},                 // singleton, then composition
    {{'a', 0x301, 0x323}, {0x1EA1, 0x301}},     // order by class, then compose
    {{'a', 0x323, 0x301}, {0x1EA1, 0x301}},     //
    {{'q', 0x307, 0x323}, {'q', 0x323, 0x307}}, // order without composites
    {{'q', 0x301, 0x300}, {'q', 0x301, 0x300}}, // equal classes keep their order
    {{0x1E69}, {0x1E69}},                       //
    {{'s', 0x307, 0x323}, {0x1E69}},            // two steps
    {{0x1E9B, 0x323}, {0x1E9B, 0x323}},         // Annex 15, figure 6
    {{0x344}, {0x308, 0x301}},                  // excluded: decomposes to two marks
    {{0x958}, {0x915, 0x93C}},                  // composition exclusion
    {{0x915, 0x93C}, {0x915, 0x93C}},           //
    {{0xFB31}, {0x5D1, 0x5BC}},                 // excluded
    {{0x1100, 0x1161}, {0xAC00}},               // Hangul L V
    {{0x1100, 0x1161, 0x11A8}, {0xAC01}},       // L V T
    {{0xAC00, 0x11A8}, {0xAC01}},               // LV T
    {{0xAC01, 0x11A8}, {0xAC01, 0x11A8}},       // LVT takes no more
    {{0xAC00, 0x11A7}, {0xAC00, 0x11A7}},       // U+11A7 is not a trailing consonant
    {{'e', 0x301, 0xAC00, 0x11A7}, {0xE9, 0xAC00, 0x11A7}},
    {{0x1100, 0x1100, 0x1161}, {0x1100, 0xAC00}}, //
    {{0xCC6, 0xCC2, 0xCD5}, {0xCCB}},             // starters that compose with starters
    {{0x1FB7}, {0x1FB7}},                         //
    {{0x3B1, 0x342, 0x345}, {0x1FB7}},            //
    {{0x3B1, 0x345, 0x342}, {0x1FB7}},            // 240 after 230
    {{0x301, 'e'}, {0x301, 'e'}},                 // a mark without a starter
    {{0x301, 0x323, 'e', 0x301}, {0x323, 0x301, 0xE9}},
    {{'e', 0x5B0, 0x301}, {0xE9, 0x5B0}},         // a lower class in between does not block
    {{'e', 0x302, 0x301}, {0x1EBF}},              //
    {{'c', 0x338, 0x327}, {0xE7, 0x338}},         // classes 1 and 202: see below
    {{0x2ADC}, {0x2ADD, 0x338}},                  // excluded
    {{0x1D15E}, {0x1D157, 0x1D165}},              //
    {{0x2F800}, {0x4E3D}},                        //
    {{0xFB01, 0xBD}, {0xFB01, 0xBD}},             // compatibility forms stay
    {{0x11935, 0x11930}, {0x11935, 0x11930}},     // newer than the library's Unicode 9
    {{0x11938}, {0x11938}},                       //
    {{'a', 0x1AC1, 0x323}, {'a', 0x1AC1, 0x323}}, // so is this mark
};

static void join(const uint32_t *codes, struct buf *out)
{
    for (size_t i = 0; i < 8 && codes[i]; i++)
        utf8_add(out, codes[i]);
}

Test(nfc, forms)
{
    struct unicode u;
    unicode_init(&u);
    for (size_t i = 0; i < sizeof FORMS / sizeof FORMS[0]; i++) {
        struct buf from = {0}, to = {0}, out = {0};
        join(FORMS[i].from, &from);
        join(FORMS[i].to, &to);
        nfc_add(&u, from.data, from.n, &out);
        cr_expect(out.n == to.n && memcmp(out.data, to.data, to.n) == 0, "row %zu (U+%04X ...)", i,
                  FORMS[i].from[0]);
        // A form that changes must fail the check; what came out must pass as its own form.
        bool same = from.n == to.n && memcmp(from.data, to.data, to.n) == 0;
        cr_expect(same || nfc_prefix(&u, from.data, from.n) < from.n, "row %zu passes", i);
        buf_clear(&from);
        nfc_add(&u, out.data, out.n, &from);
        cr_expect(from.n == out.n && memcmp(from.data, out.data, out.n) == 0, "row %zu again", i);
        buf_fini(&from);
        buf_fini(&to);
        buf_fini(&out);
    }
    unicode_fini(&u);
}

Test(nfc, ordinary_text_needs_no_copy)
{
    struct unicode u;
    unicode_init(&u);
    static const char *const texts[] = {"plain ASCII", "d\xC3\xA9j\xC3\xA0 vu",
                                        "\xE4\xB8\xAD\xE6\x96\x87", "\xD9\x85\xD9\x8E\xD8\xB1",
                                        "\xF0\x9F\x98\x80"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        cr_expect_eq(nfc_prefix(&u, texts[i], strlen(texts[i])), strlen(texts[i]), "%s", texts[i]);
    unicode_fini(&u);
}

// A million marks in falling order: an exchange sort would not come back.
Test(nfc, piles_of_marks, .timeout = 60)
{
    enum { PAIRS = 500000 };
    struct unicode u;
    unicode_init(&u);
    struct buf text = {0}, out = {0};
    buf_str(&text, "q");
    for (int i = 0; i < PAIRS; i++)
        buf_str(&text, "\xCC\x81"); // U+0301, class 230
    for (int i = 0; i < PAIRS; i++)
        buf_str(&text, "\xCC\xA3"); // U+0323, class 220
    nfc_add(&u, text.data, text.n, &out);
    cr_assert_eq(out.n, text.n);
    cr_expect_eq(memcmp(out.data + 1, "\xCC\xA3", 2), 0);
    cr_expect_eq(memcmp(out.data + 1 + 2 * PAIRS - 2, "\xCC\xA3\xCC\x81", 4), 0);
    buf_fini(&text);
    buf_fini(&out);
    unicode_fini(&u);
}

Test(unicode, classes)
{
    static const struct {
        uint32_t code;
        unsigned class;
    } rows[] = {
        {'a', UNICODE_LETTER},
        {0x17F, UNICODE_LETTER},
        {0x4E2D, UNICODE_LETTER},
        {0x2EBF0, UNICODE_LETTER},
        {0x1C89, UNICODE_LETTER},
        {0x301, UNICODE_MARK},
        {0x903, UNICODE_MARK},
        {0x20DD, UNICODE_MARK},
        {0x897, UNICODE_MARK},
        {'7', UNICODE_NUMBER},
        {0x2167, UNICODE_NUMBER},
        {0xBD, UNICODE_NUMBER},
        {0x1E5F1, UNICODE_NUMBER},
        {' ', UNICODE_SPACE},
        {0x85, UNICODE_SPACE},
        {0x3000, UNICODE_SPACE},
        {0x200B, 0},
        {0x1C, 0},
        {'<', 0},
        {0x1F600, 0},
        {0xE000, 0},
        {0x10FFFF, 0},
        {0xFEFF, 0},
        {0x180E, 0},
    };
    const unsigned classes = UNICODE_LETTER | UNICODE_MARK | UNICODE_NUMBER | UNICODE_SPACE;
    struct unicode u;
    unicode_init(&u);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_eq(unicode_flags(&u, rows[i].code) & classes, rows[i].class, "U+%04X",
                     rows[i].code);
    unicode_fini(&u);
}
