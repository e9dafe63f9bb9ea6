// http_load.h - requests to this very server over its own sockets, many at a time, timed as a client sees
// them. Job thread; blocks it, not the server's.
#ifndef HTTP_LOAD_H
#define HTTP_LOAD_H

#include "job_type.h"

struct load_request {
    int prompt, output; // tokens
    double at_s;        // when it comes, from the step's start; -1: as soon as a place is free
};

struct load_answer {
    bool done;   // answered in full with status 200
    long status; // of HTTP; 0: no answer
    int tokens;  // generated
    double ttft_ms, e2e_ms;
};

struct load_step {
    const struct load_request *requests;
    int n, in_flight_max;
    int shared_prefix;  // tokens that all prompts begin with
    double seconds_max; // then the rest is given up
    uint64_t seed;      // of the prompts' ids
    // Out.
    struct load_answer *answers; // [n], the caller's
    double *gaps_ms;             // between two events of one answer that carry tokens; mem_free
    int n_gaps, gaps_max;
    int events;     // that carried tokens
    double seconds; // from the first request to the last answer
    int not_sent;   // given up
};

// ERR_CANCELLED, or ERR_INTERNAL when no client can be made; what the server answers is no failure.
int load_run(struct job_run *run, struct load_step *s, struct err *e) MUST_USE;

#endif
