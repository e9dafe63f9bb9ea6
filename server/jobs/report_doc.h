// report_doc.h - a result document, checked: what the writers of this folder render. Everything here
// is valid and bounded, so they check nothing again.
//
// Texts are C strings of valid UTF-8 without control characters, never NULL ("" when absent), in the
// document's arena; cells are borrowed from the JSON.
#ifndef REPORT_DOC_H
#define REPORT_DOC_H

#include <jansson.h>
#include <stdbool.h>

#include "arena.h"
#include "err.h"
#include "plot.h"

enum {
    REPORT_TABLES_MAX = 64,
    REPORT_COLUMNS_MAX = 64,
    REPORT_SENTENCES_MAX = 256, // of summary and notes each
    REPORT_OMITTED_MAX = 32,    // omissions told one by one
};

struct report_list {
    const char **texts; // [n]
    int n;
};

enum report_kind { REPORT_TEXT, REPORT_NUMBER };

struct report_column {
    const char *name, *title, *unit;
    enum report_kind kind;
    int digits;  // significant ones shown to people; 0: as many as say something, at most 6
    bool whole;  // not one of its numbers has a fraction
    bool hidden; // from people: for scripts alone, or nothing in it. CSV and JSON have it
};

struct report_table {
    const char *name, *title, *note;
    struct report_column *columns; // [n_columns]
    int n_columns;
    const json_t **rows; // [n_rows], each an array of n_columns values
    const char **states; // [n_rows] "ok", "failed", ..., or NULL when the table has none
    int n_rows;
};

struct report_doc {
    struct arena arena;
    const char *type, *title;
    const char *verdict; // "pass", "fail" or ""
    bool partial;
    struct report_list summary, notes;
    struct report_table checks; // name, value, limit; states "pass" or "fail"
    const json_t *environment;  // an object, or NULL
    struct report_table *tables;
    int n_tables;
    struct plot *plots;
    int n_plots;
    struct report_list omitted; // parts left out, one sentence each
    int n_omitted;              // all of them, also those without a sentence
    json_t *owned;              // values made here that tables borrow
};

// Check result. Fails with ERR_INTERNAL when it is not a result document of this schema; *d is then
// empty. Smaller faults are d->omitted.
int report_doc_read(struct report_doc *d, const json_t *result, struct err *e) MUST_USE;
void report_doc_fini(struct report_doc *d);

// Say that a part is left out; the texts of a document never go into the sentence, only its places.
void report_doc_omit(struct report_doc *d, const char *format, ...) PRINTF_LIKE(2, 3);
// A string value as a text of d's arena; "" for anything else.
const char *report_doc_text(struct report_doc *d, const json_t *v);
// report_plot.c: the plots of the document.
void report_doc_read_plots(struct report_doc *d, const json_t *plots);

#endif
