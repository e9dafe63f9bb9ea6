// tokenizer_json.c - fuzz target: tokenizer.json, and behind a byte 0xFF, which JSON never holds,
// tokenizer_config.json. What is accepted must encode every byte.
#include <stdint.h>
#include <string.h>

#include "tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *json = (const char *)data, *config = n ? memchr(json, 0xFF, n) : NULL;
    struct err e = {0};
    size_t json_n = config ? (size_t)(config - json) : n;
    struct tokenizer *tk =
        tokenizer_parse(json, json_n, config ? config + 1 : NULL, config ? n - json_n - 1 : 0, &e);
    CHECK((tk == NULL) == (e.code != ERR_OK) && (tk != NULL || e.text[0]));
    if (tk) {
        static const char text[] = "The <think> e\xCC\x81 12 's\n\n \xF0\x9F\x98\x80\x7F";
        struct ids ids = {0};
        CHECK(tokenizer_encode(tk, text, strlen(text), TOKENIZER_SPECIAL, &ids, &e) == 0);
        for (size_t i = 0; i < ids.n; i++) {
            size_t bytes = 0;
            CHECK(tokenizer_bytes(tk, ids.data[i], &bytes) && bytes > 0);
        }
        ids_fini(&ids);
    }
    tokenizer_destroy(tk);
    return 0;
}
