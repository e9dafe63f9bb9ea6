// config.h - one table of options: flag, environment variable, default, limits, help. The only getenv
// of the program. Rooms get plain numbers from main and never include this. Main thread, at start.
#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "err.h"

// Every option, as it stands after defaults, environment and command line (the later wins).
struct config_values {
    const char *model, *model_id, *model_alias, *device, *dtype, *state_dtype;
    const char *inverse, *inverse_dtype, *inverse_executor;
    int64_t chunk, residual_every;
    int64_t context_max, batch_tokens, sequences_max, kv_bytes, threads, device_index;
    const char *host;
    int64_t port;
    const char *api_key_file;
    bool insecure, any_model, thinking;
    int64_t queue_max, n_max, max_tokens_default;
    int64_t connections_max, connections_per_ip, body_bytes_max, idle_timeout_ms;
    int64_t heartbeat_ms, drain_timeout_ms;
    const char *jobs_db;
    int64_t jobs_queue_max, jobs_keep_max, jobs_keep_hours, jobs_bytes_max;
    int64_t jobs_timeout_s, jobs_lull_ms, jobs_pause_ms;
    const char *log_level, *trace;
    bool check, help, version;
};

// Fill v from the environment (DELTASERVE_<FLAG>) and argv. Strings are borrowed from both. The error
// names the option, the value and what is allowed.
int config_read(struct config_values *v, int argc, char **argv, struct err *e) MUST_USE;

// OpenMP's library reads OMP_WAIT_POLICY before main. Where it is not set, set it to passive and start
// the program anew (same process); returns when it is set. Threads that spin at the end of every loop
// make a server on shared cores tens of times slower: 3,200 against 96 prompt tokens/s with the
// bundled model on two cores at load 10 (2026-11-23).
void config_wait_passively(char **argv);

// The path of a file that this program keeps between runs: deltaserve/NAME in $XDG_STATE_HOME, else in
// ~/.local/state. false when neither is known or the path is longer than size.
bool config_state_path(const char *name, char *path, size_t size);

void config_help(FILE *f);                                 // the table, for people
void config_print(const struct config_values *v, FILE *f); // name = value, one a line

#endif
