// test_server.h - the http room in this process, with small routes that a test can count and hold.
//
//   GET  /open            open to everybody; answers at once
//   GET  /hello?name=X    {"method":...,"path":...,"name":X}
//   GET  /things/*        {"tail":...}            GET /things/fixed goes before it
//   GET  /parts/{a}, /parts/{a}/of/{b}, /parts/{a}/of/{b}/*   {"vars":[...],"tail":...}
//   POST /timed?gap_us=U   a pulled reply that nobody wakes: it asks to be called after U
//   POST /echo            the body
//   POST /small           the same
//   POST /later?events=N  a pulled reply that is no stream: its thread wakes N times, then all is sent
//   GET  /stream?events=N&bytes=B&gap_us=U   a stream made by a thread of its own
//   GET  /held            a stream that begins and then waits for ever
//   POST /silent          a pulled reply that waits for ever; GET: a stream that does not even begin
//   GET  /refused         the handler fails with ERR_BUSY
//   GET  /broken          the handler fails with ERR_INTERNAL and a text nobody may see
//   GET  /lost            a stream whose first pull finds the device lost
#ifndef TEST_SERVER_H
#define TEST_SERVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "http.h"

struct test_server {
    struct http *http;
    struct http_options options; // set up by test_server_options, changed by the test
    int port;
    pthread_t thread;
    atomic_int handled, gone, live; // handlers run; replies ended; replies under way
    atomic_int pulls;
    atomic_int signals;
};

void test_server_options(struct test_server *s);
void test_server_start(struct test_server *s);
void test_server_join(struct test_server *s); // after http_drain or http_stop: wait for its end
void test_server_stop(struct test_server *s); // http_stop, and wait
// Wait until *value is what; false after a minute.
bool test_server_wait(atomic_int *value, int what);

#endif
