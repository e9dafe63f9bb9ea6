// tokenizer.c - see tokenizer.h. Encoding: cut out added tokens, normalise what is between them, cut it
// into pieces, look each piece up or merge its bytes.
#include "tokenizer_parts.h"

#include <string.h>

#include "mem.h"
#include "nfc.h"
#include "utf8.h"

// One call of tokenizer_encode.
struct encoding {
    const struct tokenizer *tk;
    struct bpe_scratch scratch;
    struct buf normal; // a stretch of text in NFC
    struct ids *out;
    size_t ids_stop; // out->n may not pass this
};

void ids_add(struct ids *l, int id)
{
    if (l->n == l->size) {
        l->size = l->size ? l->size * 2 : 64;
        l->data = mem_resize(l->data, l->size, sizeof *l->data);
    }
    l->data[l->n++] = id;
}

void ids_fini(struct ids *l)
{
    mem_free(l->data);
    *l = (struct ids){0};
}

// False when there are more ids than are wanted.
static bool encode_pieces(struct encoding *c, const char *s, size_t n)
{
    const struct vocab *v = &c->tk->vocab;
    for (size_t k; n; s += k, n -= k) {
        k = pretokenize_next(&c->tk->pretokenizer, s, n);
        int id = k <= v->token_bytes_max ? vocab_find(v, s, k) : -1;
        if (id >= 0 && (v->tokens[id].kind & VOCAB_WHOLE))
            ids_add(c->out, id);
        else
            bpe_merge(&c->tk->bpe, s, k, &c->scratch, c->out);
        if (c->out->n > c->ids_stop)
            return false;
    }
    return true;
}

// Text without added tokens.
static bool encode_text(struct encoding *c, const char *s, size_t n)
{
    if (n == 0)
        return true;
    if (!c->tk->nfc || nfc_prefix(&c->tk->unicode, s, n) == n)
        return encode_pieces(c, s, n);
    buf_clear(&c->normal);
    nfc_add(&c->tk->unicode, s, n, &c->normal);
    return encode_pieces(c, c->normal.data, c->normal.n);
}

static bool encode_all(struct encoding *c, const char *text, size_t n, unsigned flags)
{
    const struct vocab *v = &c->tk->vocab;
    size_t from = 0; // text[from .. i) waits to be encoded
    for (size_t i = 0; (flags & TOKENIZER_SPECIAL) && i < n;) {
        int id = vocab_match_added(v, text + i, n - i);
        if (id < 0) {
            i++;
            continue;
        }
        if (!encode_text(c, text + from, i - from))
            return false;
        ids_add(c->out, id);
        if (c->out->n > c->ids_stop)
            return false;
        i += v->tokens[id].n;
        from = i;
    }
    return encode_text(c, text + from, n - from);
}

int tokenizer_encode(const struct tokenizer *tk, const char *text, size_t n, unsigned flags,
                     struct ids *out, struct err *e)
{
    if (n > BPE_PIECE_MAX / 3) // normalising may triple a text's bytes
        return err_set(e, ERR_TOO_LARGE, "text of %zu bytes; the limit is %d", n,
                       BPE_PIECE_MAX / 3);
    size_t good = utf8_check(text, n);
    if (good < n)
        return err_set(e, ERR_BAD_REQUEST, "text is not UTF-8 at byte %zu (0x%02x)", good,
                       (unsigned char)text[good]);
    size_t n_before = out->n;
    struct encoding c = {.tk = tk, .out = out, .ids_stop = out->max ? out->max : SIZE_MAX};
    bool fits = encode_all(&c, text, n, flags);
    bpe_scratch_fini(&c.scratch);
    buf_fini(&c.normal);
    if (fits)
        return 0;
    out->n = n_before;
    return err_set(e, ERR_TOO_LARGE, "text of %zu bytes has more than %zu tokens", n,
                   out->max - n_before);
}

int tokenizer_count(const struct tokenizer *tk)
{
    return (int)tk->vocab.count;
}

const char *tokenizer_bytes(const struct tokenizer *tk, int id, size_t *n)
{
    return vocab_bytes(&tk->vocab, id, n);
}

bool tokenizer_is_added(const struct tokenizer *tk, int id)
{
    return vocab_kind(&tk->vocab, id) & VOCAB_ADDED;
}

bool tokenizer_is_special(const struct tokenizer *tk, int id)
{
    return vocab_kind(&tk->vocab, id) & VOCAB_SPECIAL;
}

int tokenizer_find(const struct tokenizer *tk, const char *token)
{
    size_t n = strlen(token), found_n = 0;
    int id = n ? vocab_match_added(&tk->vocab, token, n) : -1;
    vocab_bytes(&tk->vocab, id, &found_n);
    return found_n == n ? id : -1;
}

const char *tokenizer_config_json(const struct tokenizer *tk)
{
    return tk->config_json;
}

void tokenizer_destroy(struct tokenizer *tk)
{
    if (!tk)
        return;
    unicode_fini(&tk->unicode);
    vocab_fini(&tk->vocab);
    bpe_fini(&tk->bpe);
    mem_free(tk->config_json);
    mem_free(tk);
}
