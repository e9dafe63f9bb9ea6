// json.h - jansson behind one table: every field of every request and of every config file has a
// type, a range and a default, and a wrong one is answered with the field, the value and the fix.
// Any thread; json_t values are the caller's.
#ifndef JSON_H
#define JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "buf.h"
#include "err.h"

enum json_kind {
    JSON_KIND_BOOL,   // bool
    JSON_KIND_INT,    // int64_t; 16.0 is taken as 16, 16.5 is an error
    JSON_KIND_NUM,    // double, finite
    JSON_KIND_STR,    // const char *, borrowed from the document; no NUL inside; min/max are bytes
    JSON_KIND_ARRAY,  // json_t *, borrowed; min/max count elements
    JSON_KIND_OBJECT, // json_t *, borrowed; min/max count keys
    JSON_KIND_ANY,    // json_t *, borrowed; the caller checks it
};

// One row of a schema table. Absent and null mean the default; NULL is the default of pointers.
struct json_field {
    const char *name;
    enum json_kind kind;
    size_t offset;   // of the member in the struct that json_read fills
    double min, max; // inclusive
    double def;      // BOOL, INT, NUM
    bool required;   // absent or null is an error
};

// Parse n bytes. Refuses more than depth_max nested arrays and objects, and more than 2^20 of them in
// all (ERR_TOO_LARGE), before it builds anything; then duplicate keys and bytes after the document,
// with line and column. Caller owns the result (json_decref). NULL on failure with ERR_BAD_REQUEST.
json_t *json_parse(const char *text, size_t n, int depth_max, struct err *e) MUST_USE;

// The same document in a's memory, for who only reads it: it ends with a, never by json_decref, and
// nothing is added to it or taken out. References taken and given back meanwhile do no harm. What a
// failure leaves in a is of no use. NULL for a: as json_parse.
json_t *json_parse_in(struct arena *a, const char *text, size_t n, int depth_max,
                      struct err *e) MUST_USE;

// Fill the struct at out from object, row by row. path is the JSON path of object ("" at the top,
// "messages[2]" below it) and leads the field's name in errors (err.param). Keys that no row names
// are left alone. On failure *out is partly filled.
int json_read(const struct json_field *fields, size_t n, json_t *object, const char *path,
              void *out, struct err *e) MUST_USE;

// A document's words for what v is: "a string", "null", "the number 3.5".
const char *json_describe(const json_t *v, char *text, size_t size);

// Append one JSON string literal of n bytes of UTF-8 to out. Bytes that are not UTF-8 become U+FFFD.
void json_quote(struct buf *out, const char *s, size_t n);

#endif
