// compare.h - two results of the same kind, row by row: same, faster, slower or ambiguous. Pure
// functions of the caller's memory; any thread.
//
// A table says what of it can be compared by an object "compare":
//   {"key": ["op", "shape", ...], "value": "median_us", "low": "ci_low_us", "high": "ci_high_us",
//    "lower_is_better": true}
// What is left out is as above, key being all columns of kind "text"; a table without the object is
// compared so when it has those three columns.
//
// A row's rule. r = value of b / value of a; the tolerance t is what a difference must reach to matter.
//   SAME       |r - 1| < t, in the direction of the smaller: neither is t above the other
//   SLOWER     b is worse by t or more, and the intervals are apart
//   FASTER     b is better by t or more, and the intervals are apart
//   AMBIGUOUS  t or more between the values, but the intervals overlap: measure longer
//   FAILED     the row failed (row_states) or has no number in one of the two
//   MISSING    only one of the two has the row
// Gaps of intervals, not tests of means, after nvbench-compare; the tolerance because an interval of one
// run does not hold what differs between runs (clocks, memory layout).
#ifndef COMPARE_H
#define COMPARE_H

#include <jansson.h>

#include "err.h"

#define COMPARE_TOLERANCE 0.03

struct compare_options {
    const char *base, *new; // what the summary calls them: ids
    double tolerance;       // t
    const char *ignore;     // a column of the key that rows may differ in ("method"), or NULL
};

// A result document (deltaserve.result/1, type "compare") of b, the new one, against a, the base; verdict
// "fail" when a row is slower; new reference. ERR_BAD_REQUEST when the two have no table in common that
// can be compared.
json_t *compare_results(const json_t *a, const json_t *b, const struct compare_options *o,
                        struct err *e) MUST_USE;

#endif
