// key_draws.c - correlated keys, and the gates of a real layer.
#include "key_draws.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOKENS = 2048, HEADS = 16 }; // of the recording

static void normalize(double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (int i = 0; i < n; i++)
        x[i] /= sqrt(sum);
}

static void draw_unit(struct check_case *c, double *x, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = check_normal(c);
    normalize(x, n);
}

void keys_common(struct check_case *c, double *common, int n)
{
    draw_unit(c, common, n);
}

void keys_draw(struct check_case *c, double *key, const double *common, int n, double rho)
{
    draw_unit(c, key, n);
    for (int i = 0; i < n; i++)
        key[i] = sqrt(rho) * common[i] + sqrt(1 - rho) * key[i];
    normalize(key, n);
}

static const float *read_gates(const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/data/gates/%s", TEST_SOURCE_DIR, name);
    FILE *f = fopen(path, "rb");
    float *x = malloc(sizeof(float) * TOKENS * HEADS);
    if (!f || !x || fread(x, sizeof(float), TOKENS * HEADS, f) != TOKENS * HEADS) {
        fprintf(stderr, "%s: cannot read %d x %d floats\n", path, TOKENS, HEADS);
        exit(1);
    }
    fclose(f);
    return x;
}

static struct gate recorded(int token, int head)
{
    static const float *g, *beta;
    if (!g) {
        g = read_gates("qwen3.5-0.8b-g.f32");
        beta = read_gates("qwen3.5-0.8b-beta.f32");
    }
    const int at = token % TOKENS * HEADS + head % HEADS;
    return (struct gate){g[at], beta[at]};
}

struct gate gate_of(enum gate_kind kind, int token, int head)
{
    switch (kind) {
    case GATES_RECORDED:
        return recorded(token, head);
    case GATES_SLOW:
        return (struct gate){-1e-3, 0.835};
    case GATES_12:
        return (struct gate){-12, 0.9};
    case GATES_20:
        return (struct gate){-20, 0.9};
    case GATES_MIXED:
        return (struct gate){token % 64 < 21 ? -20 : -1e-3, 0.9};
    case GATES_FAR:
        return (struct gate){token % 7 == 3 ? -1e5 : -1e-3, 0.9};
    case GATES_NONE:
        return (struct gate){0, 1};
    }
    return (struct gate){0, 0};
}
