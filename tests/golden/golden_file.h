// golden_file.h - tests/golden/NAME/golden.json: what tools/make_golden.py wrote.
#ifndef GOLDEN_FILE_H
#define GOLDEN_FILE_H

#include <stddef.h>

#include "err.h"

enum { GOLDEN_CASES_MAX = 16, GOLDEN_GREEDY = 24 };

struct golden_case {
    int *prompt; // [n]
    int n;
    float *last;      // [vocab], logits of the prompt's last token
    double *logprobs; // [n], of each prompt token; entry 0 is NaN. NULL: not recorded
    int greedy[GOLDEN_GREEDY];
};

struct golden {
    struct golden_case cases[GOLDEN_CASES_MAX];
    int n, vocab;
};

// ERR_NOT_FOUND when there is no such file.
int golden_open(struct golden *g, const char *path, struct err *e) MUST_USE;
void golden_close(struct golden *g);

// The whole file as one string; the caller frees with mem_free. NULL with e filled.
char *read_text(const char *path, size_t *n, struct err *e) MUST_USE;

#endif
