// report_write.h - the writers behind report_render, one a format. They append to out; whether out's
// maximum held is for report_render to see.
#ifndef REPORT_WRITE_H
#define REPORT_WRITE_H

#include "report_doc.h"

void report_json(const json_t *result, struct buf *out); // any JSON value, ends with a line feed
void report_markdown(struct report_doc *d, struct buf *out);
void report_csv(struct report_doc *d, struct buf *out);
void report_html(struct report_doc *d, struct buf *out);

#endif
