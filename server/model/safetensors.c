// safetensors.c - see safetensors.h. The layout: eight bytes of little-endian header length, a JSON
// object {name: {dtype, shape, data_offsets}}, then the bytes of all tensors without a gap.
#define _GNU_SOURCE
#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"
#include "mem.h"

enum { PREFIX_BYTES = 8, HEADER_BYTES_MAX = 100000000, HEADER_DEPTH_MAX = 4 };

struct safetensors {
    char *path;
    const unsigned char *map; // NULL when the bytes are borrowed
    size_t map_bytes;
    char *names;            // every tensor's name, one after another, each with its NUL
    struct tensor *tensors; // sorted by name once open
    size_t n;
};

// The types of the format. Those that this server computes with have an enum dtype.
static const struct {
    const char *text;
    int dtype;
    size_t bytes;
} DTYPES[] = {
    {"BF16", DTYPE_BF16, 2}, {"F16", DTYPE_F16, 2}, {"F32", DTYPE_F32, 4}, {"F64", -1, 8},
    {"I8", -1, 1},           {"I16", -1, 2},        {"I32", -1, 4},        {"I64", -1, 8},
    {"U8", -1, 1},           {"U16", -1, 2},        {"U32", -1, 4},        {"U64", -1, 8},
    {"BOOL", -1, 1},         {"F8_E4M3", -1, 1},    {"F8_E5M2", -1, 1},    {"F8_E8M0", -1, 1},
    {"C64", -1, 8},
};
enum { N_DTYPES = sizeof DTYPES / sizeof *DTYPES };

// One error about one tensor; what is a sentence's second half.
static int refuse(const struct safetensors *st, const struct tensor *t, struct err *e,
                  const char *what)
{
    return err_set(e, ERR_BAD_REQUEST, "%s: tensor '%s': %s", st->path, t->name, what);
}

static int read_dtype(struct safetensors *st, struct tensor *t, const json_t *v, size_t *bytes,
                      struct err *e)
{
    if (!json_is_string(v))
        return refuse(st, t, e, "dtype is missing or not a string");
    for (int i = 0; i < N_DTYPES; i++)
        if (!strcmp(DTYPES[i].text, json_string_value(v))) {
            t->dtype_text = DTYPES[i].text;
            t->dtype = DTYPES[i].dtype;
            *bytes = DTYPES[i].bytes;
            return 0;
        }
    return err_set(e, ERR_BAD_REQUEST,
                   "%s: tensor '%s': dtype '%.32s' is unknown; this server reads BF16, F16 and F32",
                   st->path, t->name, json_string_value(v));
}

// Fills dims and multiplies them into *bytes.
static int read_shape(struct safetensors *st, struct tensor *t, const json_t *v, size_t *bytes,
                      struct err *e)
{
    if (!json_is_array(v))
        return refuse(st, t, e, "shape is missing or not an array");
    size_t n = json_array_size(v);
    if (n > TENSOR_DIMS_MAX)
        return err_set(e, ERR_BAD_REQUEST, "%s: tensor '%s': shape has %zu dimensions, at most %d",
                       st->path, t->name, n, TENSOR_DIMS_MAX);
    t->n_dims = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *d = json_array_get(v, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return err_set(e, ERR_BAD_REQUEST,
                           "%s: tensor '%s': shape[%zu] is not a non-negative whole number",
                           st->path, t->name, i);
        t->dims[i] = json_integer_value(d);
        if (__builtin_mul_overflow(*bytes, (uint64_t)t->dims[i], bytes))
            return refuse(st, t, e, "the product of its shape overflows");
    }
    return 0;
}

static int read_offset(struct safetensors *st, struct tensor *t, const json_t *v, size_t *out,
                       struct err *e)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return refuse(st, t, e, "data_offsets is not a pair of non-negative whole numbers");
    *out = (size_t)json_integer_value(v);
    return 0;
}

// Fills t (its name is set) from the header's value; data, data_bytes are all tensors' bytes.
static int read_tensor(struct safetensors *st, struct tensor *t, const json_t *v,
                       const unsigned char *data, size_t data_bytes, struct err *e)
{
    size_t want = 0, begin = 0, end = 0;
    if (!json_is_object(v))
        return refuse(st, t, e, "its entry in the header is not an object");
    if (read_dtype(st, t, json_object_get(v, "dtype"), &want, e) ||
        read_shape(st, t, json_object_get(v, "shape"), &want, e))
        return -1;
    const json_t *pair = json_object_get(v, "data_offsets");
    if (!json_is_array(pair) || json_array_size(pair) != 2)
        return refuse(st, t, e, "data_offsets is not a pair of non-negative whole numbers");
    if (read_offset(st, t, json_array_get(pair, 0), &begin, e) ||
        read_offset(st, t, json_array_get(pair, 1), &end, e))
        return -1;
    if (begin > end || end > data_bytes)
        return err_set(
            e, ERR_BAD_REQUEST,
            "%s: tensor '%s': data_offsets [%zu, %zu] leave the file's %zu bytes of data", st->path,
            t->name, begin, end, data_bytes);
    if (end - begin != want)
        return err_set(e, ERR_BAD_REQUEST,
                       "%s: tensor '%s': data_offsets span %zu bytes, its shape and dtype need %zu",
                       st->path, t->name, end - begin, want);
    t->data = data + begin;
    t->bytes = want;
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    if (x->data != y->data)
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); // empty tensors first
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

// The format wants every byte of data to belong to exactly one tensor. Sorts by place, then by name.
static int check_places(struct safetensors *st, const unsigned char *data, size_t data_bytes,
                        struct err *e)
{
    if (st->n)
        qsort(st->tensors, st->n, sizeof *st->tensors, by_place);
    const unsigned char *next = data;
    for (size_t i = 0; i < st->n; i++) {
        struct tensor *t = &st->tensors[i];
        if ((const unsigned char *)t->data < next)
            return refuse(st, t, e, "its bytes overlap another tensor's");
        if ((const unsigned char *)t->data > next)
            return refuse(st, t, e, "bytes before its data belong to no tensor");
        next += t->bytes;
    }
    if (next != data + data_bytes)
        return err_set(e, ERR_BAD_REQUEST, "%s: %zu bytes at the end belong to no tensor", st->path,
                       (size_t)(data + data_bytes - next));
    if (st->n)
        qsort(st->tensors, st->n, sizeof *st->tensors, by_name);
    return 0;
}

// Copies the names out of the document, so that it can go.
static void take_names(struct safetensors *st, json_t *header)
{
    const char *key = NULL;
    json_t *v = NULL;
    size_t bytes = 0;
    json_object_foreach(header, key, v)
    {
        bytes += strlen(key) + 1;
    }
    st->names = mem_alloc(bytes + 1);
    st->tensors = mem_zero(json_object_size(header) + 1, sizeof *st->tensors);
    char *p = st->names;
    json_object_foreach(header, key, v)
    {
        if (!strcmp(key, "__metadata__"))
            continue;
        size_t n = strlen(key) + 1;
        st->tensors[st->n++].name = memcpy(p, key, n);
        p += n;
    }
}

static int read_header(struct safetensors *st, const unsigned char *file, size_t n, struct err *e)
{
    uint64_t header_bytes = 0;
    if (n < PREFIX_BYTES)
        return err_set(e, ERR_BAD_REQUEST, "%s: %zu bytes are too few for a safetensors file",
                       st->path, n);
    for (int i = 0; i < PREFIX_BYTES; i++)
        header_bytes |= (uint64_t)file[i] << (8 * i);
    if (header_bytes > n - PREFIX_BYTES || header_bytes > HEADER_BYTES_MAX)
        return err_set(
            e, ERR_BAD_REQUEST,
            "%s: a header of %llu bytes does not fit this file of %zu bytes (or the limit "
            "of %d); the file is cut short or is not safetensors",
            st->path, (unsigned long long)header_bytes, n, HEADER_BYTES_MAX);
    struct err inner;
    json_t *header = json_parse((const char *)file + PREFIX_BYTES, (size_t)header_bytes,
                                HEADER_DEPTH_MAX, &inner);
    if (!header)
        return err_set(e, ERR_BAD_REQUEST, "%s: header: %s", st->path, inner.text);
    const unsigned char *data = file + PREFIX_BYTES + header_bytes;
    size_t data_bytes = n - PREFIX_BYTES - (size_t)header_bytes;
    int rc = 0;
    if (!json_is_object(header))
        rc = err_set(e, ERR_BAD_REQUEST, "%s: the header is not a JSON object", st->path);
    else
        take_names(st, header);
    for (size_t i = 0; !rc && i < st->n; i++)
        rc = read_tensor(st, &st->tensors[i], json_object_get(header, st->tensors[i].name), data,
                         data_bytes, e);
    json_decref(header);
    return rc ? rc : check_places(st, data, data_bytes, e);
}

struct safetensors *safetensors_parse(const void *data, size_t n, const char *path, struct err *e)
{
    struct safetensors *st = mem_zero(1, sizeof *st);
    st->path = mem_string(path, strlen(path));
    if (read_header(st, data, n, e)) {
        safetensors_close(st);
        return NULL;
    }
    return st;
}

// Maps the whole file. *n = 0 and NULL with e filled on failure.
static const void *map_file(const char *path, size_t *n, struct err *e)
{
    struct stat s;
    void *map = MAP_FAILED;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_BAD_REQUEST, "%s: %s", path,
                strerror(errno));
        return NULL;
    }
    if (fstat(fd, &s))
        err_set(e, ERR_BAD_REQUEST, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(s.st_mode))
        err_set(e, ERR_BAD_REQUEST, "%s: not a regular file", path);
    else if (s.st_size < PREFIX_BYTES)
        err_set(e, ERR_BAD_REQUEST, "%s: %lld bytes are too few for a safetensors file", path,
                (long long)s.st_size);
    else if ((map = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        err_set(e, ERR_TOO_LARGE, "%s: cannot be mapped: %s", path, strerror(errno));
    close(fd);
    if (map == MAP_FAILED)
        return NULL;
    *n = (size_t)s.st_size;
    return map;
}

struct safetensors *safetensors_open(const char *path, struct err *e)
{
    size_t n = 0;
    const void *map = map_file(path, &n, e);
    if (!map)
        return NULL;
    struct safetensors *st = safetensors_parse(map, n, path, e);
    if (!st) {
        munmap((void *)(uintptr_t)map, n);
        return NULL;
    }
    st->map = map;
    st->map_bytes = n;
    return st;
}

void safetensors_close(struct safetensors *st)
{
    if (!st)
        return;
    if (st->map)
        munmap((void *)(uintptr_t)st->map, st->map_bytes);
    mem_free(st->tensors);
    mem_free(st->names);
    mem_free(st->path);
    mem_free(st);
}

const char *safetensors_path(const struct safetensors *st)
{
    return st->path;
}

size_t safetensors_count(const struct safetensors *st)
{
    return st->n;
}

const struct tensor *safetensors_at(const struct safetensors *st, size_t i)
{
    CHECK(i < st->n);
    return &st->tensors[i];
}

const struct tensor *safetensors_find(const struct safetensors *st, const char *name)
{
    struct tensor key = {.name = name};
    return st->n ? bsearch(&key, st->tensors, st->n, sizeof key, by_name) : NULL;
}
