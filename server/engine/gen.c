// gen.c - see gen.h for the maker's and reader's side, gen_engine.h for the engine's.
#include "gen.h"

#include <math.h>

#include "gen_engine.h"
#include "mem.h"

struct gen *gen_create(const struct gen_params *p, void (*wake)(void *ud), void *ud)
{
    CHECK(p->n_stops >= 0 && p->n_stops <= DETOK_STOPS_MAX);
    CHECK(p->n_stop_ids >= 0 && p->n_stop_ids <= GEN_STOP_IDS_MAX);
    CHECK(p->n_bias >= 0 && p->n_bias <= GEN_BIAS_MAX);
    CHECK(p->logprobs >= -1 && p->logprobs <= LOGPROBS_MAX);
    struct gen *g = mem_zero(1, sizeof *g);
    g->params = *p;
    g->wake = wake;
    g->ud = ud;
    g->slot = -1;
    g->status = (struct gen_status){.stop_id = -1, .stop = -1, .n_prompt = p->n_prompt};
    atomic_init(&g->cancelled, false);
    CHECK(pthread_mutex_init(&g->lock, NULL) == 0);
    return g;
}

static void free_gen(struct gen *g)
{
    void (*done)(void *) = g->release_done;
    void *ud = g->release_ud;
    buf_fini(&g->text);
    mem_free(g->tokens);
    mem_free(g->tops);
    mem_free(g->prompt_tokens);
    mem_free(g->prompt_tops);
    pthread_mutex_destroy(&g->lock);
    mem_free(g);
    if (done)
        done(ud);
}

bool gen_wants_prompt(const struct gen *g)
{
    return g->params.prompt_logprobs && g->params.logprobs >= 0;
}

// Room for n tokens and the best ids of each.
static void make_room(struct gen_token **tokens, struct gen_top **tops, int n, int logprobs)
{
    *tokens = mem_resize(NULL, (size_t)n, sizeof **tokens);
    if (logprobs > 0)
        *tops = mem_resize(NULL, (size_t)n * (size_t)logprobs, sizeof **tops);
}

void gen_take(struct gen *g, uint64_t ticket, int64_t now_ns)
{
    const struct gen_params *p = &g->params;
    pthread_mutex_lock(&g->lock);
    CHECK(!g->held && !g->released && g->status.submitted_ns == 0);
    make_room(&g->tokens, &g->tops, p->max_tokens, p->logprobs);
    if (gen_wants_prompt(g)) {
        make_room(&g->prompt_tokens, &g->prompt_tops, p->n_prompt, p->logprobs);
        g->prompt_tokens[0] = (struct gen_token){.id = p->prompt[0], .logprob = NAN};
    }
    g->ticket = ticket;
    g->held = true;
    g->status.submitted_ns = now_ns;
    pthread_mutex_unlock(&g->lock);
}

void gen_begin(struct gen *g, const struct tokenizer *tk, int64_t now_ns)
{
    const struct gen_params *p = &g->params;
    detok_init(&g->detok, tk, p->stops, p->n_stops, p->special_text);
    pthread_mutex_lock(&g->lock);
    g->status.state = GEN_RUNNING;
    g->status.started_ns = now_ns;
    pthread_mutex_unlock(&g->lock);
}

static void fill_token(struct gen_token *out, struct gen_top *tops, int logprobs,
                       const struct gen_draw *d)
{
    *out = (struct gen_token){.id = d->id, .logprob = logprobs >= 0 ? d->logprob : 0};
    if (logprobs <= 0)
        return;
    out->top = tops;
    for (int i = 0; i < logprobs; i++)
        tops[i] = (struct gen_top){.id = d->top_ids[i], .logprob = d->top_logprob[i]};
}

void gen_push_prompt(struct gen *g, int i, const struct gen_draw *d)
{
    int k = g->params.logprobs;
    CHECK(g->prompt_tokens && i > 0 && i < g->params.n_prompt);
    // No lock: nobody reads these before prompt_ready is set under it.
    fill_token(&g->prompt_tokens[i], k > 0 ? g->prompt_tops + (size_t)i * (size_t)k : NULL, k, d);
}

// Bytes that id adds to the text when nothing is cut.
static size_t token_bytes(const struct detok *d, int id)
{
    size_t n = 0;
    if (d->tokenizer && (d->special_text || !tokenizer_is_special(d->tokenizer, id)))
        tokenizer_bytes(d->tokenizer, id, &n);
    return n;
}

// Move the border of visible tokens. Lock held. Returns whether there is news for a reader who has
// seen text_bytes.
static bool publish(struct gen *g, size_t text_bytes, bool all)
{
    int before = g->n_visible, n = g->status.n_output;
    while (g->n_visible < n && (all || g->tokens[g->n_visible].text_end <= g->text.n))
        g->n_visible++;
    return g->n_visible > before || g->text.n > text_bytes;
}

// Lock held, so that no wake comes after gen_release has returned.
static void wake_reader(struct gen *g)
{
    if (g->woken || g->released || !g->wake)
        return;
    g->woken = true;
    g->wake(g->ud);
}

// Text of the newest token; returns whether a stop string is complete. Lock held.
static bool add_text(struct gen *g, struct gen_token *token, bool end_id)
{
    size_t before = token == g->tokens ? 0 : token[-1].text_end;
    bool stop = false;
    if (end_id) {
        token->text_end = before;
    } else {
        stop = detok_push(&g->detok, token->id, &g->text);
        token->text_end =
            stop ? before + token_bytes(&g->detok, token->id) : g->text.n + g->detok.held.n;
    }
    return stop;
}

void gen_push(struct gen *g, const struct gen_draw *d, bool end_id, int64_t now_ns)
{
    int i = g->status.n_output, k = g->params.logprobs;
    CHECK(i < g->params.max_tokens);
    fill_token(&g->tokens[i], k > 0 ? g->tops + (size_t)i * (size_t)k : NULL, k, d);
    g->tokens[i].made_ns = now_ns;

    pthread_mutex_lock(&g->lock);
    size_t seen = g->text.n;
    bool stop = add_text(g, &g->tokens[i], end_id);
    if (stop || end_id)
        g->finish = GEN_FINISH_STOP;
    else if (i + 1 == g->params.max_tokens)
        g->finish = GEN_FINISH_LENGTH;
    if (g->finish != GEN_FINISH_NONE)
        detok_flush(&g->detok, &g->text);
    if (g->detok.stop >= 0)
        g->finish = GEN_FINISH_STOP; // also one that only the flush completed
    g->status.stop_id = end_id ? d->id : -1;
    g->status.stop = g->detok.stop;
    g->status.n_output = i + 1;
    g->status.first_ns = i == 0 ? now_ns : g->status.first_ns;
    g->status.last_ns = now_ns;
    g->prompt_ready = g->prompt_tokens != NULL;
    g->news = publish(g, seen, false) || g->news;
    pthread_mutex_unlock(&g->lock);
}

void gen_tell(struct gen *g)
{
    if (!g->news)
        return;
    g->news = false;
    pthread_mutex_lock(&g->lock);
    wake_reader(g);
    pthread_mutex_unlock(&g->lock);
}

static void finish_gen(struct gen *g, enum gen_state state, const struct err *e)
{
    if (g->status.state == GEN_RUNNING)
        detok_fini(&g->detok);
    pthread_mutex_lock(&g->lock);
    CHECK(g->held);
    if (e)
        g->status.err = *e;
    else
        g->status.finish = g->finish;
    g->status.state = state;
    if (g->prompt_tokens && state == GEN_DONE)
        g->prompt_ready = true;
    publish(g, 0, true);
    wake_reader(g);
    g->held = false;
    bool last = g->released;
    pthread_mutex_unlock(&g->lock);
    if (last)
        free_gen(g);
}

void gen_end(struct gen *g)
{
    finish_gen(g, GEN_DONE, NULL);
}

void gen_fail(struct gen *g, const struct err *e)
{
    finish_gen(g, GEN_FAILED, e);
}

int gen_read(struct gen *g, struct gen_cursor *c, struct buf *text, struct gen_token *tokens,
             int tokens_max, struct gen_status *status)
{
    pthread_mutex_lock(&g->lock);
    g->woken = false;
    // A buffer that is full stays unchanged, and so does the cursor: nothing is lost.
    size_t more = g->text.n - c->text;
    if (more && (!text || buf_add(text, g->text.data + c->text, more)))
        c->text += more;
    int n = g->n_visible - c->tokens;
    if (n > tokens_max)
        n = tokens_max;
    for (int i = 0; i < n; i++)
        tokens[i] = g->tokens[c->tokens + i];
    c->tokens += n;
    *status = g->status;
    pthread_mutex_unlock(&g->lock);
    return n;
}

const struct gen_token *gen_prompt_tokens(struct gen *g)
{
    pthread_mutex_lock(&g->lock);
    const struct gen_token *tokens = g->prompt_ready ? g->prompt_tokens : NULL;
    pthread_mutex_unlock(&g->lock);
    return tokens;
}

void gen_cancel(struct gen *g)
{
    atomic_store(&g->cancelled, true);
}

void gen_release(struct gen *g, void (*release_done)(void *ud2), void *ud2)
{
    atomic_store(&g->cancelled, true);
    pthread_mutex_lock(&g->lock);
    CHECK(!g->released);
    g->released = true;
    g->release_done = release_done;
    g->release_ud = ud2;
    bool last = !g->held;
    pthread_mutex_unlock(&g->lock);
    if (last)
        free_gen(g);
}

void gen_list_add(struct gen_list *l, struct gen *g)
{
    g->next = NULL;
    if (l->last)
        l->last->next = g;
    else
        l->first = g;
    l->last = g;
}

struct gen *gen_list_pop(struct gen_list *l)
{
    struct gen *g = l->first;
    if (!g)
        return NULL;
    l->first = g->next;
    if (!l->first)
        l->last = NULL;
    g->next = NULL;
    return g;
}

int gen_list_cancelled(struct gen_list *l, struct gen_list *out)
{
    struct gen_list kept = {0};
    int n = 0;
    for (struct gen *g; (g = gen_list_pop(l));) {
        bool cancelled = atomic_load(&g->cancelled);
        gen_list_add(cancelled ? out : &kept, g);
        n += cancelled;
    }
    *l = kept;
    return n;
}
