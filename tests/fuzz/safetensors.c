// safetensors.c - any bytes as a safetensors file: refused with a sentence, or every tensor lies inside.
#include "safetensors.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err e = {.code = ERR_OK};
    struct safetensors *st = safetensors_parse(data, n, "fuzz", &e);
    CHECK(st || (e.code != ERR_OK && e.text[0]));
    for (size_t i = 0; st && i < safetensors_count(st); i++) {
        const struct tensor *t = safetensors_at(st, i);
        const uint8_t *p = t->data;
        CHECK(p >= data && p <= data + n && t->bytes <= (size_t)(data + n - p));
        CHECK(safetensors_find(st, t->name) == t);
    }
    safetensors_close(st);
    return 0;
}
