// parts.h - what the handlers of this room share besides struct answer. Loop thread only.
#ifndef PARTS_H
#define PARTS_H

#include "api.h"
#include "json.h"

enum { JSON_DEPTH_MAX = 64 };

// One handler a path; see API_ROUTES.
handler_fn page_handle, completions_handle, chat_handle, models_list, models_get;
handler_fn tokenize_handle, detokenize_handle, tokenizer_info_handle;
handler_fn jobs_types, jobs_create, jobs_list, jobs_one, jobs_cancel_one, jobs_delete_one;
handler_fn jobs_events, jobs_result_one, jobs_compare, jobs_artifacts, jobs_artifact;
handler_fn health_live, health_ready, health_version, health_metrics;

// NULL with ERR_LOADING until api_ready.
const struct api_model *api_model_of(struct api_server *s, struct err *e) MUST_USE;

// Is name (NULL: any) what clients may call the served model? ERR_MODEL_NOT_FOUND otherwise.
int api_check_name(const struct api_server *s, const char *name, struct err *e) MUST_USE;

// The request's body as a JSON object in memory, which is the caller's also when this fails: see
// json_parse_in. Handlers end it before they return, since an answer may take minutes. Without memory the
// object is the caller's to json_decref, and parts of it may be kept.
json_t *api_parse_body(const struct request *q, struct arena *memory, struct err *e) MUST_USE;

// 64 bits that differ for every call and every process.
uint64_t api_random(struct api_server *s);

// Append v as JSON text.
void api_write_json(struct buf *out, const json_t *v);

// Fields this server knows of but does not have, ended by an all-NULL row. A field that is absent,
// null, false, 0 or empty asks for nothing and is accepted.
struct unsupported {
    const char *field;
    const char *advice; // ends the sentence "... is not supported; "
};
int api_refuse(const struct unsupported *fields, json_t *body, struct err *e) MUST_USE;

#endif
