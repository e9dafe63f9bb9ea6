// embed.c - rows of a table of either type, also one that begins at an address that is only 2-aligned,
// as a tensor in a mapped file may; rows that no id names are NaN.
#include <stdio.h>

#include "rows.h"

static const struct {
    enum dtype type;
    int vocab, n, t, shift; // shift: elements before the table
} SHAPES[] = {{DTYPE_F32, 7, 1, 1, 0},
              {DTYPE_F32, 500, 65, 64, 1},
              {DTYPE_BF16, 500, 384, 65, 0},
              {DTYPE_BF16, 300, 63, 33, 1}};

static void make(struct check_case *c, int i)
{
    const int vocab = SHAPES[i].vocab, n = SHAPES[i].n, t = SHAPES[i].t, shift = SHAPES[i].shift;
    const enum dtype type = check_type(c, SHAPES[i].type);
    struct check_buf *table = check_input(c, "table", type, (size_t)(vocab * n + shift));
    struct check_buf *ids = check_input(c, "ids", DTYPE_INT32, (size_t)t);
    struct check_buf *y =
        check_output(c, "y", check_act(c), (size_t)(t * n),
                     check_act_limit(c, (struct check_limit){0, 0, 0, "a copy, or widening"}));
    snprintf(c->name, sizeof c->name, "%s vocab=%d n=%d t=%d%s", dtype_name(type), vocab, n, t,
             shift ? " unaligned" : "");
    for (int r = 0; r < t; r++) {
        const int id = r == 0 ? vocab - 1 : check_below(c, vocab);
        check_set(ids, (size_t)r, id);
        for (int k = 0; k < n; k++) {
            const size_t at = (size_t)(shift + id * n + k);
            if (check_get(table, at) != check_get(table, at)) // NaN: not filled yet
                check_set(table, at, check_normal(c));
            y->want[(size_t)(r * n + k)] = check_get(table, at);
        }
    }
    c->args.embed = (struct embed_args){
        .y = y->dev,
        .ids = ids->dev,
        .table = {.data = (char *)table->dev + (size_t)shift * dtype_bytes(table->type),
                  .type = table->type,
                  .rows = vocab,
                  .cols = n},
        .t = t};
}

static bool part(struct check_case *c, int i)
{
    struct embed_args *a = &c->args.embed;
    const bool more = i < a->t;
    a->y = check_act_at(c, a->y, (size_t)i * (size_t)a->table.cols);
    a->ids += i;
    a->t = 1;
    return more;
}

const struct op_check check_embed = {
    .n_cases = sizeof SHAPES / sizeof *SHAPES, .make = make, .part = part};
