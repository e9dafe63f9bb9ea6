// http_keys.c - fuzz target of the Authorization header's comparison: only "Bearer " and exactly the
// one key may match.
#include <stdint.h>
#include <string.h>

#include "arena.h"
#include "keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char key[1][KEY_BYTES_MAX] = {"sesame"};
    struct keys k = {.key = key, .n = 1};
    struct arena a = {0};
    const char *text = arena_string(&a, (const char *)data, n);
    size_t end = strlen(text);
    bool matches = keys_match(&k, text);
    CHECK(!matches || (end >= 13 && !strcmp(text + end - 6, "sesame") && text[end - 7] == ' '));
    arena_fini(&a);
    return 0;
}
