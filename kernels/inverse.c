// inverse.c - names, limits and defaults of the inversion; no arithmetic on matrices.
#include "inverse.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const METHODS[] = {[INVERSE_SUBSTITUTION] = "substitution",
                                      [INVERSE_NEUMANN] = "neumann",
                                      [INVERSE_MERGE] = "merge"};
static const char *const TYPES[] = {[INVERSE_FP32] = "fp32",
                                    [INVERSE_TF32] = "tf32",
                                    [INVERSE_FP16] = "fp16",
                                    [INVERSE_BF16] = "bf16",
                                    [INVERSE_INT8] = "int8"};
enum { N_METHODS = sizeof METHODS / sizeof *METHODS, N_TYPES = sizeof TYPES / sizeof *TYPES };

// More residual terms than the widest block has rows change nothing.
enum { BLOCK_MIN = 4, ORDER_MIN = 2, RESIDUAL_MAX = INVERSE_CHUNK_MAX };

__attribute__((format(printf, 3, 4))) static int refuse(char *why, size_t size, const char *format,
                                                        ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, size, format, args);
    va_end(args);
    return -1;
}

static bool is_power_of_two(int x)
{
    return x > 0 && (x & (x - 1)) == 0;
}

static int find(const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(names[i], name))
            return i;
    return -1;
}

struct inverse inverse_auto(int chunk, enum inverse_type type)
{
    (void)chunk; // 16 is allowed for every chunk size, and exact: 3 * 8 >= 16
    return (struct inverse){
        .method = INVERSE_NEUMANN, .type = type, .block = 16, .order = 3, .residual = 8};
}

struct inverse inverse_paper(int chunk, enum inverse_type type)
{
    struct inverse v = inverse_auto(chunk, type);
    v.block = chunk < 64 ? chunk : 64;
    if (chunk == 32) {
        v.order = 4;
        v.residual = 3;
    }
    return v;
}

bool inverse_exact(const struct inverse *v)
{
    return v->method != INVERSE_NEUMANN || (long)v->order * v->residual >= v->block;
}

// A decimal number of 1 to 4 digits at *text, which is moved past it; -1 when there is none.
static int read_number(const char **text)
{
    int value = 0, digits = 0;
    for (; **text >= '0' && **text <= '9' && digits < 4; (*text)++, digits++)
        value = value * 10 + (**text - '0');
    return digits ? value : -1;
}

// "BLOCK,ORDER,RESIDUAL" and nothing after it.
static bool read_numbers(struct inverse *v, const char *text)
{
    v->block = read_number(&text);
    if (v->block < 0 || *text++ != ',')
        return false;
    v->order = read_number(&text);
    if (v->order < 0 || *text++ != ',')
        return false;
    v->residual = read_number(&text);
    return v->residual >= 0 && !*text;
}

int inverse_parse(struct inverse *out, const char *method, const char *type, int chunk, char *why,
                  size_t why_size)
{
    int t = find(TYPES, N_TYPES, type);
    if (t < 0)
        return refuse(why, why_size,
                      "inverse type '%s' is unknown; use fp32, tf32, fp16, bf16 or int8", type);
    struct inverse v = inverse_auto(chunk, (enum inverse_type)t);
    static const char PREFIX[] = "neumann:";
    if (!strncmp(method, PREFIX, sizeof PREFIX - 1)) {
        if (!read_numbers(&v, method + sizeof PREFIX - 1))
            return refuse(why, why_size,
                          "inverse method '%s' is not neumann:BLOCK,ORDER,RESIDUAL, such as "
                          "neumann:16,3,8",
                          method);
    } else if (!strcmp(method, "paper")) {
        v = inverse_paper(chunk, (enum inverse_type)t);
    } else if (strcmp(method, "auto")) {
        int m = find(METHODS, N_METHODS, method);
        if (m < 0)
            return refuse(why, why_size,
                          "inverse method '%s' is unknown; use auto, paper, substitution, merge, "
                          "neumann or neumann:BLOCK,ORDER,RESIDUAL",
                          method);
        v.method = (enum inverse_method)m;
    }
    if (inverse_check(&v, chunk, why, why_size))
        return -1;
    *out = v;
    return 0;
}

int inverse_check(const struct inverse *v, int chunk, char *why, size_t why_size)
{
    if (!is_power_of_two(chunk) || chunk < INVERSE_CHUNK_MIN || chunk > INVERSE_CHUNK_MAX)
        return refuse(why, why_size, "chunk %d is not 16, 32, 64 or 128", chunk);
    if ((unsigned)v->method >= N_METHODS)
        return refuse(why, why_size, "inverse method %u does not exist", (unsigned)v->method);
    if ((unsigned)v->type >= N_TYPES)
        return refuse(why, why_size, "inverse type %u does not exist", (unsigned)v->type);
    if (v->method != INVERSE_NEUMANN)
        return 0;
    if (!is_power_of_two(v->block) || v->block < BLOCK_MIN || v->block > chunk)
        return refuse(why, why_size,
                      "inverse block %d is not a power of two from %d to the chunk, %d", v->block,
                      BLOCK_MIN, chunk);
    if (v->order < ORDER_MIN || v->order > v->block)
        return refuse(why, why_size, "inverse order %d is not within %d and the block, %d",
                      v->order, ORDER_MIN, v->block);
    if (v->residual < 1 || v->residual > RESIDUAL_MAX)
        return refuse(why, why_size, "inverse residual %d is not within 1 and %d", v->residual,
                      RESIDUAL_MAX);
    return 0;
}

const char *inverse_name(const struct inverse *v, char *text, size_t size)
{
    const char *executor = v->executor == INVERSE_CUBLAS ? "@cublas" : "";
    if (v->method == INVERSE_NEUMANN)
        snprintf(text, size, "neumann:%d,%d,%d/%s%s", v->block, v->order, v->residual,
                 TYPES[v->type], executor);
    else
        snprintf(text, size, "%s/%s%s", METHODS[v->method], TYPES[v->type], executor);
    return text;
}
