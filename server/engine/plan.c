// plan.c - see plan.h.
#include "plan.h"

#include <limits.h>

static int least(int a, int b)
{
    return a < b ? a : b;
}

int plan_check(const struct plan_limits *l, int n_max, struct err *e)
{
    // Every sequence but one may be generating; the last must still get a whole chunk.
    int64_t need = (int64_t)l->chunk + n_max;
    if (l->tokens < need)
        return err_set(e, ERR_BAD_REQUEST,
                       "batch_tokens is %d, less than sequences_max (%d) + chunk (%d): a prompt "
                       "could wait for ever; raise batch_tokens to %lld or lower sequences_max",
                       l->tokens, n_max, l->chunk, (long long)need);
    if (l->rows < need)
        return err_set(e, ERR_BAD_REQUEST,
                       "batch_rows is %d, less than sequences_max (%d) + chunk (%d): a prompt with "
                       "logprobs could wait for ever; raise batch_rows to %lld or lower "
                       "sequences_max",
                       l->rows, n_max, l->chunk, (long long)need);
    return 0;
}

enum plan_wait plan_admit(int n_pages, int pages_free, int slots_free)
{
    if (slots_free < 1)
        return PLAN_WAIT_SLOT;
    return n_pages > pages_free ? PLAN_WAIT_PAGES : PLAN_ADMIT;
}

// What a step has left while it is dealt out.
struct room {
    int tokens;
    int prompt_rows; // rows of logits beyond the one that every sequence may need for its own token
    int chunk;
};

// Lengthen a prompt's piece by up to `want` tokens, as far as there is room.
static void deal(struct room *room, const struct plan_seq *s, struct plan_piece *p, int want)
{
    int rest = s->n_prompt - s->n_done - p->t;
    int tokens = least(room->tokens, want), rows = s->prompt_rows ? room->prompt_rows : INT_MAX;
    int more = least(rest, least(tokens, rows));
    if (more < rest)
        more -= more % room->chunk;
    p->t += more;
    p->cut = more == rest ? PLAN_WHOLE : rows < tokens ? PLAN_ROWS : PLAN_TOKENS;
    room->tokens -= more;
    room->prompt_rows -= s->prompt_rows ? more : 0;
}

// Where dealing begins: the first prompt whose turn it is, or the oldest.
static int first_turn(const struct plan_seq *seqs, const struct plan_piece *pieces, int n,
                      uint64_t turn)
{
    for (int i = 0; i < n; i++)
        if (seqs[pieces[i].seq].ticket >= turn)
            return i;
    return 0;
}

// Deal the room to the n prompts of pieces; returns how many got something, moved together.
static int deal_prompts(const struct plan_seq *seqs, struct room *room, uint64_t *turn,
                        struct plan_piece *pieces, int n)
{
    if (!n)
        return 0;
    int share = room->tokens / n / room->chunk * room->chunk;
    if (share < room->chunk)
        share = room->chunk;
    int first = first_turn(seqs, pieces, n, *turn);
    for (int i = 0; i < n; i++) {
        struct plan_piece *p = &pieces[(first + i) % n];
        deal(room, &seqs[p->seq], p, share);
    }
    for (int i = 0; i < n; i++)
        if (pieces[i].cut != PLAN_WHOLE)
            deal(room, &seqs[pieces[i].seq], &pieces[i], INT_MAX);
    *turn = 0;
    for (int i = n - 1; i >= 0; i--) {
        const struct plan_piece *p = &pieces[(first + i) % n];
        if (p->t == 0)
            *turn = seqs[p->seq].ticket;
    }
    int kept = 0;
    for (int i = 0; i < n; i++)
        if (pieces[i].t > 0)
            pieces[kept++] = pieces[i];
    return kept;
}

int plan_step(const struct plan_seq *seqs, int n, const struct plan_limits *l, uint64_t *turn,
              struct plan_piece *pieces)
{
    int n_prompts = 0;
    for (int i = 0; i < n; i++)
        if (seqs[i].n_done < seqs[i].n_prompt)
            pieces[n_prompts++] = (struct plan_piece){.seq = i};
    struct room room = {
        .tokens = l->tokens - (n - n_prompts), .prompt_rows = l->rows - n, .chunk = l->chunk};
    CHECK(room.tokens >= 0 && room.prompt_rows >= 0);
    int n_pieces = deal_prompts(seqs, &room, turn, pieces, n_prompts);
    for (int i = 0; i < n; i++)
        if (seqs[i].n_done == seqs[i].n_prompt)
            pieces[n_pieces++] = (struct plan_piece){.seq = i, .t = 1, .cut = PLAN_WHOLE};
    return n_pieces;
}
