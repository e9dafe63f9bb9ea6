// attention.c - paged causal attention with an output gate, online softmax over pages in the order of
// positions.
// Computes: o = softmax(q k^T / sqrt(head_dim)) v * sigmoid(gate), per row.
// Bound by: multiply-adds in prefill (4 head_dim a row and key), KV bytes in decode.
//
// A task is a few tokens of one span and the query heads of one KV head. Every sum is in the order of
// its index (smallgemm.h) and every row visits the same pages in the same order, so a row's bits do
// not depend on its neighbours, on the cut of the prompt, or on prefill against decode.
#include <float.h>
#include <math.h>

#include "cpu.h"
#include "expf.h"
#include "half.h"
#include "smallgemm.h"

enum { TASK_TOKENS = 16, TASK_ROWS = 64, PAGE = PAGE_TOKENS };

// One thread's working memory, all float32.
struct work {
    float *q, *o;        // [TASK_ROWS, head_dim]
    float *score;        // [TASK_ROWS, PAGE]
    float *k, *v;        // [head_dim, PAGE], [PAGE, head_dim]: a bf16 page, widened
    float *most, *total; // [TASK_ROWS] running maximum and sum
};

// Rows token0 .. of a span for query heads head0 .. head0 + heads - 1; row r is token r / heads.
struct task {
    const struct attention_args *a;
    const struct span *span;
    const int *pages;
    int token0, tokens, head0, heads, kv_head;
};

static size_t work_floats(int head_dim)
{
    return (size_t)head_dim * (2 * TASK_ROWS + 2 * PAGE) + TASK_ROWS * (PAGE + 2);
}

static struct work work_at(float *p, int head_dim)
{
    struct work w;
    const size_t n = (size_t)head_dim;
    w.q = p;
    w.o = w.q + TASK_ROWS * n;
    w.k = w.o + TASK_ROWS * n;
    w.v = w.k + PAGE * n;
    w.score = w.v + PAGE * n;
    w.most = w.score + TASK_ROWS * PAGE;
    w.total = w.most + TASK_ROWS;
    return w;
}

static size_t row_of(const struct task *k, int r)
{
    size_t token = (size_t)(k->span->t0 + k->token0 + r / k->heads);
    return token * (size_t)k->a->heads + (size_t)(k->head0 + r % k->heads);
}

static void load_queries(const struct task *k, struct work *w)
{
    const size_t n = (size_t)k->a->head_dim;
    const float scale = 1.0f / sqrtf((float)n);
    for (int r = 0; r < k->tokens * k->heads; r++) {
        const float *q = (const float *)k->a->q + row_of(k, r) * n;
        for (size_t i = 0; i < n; i++)
            w->q[(size_t)r * n + i] = q[i] * scale;
        w->most[r] = -FLT_MAX;
        w->total[r] = 0;
    }
}

// A page's K and V as float32. Rows beyond `keys` may hold anything and are not read from V.
static void load_page(const struct task *k, const struct work *w, int page, int keys,
                      const float **key, const float **value)
{
    const size_t n = (size_t)k->a->head_dim;
    const size_t at =
        ((size_t)k->pages[page] * (size_t)k->a->kv_heads + (size_t)k->kv_head) * n * PAGE;
    if (k->a->kv_type == DTYPE_F32) {
        *key = (const float *)k->a->k_pages + at;
        *value = (const float *)k->a->v_pages + at;
        return;
    }
    half_from_bf16(w->k, (const uint16_t *)k->a->k_pages + at, n * PAGE);
    half_from_bf16(w->v, (const uint16_t *)k->a->v_pages + at, n * (size_t)keys);
    *key = w->k;
    *value = w->v;
}

// Scores of one row against a page become weights; the row's sums so far are scaled to the new
// maximum. seen: how many of the page's keys the row may look at (0: none, nothing changes).
static void soften_row(struct work *w, int r, int seen, int head_dim)
{
    float *s = w->score + r * PAGE, *o = w->o + (size_t)r * (size_t)head_dim;
    for (int j = seen > 0 ? seen : 0; j < PAGE; j++)
        s[j] = -FLT_MAX; // also over whatever an unwritten key gave
    if (seen <= 0) {
        for (int j = 0; j < PAGE; j++)
            s[j] = 0;
        return;
    }
    float most = w->most[r];
    for (int j = 0; j < PAGE; j++)
        most = s[j] > most ? s[j] : most;
    const float fade = expf_fast(w->most[r] - most);
    float total = 0;
    for (int j = 0; j < PAGE; j++)
        s[j] = expf_fast(s[j] - most);
    for (int j = seen; j < PAGE; j++)
        s[j] = 0;
    for (int j = 0; j < PAGE; j++)
        total += s[j];
    w->total[r] = w->total[r] * fade + total;
    w->most[r] = most;
    if (fade != 1.0f)
        for (int i = 0; i < head_dim; i++)
            o[i] *= fade;
}

static void visit_page(const struct task *k, struct work *w, enum cpu_isa isa, int page)
{
    const int n = k->a->head_dim, rows = k->tokens * k->heads;
    const int first = k->span->pos0 + k->token0 - page * PAGE; // position of row 0 inside the page
    int keys = first + k->tokens;                              // written so far
    keys = keys > PAGE ? PAGE : keys;
    const float *key, *value;
    load_page(k, w, page, keys, &key, &value);
    smallgemm(isa, &(struct smallgemm){.c = w->score,
                                       .a = w->q,
                                       .b = key,
                                       .ldc = PAGE,
                                       .lda = n,
                                       .ldb = PAGE,
                                       .m = rows,
                                       .n = PAGE,
                                       .k = n});
    for (int r = 0; r < rows; r++) {
        int seen = first + r / k->heads + 1;
        soften_row(w, r, seen > PAGE ? PAGE : seen, n);
    }
    smallgemm(isa, &(struct smallgemm){.c = w->o,
                                       .a = w->score,
                                       .b = value,
                                       .ldc = n,
                                       .lda = PAGE,
                                       .ldb = n,
                                       .m = rows,
                                       .n = n,
                                       .k = keys,
                                       .keep = page ? 1.0f : 0.0f});
}

static void store(const struct task *k, const struct work *w)
{
    const size_t n = (size_t)k->a->head_dim;
    for (int r = 0; r < k->tokens * k->heads; r++) {
        const size_t row = row_of(k, r);
        const float *gate = (const float *)k->a->qg + row * 2 * n + n;
        float *o = (float *)k->a->o + row * n;
        const float scale = 1.0f / w->total[r];
        for (size_t i = 0; i < n; i++)
            o[i] = w->o[(size_t)r * n + i] * scale / (1.0f + expf_fast(-gate[i]));
    }
}

static void run(const struct task *k, enum cpu_isa isa, float *memory)
{
    struct work w = work_at(memory, k->a->head_dim);
    load_queries(k, &w);
    const int last = k->span->pos0 + k->token0 + k->tokens - 1;
    for (int page = 0; page <= last / PAGE; page++)
        visit_page(k, &w, isa, page);
    store(k, &w);
}

// Tokens of a task, and query heads: one KV head's, or fewer when there would be too few tasks.
static int task_heads(const struct attention_args *a, int threads)
{
    int group = a->heads / a->kv_heads, tasks = 0;
    for (int i = 0; i < a->batch.n_spans; i++)
        tasks += (a->batch.spans[i].t + TASK_TOKENS - 1) / TASK_TOKENS;
    return tasks * a->kv_heads < 2 * threads || group > TASK_ROWS / TASK_TOKENS ? 1 : group;
}

void cpu_attention(struct dev *dev, const struct attention_args *a)
{
    const struct cpu *cpu = cpu_of(dev);
    const size_t floats = (work_floats(a->head_dim) + 15) / 16 * 16;
    const int threads = cpu->threads, heads = task_heads(a, threads);
    float *memory = cpu_scratch(dev, 0, (size_t)threads * floats * sizeof(float));
    if (!memory)
        return;
#pragma omp parallel num_threads(threads)
    for (int i = 0; i < a->batch.n_spans; i++) {
        const struct span *s = &a->batch.spans[i];
        const int blocks = (s->t + TASK_TOKENS - 1) / TASK_TOKENS, groups = a->heads / heads;
#pragma omp for schedule(dynamic) nowait
        for (int j = blocks * groups - 1; j >= 0; j--) {
            struct task k = {.a = a,
                             .span = s,
                             .token0 = j / groups * TASK_TOKENS,
                             .heads = heads,
                             .head0 = j % groups * heads};
            k.pages = a->batch.pages + (size_t)i * (size_t)a->batch.pages_max;
            k.tokens = s->t - k.token0 < TASK_TOKENS ? s->t - k.token0 : TASK_TOKENS;
            k.kv_head = k.head0 / (a->heads / a->kv_heads);
            run(&k, cpu->isa, memory + (size_t)cpu_thread() * floats);
        }
    }
}
