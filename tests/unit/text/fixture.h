// fixture.h - what the tests of server/text share: the tiny tokenizer and JSON files beside it.
#ifndef FIXTURE_H
#define FIXTURE_H

#include <jansson.h>

#include "tokenizer.h"

#define TINY_DIR TEST_SOURCE_DIR "/tests/data/tiny_tokenizer"

json_t *fixture_json(const char *path); // path below tests/data; the caller's
struct tokenizer *fixture_tokenizer(void);

// tokenizer_parse of a document; config may be NULL. Steals nothing.
struct tokenizer *fixture_parse(const json_t *document, const char *config, struct err *e);

#endif
