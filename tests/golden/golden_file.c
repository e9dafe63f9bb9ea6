// golden_file.c - see golden_file.h.
#include "golden_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "mem.h"

char *read_text(const char *path, size_t *n, struct err *e)
{
    char *text = NULL;
    FILE *f = fopen(path, "rb");
    if (!f) {
        err_set(e, ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
        return NULL;
    }
    long bytes = fseek(f, 0, SEEK_END) ? -1 : ftell(f);
    rewind(f);
    if (bytes >= 0) {
        text = mem_zero((size_t)bytes + 1, 1);
        *n = (size_t)bytes;
        if (fread(text, 1, *n, f) != *n) {
            mem_free(text);
            text = NULL;
        }
    }
    fclose(f);
    if (!text)
        err_set(e, ERR_BAD_REQUEST, "%s: cannot be read", path);
    return text;
}

static int read_case(struct golden_case *c, const json_t *v, int *vocab)
{
    const json_t *prompt = json_object_get(v, "prompt"), *last = json_object_get(v, "last_logits");
    const json_t *logprobs = json_object_get(v, "prompt_logprobs");
    const json_t *greedy = json_object_get(v, "greedy");
    c->n = (int)json_array_size(prompt);
    *vocab = (int)json_array_size(last);
    if (!c->n || !*vocab || json_array_size(greedy) != GOLDEN_GREEDY)
        return -1;
    c->prompt = mem_zero((size_t)c->n, sizeof *c->prompt);
    for (int i = 0; i < c->n; i++)
        c->prompt[i] = (int)json_integer_value(json_array_get(prompt, (size_t)i));
    c->last = mem_zero((size_t)*vocab, sizeof *c->last);
    for (int i = 0; i < *vocab; i++)
        c->last[i] = (float)json_number_value(json_array_get(last, (size_t)i));
    for (int i = 0; i < GOLDEN_GREEDY; i++)
        c->greedy[i] = (int)json_integer_value(json_array_get(greedy, (size_t)i));
    if (!json_is_array(logprobs))
        return 0;
    if (json_array_size(logprobs) != (size_t)c->n)
        return -1;
    c->logprobs = mem_zero((size_t)c->n, sizeof *c->logprobs);
    for (int i = 0; i < c->n; i++) {
        const json_t *x = json_array_get(logprobs, (size_t)i);
        c->logprobs[i] = json_is_number(x) ? json_number_value(x) : (double)NAN;
    }
    return 0;
}

int golden_open(struct golden *g, const char *path, struct err *e)
{
    size_t n = 0;
    *g = (struct golden){0};
    char *text = read_text(path, &n, e);
    if (!text)
        return -1;
    json_t *root = json_parse(text, n, 8, e), *list = json_object_get(root, "cases");
    int rc = 0;
    for (size_t i = 0; !rc && i < json_array_size(list) && g->n < GOLDEN_CASES_MAX; i++)
        rc = read_case(&g->cases[g->n++], json_array_get(list, i), &g->vocab);
    if (root && (rc || !g->n))
        rc = err_set(e, ERR_BAD_REQUEST, "%s: case %d is not as make_golden.py writes it", path,
                     g->n);
    json_decref(root);
    mem_free(text);
    if (!root || rc)
        golden_close(g);
    return root ? rc : -1;
}

void golden_close(struct golden *g)
{
    for (int i = 0; i < g->n; i++) {
        mem_free(g->cases[i].prompt);
        mem_free(g->cases[i].last);
        mem_free(g->cases[i].logprobs);
    }
    *g = (struct golden){0};
}
