// sampler.c - see sampler.h.
//
// ops->sample changes logits in place, and the id whose logprob is wanted is known only after it. So
// the rows that want logprobs stand together: they are copied aside before sampling, put back after
// it, and one call of ops->logprobs sees them with the ids. That call makes a token's own figure
// and its place among the best from the same sum, so the two are equal bits.
#include "sampler.h"

#include <string.h>

#include "mem.h"

// Device memory and the host memory that is copied to or from it.
struct mirror {
    void *device, *host;
    size_t size; // of one element
};

struct sampler {
    const struct ops *ops;
    struct dev *dev;
    struct sampler_limits limits;
    struct mirror ids;         // int [rows_max]: targets of prompt rows, then sampled ids
    struct mirror logprob;     // float [rows_max]
    struct mirror top_ids;     // int [rows_max, LOGPROBS_MAX]
    struct mirror top_logprob; // float [rows_max, LOGPROBS_MAX]
    struct mirror settings;    // struct sample_row [sampled_max]
    struct mirror bias_ids;    // int [sampled_max * GEN_BIAS_MAX]
    struct mirror bias;        // float [sampled_max * GEN_BIAS_MAX]
    struct mirror history;     // int [history_max]
    float *saved;              // device [sampled_max, vocab]: raw rows that want logprobs
    int top_n;                 // columns of top_* in the last run
};

static void upload(struct sampler *s, const struct mirror *m, size_t n)
{
    if (n)
        s->ops->upload(s->dev, m->device, m->host, n * m->size);
}

static void download(struct sampler *s, const struct mirror *m, size_t first, size_t n)
{
    if (n)
        s->ops->download(s->dev, (char *)m->host + first * m->size,
                         (const char *)m->device + first * m->size, n * m->size);
}

enum { N_MIRRORS = 8 };

struct mirror_size {
    struct mirror *mirror;
    size_t n, size;
};

static void list_mirrors(struct sampler *s, struct mirror_size list[N_MIRRORS])
{
    size_t rows = (size_t)s->limits.rows_max, sampled = (size_t)s->limits.sampled_max;
    const struct mirror_size all[N_MIRRORS] = {
        {&s->ids, rows, sizeof(int)},
        {&s->logprob, rows, sizeof(float)},
        {&s->top_ids, rows * LOGPROBS_MAX, sizeof(int)},
        {&s->top_logprob, rows * LOGPROBS_MAX, sizeof(float)},
        {&s->settings, sampled, sizeof(struct sample_row)},
        {&s->bias_ids, sampled * GEN_BIAS_MAX, sizeof(int)},
        {&s->bias, sampled * GEN_BIAS_MAX, sizeof(float)},
        {&s->history, s->limits.history_max, sizeof(int)},
    };
    memcpy(list, all, sizeof all);
}

static size_t saved_bytes(const struct sampler_limits *limits)
{
    return (size_t)limits->sampled_max * (size_t)limits->vocab * sizeof(float);
}

size_t sampler_bytes(const struct sampler_limits *limits)
{
    struct sampler s = {.limits = *limits};
    struct mirror_size list[N_MIRRORS];
    list_mirrors(&s, list);
    size_t bytes = saved_bytes(limits);
    for (int i = 0; i < N_MIRRORS; i++)
        bytes += 2 * list[i].n * list[i].size; // device and host
    return bytes;
}

// The largest calls there can be, so that the backend takes its scratch now. The sampler's own raw rows
// stand for logits.
static void run_largest(struct sampler *s)
{
    struct sample_row *rows = s->settings.host;
    const int n = s->limits.sampled_max;
    for (int i = 0; i < n; i++)
        rows[i] =
            (struct sample_row){.temperature = 1, .top_p = 0.9f, .min_p = 0.01f, .repetition = 1};
    upload(s, &s->settings, (size_t)n);
    s->ops->sample(s->dev, &(struct sample_args){.ids = s->ids.device,
                                                 .logits = s->saved,
                                                 .rows = s->settings.device,
                                                 .bias_ids = s->bias_ids.device,
                                                 .bias = s->bias.device,
                                                 .history = s->history.device,
                                                 .n = n,
                                                 .vocab = s->limits.vocab,
                                                 .n_tokens = s->limits.n_tokens});
    s->ops->logprobs(s->dev, &(struct logprobs_args){.logprob = s->logprob.device,
                                                     .top_ids = s->top_ids.device,
                                                     .top_logprob = s->top_logprob.device,
                                                     .logits = s->saved,
                                                     .ids = s->ids.device,
                                                     .n = n,
                                                     .vocab = s->limits.vocab,
                                                     .n_tokens = s->limits.n_tokens,
                                                     .top_n = LOGPROBS_MAX});
}

struct sampler *sampler_create(const struct ops *ops, struct dev *dev,
                               const struct sampler_limits *limits, struct err *e)
{
    struct sampler *s = mem_zero(1, sizeof *s);
    s->ops = ops;
    s->dev = dev;
    s->limits = *limits;
    struct mirror_size list[N_MIRRORS];
    list_mirrors(s, list);
    for (int i = 0; i < N_MIRRORS; i++) {
        *list[i].mirror = (struct mirror){.device = ops->alloc(dev, list[i].n * list[i].size),
                                          .host = mem_resize(NULL, list[i].n, list[i].size),
                                          .size = list[i].size};
        if (list[i].mirror->device)
            continue;
        err_set(e, ERR_TOO_LARGE,
                "device memory is out: the sampler asked for %zu bytes; lower sequences_max or "
                "kv_bytes",
                list[i].n * list[i].size);
        sampler_destroy(s);
        return NULL;
    }
    size_t saved = saved_bytes(limits);
    s->saved = ops->alloc(dev, saved);
    if (s->saved && ops->warm_up)
        run_largest(s);
    if (s->saved)
        return s;
    err_set(
        e, ERR_TOO_LARGE,
        "device memory is out: the sampler asked for %zu bytes; lower sequences_max or kv_bytes",
        saved);
    sampler_destroy(s);
    return NULL;
}

void sampler_destroy(struct sampler *s)
{
    if (!s)
        return;
    struct mirror_size list[N_MIRRORS];
    list_mirrors(s, list);
    for (int i = 0; i < N_MIRRORS; i++) {
        if (list[i].mirror->device)
            s->ops->release(s->dev, list[i].mirror->device);
        mem_free(list[i].mirror->host);
    }
    if (s->saved)
        s->ops->release(s->dev, s->saved);
    mem_free(s);
}

// Places taken in the arrays that all sampled rows share.
struct used {
    size_t bias, history;
};

static void add_bias(struct sampler *s, const struct gen_params *p, struct used *used)
{
    if (!p->n_bias)
        return;
    memcpy((int *)s->bias_ids.host + used->bias, p->bias_ids, (size_t)p->n_bias * sizeof(int));
    memcpy((float *)s->bias.host + used->bias, p->bias, (size_t)p->n_bias * sizeof(float));
    used->bias += (size_t)p->n_bias;
}

// Prompt and output ids for the penalties; only the repetition penalty looks at the prompt.
static void add_history(struct sampler *s, const struct gen *g, struct sample_row *row,
                        struct used *used)
{
    const struct gen_params *p = &g->params;
    bool repetition = row->repetition != 1;
    if (!repetition && row->presence == 0 && row->frequency == 0)
        return;
    row->n_prompt = repetition ? p->n_prompt : 0;
    row->n_output = g->status.n_output;
    size_t n = (size_t)row->n_prompt + (size_t)row->n_output;
    CHECK(n <= s->limits.history_max - used->history);
    int *out = (int *)s->history.host + used->history;
    if (row->n_prompt)
        memcpy(out, p->prompt, (size_t)row->n_prompt * sizeof *out);
    out += row->n_prompt;
    for (int i = 0; i < row->n_output; i++)
        out[i] = g->tokens[i].id;
    used->history += n;
}

// The draw depends on the seed and on which token of the answer this is, not on the batch.
static void fill_settings(struct sampler *s, const struct gen *g, struct sample_row *row,
                          struct used *used)
{
    *row = g->params.sampling;
    row->counter = (uint64_t)g->status.n_output;
    row->bias0 = (int)used->bias;
    row->n_bias = g->params.n_bias;
    row->history0 = (int)used->history;
    row->n_prompt = row->n_output = 0;
    add_bias(s, &g->params, used);
    add_history(s, g, row, used);
}

static void sample(struct sampler *s, const struct sampler_step *st, int n)
{
    struct sample_row *settings = s->settings.host;
    struct used used = {0};
    for (int i = 0; i < n; i++)
        fill_settings(s, st->rows[st->n_prompt + i].gen, &settings[i], &used);
    upload(s, &s->settings, (size_t)n);
    upload(s, &s->bias_ids, used.bias);
    upload(s, &s->bias, used.bias);
    upload(s, &s->history, used.history);
    s->ops->sample(s->dev,
                   &(struct sample_args){
                       .ids = (int *)s->ids.device + st->n_prompt,
                       .logits = st->logits + (size_t)st->n_prompt * (size_t)s->limits.vocab,
                       .rows = s->settings.device,
                       .bias_ids = s->bias_ids.device,
                       .bias = s->bias.device,
                       .history = s->history.device,
                       .n = n,
                       .vocab = s->limits.vocab,
                       .n_tokens = s->limits.n_tokens,
                   });
}

static void find_logprobs(struct sampler *s, const struct sampler_step *st, int n)
{
    s->top_n = 0;
    for (int i = 0; i < n; i++)
        if (st->rows[i].gen->params.logprobs > s->top_n)
            s->top_n = st->rows[i].gen->params.logprobs;
    s->ops->logprobs(s->dev, &(struct logprobs_args){
                                 .logprob = s->logprob.device,
                                 .top_ids = s->top_ids.device,
                                 .top_logprob = s->top_logprob.device,
                                 .logits = st->logits,
                                 .ids = s->ids.device,
                                 .n = n,
                                 .vocab = s->limits.vocab,
                                 .n_tokens = s->limits.n_tokens,
                                 .top_n = s->top_n,
                             });
}

void sampler_begin(struct sampler *s, const struct sampler_step *st)
{
    int n_sampled = st->n_logprobs + st->n_plain, n_wanted = st->n_prompt + st->n_logprobs;
    CHECK(st->n_prompt + n_sampled <= s->limits.rows_max && n_sampled <= s->limits.sampled_max);
    size_t vocab = (size_t)s->limits.vocab;
    float *raw = st->logits + (size_t)st->n_prompt * vocab;
    size_t raw_bytes = (size_t)st->n_logprobs * vocab * sizeof *raw;

    int *ids = s->ids.host;
    for (int i = 0; i < st->n_prompt; i++)
        ids[i] = st->rows[i].gen->params.prompt[st->rows[i].target];
    upload(s, &s->ids, (size_t)st->n_prompt);
    if (raw_bytes)
        s->ops->copy(s->dev, s->saved, raw, raw_bytes);
    if (n_sampled)
        sample(s, st, n_sampled);
    if (raw_bytes)
        s->ops->copy(s->dev, raw, s->saved, raw_bytes);
    if (n_wanted)
        find_logprobs(s, st, n_wanted);
}

int sampler_end(struct sampler *s, const struct sampler_step *st, struct err *e)
{
    const size_t n_wanted = (size_t)(st->n_prompt + st->n_logprobs);
    download(s, &s->logprob, 0, n_wanted);
    download(s, &s->top_ids, 0, n_wanted * (size_t)s->top_n);
    download(s, &s->top_logprob, 0, n_wanted * (size_t)s->top_n);
    download(s, &s->ids, (size_t)st->n_prompt, (size_t)(st->n_logprobs + st->n_plain));

    char why[256];
    if (s->ops->sync(s->dev, why, sizeof why) != 0)
        return err_set(e, ERR_DEVICE, "sampling failed: %s", why);
    return 0;
}

struct gen_draw sampler_draw(const struct sampler *s, int i)
{
    size_t top0 = (size_t)i * (size_t)s->top_n;
    return (struct gen_draw){.id = ((const int *)s->ids.host)[i],
                             .logprob = ((const float *)s->logprob.host)[i],
                             .top_ids = (const int *)s->top_ids.host + top0,
                             .top_logprob = (const float *)s->top_logprob.host + top0};
}
