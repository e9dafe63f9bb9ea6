// target.h - the target of a request line (RFC 9112, 3.2) taken apart: path and query, decoded once.
// Pure functions; memory comes from the caller's arena.
#ifndef TARGET_H
#define TARGET_H

#include <stddef.h>

#include "arena.h"
#include "err.h"

struct target {
    const char *raw_path; // as it was sent, without the query; what the log shows
    const char *path;     // decoded; begins with '/'
    const char *query;    // as it was sent, after the '?', or ""
};

// Take n bytes apart: origin form ("/path?query") or absolute form ("http://host/path?query"). Refuses
// a wrong escape, a bare space, and any control byte even when escaped (a NUL would end the string
// early): ERR_BAD_REQUEST.
int target_parse(struct target *t, struct arena *a, const char *raw, size_t n,
                 struct err *e) MUST_USE;

// The first parameter of that name, decoded ('+' is a space); NULL when there is none.
const char *target_query(const struct target *t, struct arena *a, const char *name);

#endif
