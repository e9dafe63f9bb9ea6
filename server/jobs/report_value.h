// report_value.h - one value of a result document as text.
#ifndef REPORT_VALUE_H
#define REPORT_VALUE_H

#include "buf.h"
#include "report_doc.h"

// v, which is finite, in the fewest digits that read back equal.
void value_exact(struct buf *out, double v);
// v in `digits` significant digits, without an exponent where that stays readable; 0: at most 6 and no
// zeros at the end.
void value_rounded(struct buf *out, double v, int digits);
// Any JSON value, exact: a string as it is, null as nothing, arrays and objects as compact JSON.
void value_raw(struct buf *out, const json_t *v);
// For people: numbers rounded to the column's digits, no control characters. "" for null. The text
// lives in d's arena.
const char *value_cell(struct report_doc *d, const json_t *v, const struct report_column *c);

#endif
