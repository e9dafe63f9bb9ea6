// tokenizer_json.c - reads tokenizer.json and tokenizer_config.json into a tokenizer. Both files are
// somebody else's: every number has a range, every reference is looked up, and a setting that this
// tokenizer does not follow is refused with what was found and what was expected.
#include "tokenizer_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "mem.h"
#include "utf8.h"

enum {
    FILE_BYTES_MAX = 128 << 20, // Qwen3.5's tokenizer.json has 13 MB
    DEPTH_MAX = 32,
    ALPHABET_CODES = 256 + 68, // the byte alphabet's code points are below this
};

struct reader {
    struct tokenizer *tk;
    const char *config_json; // NULL: there is none
    size_t config_n;
    int16_t byte_of[ALPHABET_CODES]; // -1: not in the byte alphabet
    struct err *e;
};

// GPT-2's byte alphabet: printable Latin-1 stands for itself, the 68 other bytes for U+0100 onwards.
static void alphabet_init(int16_t byte_of[ALPHABET_CODES])
{
    int next = 256;
    for (int b = 0; b < 256; b++)
        byte_of[b] = -1;
    for (int b = 0; b < 256; b++) {
        bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
        byte_of[printable ? b : next++] = (int16_t)b;
    }
    CHECK(next == ALPHABET_CODES);
}

// A token from the byte alphabet to bytes. Returns how many, or 0 when it is empty, longer than a
// token may be or has a character outside the alphabet.
static size_t to_bytes(const struct reader *r, const char *s, size_t n,
                       char bytes[VOCAB_TOKEN_BYTES_MAX])
{
    size_t count = 0;
    for (const char *end = s + n; s < end;) {
        uint32_t code = utf8_decode(&s);
        if (code >= ALPHABET_CODES || r->byte_of[code] < 0 || count == VOCAB_TOKEN_BYTES_MAX)
            return 0;
        bytes[count++] = (char)r->byte_of[code];
    }
    return count;
}

static json_t *parse(const char *file, const char *json, size_t n, struct err *e)
{
    struct err why = {0};
    json_t *root = json_parse(json, n, DEPTH_MAX, &why);
    if (!root)
        err_set(e, ERR_BAD_REQUEST, "%s: %s", file, why.text);
    return root;
}

static bool is_type(const json_t *object, const char *type)
{
    const char *found = json_string_value(json_object_get(object, "type"));
    return found && strcmp(found, type) == 0;
}

// null, absent, false and "" all mean that a setting is not used.
static bool is_off(const json_t *v)
{
    return !v || json_is_null(v) || json_is_false(v) ||
           (json_is_string(v) && json_string_length(v) == 0);
}

static int refuse(struct reader *r, const char *what, const json_t *found, const char *expected)
{
    char text[160] = "an object";
    const json_t *type = json_object_get(found, "type");
    json_describe(type ? type : found, text, sizeof text);
    return err_set(r->e, ERR_BAD_REQUEST, "tokenizer.json: %s is %s; this server reads %s", what,
                   found ? text : "missing", expected);
}

static int read_split(struct reader *r, const json_t *split)
{
    const json_t *regex = json_object_get(json_object_get(split, "pattern"), "Regex");
    const char *behaviour = json_string_value(json_object_get(split, "behavior"));
    if (!is_type(split, "Split") || !json_is_string(regex))
        return refuse(r, "pre_tokenizer.pretokenizers[0]", split,
                      "a Split with a Regex pattern, then ByteLevel");
    if (!behaviour || strcmp(behaviour, "Isolated") != 0 ||
        !is_off(json_object_get(split, "invert")))
        return refuse(r, "the Split's behavior", json_object_get(split, "behavior"),
                      "\"Isolated\", not inverted");
    if (!pretokenizer_init(&r->tk->pretokenizer, &r->tk->unicode, json_string_value(regex)))
        return err_set(
            r->e, ERR_BAD_REQUEST,
            "tokenizer.json: the pre-tokenizer's expression is %.160s; this server knows "
            "those of Qwen2, Qwen3 and Qwen3.5",
            json_string_value(regex));
    return 0;
}

// Everything around the model: all of it changes ids, so all of it must be what this code does.
static int read_pipeline(struct reader *r, const json_t *root)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    r->tk->nfc = is_type(normalizer, "NFC");
    if (!r->tk->nfc && !is_off(normalizer))
        return refuse(r, "normalizer", normalizer, "NFC or none");

    const json_t *pre = json_object_get(root, "pre_tokenizer");
    const json_t *list = json_object_get(pre, "pretokenizers");
    if (!is_type(pre, "Sequence") || json_array_size(list) != 2)
        return refuse(r, "pre_tokenizer", pre, "a Sequence of Split and ByteLevel");
    if (read_split(r, json_array_get(list, 0)) != 0)
        return -1;
    const json_t *bytes = json_array_get(list, 1);
    if (!is_type(bytes, "ByteLevel") || !is_off(json_object_get(bytes, "add_prefix_space")) ||
        !json_is_false(json_object_get(bytes, "use_regex")))
        return refuse(r, "pre_tokenizer.pretokenizers[1]", bytes,
                      "ByteLevel with add_prefix_space and use_regex false");

    const json_t *decoder = json_object_get(root, "decoder");
    if (!is_type(decoder, "ByteLevel"))
        return refuse(r, "decoder", decoder, "ByteLevel");
    const json_t *post = json_object_get(root, "post_processor");
    if (!is_off(post) && !is_type(post, "ByteLevel"))
        return refuse(r, "post_processor", post, "ByteLevel or none");
    static const char *const unused[] = {"truncation", "padding"};
    for (size_t i = 0; i < 2; i++)
        if (!is_off(json_object_get(root, unused[i])))
            return refuse(r, unused[i], json_object_get(root, unused[i]), "null");
    return 0;
}

static int check_model(struct reader *r, const json_t *model)
{
    // A model without a type is a BPE when it has merges; old files are written so.
    if (json_object_get(model, "type") && !is_type(model, "BPE"))
        return refuse(r, "model", model, "BPE");
    static const char *const unused[] = {"dropout",
                                         "unk_token",
                                         "continuing_subword_prefix",
                                         "end_of_word_suffix",
                                         "fuse_unk",
                                         "byte_fallback",
                                         "ignore_merges"};
    for (size_t i = 0; i < sizeof unused / sizeof unused[0]; i++) {
        const json_t *v = json_object_get(model, unused[i]);
        if (is_off(v))
            continue;
        char what[64];
        snprintf(what, sizeof what, "model.%s", unused[i]);
        return refuse(r, what, v, "models without it");
    }
    if (!json_is_object(json_object_get(model, "vocab")))
        return refuse(r, "model.vocab", json_object_get(model, "vocab"), "an object");
    if (!json_is_array(json_object_get(model, "merges")))
        return refuse(r, "model.merges", json_object_get(model, "merges"), "an array");
    return 0;
}

// One added token. where names it in errors. The same token may be in both files.
static int read_added(struct reader *r, const char *where, json_int_t id, const json_t *token)
{
    struct vocab *v = &r->tk->vocab;
    const json_t *content = json_object_get(token, "content");
    size_t n = json_string_length(content), known_n = 0;
    if (id < 0 || id >= VOCAB_IDS_MAX)
        return err_set(r->e, ERR_BAD_REQUEST, "%s: id %lld is not in 0 .. %d", where, (long long)id,
                       VOCAB_IDS_MAX - 1);
    if (!n || n > VOCAB_TOKEN_BYTES_MAX)
        return err_set(r->e, ERR_BAD_REQUEST, "%s: content must be a string of 1 .. %d bytes",
                       where, VOCAB_TOKEN_BYTES_MAX);
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (!is_off(json_object_get(token, flags[i])))
            return err_set(r->e, ERR_BAD_REQUEST,
                           "%s: %s is set; this server reads added tokens without it", where,
                           flags[i]);
    unsigned kind =
        VOCAB_ADDED | (json_is_true(json_object_get(token, "special")) ? VOCAB_SPECIAL : 0);
    if (vocab_set(v, (int)id, json_string_value(content), n, kind))
        return 0;
    const char *known = vocab_bytes(v, (int)id, &known_n);
    if (known_n == n && memcmp(known, json_string_value(content), n) == 0)
        return 0;
    return err_set(r->e, ERR_BAD_REQUEST, "%s: id %lld is \"%.64s\" here and \"%.64s\" elsewhere",
                   where, (long long)id, json_string_value(content), known);
}

static int read_added_tokens(struct reader *r, const json_t *list)
{
    if (list && !json_is_array(list))
        return refuse(r, "added_tokens", list, "an array");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *token = json_array_get(list, i), *id = json_object_get(token, "id");
        char where[64];
        snprintf(where, sizeof where, "tokenizer.json: added_tokens[%zu]", i);
        if (read_added(r, where, json_is_integer(id) ? json_integer_value(id) : -1, token) != 0)
            return -1;
    }
    return 0;
}

// tokenizer_config.json names the tokens that tokenizer.json leaves out (Qwen3.5: 248070 .. 248076).
static int read_config(struct reader *r, const char *json, size_t n)
{
    json_t *root = parse("tokenizer_config.json", json, n, r->e), *token;
    const char *key;
    int rc = root ? 0 : -1;
    json_object_foreach(json_object_get(root, "added_tokens_decoder"), key, token)
    {
        json_int_t id = 0;
        for (size_t i = 0; key[i] && id >= 0; i++)
            id = key[i] >= '0' && key[i] <= '9' && id < VOCAB_IDS_MAX ? id * 10 + (key[i] - '0')
                                                                      : -1;
        char where[96];
        snprintf(where, sizeof where, "tokenizer_config.json: added_tokens_decoder[\"%.16s\"]",
                 key);
        if (rc == 0)
            rc = read_added(r, where, key[0] ? id : -1, token);
    }
    json_decref(root);
    return rc;
}

// One entry of model.vocab; added tokens have been read and may be listed again.
static int read_token(struct reader *r, const char *key, size_t key_n, const json_t *value)
{
    struct vocab *v = &r->tk->vocab;
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id >= VOCAB_IDS_MAX)
        return err_set(r->e, ERR_BAD_REQUEST,
                       "tokenizer.json: model.vocab[\"%.64s\"] is not an id in 0 .. %d", key,
                       VOCAB_IDS_MAX - 1);
    char bytes[VOCAB_TOKEN_BYTES_MAX];
    size_t n = to_bytes(r, key, key_n, bytes), known_n = 0;
    if (n && vocab_set(v, (int)id, bytes, n, VOCAB_BASE))
        return 0;
    const char *known = vocab_bytes(v, (int)id, &known_n);
    unsigned kind = vocab_kind(v, (int)id);
    if ((kind & VOCAB_ADDED) && !(kind & VOCAB_BASE) && known_n == key_n &&
        memcmp(known, key, key_n) == 0) {
        if (n == known_n && memcmp(known, bytes, n) == 0)
            vocab_mark(v, (int)id, VOCAB_BASE);
        return 0;
    }
    if (kind)
        return err_set(r->e, ERR_BAD_REQUEST,
                       "tokenizer.json: model.vocab[\"%.64s\"]: id %lld is taken by \"%.64s\"", key,
                       (long long)id, known);
    return err_set(r->e, ERR_BAD_REQUEST,
                   "tokenizer.json: model.vocab[\"%.64s\"] is not 1 .. %d characters of the byte "
                   "alphabet",
                   key, VOCAB_TOKEN_BYTES_MAX);
}

static int read_vocab(struct reader *r, json_t *vocab)
{
    const char *key;
    size_t key_n;
    json_t *value;
    json_object_keylen_foreach(vocab, key, key_n,
                               value) if (read_token(r, key, key_n, value) != 0) return -1;
    return vocab_index(&r->tk->vocab, r->e);
}

// The two halves of a merge: "a b", or ["a", "b"] in newer files.
static bool split_merge(const json_t *merge, const char *half[2], size_t half_n[2])
{
    if (json_is_string(merge)) {
        half[0] = json_string_value(merge);
        const char *space = strchr(half[0], ' ');
        if (!space)
            return false;
        half_n[0] = (size_t)(space - half[0]);
        half[1] = space + 1;
        half_n[1] = json_string_length(merge) - half_n[0] - 1;
        return true;
    }
    for (size_t i = 0; i < 2; i++) {
        half[i] = json_string_value(json_array_get(merge, i));
        half_n[i] = json_string_length(json_array_get(merge, i));
    }
    return json_array_size(merge) == 2 && half[0] && half[1];
}

static int read_merge(struct reader *r, size_t rank, const json_t *merge)
{
    const char *half[2];
    size_t half_n[2], n[2];
    char bytes[2 * VOCAB_TOKEN_BYTES_MAX];
    int id[2];
    if (!split_merge(merge, half, half_n))
        return err_set(r->e, ERR_BAD_REQUEST,
                       "tokenizer.json: model.merges[%zu] is neither \"a b\" nor [\"a\", \"b\"]",
                       rank);
    for (size_t i = 0, at = 0; i < 2; at += n[i++]) {
        n[i] = to_bytes(r, half[i], half_n[i], bytes + at);
        id[i] = n[i] ? vocab_find(&r->tk->vocab, bytes + at, n[i]) : -1;
        if (id[i] < 0)
            return err_set(r->e, ERR_BAD_REQUEST,
                           "tokenizer.json: model.merges[%zu]: \"%.64s\" is not in model.vocab",
                           rank, half[i]);
    }
    int whole = vocab_find(&r->tk->vocab, bytes, n[0] + n[1]);
    if (whole < 0)
        return err_set(r->e, ERR_BAD_REQUEST,
                       "tokenizer.json: model.merges[%zu]: \"%.64s\" and \"%.64s\" joined are not "
                       "in model.vocab",
                       rank, half[0], half[1]);
    if (!bpe_add(&r->tk->bpe, id[0], id[1], (uint32_t)rank, whole))
        return err_set(r->e, ERR_BAD_REQUEST,
                       "tokenizer.json: model.merges[%zu]: the pair has a merge already", rank);
    return 0;
}

static int read_merges(struct reader *r, const json_t *merges)
{
    size_t n = json_array_size(merges);
    if (n > VOCAB_IDS_MAX)
        return err_set(r->e, ERR_BAD_REQUEST, "tokenizer.json: model.merges has %zu, limit %d", n,
                       VOCAB_IDS_MAX);
    bpe_init(&r->tk->bpe, n);
    for (int b = 0; b < 256; b++) {
        char c = (char)b;
        r->tk->bpe.byte_id[b] = vocab_find(&r->tk->vocab, &c, 1);
        if (r->tk->bpe.byte_id[b] < 0)
            return err_set(r->e, ERR_BAD_REQUEST,
                           "tokenizer.json: model.vocab has no token for byte 0x%02x", (unsigned)b);
    }
    for (size_t i = 0; i < n; i++)
        if (read_merge(r, i, json_array_get(merges, i)) != 0)
            return -1;
    return 0;
}

// Find the tokens that their own bytes merge into. Not all do: added tokens have no merges, and a
// file may hold tokens that an earlier merge always breaks.
static void mark_whole(struct tokenizer *tk)
{
    struct vocab *v = &tk->vocab;
    struct bpe_scratch scratch = {0};
    struct ids ids = {0};
    for (size_t id = 0; id < v->count; id++) {
        if (!(v->tokens[id].kind & VOCAB_BASE))
            continue;
        ids.n = 0;
        bpe_merge(&tk->bpe, v->bytes.data + v->tokens[id].start, v->tokens[id].n, &scratch, &ids);
        if (ids.n == 1 && ids.data[0] == (int)id)
            vocab_mark(v, (int)id, VOCAB_WHOLE);
    }
    bpe_scratch_fini(&scratch);
    ids_fini(&ids);
}

static int read_root(struct reader *r, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    if (read_pipeline(r, root) != 0 || check_model(r, model) != 0 ||
        read_added_tokens(r, json_object_get(root, "added_tokens")) != 0 ||
        (r->config_json && read_config(r, r->config_json, r->config_n) != 0) ||
        read_vocab(r, json_object_get(model, "vocab")) != 0 ||
        read_merges(r, json_object_get(model, "merges")) != 0)
        return -1;
    mark_whole(r->tk);
    unicode_init(&r->tk->unicode);
    if (r->config_json)
        r->tk->config_json = mem_string(r->config_json, r->config_n);
    return 0;
}

struct tokenizer *tokenizer_parse(const char *json, size_t n, const char *config_json,
                                  size_t config_n, struct err *e)
{
    json_t *root = parse("tokenizer.json", json, n, e);
    if (!root)
        return NULL;
    struct reader r = {
        .tk = mem_zero(1, sizeof *r.tk), .config_json = config_json, .config_n = config_n, .e = e};
    alphabet_init(r.byte_of);
    int rc = read_root(&r, root);
    json_decref(root);
    if (rc == 0)
        return r.tk;
    tokenizer_destroy(r.tk);
    return NULL;
}

// The bytes of a file in the model's folder; NULL with ERR_NOT_FOUND when it is not there.
static char *read_file(const char *dir, const char *name, size_t *n, struct err *e)
{
    struct buf path = {0}, text = {.max = FILE_BYTES_MAX};
    char *result = NULL, chunk[1 << 14];
    buf_format(&path, "%s/%s", dir, name);
    FILE *f = fopen(path.data, "rb");
    if (!f) {
        err_set(e, ERR_NOT_FOUND, "%s: %s", path.data, strerror(errno));
        goto out;
    }
    while ((*n = fread(chunk, 1, sizeof chunk, f)) > 0 && buf_add(&text, chunk, *n))
        continue;
    if (ferror(f))
        err_set(e, ERR_BAD_REQUEST, "%s: %s", path.data, strerror(errno));
    else if (text.overflow)
        err_set(e, ERR_BAD_REQUEST, "%s has more than %d bytes", path.data, FILE_BYTES_MAX);
    else {
        *n = text.n;
        result = buf_take(&text);
    }
    fclose(f);
out:
    buf_fini(&path);
    buf_fini(&text);
    return result;
}

struct tokenizer *tokenizer_load(const char *dir, struct err *e)
{
    size_t n = 0, config_n = 0;
    struct tokenizer *tk = NULL;
    struct err missing = {0};
    char *json = read_file(dir, "tokenizer.json", &n, e);
    if (!json)
        return NULL;
    char *config = read_file(dir, "tokenizer_config.json", &config_n, &missing);
    if (config || missing.code == ERR_NOT_FOUND)
        tk = tokenizer_parse(json, n, config, config_n, e);
    else if (e)
        *e = missing;
    mem_free(json);
    mem_free(config);
    return tk;
}
