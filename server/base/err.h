// err.h - what went wrong, in words a client can act on.
//
// Three kinds of failure, three answers:
//   someone else's fault or a full house  -> int function returns -1 with struct err filled
//   our own bug                           -> CHECK(cond): print file, line and abort, in release too
//   the device is lost                    -> ERR_DEVICE to every generation, then the process exits
//
// int functions: 0 is done, -1 is failed. bool functions answer a question. Pointer functions: NULL
// is failed. Pure functions of caller's memory, so any thread may call them.
#ifndef ERR_H
#define ERR_H

#include <stdbool.h>
#include <stddef.h>

// X(name, HTTP status, OpenAI error type, OpenAI error code or NULL)
#define ERR_LIST(X)                                                                                \
    X(OK, 200, "", NULL)                                                                           \
    X(BAD_REQUEST, 400, "invalid_request_error", NULL)                                             \
    X(CONTEXT_LENGTH, 400, "invalid_request_error", "context_length_exceeded")                     \
    X(UNSUPPORTED, 400, "invalid_request_error", "unsupported_parameter")                          \
    X(UNAUTHORIZED, 401, "authentication_error", "invalid_api_key")                                \
    X(FORBIDDEN, 403, "permission_error", "forbidden")                                             \
    X(NOT_FOUND, 404, "invalid_request_error", "not_found")                                        \
    X(MODEL_NOT_FOUND, 404, "invalid_request_error", "model_not_found")                            \
    X(METHOD, 405, "invalid_request_error", "method_not_allowed")                                  \
    X(CONFLICT, 409, "invalid_request_error", "conflict")                                          \
    X(NOT_FINISHED, 409, "invalid_request_error", "job_not_finished")                              \
    X(TOO_LARGE, 413, "invalid_request_error", "request_too_large")                                \
    X(MEDIA_TYPE, 415, "invalid_request_error", "unsupported_media_type")                          \
    X(KEY_REUSED, 422, "invalid_request_error", "idempotency_key_reused")                          \
    X(BUSY, 429, "rate_limit_error", "rate_limit_exceeded")                                        \
    X(CANCELLED, 499, "cancelled", "cancelled")                                                    \
    X(INTERNAL, 500, "server_error", "internal_error")                                             \
    X(DEVICE, 500, "server_error", "device_lost")                                                  \
    X(LOADING, 503, "server_error", "model_loading")                                               \
    X(PAUSED, 503, "server_error", "admission_paused")                                             \
    X(SHUTTING_DOWN, 503, "server_error", "server_shutting_down")                                  \
    X(TIMEOUT, 504, "server_error", "timeout")                                                     \
    X(STORAGE, 507, "server_error", "storage_full")

enum err_code {
#define X(name, http, type, code) ERR_##name,
    ERR_LIST(X)
#undef X
};

struct err {
    enum err_code code;
    char param[96]; // JSON path of the field at fault, e.g. "messages[2].role"; "" when none
    char text[416]; // one sentence: field or file, value found, what to do
};

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

// Fill e and return -1, so that `return err_set(...)` is the idiom. e may be NULL. Text that does
// not fit is cut at a UTF-8 border.
int err_set(struct err *e, enum err_code code, const char *format, ...) PRINTF_LIKE(3, 4);

// As err_set, and names the request field at fault (param is copied).
int err_field(struct err *e, enum err_code code, const char *param, const char *format, ...)
    PRINTF_LIKE(4, 5);

// The one place that turns a code into an HTTP status, an OpenAI error type and an OpenAI code
// (NULL when the protocol has none).
int err_http(enum err_code code);
const char *err_type(enum err_code code);
const char *err_slug(enum err_code code);

// A broken invariant: our bug, never a client's. Prints and aborts; stays on in release builds.
#define CHECK(cond) ((cond) ? (void)0 : err_abort(__FILE__, __LINE__, #cond))
_Noreturn void err_abort(const char *file, int line, const char *what);

#endif
