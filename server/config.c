// config.c - see config.h.
#define _GNU_SOURCE
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum kind { TEXT, NUMBER, SWITCH };

struct option {
    const char *flag; // without the dashes; the variable is DELTASERVE_ and the flag in upper case
    enum kind kind;
    size_t offset;
    const char *def;
    int64_t min, max;
    const char *allowed; // TEXT: "a|b|c", or NULL for any
    const char *help;
};

#define AT(member) offsetof(struct config_values, member)
#define MIB ((int64_t)1 << 20)
#define TIB ((int64_t)1 << 40)

static const struct option OPTIONS[] = {
    {"model", TEXT, AT(model), "bundled", 0, 0, NULL,
     "checkpoint directory, Hugging Face cache entry, 'bundled', or dummy:0.8B|2B|4B|9B|27B (the "
     "published shape with made-up weights, to measure a node)"},
    {"model-id", TEXT, AT(model_id), "", 0, 0, NULL,
     "name clients use; default: the directory's name"},
    {"model-alias", TEXT, AT(model_alias), "", 0, 0, NULL,
     "other names that requests may use, with commas between them"},
    {"device", TEXT, AT(device), "auto", 0, 0, "auto|cpu|cuda",
     "where the model runs; auto: a GPU if there is one and this build knows it"},
    {"device-index", NUMBER, AT(device_index), "0", 0, 255, NULL, "which GPU"},
    {"dtype", TEXT, AT(dtype), "bf16", 0, 0, "f32|bf16|f16|int8",
     "type of the large matrices; f16 (on a GPU) is of activations and KV pages, too"},
    {"state-dtype", TEXT, AT(state_dtype), "f32", 0, 0, "f32|bf16",
     "type of the recurrent states between steps; bf16 halves them and rounds at every step"},
    {"threads", NUMBER, AT(threads), "0", 0, 1024, NULL, "CPU threads; 0: every core"},
    {"inverse", TEXT, AT(inverse), "auto", 0, 0, NULL,
     "auto|paper|substitution|merge|neumann:BLOCK,ORDER,RESIDUAL"},
    {"inverse-dtype", TEXT, AT(inverse_dtype), "auto", 0, 0, "auto|fp32|tf32|fp16|bf16|int8",
     "type of the inversion's products; auto: fp32 on the CPU, fp16 on a GPU"},
    {"inverse-executor", TEXT, AT(inverse_executor), "fused", 0, 0, "fused|cublas",
     "on a GPU: one kernel, or library products one after another"},
    {"chunk", NUMBER, AT(chunk), "64", 16, 128, NULL, "delta rule chunk: 16, 32, 64 or 128"},
    {"residual-every", NUMBER, AT(residual_every), "0", 0, 1 << 20, NULL,
     "check max|I - (I + A) T| of every n-th chunk and export it; 0: off"},
    {"context-max", NUMBER, AT(context_max), "0", 0, 1 << 24, NULL,
     "most tokens of prompt and answer; 0: the model's max_position_embeddings"},
    {"batch-tokens", NUMBER, AT(batch_tokens), "0", 0, 1 << 17, NULL,
     "most tokens of one step; 0: 512 on the CPU, 8192 on a GPU"},
    {"sequences-max", NUMBER, AT(sequences_max), "64", 1, 4096, NULL,
     "generations computed at a time"},
    {"kv-bytes", NUMBER, AT(kv_bytes), "0", 0, 64 * TIB, NULL,
     "budget of the KV pages; 0: sequences-max * context-max, at most a quarter of the memory"},
    {"queue-max", NUMBER, AT(queue_max), "256", 1, 1 << 20, NULL,
     "generations that may wait; more get 429"},
    {"n-max", NUMBER, AT(n_max), "16", 1, 1024, NULL, "most choices (prompts * n) of one request"},
    {"max-tokens-default", NUMBER, AT(max_tokens_default), "4096", 1, 1 << 24, NULL,
     "chat answers without max_tokens end here"},
    {"any-model", SWITCH, AT(any_model), "", 0, 0, NULL, "accept every 'model' field"},
    {"thinking", SWITCH, AT(thinking), "", 0, 0, NULL,
     "chat thinks unless enable_thinking is false (the default of Qwen3.5-4B and larger)"},
    {"host", TEXT, AT(host), "127.0.0.1", 0, 0, NULL, "address to listen on"},
    {"port", NUMBER, AT(port), "8080", 0, 65535, NULL, "port to listen on; 0: any free one"},
    {"api-key-file", TEXT, AT(api_key_file), "", 0, 0, NULL,
     "file with one API key a line; without it no key is asked for"},
    {"insecure", SWITCH, AT(insecure), "", 0, 0, NULL,
     "listen beyond this machine without an API key"},
    {"max-connections", NUMBER, AT(connections_max), "512", 1, 60000, NULL, "open connections"},
    {"max-connections-per-ip", NUMBER, AT(connections_per_ip), "0", 0, 60000, NULL,
     "open connections of one address; 0: no limit"},
    {"body-max-bytes", NUMBER, AT(body_bytes_max), "16777216", 1024, 1024 * MIB, NULL,
     "largest request body"},
    {"idle-timeout-ms", NUMBER, AT(idle_timeout_ms), "60000", 1000, 86400000, NULL,
     "a connection that sends and waits for nothing is closed"},
    {"heartbeat-ms", NUMBER, AT(heartbeat_ms), "15000", 0, 3600000, NULL,
     "comment in a stream after this silence; 0: never"},
    {"drain-timeout-ms", NUMBER, AT(drain_timeout_ms), "30000", 0, 3600000, NULL,
     "after SIGTERM, requests under way may take this long"},
    {"jobs-db", TEXT, AT(jobs_db), "auto", 0, 0, NULL,
     "SQLite file that keeps jobs, or ':memory:'; auto: jobs.sqlite in $XDG_STATE_HOME/deltaserve "
     "or ~/.local/state/deltaserve, else in memory"},
    {"jobs-queue-max", NUMBER, AT(jobs_queue_max), "64", 1, 100000, NULL,
     "jobs that may wait; more get 429"},
    {"jobs-keep-max", NUMBER, AT(jobs_keep_max), "1000", 1, 1000000, NULL,
     "finished jobs kept; the oldest go first"},
    {"jobs-keep-hours", NUMBER, AT(jobs_keep_hours), "720", 0, 1000000, NULL,
     "finished jobs are removed after this; 0: never"},
    {"jobs-max-bytes", NUMBER, AT(jobs_bytes_max), "1073741824", 131072, 64 * TIB, NULL,
     "size of the jobs-db file; at three quarters of it the oldest jobs are removed"},
    {"jobs-timeout-s", NUMBER, AT(jobs_timeout_s), "3600", 1, 1000000, NULL,
     "most a job may run, and its default timeout_s"},
    {"jobs-lull-ms", NUMBER, AT(jobs_lull_ms), "30000", 0, 3600000, NULL,
     "an exclusive job waits this long in all for moments without clients"},
    {"jobs-pause-ms", NUMBER, AT(jobs_pause_ms), "2000", 0, 3600000, NULL,
     "longest that a client's request is held back for an exclusive job"},
    {"log-level", TEXT, AT(log_level), "info", 0, 0, "debug|info|warn|error", "least level logged"},
    {"trace", TEXT, AT(trace), "", 0, 0, NULL, "file for one line per decision of the planner"},
    {"check", SWITCH, AT(check), "", 0, 0, NULL, "load the model, print the memory plan, exit"},
    {"help", SWITCH, AT(help), "", 0, 0, NULL, "print this table"},
    {"version", SWITCH, AT(version), "", 0, 0, NULL, "print the version"},
};
enum { N_OPTIONS = sizeof OPTIONS / sizeof *OPTIONS };

static void *member(struct config_values *v, const struct option *o)
{
    return (char *)v + o->offset;
}

static void variable_name(const struct option *o, char *name, size_t size)
{
    snprintf(name, size, "DELTASERVE_%s", o->flag);
    for (char *c = name; *c; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
}

static bool is_allowed(const char *allowed, const char *value)
{
    size_t n = strlen(value);
    for (const char *p = allowed; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (n && !strncmp(p, value, n) && (p[n] == '|' || p[n] == '\0'))
            return true;
    return false;
}

static int set_number(struct config_values *v, const struct option *o, const char *value,
                      const char *source, struct err *e)
{
    char *end = NULL;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (errno || end == value || *end || n < o->min || n > o->max)
        return err_set(e, ERR_BAD_REQUEST, "%s is '%s'; give a whole number from %lld to %lld",
                       source, value, (long long)o->min, (long long)o->max);
    *(int64_t *)member(v, o) = n;
    return 0;
}

static int set_switch(struct config_values *v, const struct option *o, const char *value,
                      const char *source, struct err *e)
{
    bool on = !strcmp(value, "1") || !strcmp(value, "true");
    if (!on && *value && strcmp(value, "0") && strcmp(value, "false"))
        return err_set(e, ERR_BAD_REQUEST, "%s is '%s'; give true or false", source, value);
    *(bool *)member(v, o) = on;
    return 0;
}

// source names where the value stands: "--port" or "DELTASERVE_PORT".
static int set(struct config_values *v, const struct option *o, const char *value,
               const char *source, struct err *e)
{
    if (o->kind == NUMBER)
        return set_number(v, o, value, source, e);
    if (o->kind == SWITCH)
        return set_switch(v, o, value, source, e);
    if (o->allowed && !is_allowed(o->allowed, value))
        return err_set(e, ERR_BAD_REQUEST, "%s is '%s'; give one of %s", source, value, o->allowed);
    *(const char **)member(v, o) = value;
    return 0;
}

static int read_environment(struct config_values *v, struct err *e)
{
    for (int i = 0; i < N_OPTIONS; i++) {
        char name[64];
        variable_name(&OPTIONS[i], name, sizeof name);
        const char *value = getenv(name);
        if (value && set(v, &OPTIONS[i], value, name, e))
            return -1;
    }
    return 0;
}

// The option of "--flag" or "--flag=value"; *value is NULL for the first form.
static const struct option *find(const char *arg, const char **value)
{
    if (strncmp(arg, "--", 2))
        return NULL;
    const char *equals = strchr(arg, '=');
    size_t n = equals ? (size_t)(equals - arg) - 2 : strlen(arg) - 2;
    *value = equals ? equals + 1 : NULL;
    for (int i = 0; i < N_OPTIONS; i++)
        if (strlen(OPTIONS[i].flag) == n && !strncmp(OPTIONS[i].flag, arg + 2, n))
            return &OPTIONS[i];
    return NULL;
}

static int read_arguments(struct config_values *v, int argc, char **argv, struct err *e)
{
    for (int i = 1; i < argc; i++) {
        const char *value = NULL;
        const struct option *o = find(argv[i], &value);
        if (!o)
            return err_set(e, ERR_BAD_REQUEST, "there is no option '%s'; see --help", argv[i]);
        if (!value && o->kind == SWITCH)
            value = "true";
        if (!value && ++i < argc)
            value = argv[i];
        if (!value)
            return err_set(e, ERR_BAD_REQUEST, "--%s needs a value; see --help", o->flag);
        char source[64];
        snprintf(source, sizeof source, "--%s", o->flag);
        if (set(v, o, value, source, e))
            return -1;
    }
    return 0;
}

int config_read(struct config_values *v, int argc, char **argv, struct err *e)
{
    *v = (struct config_values){0};
    for (int i = 0; i < N_OPTIONS; i++) {
        const struct option *o = &OPTIONS[i];
        if (o->kind == TEXT)
            *(const char **)member(v, o) = o->def;
        else if (set(v, o, o->def, o->flag, e))
            return -1;
    }
    if (read_environment(v, e) || read_arguments(v, argc, argv, e))
        return -1;
    if (v->chunk & (v->chunk - 1))
        return err_set(e, ERR_BAD_REQUEST, "--chunk is %lld; give 16, 32, 64 or 128",
                       (long long)v->chunk);
    return 0;
}

void config_wait_passively(char **argv)
{
    static const char NAME[] = "OMP_WAIT_POLICY";
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (getenv(NAME) || n < 0 || setenv(NAME, "passive", 1))
        return;
    exe[n] = '\0';
    execv(exe, argv); // comes back only when it failed, and then we run as we are
}

bool config_state_path(const char *name, char *path, size_t size)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (state && *state == '/') // the XDG specification ignores others
        n = snprintf(path, size, "%s/deltaserve/%s", state, name);
    else if (home && *home == '/')
        n = snprintf(path, size, "%s/.local/state/deltaserve/%s", home, name);
    return n >= 0 && n < (int)size;
}

void config_help(FILE *f)
{
    fprintf(f, "usage: deltaserve [--option value]...\n"
               "Serves a Qwen3.5 checkpoint over HTTP. Every option is also an environment\n"
               "variable: --batch-tokens is DELTASERVE_BATCH_TOKENS.\n\n");
    for (int i = 0; i < N_OPTIONS; i++) {
        const struct option *o = &OPTIONS[i];
        fprintf(f, "  --%-22s %s", o->flag, o->help);
        if (o->allowed)
            fprintf(f, ": %s", o->allowed);
        if (*o->def)
            fprintf(f, " [%s]", o->def);
        fputc('\n', f);
    }
}

void config_print(const struct config_values *v, FILE *f)
{
    for (int i = 0; i < N_OPTIONS; i++) {
        const struct option *o = &OPTIONS[i];
        const void *p = (const char *)v + o->offset;
        fprintf(f, "  %-24s ", o->flag);
        if (o->kind == NUMBER)
            fprintf(f, "%lld\n", (long long)*(const int64_t *)p);
        else if (o->kind == SWITCH)
            fprintf(f, "%s\n", *(const bool *)p ? "true" : "false");
        else
            fprintf(f, "%s\n", **(const char *const *)p ? *(const char *const *)p : "-");
    }
}
