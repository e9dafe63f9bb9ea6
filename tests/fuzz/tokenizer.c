// tokenizer.c - fuzz target: any bytes as text. What is encoded decodes to its normal form.
#include <stdint.h>
#include <string.h>

#include "detok.h"
#include "nfc.h"
#include "tokenizer.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct tokenizer *tk;
    static struct unicode unicode;
    const char *text = (const char *)data;
    if (!tk) {
        tk = tokenizer_load(TEST_SOURCE_DIR "/tests/data/tiny_tokenizer", NULL);
        unicode_init(&unicode);
        CHECK(tk != NULL);
    }
    struct ids ids = {0}, special = {0};
    struct buf normal = {0}, back = {0};
    bool valid = utf8_check(text, n) == n;
    CHECK((tokenizer_encode(tk, text, n, 0, &ids, NULL) == 0) == valid);
    CHECK((tokenizer_encode(tk, text, n, TOKENIZER_SPECIAL, &special, NULL) == 0) == valid);
    if (valid) {
        struct detok d;
        detok_init(&d, tk, NULL, 0, true);
        for (size_t i = 0; i < ids.n; i++)
            detok_push(&d, ids.data[i], &back);
        detok_flush(&d, &back);
        detok_fini(&d);
        nfc_add(&unicode, text, n, &normal);
        CHECK(back.n == normal.n && (!back.n || memcmp(back.data, normal.data, back.n) == 0));
        CHECK(nfc_prefix(&unicode, text, n) < n || (normal.n == n && special.n <= n));
    }
    ids_fini(&ids);
    ids_fini(&special);
    buf_fini(&normal);
    buf_fini(&back);
    return 0;
}
