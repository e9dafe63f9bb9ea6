// logprobs.c - see logprobs.h.
#include "logprobs.h"

#include <math.h>
#include <string.h>

#include "json.h"
#include "utf8.h"

static void write_figure(struct buf *out, float logprob)
{
    enum { NEVER = -9999 };
    buf_format(out, "%.9g", (double)(isfinite(logprob) ? logprob : NEVER));
}

static const char *bytes_of(const struct logprobs_form *f, int id, size_t *n)
{
    *n = 0;
    return f->tokenizer ? tokenizer_bytes(f->tokenizer, id, n) : NULL;
}

static void write_id(struct buf *out, int id)
{
    buf_format(out, "\"token_id:%d\"", id);
}

void logprobs_write_name(struct buf *out, const struct logprobs_form *f, int id)
{
    size_t n = 0;
    const char *bytes = bytes_of(f, id, &n);
    if (f->as_ids || !n) {
        write_id(out, id);
        return;
    }
    if (utf8_check(bytes, n) == n) {
        json_quote(out, bytes, n);
        return;
    }
    buf_str(out, "\"bytes:");
    for (size_t i = 0; i < n; i++)
        buf_format(out, "\\\\x%02x", (unsigned char)bytes[i]);
    buf_str(out, "\"");
}

// One key and figure of a map. Two ids may have the same text: the later one goes by its id.
static void write_entry(struct buf *out, const struct logprobs_form *f, size_t map, int id,
                        float logprob)
{
    size_t from = out->n;
    if (map + 1 < out->n)
        buf_str(out, ",");
    size_t key = out->n;
    logprobs_write_name(out, f, id);
    buf_str(out, ":");
    size_t n = out->n - key;
    // An equal key stands behind '{' or ','. Should a text look like one, nothing is lost: both names
    // are good.
    for (size_t at = map + 1; at + n <= from; at++) {
        if (memcmp(out->data + at, out->data + key, n) == 0 &&
            (out->data[at - 1] == '{' || out->data[at - 1] == ',')) {
            out->n = key;
            write_id(out, id);
            buf_str(out, ":");
            break;
        }
    }
    write_figure(out, logprob);
}

// The token itself and the best, whether or not it is among them.
static void write_map(struct buf *out, const struct logprobs_form *f, const struct gen_token *t)
{
    size_t map = out->n;
    bool listed = false;
    buf_str(out, "{");
    for (int i = 0; i < f->n_top && t->top; i++) {
        if (t->top[i].id < 0)
            continue;
        listed = listed || t->top[i].id == t->id;
        write_entry(out, f, map, t->top[i].id, t->top[i].logprob);
    }
    if (!listed)
        write_entry(out, f, map, t->id, t->logprob);
    buf_str(out, "}");
}

void logprobs_add(struct logprobs *l, const struct logprobs_form *f, const struct gen_token *t,
                  bool known, size_t offset)
{
    if (l->n++) {
        buf_str(&l->tokens, ",");
        buf_str(&l->figures, ",");
        buf_str(&l->tops, ",");
        buf_str(&l->offsets, ",");
    }
    logprobs_write_name(&l->tokens, f, t->id);
    buf_format(&l->offsets, "%zu", offset);
    if (known) {
        write_figure(&l->figures, t->logprob);
        write_map(&l->tops, f, t);
    } else {
        buf_str(&l->figures, "null");
        buf_str(&l->tops, "null");
    }
}

static void write_array(struct buf *out, const char *name, const struct buf *elements)
{
    buf_format(out, "\"%s\":[", name);
    buf_add(out, elements->data, elements->n);
    buf_str(out, "]");
}

void logprobs_write(const struct logprobs *l, struct buf *out)
{
    buf_str(out, "{");
    write_array(out, "tokens", &l->tokens);
    buf_str(out, ",");
    write_array(out, "token_logprobs", &l->figures);
    buf_str(out, ",");
    write_array(out, "top_logprobs", &l->tops);
    buf_str(out, ",");
    write_array(out, "text_offset", &l->offsets);
    buf_str(out, "}");
}

void logprobs_clear(struct logprobs *l)
{
    buf_clear(&l->tokens);
    buf_clear(&l->figures);
    buf_clear(&l->tops);
    buf_clear(&l->offsets);
    l->n = 0;
}

void logprobs_fini(struct logprobs *l)
{
    buf_fini(&l->tokens);
    buf_fini(&l->figures);
    buf_fini(&l->tops);
    buf_fini(&l->offsets);
}

static void write_bytes(struct buf *out, const struct logprobs_form *f, int id)
{
    size_t n = 0;
    const char *bytes = bytes_of(f, id, &n);
    if (!n) {
        buf_str(out, "null");
        return;
    }
    for (size_t i = 0; i < n; i++)
        buf_format(out, "%s%d", i ? "," : "[", (unsigned char)bytes[i]);
    buf_str(out, "]");
}

static void write_chat_entry(struct buf *out, const struct logprobs_form *f, int id, float logprob)
{
    buf_str(out, "{\"token\":");
    logprobs_write_name(out, f, id);
    buf_str(out, ",\"logprob\":");
    write_figure(out, logprob);
    buf_str(out, ",\"bytes\":");
    write_bytes(out, f, id);
}

void logprobs_write_chat(struct buf *out, const struct logprobs_form *f, const struct gen_token *t)
{
    write_chat_entry(out, f, t->id, t->logprob);
    buf_str(out, ",\"top_logprobs\":[");
    bool any = false;
    for (int i = 0; i < f->n_top && t->top; i++) {
        if (t->top[i].id < 0)
            continue;
        if (any)
            buf_str(out, ",");
        any = true;
        write_chat_entry(out, f, t->top[i].id, t->top[i].logprob);
        buf_str(out, "}");
    }
    buf_str(out, "]}");
}
