// bench_inputs.c - see bench_inputs.h.
#define _GNU_SOURCE
#include "bench_inputs.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>

#include "mem.h"
#include "sample_stats.h"

enum { TOKENS = 2048, HEADS = 16 }; // of the recording

static float *read_floats(const char *data_dir, const char *name)
{
    char path[PATH_MAX];
    if (!data_dir || snprintf(path, sizeof path, "%s/gates/%s", data_dir, name) >= (int)sizeof path)
        return NULL;
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    float *x = mem_alloc(sizeof *x * TOKENS * HEADS);
    const size_t got = fread(x, sizeof *x, TOKENS * HEADS, f);
    fclose(f);
    bool good = got == TOKENS * HEADS;
    for (size_t i = 0; good && i < got; i++)
        good = isfinite(x[i]);
    if (good)
        return x;
    mem_free(x);
    return NULL;
}

struct gates gates_open(const char *data_dir)
{
    struct gates gates = {read_floats(data_dir, "qwen3.5-0.8b-g.f32"),
                          read_floats(data_dir, "qwen3.5-0.8b-beta.f32")};
    if (!gates.g || !gates.beta)
        gates_close(&gates);
    return gates;
}

void gates_close(struct gates *gates)
{
    mem_free(gates->g);
    mem_free(gates->beta);
    *gates = (struct gates){0};
}

struct delta_gate gates_at(const struct gates *gates, int token, int head)
{
    if (gates->g) {
        const int at = token % TOKENS * HEADS + head % HEADS;
        return (struct delta_gate){(double)gates->g[at], (double)gates->beta[at]};
    }
    uint64_t random = (uint64_t)token * HEADS + (uint64_t)(head % HEADS);
    const double u = stat_uniform(&random), beta = 0.3 + 0.69 * stat_uniform(&random);
    return (struct delta_gate){head % 2 ? -4 * u * u : -7e-3 * u, beta};
}

static void draw_unit(double *x, int n, uint64_t *random)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        x[i] = stat_normal(random);
        sum += x[i] * x[i];
    }
    for (int i = 0; i < n; i++)
        x[i] /= sqrt(sum);
}

void keys_draw(double *keys, int n, int dim, double rho, uint64_t *random)
{
    double common[DELTA_DIM_MAX];
    draw_unit(common, dim, random);
    for (int t = 0; t < n; t++) {
        double *key = keys + (size_t)t * (size_t)dim, sum = 0;
        draw_unit(key, dim, random);
        for (int i = 0; i < dim; i++) {
            key[i] = sqrt(rho) * common[i] + sqrt(1 - rho) * key[i];
            sum += key[i] * key[i];
        }
        for (int i = 0; i < dim; i++)
            key[i] /= sqrt(sum);
    }
}
