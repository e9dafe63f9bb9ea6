// gather.c - rows out of order and twice; rows that are not asked for are NaN.
#include <stdio.h>
#include <string.h>

#include "rows.h"

static const struct {
    int n_rows, n, t;
} SHAPES[] = {{1, 1, 1}, {3, 65, 9}, {8, 1024, 512}};

static void make(struct check_case *c, int i)
{
    const int n_rows = SHAPES[i].n_rows, n = SHAPES[i].n, t = SHAPES[i].t;
    struct check_buf *x = rows_act(c, "x", (size_t)(t * n), 1);
    struct check_buf *rows = check_input(c, "rows", DTYPE_INT32, (size_t)n_rows);
    struct check_buf *y = check_output(c, "y", check_act(c), (size_t)(n_rows * n),
                                       (struct check_limit){0, 0, 0, "a copy"});
    bool used[512] = {0};
    snprintf(c->name, sizeof c->name, "rows=%d n=%d t=%d", n_rows, n, t);
    for (int r = 0; r < n_rows; r++) {
        const int row = r % 3 == 2 ? (int)check_get(rows, (size_t)(r - 1)) : check_below(c, t);
        check_set(rows, (size_t)r, row);
        used[row] = true;
        for (int k = 0; k < n; k++)
            y->want[(size_t)(r * n + k)] = check_get(x, (size_t)(row * n + k));
    }
    for (int row = 0; row < t; row++)
        if (!used[row])
            check_poison(x, (size_t)(row * n), (size_t)n);
    c->args.gather = (struct gather_args){y->dev, x->dev, rows->dev, n_rows, n};
}

static bool part(struct check_case *c, int i)
{
    struct gather_args *a = &c->args.gather;
    const bool more = i < a->n_rows;
    a->y = check_act_at(c, a->y, (size_t)i * (size_t)a->n);
    a->rows += i;
    a->n_rows = 1;
    return more;
}

const struct op_check check_gather = {
    .n_cases = sizeof SHAPES / sizeof *SHAPES, .make = make, .part = part};
