// checkpoint.c - see checkpoint.h.
#define _GNU_SOURCE
#include "checkpoint.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "dummy.h"
#include "json.h"
#include "mem.h"
#include "qwen35_config.h"

enum { JSON_BYTES_MAX = 64 << 20, REF_BYTES_MAX = 256, INDEX_DEPTH_MAX = 4 };

// Where the text model's tensors may start, from multimodal, text-only and re-saved checkpoints.
static const char *const PREFIXES[] = {"model.language_model.", "model.", "language_model.model.",
                                       "model.model."};
static const char *const HEADS[] = {"lm_head.weight", "language_model.lm_head.weight",
                                    "model.lm_head.weight"};
// Parts that a text server has no use for, whatever they hold.
static const char *const SKIPPED[] = {"model.visual.", "visual.", "mtp.", "model.mtp."};
#define COUNT(array) (sizeof(array) / sizeof *(array))

// dir/name; refused rather than cut when it is too long.
static int join(char out[CHECKPOINT_PATH_MAX], const char *dir, const char *name, struct err *e)
{
    int n = snprintf(out, CHECKPOINT_PATH_MAX, "%s/%s", dir, name);
    if (n < 0 || n >= CHECKPOINT_PATH_MAX)
        return err_set(e, ERR_BAD_REQUEST, "the path '%.200s/...' is longer than %d bytes", dir,
                       CHECKPOINT_PATH_MAX - 1);
    return 0;
}

static bool exists(const char *dir, const char *name)
{
    char path[CHECKPOINT_PATH_MAX];
    struct stat s;
    return !join(path, dir, name, NULL) && !stat(path, &s);
}

// A whole small file into b. Fails with ERR_NOT_FOUND when it is not there.
static int read_file(struct buf *b, const char *path, size_t max, struct err *e)
{
    char piece[16384];
    ssize_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_BAD_REQUEST, "%s: %s", path,
                       strerror(errno));
    b->max = max;
    while ((n = read(fd, piece, sizeof piece)) > 0 && buf_add(b, piece, (size_t)n))
        ;
    int error = errno;
    close(fd);
    if (n < 0)
        return err_set(e, ERR_BAD_REQUEST, "%s: %s", path, strerror(error));
    if (b->overflow)
        return err_set(e, ERR_BAD_REQUEST, "%s: the file has more than %zu bytes", path, max);
    return buf_add(b, "", 0) ? 0 : -1;
}

// A name that stays inside its directory.
static bool is_plain_name(const char *s)
{
    return *s && *s != '.' && !strchr(s, '/') && !strchr(s, '\\');
}

// The Hugging Face cache keeps models--ORG--NAME/{refs/main, snapshots/COMMIT}: follow refs/main.
static int follow_cache(char out[CHECKPOINT_PATH_MAX], const char *dir, struct err *e)
{
    char path[CHECKPOINT_PATH_MAX], name[REF_BYTES_MAX + 16];
    struct buf ref = {0};
    int rc = -1;
    if (join(path, dir, "refs/main", e) || read_file(&ref, path, REF_BYTES_MAX, e))
        goto out;
    while (ref.n && isspace((unsigned char)ref.data[ref.n - 1]))
        ref.data[--ref.n] = '\0';
    if (strlen(ref.data) != ref.n || !is_plain_name(ref.data)) {
        err_set(e, ERR_BAD_REQUEST, "%s: '%.64s' is not the name of a snapshot", path, ref.data);
        goto out;
    }
    snprintf(name, sizeof name, "snapshots/%s", ref.data);
    rc = join(out, dir, name, e);
out:
    buf_fini(&ref);
    return rc;
}

int model_directory(const char *dir, char *out, size_t size, struct err *e)
{
    char found[CHECKPOINT_PATH_MAX];
    struct config config;
    if (dummy_is(dir)) {
        snprintf(out, size, "%s", dir);
        return dummy_config(&config, dir, e);
    }
    if (!exists(dir, "config.json") && exists(dir, "refs/main")) {
        if (follow_cache(found, dir, e))
            return -1;
    } else if (snprintf(found, sizeof found, "%s", dir) >= (int)sizeof found) {
        return err_set(e, ERR_BAD_REQUEST, "the path '%.200s...' is too long", dir);
    }
    if (!exists(found, "config.json"))
        return err_set(
            e, ERR_NOT_FOUND,
            "%s/config.json is missing; name a directory with config.json and "
            "model.safetensors, or a models--ORG--NAME directory of a Hugging Face cache",
            found);
    if (snprintf(out, size, "%s", found) >= (int)size)
        return err_set(e, ERR_BAD_REQUEST, "the path '%.200s...' is too long", found);
    return 0;
}

static int read_configs(struct checkpoint *ck, struct err *e)
{
    char path[CHECKPOINT_PATH_MAX];
    struct buf text = {0};
    int rc = join(path, ck->dir, "config.json", e) || read_file(&text, path, JSON_BYTES_MAX, e) ||
                     qwen35_config_parse(&ck->config, text.data, text.n, path, e)
                 ? -1
                 : 0;
    buf_fini(&text);
    if (rc || !exists(ck->dir, "generation_config.json"))
        return rc;
    rc = join(path, ck->dir, "generation_config.json", e) ||
                 read_file(&text, path, JSON_BYTES_MAX, e) ||
                 qwen35_generation_parse(&ck->config, text.data, text.n, path, e)
             ? -1
             : 0;
    buf_fini(&text);
    return rc;
}

static int open_shard(struct checkpoint *ck, const char *name, struct err *e)
{
    char path[CHECKPOINT_PATH_MAX];
    if (ck->n_shards == CHECKPOINT_SHARDS_MAX)
        return err_set(e, ERR_BAD_REQUEST, "%s: more than %d shards", ck->dir,
                       CHECKPOINT_SHARDS_MAX);
    if (join(path, ck->dir, name, e))
        return -1;
    struct safetensors *st = safetensors_open(path, e);
    if (!st)
        return -1;
    ck->used[ck->n_shards] = mem_zero(safetensors_count(st) + 1, sizeof(bool));
    ck->shards[ck->n_shards++] = st;
    return 0;
}

static struct safetensors *find_shard(const struct checkpoint *ck, const char *name)
{
    size_t dir = strlen(ck->dir) + 1;
    for (int i = 0; i < ck->n_shards; i++)
        if (!strcmp(safetensors_path(ck->shards[i]) + dir, name))
            return ck->shards[i];
    return NULL;
}

// Every shard that weight_map names; a tensor must be in the shard that the index says.
static int open_mapped(struct checkpoint *ck, const char *path, json_t *map, struct err *e)
{
    const char *tensor = NULL;
    json_t *v = NULL;
    json_object_foreach(map, tensor, v)
    {
        const char *name = json_string_value(v);
        if (!name || !is_plain_name(name))
            return err_set(e, ERR_BAD_REQUEST,
                           "%s: weight_map['%.100s'] is '%.100s'; wanted the name of a file in the "
                           "same directory",
                           path, tensor, name ? name : "not a string");
        if (!find_shard(ck, name) && open_shard(ck, name, e))
            return -1;
        if (!safetensors_find(find_shard(ck, name), tensor))
            return err_set(e, ERR_BAD_REQUEST, "%s: tensor '%.200s' is not in %s as it says", path,
                           tensor, name);
    }
    return 0;
}

static int open_index(struct checkpoint *ck, struct err *e)
{
    char path[CHECKPOINT_PATH_MAX];
    struct buf text = {0};
    struct err why;
    json_t *root = NULL;
    int rc = -1;
    if (join(path, ck->dir, "model.safetensors.index.json", e) ||
        read_file(&text, path, JSON_BYTES_MAX, e))
        goto out;
    root = json_parse(text.data, text.n, INDEX_DEPTH_MAX, &why);
    json_t *map = json_object_get(root, "weight_map");
    if (!root)
        err_set(e, ERR_BAD_REQUEST, "%s: %s", path, why.text);
    else if (!json_is_object(map) || !json_object_size(map))
        err_set(e, ERR_BAD_REQUEST, "%s: weight_map is missing, empty or not an object", path);
    else
        rc = open_mapped(ck, path, map, e);
out:
    json_decref(root);
    buf_fini(&text);
    return rc;
}

// The shard that holds prefix + name, and the tensor; NULL if none does.
static const struct tensor *find(struct checkpoint *ck, const char *prefix, const char *name,
                                 int *shard)
{
    char full[512];
    if (snprintf(full, sizeof full, "%s%s", prefix, name) >= (int)sizeof full)
        return NULL;
    for (int i = 0; i < ck->n_shards; i++) {
        const struct tensor *t = safetensors_find(ck->shards[i], full);
        if (t) {
            *shard = i;
            return t;
        }
    }
    return NULL;
}

static int choose_prefix(struct checkpoint *ck, struct err *e)
{
    int shard = 0;
    for (size_t i = 0; i < COUNT(PREFIXES); i++)
        if (find(ck, PREFIXES[i], "embed_tokens.weight", &shard)) {
            ck->prefix = PREFIXES[i];
            return 0;
        }
    return err_set(e, ERR_BAD_REQUEST,
                   "%s: no tensor embed_tokens.weight under model.language_model., model., "
                   "language_model.model. or model.model.; is this a Qwen3.5 checkpoint?",
                   safetensors_path(ck->shards[0]));
}

enum { MADE_UP_PER_LAYER = 16, MADE_UP_TOP = 3 }; // tensors, at most

static int open_dummy(struct checkpoint *ck, const char *dir, struct err *e)
{
    if (dummy_config(&ck->config, dir, e))
        return -1;
    ck->made_up_max = ck->config.num_hidden_layers * MADE_UP_PER_LAYER + MADE_UP_TOP;
    ck->made_up = mem_zero((size_t)ck->made_up_max, sizeof *ck->made_up);
    return 0;
}

static const struct tensor *make_up(struct checkpoint *ck, const char *name, int rows, int cols)
{
    CHECK(ck->n_made_up < ck->made_up_max);
    struct made_up *t = &ck->made_up[ck->n_made_up++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->tensor = (struct tensor){
        .name = t->name,
        .dtype_text = "BF16",
        .dtype = DTYPE_BF16,
        .n_dims = cols ? 2 : 1,
        .dims = {rows, cols},
        .bytes = (size_t)rows * (size_t)(cols ? cols : 1) * dtype_bytes(DTYPE_BF16),
    };
    return &t->tensor;
}

int checkpoint_open(struct checkpoint *ck, const char *dir, struct err *e)
{
    *ck = (struct checkpoint){0};
    if (dummy_is(dir))
        return open_dummy(ck, dir, e);
    int rc = model_directory(dir, ck->dir, sizeof ck->dir, e) || read_configs(ck, e) ? -1 : 0;
    if (!rc && exists(ck->dir, "model.safetensors.index.json"))
        rc = open_index(ck, e);
    else if (!rc)
        rc = open_shard(ck, "model.safetensors", e);
    if (!rc)
        rc = choose_prefix(ck, e);
    if (rc)
        checkpoint_close(ck);
    return rc;
}

void checkpoint_close(struct checkpoint *ck)
{
    for (int i = 0; i < ck->n_shards; i++) {
        safetensors_close(ck->shards[i]);
        mem_free(ck->used[i]);
    }
    mem_free(ck->made_up);
    *ck = (struct checkpoint){0};
}

// "[1200, 256]"
static const char *shape_text(const struct tensor *t, char *text, size_t size)
{
    size_t n = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < t->n_dims && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%lld", i ? ", " : "", (long long)t->dims[i]);
    if (n < size)
        snprintf(text + n, size - n, "]");
    return text;
}

// Dimensions of 1 are left out, so that conv1d.weight [channels, 1, 4] is a matrix and [1, n] a vector.
static bool has_shape(const struct tensor *t, int rows, int cols)
{
    int64_t want[2] = {rows, cols}, got[TENSOR_DIMS_MAX];
    int n = 0, n_want = 0;
    for (int i = 0; i < t->n_dims; i++)
        if (t->dims[i] != 1)
            got[n++] = t->dims[i];
    for (int i = 0; i < 2; i++)
        if (want[i] > 1)
            want[n_want++] = want[i];
    return n == n_want && !memcmp(want, got, (size_t)n * sizeof *got);
}

static const struct tensor *take(struct checkpoint *ck, const struct tensor *t, int shard, int rows,
                                 int cols, struct err *e)
{
    const char *path = safetensors_path(ck->shards[shard]);
    char found[128], wanted[64];
    if (cols)
        snprintf(wanted, sizeof wanted, "[%d, %d]", rows, cols);
    else
        snprintf(wanted, sizeof wanted, "[%d]", rows);
    if (t->dtype < 0) {
        err_set(e, ERR_BAD_REQUEST, "%s: tensor '%s' has dtype %s; wanted BF16, F16 or F32", path,
                t->name, t->dtype_text);
        return NULL;
    }
    if (!has_shape(t, rows, cols)) {
        err_set(e, ERR_BAD_REQUEST, "%s: tensor '%s' has shape %s; config.json asks for %s", path,
                t->name, shape_text(t, found, sizeof found), wanted);
        return NULL;
    }
    ck->used[shard][t - safetensors_at(ck->shards[shard], 0)] = true;
    return t;
}

const struct tensor *checkpoint_take(struct checkpoint *ck, const char *name, int rows, int cols,
                                     struct err *e)
{
    int shard = 0;
    if (ck->made_up)
        return make_up(ck, name, rows, cols);
    const struct tensor *t = find(ck, ck->prefix, name, &shard);
    if (t)
        return take(ck, t, shard, rows, cols, e);
    err_set(e, ERR_BAD_REQUEST, "%s: tensor '%s%s' is missing; is a shard absent?",
            ck->n_shards == 1 ? safetensors_path(ck->shards[0]) : ck->dir, ck->prefix, name);
    return NULL;
}

int checkpoint_take_head(struct checkpoint *ck, int rows, int cols, const struct tensor **out,
                         struct err *e)
{
    int shard = 0;
    *out = NULL;
    if (ck->made_up) {
        if (!ck->config.tie_word_embeddings)
            *out = make_up(ck, "lm_head.weight", rows, cols);
        return 0;
    }
    for (size_t i = 0; i < COUNT(HEADS); i++) {
        const struct tensor *t = find(ck, "", HEADS[i], &shard);
        if (t)
            return (*out = take(ck, t, shard, rows, cols, e)) ? 0 : -1;
    }
    return 0;
}

static bool is_skipped(const char *name)
{
    for (size_t i = 0; i < COUNT(SKIPPED); i++)
        if (!strncmp(name, SKIPPED[i], strlen(SKIPPED[i])))
            return true;
    // The rotation's table, a constant that some files carry along.
    const char *end = strstr(name, ".inv_freq");
    return end && !strcmp(end, ".inv_freq");
}

int checkpoint_check_unused(const struct checkpoint *ck, struct err *e)
{
    if (ck->made_up)
        return 0;
    size_t prefix = strlen(ck->prefix);
    for (int i = 0; i < ck->n_shards; i++)
        for (size_t j = 0; j < safetensors_count(ck->shards[i]); j++) {
            const char *name = safetensors_at(ck->shards[i], j)->name;
            if (!ck->used[i][j] && !strncmp(name, ck->prefix, prefix) && !is_skipped(name))
                return err_set(e, ERR_BAD_REQUEST,
                               "%s: tensor '%s' is not part of a dense Qwen3.5 model of this "
                               "config.json; it would be left out of the arithmetic",
                               safetensors_path(ck->shards[i]), name);
        }
    return 0;
}
