// conv.c - the convolution against its definition in float64, with states taken up and handed on.
#include <stdio.h>

#include "rows.h"
#include "steps.h"

static const struct {
    int channels, cut;
    struct step_shape spans[STEP_SPANS_MAX];
} SHAPES[] = {
    {1, 1, {{1, 0, 0}}},
    {96, 1, {{2, 0, 0}, {1, 1, 1}, {1, 0, 1}}},
    {257, 2, {{3, 7, 0}, {64, 0, 0}, {1, 2, 1}, {1, 64, 1}}},
    {64, 5, {{63, 0, 0}, {65, 64, 0}, {2, 1, 0}, {1, 900, 1}}},
    {40, 16, {{50, 0, 0}, {32, 64, 0}, {15, 32, 0}, {1, 3, 1}}},
    {40, 2, {{21, 3, 0}, {1, 3, 1}}},
    {33, 4, {{17, 0, 0}, {2, 5, 0}}},
    {6144, 1, {{1, 5, 1}}},
    {6144, 512, {{512, 0, 0}}},
};
enum { FAR = 5, N = 7, TIMED = 2, PAST = CONV_WIDTH - 1 };

// x at token t of a span; before it, what the slot held at the start (zero in a new sequence).
static double column(const struct check_buf *x, const struct check_buf *state, const struct span *s,
                     int n, int t, int ch)
{
    if (t >= 0)
        return rows_held(x, (size_t)((s->t0 + t) * n + ch));
    return s->pos0 ? check_get(state, (size_t)((s->slot * PAST + PAST + t) * n + ch)) : 0;
}

static void expect_channel(struct check_buf *y, struct check_buf *state, const struct check_buf *x,
                           const struct check_buf *w, const struct span *s, const int place[2])
{
    const int n = place[0], ch = place[1];
    for (int t = 0; t < s->t; t++) {
        double sum = 0;
        for (int j = 0; j < CONV_WIDTH; j++)
            sum += check_get(w, (size_t)(ch * CONV_WIDTH + j)) *
                   column(x, state, s, n, t - PAST + j, ch);
        y->want[(s->t0 + t) * n + ch] = rows_silu(sum);
    }
    for (int j = 0; j < PAST; j++) {
        state->want[(s->slot * PAST + j) * n + ch] = column(x, state, s, n, s->t - PAST + j, ch);
        if (s->save_t)
            state->want[(s->save_slot * PAST + j) * n + ch] =
                column(x, state, s, n, s->save_t - PAST + j, ch);
    }
}

static void make(struct check_case *c, int i)
{
    const int n = SHAPES[i].channels;
    struct conv_args *a = &c->args.conv;
    *a = (struct conv_args){.channels = n};
    const struct step *st = step_make(c, &a->batch, SHAPES[i].spans, SHAPES[i].cut);
    struct check_buf *x = rows_act(c, "x", (size_t)(st->t * n), 2);
    struct check_buf *w = rows_normal(c, "w", (size_t)(n * CONV_WIDTH), 0.5);
    const bool far = i >= FAR && i < N;
    if (far)
        rows_put_far(c, x);
    struct check_limit limit = rows_limit(2e-6, "a sum of four, one exp");
    if (far) // terms of that size may cancel
        limit.abs *= ROWS_FAR;
    struct check_buf *y =
        check_output(c, "y", check_act(c), (size_t)(st->t * n), check_act_limit(c, limit));
    struct check_buf *state = check_in_out(c, "state", DTYPE_F32, (size_t)(st->n_slots * PAST * n),
                                           (struct check_limit){0, 0, 0, "copies of x"});
    for (int k = 0; k < st->n_spans; k++)
        for (int j = 0; j < PAST * n && st->spans[k].pos0; j++)
            check_set(state, (size_t)(st->spans[k].slot * PAST * n + j), check_normal(c));
    check_keep(state);
    for (int k = 0; k < st->n_spans; k++)
        for (int ch = 0; ch < n; ch++)
            expect_channel(y, state, x, w, &st->spans[k], (const int[2]){n, ch});
    snprintf(c->name, sizeof c->name, "t=%d spans=%d channels=%d%s", st->t, st->n_spans, n,
             far ? " far" : "");
    a->y = y->dev;
    a->x = x->dev;
    a->w = w->dev;
    a->state = state->dev;
    c->bytes = i >= N ? n * (2.0 * st->t * (double)dtype_bytes(check_act(c)) +
                             8 * PAST * st->n_spans + 4 * CONV_WIDTH)
                      : 0;
}

static bool part(struct check_case *c, int i)
{
    return step_part(c, &c->args.conv.batch, i);
}

const struct op_check check_conv = {.n_cases = N, .n_perf = TIMED, .make = make, .part = part};
