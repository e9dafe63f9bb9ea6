// keys.h - the API keys of a file, and the question whether a request carries one of them.
#ifndef KEYS_H
#define KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"

enum { KEY_BYTES_MAX = 256, KEYS_MAX = 1024 };

// All-zero is a valid empty set. Does not change after it is read, so any thread may ask.
struct keys {
    char (*key)[KEY_BYTES_MAX]; // [n], each padded with zeros
    int n;
};

// Read a file with one key a line; empty lines and lines that begin with '#' are skipped. A key is 1
// to KEY_BYTES_MAX - 1 printable ASCII characters without spaces. A file without a key is an error:
// it would leave the server open. The error names the file and the line, never a key.
int keys_read(struct keys *k, const char *path, struct err *e) MUST_USE;
void keys_fini(struct keys *k);

// Is the value of an Authorization header "Bearer " and one of the keys? authorization may be NULL.
// The time taken does not depend on where a wrong key differs, or on which key is right.
bool keys_match(const struct keys *k, const char *authorization);

#endif
