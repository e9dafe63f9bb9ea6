// Tests of server/http/target.c: every byte of a target is decoded once or refused.
#include <criterion/criterion.h>
#include <string.h>

#include "target.h"

static struct arena arena;

static int parse(struct target *t, const char *raw)
{
    struct err e = {0};
    int failed = target_parse(t, &arena, raw, strlen(raw), &e);
    cr_expect(!failed || (e.code == ERR_BAD_REQUEST && e.text[0]), "%s", raw);
    return failed;
}

static void stop(void)
{
    arena_fini(&arena);
}

TestSuite(target, .fini = stop);

Test(target, accepted)
{
    static const struct {
        const char *raw, *path, *raw_path, *query;
    } ROWS[] = {
        {"/", "/", "/", ""},
        {"/a/b?c=d", "/a/b", "/a/b", "c=d"},
        {"/a?", "/a", "/a", ""},
        {"/a?b?c", "/a", "/a", "b?c"},
        {"/%41%2f%2F+", "/A//+", "/%41%2f%2F+", ""},
        {"/%25%34%31", "/%41", "/%25%34%31", ""}, // once, not twice
        {"/caf\xC3\xA9%c3%a9", "/caf\xC3\xA9\xC3\xA9", "/caf\xC3\xA9%c3%a9", ""},
        {"HTTP://h:1/p?q", "/p", "/p", "q"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct target t;
        cr_assert(parse(&t, ROWS[i].raw) == 0, "%s", ROWS[i].raw);
        cr_expect_str_eq(t.path, ROWS[i].path);
        cr_expect_str_eq(t.raw_path, ROWS[i].raw_path);
        cr_expect_str_eq(t.query, ROWS[i].query);
    }
}

Test(target, refused)
{
    static const char *const ROWS[] = {
        "",     "*",    "a",    "?a",     "http://h", "https://h/p", "/%",
        "/%4",  "/%4g", "/%g4", "/%%41",  "/a%00b",   "/a%1f",       "/%7F",
        "/a\n", "/a b", "/?%",  "/?a=%0", "/?a=%00b", "/?%0d%0aX",
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct target t;
        cr_expect(parse(&t, ROWS[i]) == -1, "%s", ROWS[i]);
        cr_expect_str_eq(t.path, "");
    }
}

Test(target, queries)
{
    struct target t;
    cr_assert(parse(&t, "/?a=1&bb=2%263&&c&d=&=e&a=4&f+g=h+i%2B&%61b=j=k") == 0);
    cr_expect_str_eq(target_query(&t, &arena, "a"), "1");
    cr_expect_str_eq(target_query(&t, &arena, "bb"), "2&3");
    cr_expect_str_eq(target_query(&t, &arena, "c"), "");
    cr_expect_str_eq(target_query(&t, &arena, "d"), "");
    cr_expect_str_eq(target_query(&t, &arena, ""), "e");
    cr_expect_str_eq(target_query(&t, &arena, "f g"), "h i+");
    cr_expect_str_eq(target_query(&t, &arena, "ab"), "j=k");
    cr_expect(target_query(&t, &arena, "b") == NULL);
    cr_expect(target_query(&t, &arena, "e") == NULL);
    cr_assert(parse(&t, "/") == 0);
    cr_expect(target_query(&t, &arena, "a") == NULL);
}
