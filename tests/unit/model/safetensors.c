// safetensors.c - every way a safetensors file can lie, and that it is told.
#define _GNU_SOURCE
#include "safetensors.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"

// The file with this header and so many zero bytes of data; the caller frees.
static struct buf file(const char *header, size_t data_bytes)
{
    struct buf b = {0};
    uint64_t n = strlen(header);
    buf_add(&b, &n, sizeof n);
    buf_str(&b, header);
    for (size_t i = 0; i < data_bytes; i++)
        buf_add(&b, "", 1);
    return b;
}

static const char *refusal(const char *header, size_t data_bytes)
{
    static struct err e;
    e = (struct err){0};
    struct buf b = file(header, data_bytes);
    struct safetensors *st = safetensors_parse(b.data, b.n, "f", &e);
    cr_assert(st == NULL, "accepted %s", header);
    cr_assert_eq(e.code, ERR_BAD_REQUEST);
    buf_fini(&b);
    return e.text;
}

#define EXPECT(text, want) cr_assert(strstr(text, want), "'%s' lacks '%s'", text, want)

Test(safetensors, reads)
{
    struct err e;
    struct buf b = file("{\"__metadata__\":{\"format\":\"pt\"},"
                        "\"b\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[12,20]},"
                        "\"a\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
                        "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[12,12]},"
                        "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[20,24]}}  ",
                        24);
    struct safetensors *st = safetensors_parse(b.data, b.n, "f", &e);
    cr_assert(st != NULL, "%s", e.text);
    cr_assert_eq(safetensors_count(st), 4);
    const struct tensor *a = safetensors_find(st, "a");
    cr_assert(a && a->dtype == DTYPE_BF16 && a->n_dims == 2 && a->dims[1] == 3 && a->bytes == 12);
    cr_assert(a->data == b.data + b.n - 24);
    cr_assert_eq(safetensors_find(st, "b")->dtype, -1);
    cr_assert_str_eq(safetensors_find(st, "b")->dtype_text, "I64");
    cr_assert_eq(safetensors_find(st, "empty")->bytes, 0);
    cr_assert_eq(safetensors_find(st, "scalar")->bytes, 4);
    cr_assert(safetensors_find(st, "c") == NULL);
    cr_assert_str_eq(safetensors_at(st, 0)->name, "a");
    safetensors_close(st);
    safetensors_close(NULL);
    buf_fini(&b);
}

Test(safetensors, empty_header)
{
    struct err e;
    struct buf b = file("{}", 0);
    struct safetensors *st = safetensors_parse(b.data, b.n, "f", &e);
    cr_assert(st != NULL, "%s", e.text);
    cr_assert(safetensors_find(st, "a") == NULL);
    safetensors_close(st);
    buf_fini(&b);
}

Test(safetensors, header_length)
{
    struct err e;
    unsigned char b[16] = {9, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    cr_assert(safetensors_parse(b, sizeof b, "f", &e) == NULL);
    EXPECT(e.text, "f: a header of 9 bytes does not fit this file of 16 bytes");
    memset(b, 0xFF, 8);
    cr_assert(safetensors_parse(b, sizeof b, "f", &e) == NULL);
    EXPECT(e.text, "18446744073709551615");
    cr_assert(safetensors_parse(b, 7, "f", &e) == NULL);
    EXPECT(e.text, "7 bytes are too few");
    cr_assert(safetensors_parse(b, 0, "f", &e) == NULL);
}

Test(safetensors, header_is_not_json)
{
    EXPECT(refusal("{\"a\":", 0), "f: header: ");
    EXPECT(refusal("[]", 0), "not a JSON object");
    EXPECT(refusal("", 0), "f: header: ");
    EXPECT(refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[[[[[[1]]]]]]}}", 0), "f: header: ");
}

Test(safetensors, duplicate_names)
{
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                   "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                   2),
           "f: header: ");
}

Test(safetensors, entry)
{
    EXPECT(refusal("{\"a\":1}", 0), "tensor 'a': its entry in the header is not an object");
    EXPECT(refusal("{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1), "dtype is missing");
    EXPECT(refusal("{\"a\":{\"dtype\":\"Q4\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1),
           "tensor 'a': dtype 'Q4' is unknown");
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1), "shape is missing");
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1),
           "shape[0] is not a non-negative whole number");
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1.5],\"data_offsets\":[0,1]}}", 1),
           "shape[0]");
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],"
                   "\"data_offsets\":[0,1]}}",
                   1),
           "shape has 9 dimensions, at most 8");
}

Test(safetensors, overflow)
{
    // 2^32 * 2^32 = 2^64, and 2^62 values of 4 bytes: both are 0 when they wrap.
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],"
                   "\"data_offsets\":[0,0]}}",
                   0),
           "the product of its shape overflows");
    EXPECT(refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],"
                   "\"data_offsets\":[0,0]}}",
                   0),
           "the product of its shape overflows");
}

Test(safetensors, offsets)
{
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1), "data_offsets is not a pair");
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1),
           "data_offsets is not a pair");
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]}}", 1),
           "data_offsets is not a pair");
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,2]}}", 1),
           "data_offsets [0, 2] leave the file's 1 bytes");
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1),
           "data_offsets [1, 0] leave");
    EXPECT(refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4),
           "data_offsets span 4 bytes, its shape and dtype need 8");
}

Test(safetensors, places)
{
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                   "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
                   3),
           "tensor 'b': its bytes overlap");
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                   "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
                   3),
           "tensor 'b': bytes before its data belong to no tensor");
    EXPECT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 3),
           "2 bytes at the end belong to no tensor");
}

Test(safetensors, files)
{
    struct err e;
    char path[] = TEST_BINARY_DIR "/safetensors-XXXXXX";
    cr_assert(safetensors_open("/nonexistent/x.safetensors", &e) == NULL);
    cr_assert_eq(e.code, ERR_NOT_FOUND);
    EXPECT(e.text, "/nonexistent/x.safetensors");
    cr_assert(safetensors_open(TEST_BINARY_DIR, &e) == NULL);
    EXPECT(e.text, "not a regular file");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_assert(safetensors_open(path, &e) == NULL);
    EXPECT(e.text, "0 bytes are too few");
    struct buf b = file("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4);
    cr_assert(write(fd, b.data, b.n - 1) == (ssize_t)b.n - 1);
    cr_assert(safetensors_open(path, &e) == NULL);
    EXPECT(e.text, "leave the file's 3 bytes"); // cut short by one byte
    cr_assert(write(fd, "", 1) == 1);
    struct safetensors *st = safetensors_open(path, &e);
    cr_assert(st != NULL, "%s", e.text);
    cr_assert_str_eq(safetensors_path(st), path);
    safetensors_close(st);
    buf_fini(&b);
    close(fd);
    unlink(path);
}
