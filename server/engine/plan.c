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

// The prompt whose turn it is after `last` (-1: the first): served longest ago, then order of arrival.
static int next_turn(const struct plan_seq *seqs, const struct plan_piece *pieces, int n, int last)
{
    int best = -1;
    uint64_t floor = last < 0 ? 0 : seqs[pieces[last].seq].served, least_served = 0;
    for (int k = 0; k < n; k++) {
        uint64_t served = seqs[pieces[k].seq].served;
        bool after = served > floor || (served == floor && k > last);
        if (after && (best < 0 || served < least_served)) {
            best = k;
            least_served = served;
        }
    }
    return best;
}

// Deal the room to the n prompts of pieces; returns how many got something, moved together.
static int deal_prompts(const struct plan_seq *seqs, struct room *room, struct plan_piece *pieces,
                        int n)
{
    int share = n ? room->tokens / n / room->chunk * room->chunk : 0;
    if (share < room->chunk)
        share = room->chunk;
    for (int k = -1; room->tokens > 0 && (k = next_turn(seqs, pieces, n, k)) >= 0;)
        deal(room, &seqs[pieces[k].seq], &pieces[k], share);
    for (int k = 0; k < n; k++)
        if (pieces[k].cut != PLAN_WHOLE)
            deal(room, &seqs[pieces[k].seq], &pieces[k], INT_MAX);
    int kept = 0;
    for (int k = 0; k < n; k++)
        if (pieces[k].t > 0)
            pieces[kept++] = pieces[k];
    return kept;
}

int plan_step(const struct plan_seq *seqs, int n, const struct plan_limits *l,
              struct plan_piece *pieces)
{
    int n_prompts = 0;
    for (int i = 0; i < n; i++)
        if (seqs[i].n_done < seqs[i].n_prompt)
            pieces[n_prompts++] = (struct plan_piece){.seq = i, .cut = PLAN_TOKENS};
    struct room room = {
        .tokens = l->tokens - (n - n_prompts), .prompt_rows = l->rows - n, .chunk = l->chunk};
    CHECK(room.tokens >= 0 && room.prompt_rows >= 0);
    int n_pieces = deal_prompts(seqs, &room, pieces, n_prompts);
    for (int i = 0; i < n; i++)
        if (seqs[i].n_done == seqs[i].n_prompt)
            pieces[n_pieces++] = (struct plan_piece){.seq = i, .t = 1, .cut = PLAN_WHOLE};
    return n_pieces;
}
