// http_client.h - a raw-socket HTTP/1.1 client for tests: sends any bytes in any pieces, and reads
// heads, bodies, chunks and server-sent events, each with a deadline so that no test hangs.
// One thread per client.
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

enum { CLIENT_DEADLINE_MS = 600000, ANSWER_HEADERS_MAX = 64 }; // sanitizers on slow machines

struct client {
    int fd;         // -1: not connected
    struct buf in;  // received, not yet taken
    bool eof;       // the server closed, or the connection failed
    bool timed_out; // the last read gave up after its deadline
};

struct answer {
    int status;      // 0: no head was read
    struct buf head; // status line and headers, lines ended by NUL
    struct {
        const char *name, *value;
    } headers[ANSWER_HEADERS_MAX];
    int n_headers;
    struct buf body;   // what has been read of it, chunks joined
    bool chunked;      //
    bool complete;     // the body has ended as its framing says
    size_t left;       // of the body or the chunk; SIZE_MAX: until the server closes
    size_t event_from; // where in body the next event begins
};

// false when the connection is refused.
bool client_open(struct client *c, int port);
void client_close(struct client *c); // orderly, as close() does it
void client_reset(struct client *c); // with a reset, as a killed process or a lost network

// false when the server has closed. Blocks while the server does not read.
bool client_send(struct client *c, const void *bytes, size_t n);
bool client_text(struct client *c, const char *format, ...) PRINTF_LIKE(2, 3);
// A whole request: headers is "" or lines ending in "\r\n"; body NULL: none.
bool client_request(struct client *c, const char *method, const char *path, const char *headers,
                    const char *body);

// Each answer_ function begins with an all-zero answer, or one after answer_fini.
// The next head, skipping 100 Continue; false at the end of input, after the deadline, or if it is
// not HTTP.
bool answer_head(struct answer *a, struct client *c);
bool answer_more(struct answer *a, struct client *c); // some more of the body; false at its end
bool answer_body(struct answer *a, struct client *c); // all of the body; false if it is cut short
bool answer_read(struct answer *a, struct client *c); // head and body
// The next event of a stream (its lines, without the empty one), valid until the next call; NULL when
// the body has ended. Comments (": ...") are returned too.
const char *answer_event(struct answer *a, struct client *c);
const char *answer_header(const struct answer *a, const char *name); // or NULL
bool answer_header_is(const struct answer *a, const char *name, const char *value);
bool answer_has(const struct answer *a, const char *text); // the body, somewhere
bool answer_is(const struct answer *a, const char *text);  // the whole body
void answer_fini(struct answer *a);

bool client_at_end(struct client *c); // wait until the server closes; false if it sends more first
bool client_skip_to_end(struct client *c); // the same, whatever comes before
// Nothing arrives for so long. (A test of silence needs a time; it cannot fail by being slow.)
bool client_is_silent(struct client *c, int ms);

// One request on a connection of its own, read to its end. status 0 on failure.
void client_once(struct answer *a, int port, const char *method, const char *path,
                 const char *headers, const char *body);

#endif
