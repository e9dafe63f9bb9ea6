// spec_fields.h - one table says what a job's spec may hold: the same rows make the JSON Schema that
// clients read, the checks of what they send, and the defaults. Pure functions, any thread.
#ifndef SPEC_FIELDS_H
#define SPEC_FIELDS_H

#include <jansson.h>
#include <stdbool.h>

#include "err.h"

enum spec_kind {
    SPEC_BOOL,
    SPEC_INT,
    SPEC_NUM,
    SPEC_STR,
    SPEC_INTS, // lists; a single value is taken as a list of one
    SPEC_NUMS,
    SPEC_STRS,
    SPEC_OBJECT, // of `fields`
};

struct spec_field {
    const char *name;
    enum spec_kind kind;
    const char *def;  // JSON text of the default; NULL: null, which the job fills in or leaves
    double min, max;  // of a number, or of the bytes of a string; of each entry of a list
    int items_max;    // of a list; the least is 1
    const char *help; // one sentence
    const char *const *choices;      // of strings, ended by NULL; NULL: any
    const struct spec_field *fields; // SPEC_OBJECT
    int n_fields;
};

// The JSON Schema (draft 2020-12) of an object of these fields. New reference.
json_t *spec_schema(const struct spec_field *fields, int n);

// spec checked and with every default filled in, in the order of the table; new reference. NULL with
// ERR_BAD_REQUEST and the param ("spec.tokens[2]") for a wrong value or a field that no row names.
json_t *spec_expand(const struct spec_field *fields, int n, json_t *spec, struct err *e) MUST_USE;

// Members of an expanded spec. Lists are never empty; spec_num of null is NaN.
int spec_int(const json_t *spec, const char *name);
double spec_num(const json_t *spec, const char *name);
bool spec_bool(const json_t *spec, const char *name);
const char *spec_str(const json_t *spec, const char *name); // NULL for null
int spec_count(const json_t *spec, const char *name);       // of a list; 0 for null
int spec_int_at(const json_t *spec, const char *name, int i);
double spec_num_at(const json_t *spec, const char *name, int i);
const char *spec_str_at(const json_t *spec, const char *name, int i);

#endif
