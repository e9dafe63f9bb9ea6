// http_target.c - fuzz target of server/http/target.c: any request target, and every parameter name
// that its own query holds.
#include <stdint.h>
#include <string.h>

#include "target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_decoded(const char *s)
{
    for (; *s; s++)
        CHECK((unsigned char)*s >= 0x20 && *s != 0x7F);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct arena a = {0};
    struct target t;
    struct err e = {0};
    if (target_parse(&t, &a, (const char *)data, n, &e)) {
        CHECK(e.code == ERR_BAD_REQUEST && e.text[0] && !*t.path);
    } else {
        CHECK(t.path[0] == '/' && strlen(t.path) <= n && !strchr(t.raw_path, '?'));
        check_decoded(t.path);
        for (const char *p = t.query; *p; p += strcspn(p, "&"), p += *p == '&') {
            const char *name = arena_string(&a, p, strcspn(p, "=&"));
            const char *value = target_query(&t, &a, name);
            if (value)
                check_decoded(value);
            else
                CHECK(!*name || strpbrk(name, "%+")); // decoded names differ from raw ones
        }
    }
    arena_fini(&a);
    return 0;
}
