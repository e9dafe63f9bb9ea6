// tokenizer_parts.h - what a tokenizer is made of; for tokenizer.c, which encodes, and tokenizer_json.c,
// which reads the files. Other rooms include tokenizer.h.
#ifndef TOKENIZER_PARTS_H
#define TOKENIZER_PARTS_H

#include "bpe.h"
#include "pretokenize.h"
#include "tokenizer.h"
#include "unicode.h"
#include "vocab.h"

struct tokenizer {
    struct unicode unicode;
    struct pretokenizer pretokenizer;
    struct vocab vocab;
    struct bpe bpe;
    bool nfc;          // normalise text before it is cut
    char *config_json; // tokenizer_config.json's text, or NULL
};

#endif
