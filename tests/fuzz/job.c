// job.c - any bytes as the body of POST /v1/jobs, as part of a job's record, and as a result to compare:
// refused as the client's fault, or sound and read back as it was written.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "compare.h"
#include "job_request.h"
#include "json.h"
#include "mem.h"
#include "store.h"
#include "tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { DEPTH_MAX = 64, TIMEOUT_MAX = 3600 };

static const struct job_node *node(void)
{
    static struct config config = {.vocab_size = 6144,
                                   .hidden_size = 256,
                                   .num_hidden_layers = 4,
                                   .temperature = NAN,
                                   .top_p = NAN,
                                   .top_k = -1};
    static struct model_options options = {.context_max = 512,
                                           .batch_tokens = 256,
                                           .batch_rows = 256,
                                           .sequences_max = 4,
                                           .chunk = 64};
    static struct model_memory memory = {
        .n_pages = 64, .n_slots = 4, .kv_bytes_per_token = 2048, .n_params = 1 << 20};
    static struct job_node made = {.ops = &ops_cpu,
                                   .config = &config,
                                   .model_options = &options,
                                   .memory = &memory,
                                   .model_id = "m",
                                   .model_dir = "/nowhere",
                                   .version = "1",
                                   .commit = "c",
                                   .device = "d",
                                   .host = "127.0.0.1",
                                   .port = 1};
    if (!made.tokenizer) {
        struct err e = {0};
        options.inverse = inverse_auto(64, INVERSE_FP32);
        made.tokenizer = tokenizer_load(TEST_SOURCE_DIR "/models/bundled", &e);
        CHECK(made.tokenizer != NULL);
    }
    return &made;
}

static void check_error(const struct err *e)
{
    CHECK(e->code != ERR_OK && *e->text && err_http(e->code) >= 400 && err_http(e->code) < 500);
}

// A request that is taken has a plan that would be taken too.
static void try_request(json_t *body)
{
    struct err e = {0};
    struct job_request r;
    if (job_request_read(node(), TIMEOUT_MAX, body, &r, &e)) {
        check_error(&e);
        return;
    }
    CHECK(r.timeout_s > 0 && r.timeout_s <= TIMEOUT_MAX && r.priority >= -10 && r.priority <= 10);
    CHECK(isfinite(r.estimated_s) && r.estimated_s >= 0);
    json_t *again = r.type->expand(node(), r.spec, &e);
    CHECK(again != NULL);
    json_decref(again);
    job_request_fini(&r);
}

static void try_record(json_t *v)
{
    static struct store *store;
    static const struct store_options OPTIONS = {
        .path = ":memory:", .bytes_max = 64 << 20, .jobs_max = 10};
    struct err e = {0};
    struct job j = {.type = "self_test", .timeout_s = 1, .created_ms = 1, .spec = json_incref(v)};
    struct job back;
    if (!store)
        store = store_open(&OPTIONS, &e);
    CHECK(store != NULL);
    job_make_id(j.id);
    j.metadata = json_incref(v);
    CHECK(store_add(store, &j, NULL, NULL, &e) == 0 && store_get(store, j.id, &back, &e) == 0);
    char *written = job_dump(j.spec), *read = job_dump(back.spec);
    CHECK(!strcmp(written, read));
    mem_free(written);
    mem_free(read);
    json_decref(job_json(&back, 0));
    CHECK(store_delete(store, j.id, &e) == 0);
    job_fini(&back);
    job_fini(&j);
}

static void try_compare(json_t *v)
{
    struct err e = {0};
    json_t *d =
        compare_results(v, v, &(struct compare_options){"a", "b", COMPARE_TOLERANCE, NULL}, &e);
    if (!d)
        check_error(&e);
    CHECK(!d || strcmp(json_string_value(json_object_get(d, "verdict")), "fail"));
    json_decref(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err e = {0};
    json_t *v = json_parse((const char *)data, n, DEPTH_MAX, &e);
    if (!v) {
        check_error(&e);
        return 0;
    }
    if (json_is_object(v))
        try_request(v);
    try_record(v);
    try_compare(v);
    json_decref(v);
    return 0;
}
