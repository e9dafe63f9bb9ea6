// bench.c - see bench.h.
#include "bench.h"

#include <math.h>
#include <string.h>

#include "half_value.h"
#include "mem.h"
#include "sample_stats.h"

// --- shapes ---------------------------------------------------------------------------------

#define SIZE(name, hidden, intermediate, heads, kv_heads, v_heads)                                 \
    {                                                                                              \
        name, hidden, intermediate, 248320, heads, kv_heads, 256, 64, 16, v_heads, 128, 128        \
    }
static const struct bench_shape SIZES[] = {
    SIZE("0.8B", 1024, 3584, 8, 2, 16),  SIZE("2B", 2048, 6144, 8, 2, 16),
    SIZE("4B", 2560, 9216, 16, 4, 32),   SIZE("9B", 4096, 12288, 16, 4, 32),
    SIZE("27B", 5120, 17408, 24, 4, 48),
};
enum { N_SIZES = sizeof SIZES / sizeof *SIZES };

const char *const BENCH_SHAPES[] = {"served", "0.8B", "2B", "4B", "9B", "27B", NULL};

bool bench_shape_find(const char *name, const struct config *c, struct bench_shape *out)
{
    for (int i = 0; i < N_SIZES; i++) {
        if (!strcmp(SIZES[i].name, name)) {
            *out = SIZES[i];
            return true;
        }
    }
    if (strcmp(name, "served"))
        return false;
    *out = (struct bench_shape){.name = "served",
                                .hidden = c->hidden_size,
                                .intermediate = c->intermediate_size,
                                .vocab = c->vocab_size,
                                .heads = c->num_attention_heads,
                                .kv_heads = c->num_key_value_heads,
                                .head_dim = c->head_dim,
                                .rot = c->rotary_dim,
                                .k_heads = c->linear_num_key_heads,
                                .v_heads = c->linear_num_value_heads,
                                .k_dim = c->linear_key_head_dim,
                                .v_dim = c->linear_value_head_dim};
    return true;
}

// --- operations -----------------------------------------------------------------------------

#define BENCHES(X)                                                                                 \
    X(gdn_inverse)                                                                                 \
    X(gdn_prefill)                                                                                 \
    X(gdn_decode)                                                                                  \
    X(linear_mlp)                                                                                  \
    X(linear_qkv)                                                                                  \
    X(linear_head)                                                                                 \
    X(attention_prefill)                                                                           \
    X(attention_decode)                                                                            \
    X(attn_prep)                                                                                   \
    X(conv)                                                                                        \
    X(rmsnorm)                                                                                     \
    X(gated_norm)                                                                                  \
    X(silu_mul)                                                                                    \
    X(quantize)                                                                                    \
    X(convert)                                                                                     \
    X(embed)                                                                                       \
    X(gather)                                                                                      \
    X(fill)                                                                                        \
    X(sample)                                                                                      \
    X(logprobs)

#define X(name) extern const struct bench_op bench_##name;
BENCHES(X)
#undef X

const struct bench_op *const BENCH_OPS[] = {
#define X(name) &bench_##name,
    BENCHES(X)
#undef X
        NULL};

const char *const BENCH_OP_NAMES[] = {
#define X(name) #name,
    BENCHES(X)
#undef X
        NULL};

const struct bench_op *bench_op_find(const char *name)
{
    for (int i = 0; BENCH_OPS[i]; i++)
        if (!strcmp(BENCH_OPS[i]->name, name))
            return BENCH_OPS[i];
    return NULL;
}

double bench_bytes(const struct bench_op *op, const struct bench_point *at)
{
    const struct bench_shape *s = &at->shape;
    const double rows = op->uses & BENCH_TOKENS ? at->tokens : at->batch;
    const double width = 2.0 * s->k_heads * s->k_dim + 3.0 * s->v_heads * s->v_dim;
    double bytes = 4 * rows * (width + 4.0 * s->heads * s->head_dim + 3.0 * s->intermediate);
    if (op->uses & BENCH_BATCH)
        bytes += 4.0 * at->batch * s->v_heads * s->k_dim * s->v_dim;
    if (op->uses & BENCH_DEPTH)
        bytes += 8.0 * (op->uses & BENCH_BATCH ? at->batch : 1) * (at->depth + rows) * s->kv_heads *
                 s->head_dim;
    if (op->uses & BENCH_WEIGHTS)
        bytes +=
            4.0 * s->hidden * (strcmp(op->name, "linear_head") ? 3.0 * s->intermediate : s->vocab);
    if (!strcmp(op->name, "sample") || !strcmp(op->name, "logprobs"))
        bytes += 4.0 * rows * s->vocab;
    if (op->uses & BENCH_CHUNK)
        bytes += 8.0 * rows * at->chunk * s->v_heads;
    if (!strcmp(op->name, "embed"))
        bytes += 4.0 * s->vocab * s->hidden;
    return bytes;
}

// --- values ---------------------------------------------------------------------------------

double bench_get(const struct bench_case *c, int buf, size_t i)
{
    const struct bench_buf *b = &c->bufs[buf];
    CHECK(i < b->n && b->host);
    switch (b->type) {
    case DTYPE_F32:
        return (double)((const float *)b->host)[i];
    case DTYPE_BF16:
    case DTYPE_F16:
        return (double)half_value(((const uint16_t *)b->host)[i], b->type);
    case DTYPE_INT8:
        return ((const int8_t *)b->host)[i];
    default:
        return ((const int32_t *)b->host)[i];
    }
}

void bench_set(struct bench_case *c, int buf, size_t i, double v)
{
    struct bench_buf *b = &c->bufs[buf];
    CHECK(i < b->n && b->host);
    switch (b->type) {
    case DTYPE_F32:
        ((float *)b->host)[i] = (float)v;
        return;
    case DTYPE_BF16:
    case DTYPE_F16:
        ((uint16_t *)b->host)[i] = half_of_value((float)v, b->type);
        return;
    case DTYPE_INT8:
        ((int8_t *)b->host)[i] = (int8_t)v;
        return;
    default:
        ((int32_t *)b->host)[i] = (int32_t)v;
    }
}

// Near enough to normal, and there are millions of them: the sum of four uniform 16-bit numbers, scaled
// to variance 1.
static double quick_normal(uint64_t *state)
{
    const uint64_t z = stat_random(state);
    const double sum =
        (double)((z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48)) - 2 * 0xffff;
    return sum / 37837.227;
}

void bench_normal(struct bench_case *c, int buf, double deviation)
{
    for (size_t i = 0; i < c->bufs[buf].n; i++)
        bench_set(c, buf, i, deviation * quick_normal(&c->random));
}

// --- buffers --------------------------------------------------------------------------------

int bench_filled(struct bench_case *c, enum dtype type, size_t n, double deviation)
{
    CHECK(c->n_bufs < BENCH_BUFS_MAX && n > 0);
    c->bufs[c->n_bufs] = (struct bench_buf){.role = BENCH_INPUT,
                                            .type = type,
                                            .n = n,
                                            .seed = (uint64_t)c->n_bufs + 1,
                                            .deviation = (float)deviation};
    return c->n_bufs++;
}

int bench_buf(struct bench_case *c, enum bench_role role, enum dtype type, size_t n)
{
    const int i = bench_filled(c, type, n, 0);
    c->bufs[i].role = role;
    c->bufs[i].host = mem_zero(n, dtype_bytes(type));
    return i;
}

void *bench_dev(const struct bench_case *c, int buf)
{
    CHECK(buf < c->n_bufs && c->bufs[buf].dev);
    return c->bufs[buf].dev;
}

void bench_raise(struct bench_case *c, double error)
{
    if (!(error <= c->error))
        c->error = isnan(error) ? INFINITY : error;
}

double bench_type_error(enum dtype type)
{
    return type == DTYPE_BF16 ? 0x1p-9 : type == DTYPE_F16 ? 0x1p-12 : 0x1p-24;
}

double bench_act_error(const struct bench_case *c)
{
    return bench_type_error(c->act);
}

int bench_spans(struct bench_case *c, bool decode)
{
    const int n = decode ? c->at.batch : 1;
    const int buf =
        bench_buf(c, BENCH_INPUT, DTYPE_INT32, (size_t)n * sizeof(struct span) / sizeof(int32_t));
    struct span *spans = c->bufs[buf].host;
    for (int i = 0; i < n; i++)
        spans[i] = (struct span){.t0 = decode ? i : 0,
                                 .t = decode ? 1 : c->at.tokens,
                                 .pos0 = c->at.depth,
                                 .slot = i,
                                 .decode = decode};
    c->spans = spans;
    return buf;
}

struct batch bench_batch(const struct bench_case *c, int spans)
{
    const bool decode = c->spans[0].decode;
    const int t = decode ? c->at.batch : c->at.tokens;
    return (struct batch){.spans = bench_dev(c, spans),
                          .host_spans = c->spans,
                          .n_spans = decode ? c->at.batch : 1,
                          .t = t,
                          .t_prefill = decode ? 0 : t};
}

// --- life -----------------------------------------------------------------------------------

void bench_prepare(struct bench_case *c, const struct bench_op *op, const struct bench_point *at,
                   enum dtype act)
{
    *c = (struct bench_case){.op = op, .at = *at, .act = act, .random = 1};
    op->prepare(c);
}

void bench_fini(struct bench_case *c)
{
    for (int i = 0; i < c->n_bufs; i++) {
        mem_free(c->bufs[i].host);
    }
    mem_free(c->kept);
    c->kept = NULL;
    c->n_bufs = 0;
}

int bench_place(struct bench_case *c, const struct ops *ops, struct dev *dev, struct err *e)
{
    for (int i = 0; i < c->n_bufs; i++) {
        struct bench_buf *b = &c->bufs[i];
        const size_t bytes = b->n * dtype_bytes(b->type);
        b->dev = ops->alloc(dev, bytes);
        if (!b->dev) {
            bench_release(c, ops, dev);
            return err_set(e, ERR_TOO_LARGE,
                           "device memory is out: %s of %s needs %zu bytes more; ask for fewer "
                           "tokens or start the server with less --kv-bytes",
                           c->op->name, c->at.shape.name, bytes);
        }
        if (b->host)
            ops->upload(dev, b->dev, b->host, bytes);
        else
            ops->fill(dev, &(struct fill_args){.p = b->dev,
                                               .type = b->type,
                                               .n = b->n,
                                               .seed = b->seed,
                                               .deviation = b->deviation});
    }
    c->op->bind(c, ops, dev);
    return 0;
}

void bench_fetch(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    for (int i = 0; i < c->n_bufs; i++) {
        struct bench_buf *b = &c->bufs[i];
        if (b->role != BENCH_INPUT)
            ops->download(dev, b->host, b->dev, b->n * dtype_bytes(b->type));
    }
}

void bench_release(struct bench_case *c, const struct ops *ops, struct dev *dev)
{
    for (int i = 0; i < c->n_bufs; i++) {
        ops->release(dev, c->bufs[i].dev);
        c->bufs[i].dev = NULL;
    }
}
