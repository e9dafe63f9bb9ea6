// fixture.c - see fixture.h.
#include "fixture.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"

json_t *fixture_json(const char *path)
{
    struct buf full = {0};
    json_error_t why;
    buf_format(&full, "%s/tests/data/%s", TEST_SOURCE_DIR, path);
    json_t *v = json_load_file(full.data, JSON_ALLOW_NUL, &why);
    cr_assert(v != NULL, "%s: %s", full.data, why.text);
    buf_fini(&full);
    return v;
}

struct tokenizer *fixture_tokenizer(void)
{
    struct err e = {0};
    struct tokenizer *tk = tokenizer_load(TINY_DIR, &e);
    cr_assert(tk != NULL, "%s", e.text);
    return tk;
}

struct tokenizer *fixture_parse(const json_t *document, const char *config, struct err *e)
{
    char *text = json_dumps(document, JSON_ENCODE_ANY);
    cr_assert(text != NULL);
    struct tokenizer *tk =
        tokenizer_parse(text, strlen(text), config, config ? strlen(config) : 0, e);
    free(text);
    return tk;
}
