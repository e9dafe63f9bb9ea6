// eval_setting.c - see eval_setting.h.
#include "eval_setting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int refuse(char *why, size_t size, const char *text)
{
    snprintf(why, size,
             "'%.60s' is not METHOD/TYPE or METHOD/TYPE/CHUNK, such as auto/fp16/64 or "
             "neumann:64,3,8/fp32",
             text);
    return -1;
}

int eval_setting_parse(struct eval_setting *out, const char *text, int chunk, char *why,
                       size_t why_size)
{
    static const char CUBLAS[] = "@cublas";
    char copy[64];
    if (strlen(text) + 8 >= sizeof copy) // room for "/128"
        return refuse(why, why_size, text);
    snprintf(copy, sizeof copy, "%s", text);
    char *at = strchr(copy, '@');
    const bool cublas = at && !strcmp(at, CUBLAS);
    if (at && !cublas)
        return refuse(why, why_size, text);
    if (at)
        *at = '\0';
    char *type = strchr(copy, '/');
    char *size = type ? strchr(type + 1, '/') : NULL;
    if (!type)
        return refuse(why, why_size, text);
    *type++ = '\0';
    *out = (struct eval_setting){.chunk = chunk};
    if (size) {
        char *end = NULL;
        *size++ = '\0';
        const long value = strtol(size, &end, 10);
        if (end == size || *end || value < 0 || value > INVERSE_CHUNK_MAX)
            return refuse(why, why_size, text);
        out->chunk = (int)value;
    }
    if (inverse_parse(&out->inverse, copy, type, out->chunk, why, why_size))
        return -1;
    out->inverse.executor = cublas ? INVERSE_CUBLAS : INVERSE_FUSED;
    snprintf(out->name, sizeof out->name, "%.40s/%.8s/%d%s", copy, type, out->chunk,
             cublas ? CUBLAS : "");
    return 0;
}

struct eval_setting eval_setting_served(int chunk, const struct inverse *inverse)
{
    return (struct eval_setting){.name = "served", .chunk = chunk, .inverse = *inverse};
}
