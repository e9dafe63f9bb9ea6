// main.c - starts and stops the rooms; the only file that includes from all of them.
//
// Order: options, keys, device, jobs' store, listening socket; then the model loads on a thread of its own while
// /livez already answers and everything else says 503 "loading"; then the engine starts. Exit codes:
// 0 drained or checked, 1 could not start, 2 wrong options, 3 the device was lost.
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "clock.h"
#include "config.h"
#include "engine.h"
#include "err.h"
#include "http.h"
#include "inverse.h"
#include "jobs.h"
#include "keys.h"
#include "log.h"
#include "mem.h"
#include "ops.h"
#include "qwen35.h"
#include "tokenizer.h"

enum { EXIT_OPTIONS = 2, EXIT_DEVICE = 3, HEADER_BYTES_MAX = 32 * 1024, ALIASES_MAX = 16 };

struct app {
    struct config_values options;
    struct keys keys;
    char model_dir[PATH_MAX], model_id[256], data_dir[PATH_MAX], device_what[256];
    char alias_names[1024]; // what aliases point into
    const char *aliases[ALIASES_MAX];
    int n_aliases;
    struct model_options model_options;
    const struct ops *ops;
    struct dev *dev;
    struct tokenizer *tokenizer;
    struct engine *engine;
    struct jobs *jobs;
    struct api_server api;
    struct http *http;
    pthread_t loader;
    atomic_int exit_code;
    int signals; // SIGTERM and SIGINT seen; loop thread
};

// A folder that holds file, beside the program: in the source tree, or where `cmake --install` puts it.
static bool find_beside(const char *in_tree, const char *installed, const char *file, char *dir,
                        size_t size)
{
    const char *const places[] = {in_tree, installed};
    char exe[PATH_MAX], path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *slash = n < 0 ? NULL : memrchr(exe, '/', (size_t)n);
    if (!slash)
        return false;
    *slash = '\0';
    for (int i = 0; i < 2; i++)
        if (snprintf(dir, size, "%s/%s", exe, places[i]) < (int)size &&
            snprintf(path, sizeof path, "%s/%s", dir, file) < (int)sizeof path &&
            access(path, R_OK) == 0)
            return true;
    return false;
}

static int find_bundled(char *dir, size_t size, struct err *e)
{
    if (find_beside("../../models/bundled", "../share/deltaserve/models/bundled", "config.json",
                    dir, size))
        return 0;
    return err_set(e, ERR_BAD_REQUEST,
                   "the bundled model is not beside the program; give --model DIR");
}

// The name clients use, from the checkpoint's place: "models--org--name" in a cache's path is
// "org/name"; else the directory's own name.
static void name_by_path(struct app *app, const char *given)
{
    char path[PATH_MAX];
    if (!realpath(given, path))
        snprintf(path, sizeof path, "%s", given);
    char *cached = strstr(path, "/models--");
    const char *slash = strrchr(path, '/');
    if (!cached) {
        snprintf(app->model_id, sizeof app->model_id, "%.200s", slash ? slash + 1 : path);
        return;
    }
    cached += strlen("/models--");
    cached[strcspn(cached, "/")] = '\0';
    char *dashes = strstr(cached, "--");
    if (dashes)
        *dashes = '\0';
    snprintf(app->model_id, sizeof app->model_id, "%.100s%s%.100s", cached, dashes ? "/" : "",
             dashes ? dashes + 2 : "");
}

// --model-alias: names with commas between them.
static int read_aliases(struct app *app, struct err *e)
{
    char *name = app->alias_names;
    const int n = snprintf(name, sizeof app->alias_names, "%s", app->options.model_alias);
    if (n >= (int)sizeof app->alias_names)
        return err_set(e, ERR_BAD_REQUEST, "--model-alias has %d bytes; give at most %zu", n,
                       sizeof app->alias_names - 1);
    for (char *end = name; *name; name = end) {
        end += strcspn(name, ",");
        if (end == name || (*end && !end[1]))
            return err_set(e, ERR_BAD_REQUEST, "--model-alias '%s' has an empty name",
                           app->options.model_alias);
        if (app->n_aliases == ALIASES_MAX)
            return err_set(e, ERR_BAD_REQUEST, "--model-alias has more than %d names", ALIASES_MAX);
        app->aliases[app->n_aliases++] = name;
        if (*end)
            *end++ = '\0';
    }
    return 0;
}

static int choose_model(struct app *app, struct err *e)
{
    const char *model = app->options.model;
    const bool bundled = !strcmp(model, "bundled");
    char given[PATH_MAX];
    if (read_aliases(app, e))
        return -1;
    if (bundled && find_bundled(given, sizeof given, e))
        return -1;
    if (!bundled && snprintf(given, sizeof given, "%s", model) >= (int)sizeof given)
        return err_set(e, ERR_BAD_REQUEST, "--model is longer than %d bytes", PATH_MAX - 1);
    if (*app->options.model_id || bundled)
        snprintf(app->model_id, sizeof app->model_id, "%s",
                 *app->options.model_id ? app->options.model_id : "bundled");
    else
        name_by_path(app, given);
    return model_directory(given, app->model_dir, sizeof app->model_dir, e);
}

// Of an option, which has no other values than names of types.
static enum dtype parse_dtype(const char *name)
{
    enum dtype type = DTYPE_BF16;
    CHECK(dtype_named(name, &type));
    return type;
}

static int set_model_options(struct app *app, struct err *e)
{
    const struct config_values *c = &app->options;
    const bool on_cpu = app->ops == &ops_cpu;
    const char *type = c->inverse_dtype;
    if (!strcmp(type, "auto")) // T has no entry beyond 1, so half precision costs 5e-4 (inverse.h)
        type = on_cpu ? "fp32" : "fp16";
    app->model_options = (struct model_options){
        .dtype = parse_dtype(c->dtype),
        .state_dtype = parse_dtype(c->state_dtype),
        .context_max = (int)c->context_max,
        .batch_tokens = c->batch_tokens ? (int)c->batch_tokens
                        : on_cpu        ? 512
                                        : 8192,
        // A row of every sequence, and two chunks of a prompt whose logprobs are wanted: a row is
        // a megabyte when the vocabulary has 248,320 entries.
        .batch_rows = (int)(2 * c->chunk + c->sequences_max),
        .sequences_max = (int)c->sequences_max,
        .kv_bytes = (size_t)c->kv_bytes,
        .chunk = (int)c->chunk,
        .residual_every = (int)c->residual_every,
    };
    char why[256];
    if (inverse_parse(&app->model_options.inverse, c->inverse, type, (int)c->chunk, why,
                      sizeof why))
        return err_set(e, ERR_BAD_REQUEST, "--inverse '%s' with --inverse-dtype '%s': %s",
                       c->inverse, c->inverse_dtype, why);
    app->model_options.inverse.executor =
        strcmp(c->inverse_executor, "cublas") ? INVERSE_FUSED : INVERSE_CUBLAS;
    return 0;
}

static bool is_loopback(const char *host)
{
    return !strncmp(host, "127.", 4) || !strcmp(host, "::1") || !strcmp(host, "localhost");
}

static int read_keys(struct app *app, struct err *e)
{
    const struct config_values *c = &app->options;
    if (*c->api_key_file)
        return keys_read(&app->keys, c->api_key_file, e);
    if (!is_loopback(c->host) && !c->insecure)
        return err_set(e, ERR_BAD_REQUEST,
                       "--host %s can be reached from other machines and no --api-key-file is "
                       "given; give one, or --insecure to serve everyone",
                       c->host);
    return 0;
}

#ifdef WITH_CUDA
static const char BUILT_FOR[] = "cpu,cuda";
static const struct ops *const GPU = &ops_cuda;
#else
static const char BUILT_FOR[] = "cpu";
static const struct ops *const GPU = NULL;
#endif

// The GPU when it is asked for or there is one; a GPU that was asked for and fails is an error, never
// quietly the CPU.
static int open_device(struct app *app, struct err *e)
{
    const struct config_values *c = &app->options;
    const bool may_gpu = strcmp(c->device, "cpu") != 0, must_gpu = !strcmp(c->device, "cuda");
    char why[256] = "this build has no CUDA backend; configure it with -DWITH_CUDA=ON";
    struct dev_options options = {
        .index = (int)c->device_index,
        .threads = (int)c->threads,
        .act = model_act(parse_dtype(c->dtype)),
    };
    if (may_gpu && GPU && (app->dev = GPU->open(&options, why, sizeof why)))
        app->ops = GPU;
    if (!app->dev && must_gpu)
        return err_set(e, ERR_BAD_REQUEST, "--device cuda: %s", why);
    if (!app->dev && !strcmp(c->dtype, "f16"))
        return err_set(e, ERR_BAD_REQUEST,
                       "--dtype f16 needs a GPU (%s); on the cpu give --dtype bf16",
                       may_gpu ? why : "--device is cpu");
    if (!app->dev) {
        if (may_gpu && GPU)
            log_event(LOG_INFO, "no_gpu", "text=\"%s\"", why);
        options.index = 0;
        options.act = DTYPE_F32;
        app->ops = &ops_cpu;
        app->dev = app->ops->open(&options, why, sizeof why);
    }
    if (!app->dev)
        return err_set(e, ERR_BAD_REQUEST, "device '%s' cannot be opened: %s", c->device, why);
    app->ops->describe(app->dev, app->device_what, sizeof app->device_what);
    log_event(LOG_INFO, "device", "name=%s built_for=%s what=\"%s\"", app->ops->name, BUILT_FOR,
              app->device_what);
    return 0;
}

static void log_progress(void *ud, size_t done, size_t all)
{
    int64_t *last_ns = ud;
    if (done < all && clock_ns() - *last_ns < 1000000000)
        return;
    *last_ns = clock_ns();
    log_event(LOG_INFO, "loading", "mib=%zu of=%zu", done >> 20, all >> 20);
}

static void print_memory(const struct model *m)
{
    const struct model_memory *p = model_memory(m);
    const struct model_options *o = model_options(m);
    char inverse[64];
    fprintf(stderr,
            "memory plan                     MiB\n"
            "  weights, allocated     %10.1f\n"
            "  weights, mapped file   %10.1f\n"
            "  KV pages               %10.1f  %d pages of %d tokens, %zu bytes a token\n"
            "  recurrent state        %10.1f  %d sequences, %zu bytes each (%s), any length\n"
            "  scratch                %10.1f  for steps of %d tokens\n"
            "  sampling               %10.1f  settings, histories, raw logits; device and host\n",
            (double)p->weights / 0x1p20, (double)p->mapped / 0x1p20, (double)p->kv_pages / 0x1p20,
            p->n_pages, PAGE_TOKENS, p->kv_bytes_per_token, (double)p->state / 0x1p20, p->n_slots,
            p->state_bytes_per_sequence, dtype_name(o->state_dtype), (double)p->scratch / 0x1p20,
            o->batch_tokens, (double)engine_sampler_bytes(m) / 0x1p20);
    log_event(LOG_INFO, "model",
              "parameters=%lld dtype=%s state_dtype=%s context_max=%d chunk=%d inverse=%s",
              (long long)p->n_params, dtype_name(o->dtype), dtype_name(o->state_dtype),
              o->context_max, o->chunk, inverse_name(&o->inverse, inverse, sizeof inverse));
}

static struct model *load_model(struct app *app, struct err *e)
{
    int64_t start_ns = clock_ns(), last_ns = start_ns;
    app->tokenizer = tokenizer_load(app->model_dir, e);
    if (!app->tokenizer && e->code != ERR_NOT_FOUND)
        return NULL;
    if (!app->tokenizer)
        log_event(LOG_WARN, "no_tokenizer", "dir=%s requests=\"token ids only\"", app->model_dir);
    app->model_options.progress = log_progress;
    app->model_options.progress_ud = &last_ns;
    struct model *m = model_load(app->model_dir, &app->model_options, app->ops, app->dev, e);
    if (m)
        log_event(LOG_INFO, "loaded", "id=%s dir=%s seconds=%.2f", app->model_id, app->model_dir,
                  clock_ms_between(start_ns, clock_ns()) / 1e3);
    return m;
}

static void end_with(struct app *app, int code)
{
    atomic_store(&app->exit_code, code);
    http_stop(app->http);
}

// Engine thread: every generation has failed by now; the supervisor starts us again.
static void device_lost(void *ud, const struct err *e)
{
    log_event(LOG_ERROR, "device_lost", "text=\"%s\"", e->text);
    end_with(ud, EXIT_DEVICE);
}

// The folders above path; what cannot be made shows when the file is opened.
static void make_parents(char *path)
{
    for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        (void)mkdir(path, 0700);
        *p = '/';
    }
}

// A file that was named must be usable; the default is given up for memory, so that a second server,
// or one without a home, starts too.
static int open_jobs(struct app *app, struct err *e)
{
    const struct config_values *c = &app->options;
    char path[PATH_MAX];
    struct jobs_options o = {.store = {.path = c->jobs_db,
                                       .bytes_max = c->jobs_bytes_max,
                                       .jobs_max = (int)c->jobs_keep_max,
                                       .keep_ms = c->jobs_keep_hours * 3600000},
                             .queue_max = (int)c->jobs_queue_max,
                             .timeout_max_s = (int)c->jobs_timeout_s,
                             .lull_ms = (int)c->jobs_lull_ms,
                             .pause_ms = (int)c->jobs_pause_ms};
    const bool by_default = !strcmp(c->jobs_db, "auto");
    if (by_default && config_state_path("jobs.sqlite", path, sizeof path)) {
        make_parents(path);
        o.store.path = path;
        app->jobs = jobs_open(&o, e);
        if (!app->jobs)
            log_event(LOG_WARN, "jobs_in_memory", "text=\"%s\"", e->text);
    }
    if (by_default && !app->jobs)
        o.store.path = ":memory:";
    if (!app->jobs)
        app->jobs = jobs_open(&o, e);
    if (app->jobs)
        log_event(LOG_INFO, "jobs", "db=%s", o.store.path);
    return app->jobs ? 0 : -1;
}

// Where a client on this machine reaches us.
static const char *own_host(const char *host)
{
    return !strcmp(host, "0.0.0.0") ? "127.0.0.1" : !strcmp(host, "::") ? "::1" : host;
}

static void start_jobs(struct app *app)
{
    const bool has_data = find_beside("../../tests/data", "../share/deltaserve/data", "heldout.txt",
                                      app->data_dir, sizeof app->data_dir);
    const struct job_node node = {.engine = app->engine,
                                  .ops = app->ops,
                                  .tokenizer = app->tokenizer,
                                  .config = engine_config(app->engine),
                                  .model_options = engine_model_options(app->engine),
                                  .memory = engine_memory(app->engine),
                                  .model_id = app->model_id,
                                  .model_dir = app->model_dir,
                                  .version = DELTASERVE_VERSION,
                                  .commit = DELTASERVE_COMMIT,
                                  .device = app->device_what,
                                  .host = own_host(app->options.host),
                                  .port = http_port(app->http),
                                  .api_key = app->keys.n ? app->keys.key[0] : NULL,
                                  .data_dir = has_data ? app->data_dir : NULL};
    jobs_start(app->jobs, &node);
}

static void *load(void *ud)
{
    struct app *app = ud;
    struct err e = {0};
    struct model *m = load_model(app, &e);
    if (m) {
        print_memory(m);
        struct engine_options o = {
            .queue_max = (int)app->options.queue_max,
            .trace = *app->options.trace ? app->options.trace : NULL,
            .device_lost = device_lost,
            .ud = app,
        };
        app->engine = engine_create(m, app->ops, app->dev, app->tokenizer, &o, &e);
    }
    if (app->engine) {
        start_jobs(app);
        api_ready(&app->api, app->engine, app->tokenizer);
        log_event(LOG_INFO, "ready", "id=%s", app->model_id);
    } else {
        log_event(LOG_ERROR, "not_loaded", "text=\"%s\"", e.text);
        end_with(app, EXIT_FAILURE);
    }
    return NULL;
}

static void on_signal(void *ud, int signum)
{
    struct app *app = ud;
    if (signum == SIGUSR1) {
        api_dump(&app->api);
        return;
    }
    log_event(LOG_INFO, "signal", "name=%s", strsignal(signum));
    jobs_stop(app->jobs); // they would outlast any drain
    if (app->signals++ == 0)
        http_drain(app->http);
    else
        http_stop(app->http);
}

static int serve(struct app *app, struct err *e)
{
    const struct config_values *c = &app->options;
    if (open_jobs(app, e))
        return -1;
    app->api = (struct api_server){
        .model_id = app->model_id,
        .aliases = app->aliases,
        .n_aliases = app->n_aliases,
        .created = time(NULL),
        .version = DELTASERVE_VERSION,
        .commit = DELTASERVE_COMMIT,
        .device = app->device_what,
        .n_max = (int)c->n_max,
        .max_tokens_default = (int)c->max_tokens_default,
        .any_model = c->any_model,
        .thinking_by_default = c->thinking,
        .jobs = app->jobs,
    };
    struct http_options o = {
        .host = c->host,
        .port = (int)c->port,
        .connections_max = (int)c->connections_max,
        .connections_per_ip = (int)c->connections_per_ip,
        .header_bytes_max = HEADER_BYTES_MAX,
        .body_bytes_max = (size_t)c->body_bytes_max,
        .idle_timeout_ms = (int)c->idle_timeout_ms,
        .heartbeat_ms = (int)c->heartbeat_ms,
        .drain_timeout_ms = (int)c->drain_timeout_ms,
        .keys = &app->keys,
        .on_signal = on_signal,
        .ud = app,
    };
    app->http = http_create(&o, API_ROUTES, API_ROUTES_N, &app->api, e);
    if (!app->http) {
        jobs_close(app->jobs);
        return -1;
    }
    CHECK(pthread_create(&app->loader, NULL, load, app) == 0);
    http_run(app->http);
    pthread_join(app->loader, NULL);
    jobs_close(app->jobs);
    engine_destroy(app->engine);
    http_destroy(app->http);
    return 0;
}

static int check(struct app *app, struct err *e)
{
    struct model *m = load_model(app, e);
    if (!m)
        return -1;
    print_memory(m);
    model_destroy(m);
    return 0;
}

static int run(struct app *app, struct err *e)
{
    if (choose_model(app, e) || read_keys(app, e) || open_device(app, e))
        return -1;
    int failed = set_model_options(app, e);
    if (!failed)
        failed = app->options.check ? check(app, e) : serve(app, e);
    tokenizer_destroy(app->tokenizer);
    app->ops->close(app->dev);
    keys_fini(&app->keys);
    return failed;
}

static enum log_level parse_level(const char *name)
{
    static const char *const NAMES[] = {"debug", "info", "warn", "error"};
    int level = 0;
    while (strcmp(NAMES[level], name))
        level++;
    return (enum log_level)level;
}

int main(int argc, char **argv)
{
    config_wait_passively(argv);
    struct err e = {0};
    struct app *app = mem_zero(1, sizeof *app);
    if (config_read(&app->options, argc, argv, &e)) {
        fprintf(stderr, "deltaserve: %s\n", e.text);
        mem_free(app);
        return EXIT_OPTIONS;
    }
    int code = 0;
    if (app->options.help) {
        config_help(stdout);
    } else if (app->options.version) {
        printf("deltaserve %s %s\n", DELTASERVE_VERSION, DELTASERVE_COMMIT);
    } else {
        log_level_set(parse_level(app->options.log_level));
        if (app->options.check)
            config_print(&app->options, stderr);
        code = run(app, &e) ? EXIT_FAILURE : atomic_load(&app->exit_code);
        if (code == EXIT_FAILURE && *e.text)
            fprintf(stderr, "deltaserve: %s\n", e.text);
    }
    mem_free(app);
    return code;
}
