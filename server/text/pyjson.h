// pyjson.h - JSON values as Python prints them, which is how chat templates put them into prompts: the
// models were trained on Python's spelling of 1.0, 1e+16, True and None. Any thread.
#ifndef PYJSON_H
#define PYJSON_H

#include <jansson.h>
#include <stdbool.h>

#include "buf.h"

enum { PYJSON_DEPTH_MAX = 64 };

// As json.dumps(v, ensure_ascii=False): ", " and ": " between things, keys in the order received.
// False when v is nested deeper than PYJSON_DEPTH_MAX; out then holds the beginning.
bool pyjson_dump(struct buf *out, const json_t *v);

// As str(v) of a string, a number, True, False or None; as pyjson_dump of an object or array.
bool pyjson_str(struct buf *out, const json_t *v);

#endif
