// Tests of server/base/err.c.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <string.h>

#include "err.h"

Test(err, filled_and_minus_one)
{
    struct err e = {.param = "old"};
    cr_assert(eq(int, err_set(&e, ERR_BUSY, "%d wait", 3), -1));
    cr_assert(eq(int, (int)e.code, ERR_BUSY));
    cr_assert(eq(str, e.text, "3 wait"));
    cr_assert(eq(str, e.param, ""));
    cr_assert(eq(int, err_field(&e, ERR_BAD_REQUEST, "n", "n is %d", 9), -1));
    cr_assert(eq(str, e.param, "n"));
    cr_assert(eq(int, err_set(NULL, ERR_BUSY, "nobody asks"), -1));
    cr_assert(eq(int, err_field(NULL, ERR_BUSY, "n", "nobody asks"), -1));
}

Test(err, text_is_cut_at_a_character)
{
    // e-acute is two bytes, the euro sign three, the smiling face four.
    static const char *const CHARACTERS[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (int i = 0; i < 4; i++) {
        char text[1000] = "";
        size_t size = strlen(CHARACTERS[i]), n = 0;
        for (; n + size < sizeof text; n += size)
            memcpy(text + n, CHARACTERS[i], size + 1);
        struct err e;
        err_set(&e, ERR_INTERNAL, "%s", text);
        size_t kept = strlen(e.text);
        cr_assert(zero(kept % size), "%zu bytes kept of characters of %zu", kept, size);
        cr_assert(gt(sz, kept + size, sizeof e.text - 1));
        cr_assert(zero(memcmp(e.text, text, kept)));
    }
}

Test(err, codes_as_the_protocol_has_them)
{
    cr_assert(eq(int, err_http(ERR_BUSY), 429));
    cr_assert(eq(int, err_http(ERR_CONTEXT_LENGTH), 400));
    cr_assert(eq(str, (char *)err_slug(ERR_CONTEXT_LENGTH), "context_length_exceeded"));
    cr_assert(eq(str, (char *)err_type(ERR_BAD_REQUEST), "invalid_request_error"));
    cr_assert(eq(ptr, (void *)err_slug(ERR_BAD_REQUEST), NULL));
    cr_assert(eq(int, err_http(ERR_SHUTTING_DOWN), 503));
}

Test(err, check_aborts, .signal = SIGABRT)
{
    int two = 2;
    CHECK(two == 2);
    CHECK(two == 3);
}
