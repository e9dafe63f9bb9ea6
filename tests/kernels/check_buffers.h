// check_buffers.h - the runner's side of a case's buffers; case files need only ops_check.h.
#ifndef CHECK_BUFFERS_H
#define CHECK_BUFFERS_H

#include "ops_check.h"

// Bytes of all-bits-set around every buffer: NaN as any float, so reading outside shows in the
// result, and writing outside shows in the guard. A multiple of 64 keeps the alignment.
enum { CHECK_GUARD = 256 };

void check_upload(struct check_case *c); // every buffer as its host side says, guards renewed

// A copy of a buffer's device side with both guards; free() it.
void *check_download(struct check_case *c, const struct check_buf *b);
bool check_guards(const struct check_buf *b, const void *image);

void check_case_free(struct check_case *c);

#endif
