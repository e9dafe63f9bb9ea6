// report.h - a job's result document (schema "deltaserve.result/1") as something to read or to load.
//
// Generic: a report knows tables, checks and plots, and nothing of any type of job. Texts may come from
// a user's request, so every format escapes them; a part of the document that cannot be understood is
// left out and the report says which and why. Pure functions of the caller's memory: any thread.
//
//   JSON      the document, indented, keys in their order; an array or object of few plain values is
//             on one line, numbers are the shortest that read back equal
//   Markdown  GitHub's tables, padded, so that it can be read as it is and pasted into a pull request
//   CSV       RFC 4180. One header and lines of equal length: `table`, `state`, then every column of
//             every table under its name, a name used by two tables once. A line fills its table's
//             columns and leaves the others empty. Checks are the table "checks". Null is empty. A text
//             that a spreadsheet would run as a formula begins with '
//   HTML      one file without scripts or outside requests, plots as SVG, for paper and small screens
// Markdown and HTML, for people, leave out columns that have nothing in any row or are "hidden": true.
#ifndef REPORT_H
#define REPORT_H

#include <jansson.h>

#include "buf.h"
#include "err.h"

enum report_format { REPORT_JSON, REPORT_MARKDOWN, REPORT_CSV, REPORT_HTML };

// Append result as f to out. result is borrowed. Fails with ERR_INTERNAL when it is no result document
// and with ERR_TOO_LARGE when the report passes out->max; out then holds a part of it.
int report_render(const json_t *result, enum report_format f, struct buf *out,
                  struct err *e) MUST_USE;

// The format that ?format=name asks for: json, md or markdown, csv, html. ERR_BAD_REQUEST otherwise.
int report_format_read(const char *name, enum report_format *f, struct err *e) MUST_USE;
// The format that an Accept header (NULL: none) asks for, the first of its list that is known; JSON
// when it knows none.
enum report_format report_format_accepted(const char *accept);
const char *report_content_type(enum report_format f);
const char *report_extension(enum report_format f); // "md", without a dot

#endif
