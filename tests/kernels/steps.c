// steps.c - steps of several sequences for case files.
#include "steps.h"

#include <stdlib.h>
#include <string.h>

#include "cuda/kv_pages.h"

enum { SPARE = 3 };

static void lay_out(struct step *st, const struct step_shape *shapes, int cut)
{
    int pages = 0;
    while (st->n_spans < STEP_SPANS_MAX && shapes[st->n_spans].t)
        st->n_spans++;
    st->n_slots = st->n_spans + SPARE;
    for (int i = 0; i < st->n_spans; i++) {
        const struct step_shape *s = &shapes[i];
        const int used = (s->pos0 + s->t + PAGE_TOKENS - 1) / PAGE_TOKENS;
        st->spans[i] = (struct span){.t0 = st->t,
                                     .t = s->t,
                                     .pos0 = s->pos0,
                                     .slot = st->n_slots - 1 - i,
                                     .decode = s->decode};
        if (!s->decode && cut >= INVERSE_CHUNK_MIN && i < SPARE) {
            st->spans[i].save_t = s->t / cut * cut;
            st->spans[i].save_slot = i;
        }
        st->t += s->t;
        pages += used;
        st->pages_max = used > st->pages_max ? used : st->pages_max;
    }
    st->pages_max += 1; // an entry that nobody may read, also in the longest row
    st->n_pages = pages + SPARE;
}

// Every sequence's pages, drawn without repetition.
static void deal_pages(struct check_case *c, struct step *st, struct check_buf *table)
{
    bool *taken = calloc((size_t)st->n_pages, sizeof *taken);
    if (!taken)
        abort();
    for (int i = 0; i < st->n_spans; i++)
        for (int p = 0; p * PAGE_TOKENS < st->spans[i].pos0 + st->spans[i].t; p++) {
            int page = check_below(c, st->n_pages);
            while (taken[page])
                page = (page + 1) % st->n_pages;
            taken[page] = true;
            st->pages[i][p] = page;
            check_set(table, (size_t)(i * st->pages_max + p), page);
        }
    free(taken);
}

static void cut_spans(struct step *st, const struct batch *whole, struct check_buf *cuts, int cut)
{
    for (int i = 0; i < st->n_spans; i++)
        for (int done = 0; done < st->spans[i].t; done += cut) {
            struct span s = st->spans[i];
            s.t = s.t - done < cut ? s.t - done : cut;
            s.t0 += done;
            s.pos0 += done;
            s.save_t = done + s.t == s.save_t ? s.t : 0;
            check_set_span(cuts, st->n_cuts, &s);
            struct batch *b = &st->cuts[st->n_cuts];
            *b = *whole;
            b->spans = (const struct span *)cuts->dev + st->n_cuts;
            b->host_spans = (const struct span *)cuts->host + st->n_cuts;
            b->n_spans = 1;
            b->pages += i * st->pages_max;
            if (++st->n_cuts == STEP_CUTS_MAX)
                abort();
        }
}

struct step *step_make(struct check_case *c, struct batch *batch, const struct step_shape *shapes,
                       int cut)
{
    struct step *st = calloc(1, sizeof *st);
    if (!st)
        abort();
    c->user = st;
    lay_out(st, shapes, cut);
    if (st->pages_max > 64)
        abort();
    struct check_buf *spans =
        check_input(c, "spans", DTYPE_INT32, STEP_SPANS_MAX * CHECK_SPAN_INTS);
    struct check_buf *cuts = check_input(c, "cuts", DTYPE_INT32, STEP_CUTS_MAX * CHECK_SPAN_INTS);
    struct check_buf *table =
        check_input(c, "pages", DTYPE_INT32, (size_t)(st->n_spans * st->pages_max));
    int t_prefill = 0;
    for (int i = 0; i < st->n_spans; i++) {
        check_set_span(spans, i, &st->spans[i]);
        t_prefill += st->spans[i].decode ? 0 : st->spans[i].t;
    }
    deal_pages(c, st, table);
    *batch = (struct batch){.spans = spans->dev,
                            .host_spans = spans->host,
                            .n_spans = st->n_spans,
                            .t = st->t,
                            .t_prefill = t_prefill,
                            .pages = table->dev,
                            .pages_max = st->pages_max};
    cut_spans(st, batch, cuts, cut);
    return st;
}

bool step_part(const struct check_case *c, struct batch *batch, int i)
{
    const struct step *st = c->user;
    if (i >= st->n_cuts)
        return false;
    *batch = st->cuts[i];
    return true;
}

static size_t block_at(int kv_heads, int head_dim, const int place[4])
{
    return (size_t)(place[0] * kv_heads + place[1]) * (size_t)(PAGE_TOKENS * head_dim);
}

size_t step_k_at(const struct check_case *c, enum dtype type, int kv_heads, int head_dim,
                 const int place[4])
{
    if (c->ops != &ops_cpu)
        return step_v_at(c, type, kv_heads, head_dim, place);
    // The CPU keeps K transposed: [n_pages, kv_heads, head_dim, PAGE_TOKENS].
    return block_at(kv_heads, head_dim, place) + (size_t)(place[3] * PAGE_TOKENS + place[2]);
}

size_t step_v_at(const struct check_case *c, enum dtype type, int kv_heads, int head_dim,
                 const int place[4])
{
    // [n_pages, kv_heads, PAGE_TOKENS, head_dim] on the CPU.
    const int swizzled = c->ops != &ops_cpu && kv_swizzled(type, head_dim);
    return block_at(kv_heads, head_dim, place) +
           (size_t)kv_index(swizzled, head_dim, place[2], place[3]);
}
