// attention.c - paged causal attention with an output gate, online softmax over pages in the order of
// positions.
// Computes: o = softmax(q k^T / sqrt(head_dim)) v * sigmoid(gate), per row.
// Bound by: multiply-adds in prefill (4 head_dim a row and key), KV bytes in decode.
//
// Measured: 8 query and 2 KV heads, bf16 pages, one core: prefill of 512 tokens from position 4096 82
// GFLOP/s (an FMA-bound loop: 115); decode 15 GB/s at 1000 keys (cached), 6.4 GB/s at 32000. AMD EPYC
// (Zen 4), 2026-11-23, thread time on a shared machine; ops_check perf attention times two cores.
//
// A task is a few tokens of one span and the query heads of one KV head. Every sum is in the order of
// its index (smallgemm.h) and every row visits the same pages in the same order, so a row's bits do
// not depend on its neighbours, on the cut of the prompt, or on prefill against decode.
#include <float.h>
#include <math.h>

#include "attention_soften.h"
#include "cpu.h"
#include "expf.h"
#include "half.h"
#include "smallgemm.h"

enum { TASK_TOKENS = 16, TASK_ROWS = 64, PAGE = PAGE_TOKENS };

// One thread's working memory, all float32.
struct work {
    float *q, *o;        // [TASK_ROWS, head_dim]
    float *score;        // [TASK_ROWS, PAGE]
    float *wide;         // [head_dim, PAGE]: a bf16 page, widened
    float *most, *total; // [TASK_ROWS] running maximum and sum
};

// Rows token0 .. of a span for query heads head0 .. head0 + heads - 1; row r is token r / heads.
struct task {
    const struct attention_args *a;
    const struct span *span;
    const int *pages;
    int token0, tokens, head0, heads, kv_head;
    enum cpu_isa isa;
};

static size_t work_floats(int head_dim)
{
    return (size_t)head_dim * (2 * TASK_ROWS + PAGE) + TASK_ROWS * (PAGE + 2);
}

static struct work work_at(float *p, int head_dim)
{
    struct work w;
    const size_t n = (size_t)head_dim;
    w.q = p;
    w.o = w.q + TASK_ROWS * n;
    w.wide = w.o + TASK_ROWS * n;
    w.score = w.wide + PAGE * n;
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

// n values of a page as float32, read in the order in which they lie; the products that follow read
// columns of them.
static const float *piece(const struct task *k, const struct work *w, const void *pages, size_t at,
                          size_t n)
{
    if (k->a->kv_type == DTYPE_BF16) {
        half_widen(k->isa, w->wide, (const uint16_t *)pages + at, n);
        return w->wide;
    }
    const float *p = (const float *)pages + at;
    for (size_t i = 0; i < n; i += 16)
        __builtin_prefetch(p + i, 0, 2);
    return p;
}

static void soften(enum cpu_isa isa, const struct attention_row *row)
{
    if (isa == CPU_AVX512)
        attention_soften_avx512(row);
    else if (isa == CPU_AVX2)
        attention_soften_avx2(row);
    else
        soften_row(row);
}

// A few rows take the page in pieces that stay in the first cache; many rows in one, so that their sums
// are not loaded again for each. The order of every sum is the same.
static int count_pieces(int rows)
{
    return rows > 16 ? 1 : 4;
}

static void visit_page(const struct task *k, struct work *w, int page)
{
    const int n = k->a->head_dim, rows = k->tokens * k->heads, pieces = count_pieces(rows);
    const int first = k->span->pos0 + k->token0 - page * PAGE; // position of row 0 inside the page
    const int keys = first + k->tokens > PAGE ? PAGE : first + k->tokens; // written so far
    const size_t size = (size_t)n * PAGE;
    const size_t at = ((size_t)k->pages[page] * (size_t)k->a->kv_heads + (size_t)k->kv_head) * size;
    for (int i = 0, d = n / pieces; i < pieces; i++)
        smallgemm(k->isa,
                  &(struct smallgemm){.c = w->score,
                                      .a = w->q + i * d,
                                      .ldc = PAGE,
                                      .lda = n,
                                      .b = piece(k, w, k->a->k_pages, at + (size_t)(i * d * PAGE),
                                                 (size_t)(d * PAGE)),
                                      .ldb = PAGE,
                                      .m = rows,
                                      .n = PAGE,
                                      .k = d,
                                      .keep = i ? 1.0f : 0.0f});
    for (int r = 0; r < rows; r++) {
        int seen = first + r / k->heads + 1;
        seen = seen > PAGE ? PAGE : seen < 0 ? 0 : seen;
        soften(k->isa, &(struct attention_row){w->score + r * PAGE, w->o + (size_t)r * (size_t)n,
                                               &w->most[r], &w->total[r], seen, n});
    }
    for (int key = 0, d = PAGE / pieces; key < keys; key += d) {
        const int count = keys - key < d ? keys - key : d; // V beyond what is written is not read
        smallgemm(k->isa,
                  &(struct smallgemm){
                      .c = w->o,
                      .a = w->score + key,
                      .ldc = n,
                      .lda = PAGE,
                      .b = piece(k, w, k->a->v_pages, at + (size_t)(key * n), (size_t)(count * n)),
                      .ldb = n,
                      .m = rows,
                      .n = n,
                      .k = count,
                      .keep = page || key ? 1.0f : 0.0f});
    }
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

static void run(const struct task *k, float *memory)
{
    struct work w = work_at(memory, k->a->head_dim);
    load_queries(k, &w);
    const int last = k->span->pos0 + k->token0 + k->tokens - 1;
    for (int page = 0; page <= last / PAGE; page++)
        visit_page(k, &w, page);
    store(k, &w);
}

// Tokens of a task, and query heads: one KV head's, or fewer when there would be too few tasks.
static int task_heads(const struct attention_args *a, int threads)
{
    int group = a->heads / a->kv_heads, tasks = 0;
    for (int i = 0; i < a->batch.n_spans; i++)
        tasks += (a->batch.spans[i].t + TASK_TOKENS - 1) / TASK_TOKENS;
    return tasks * a->kv_heads < threads || group > TASK_ROWS / TASK_TOKENS ? 1 : group;
}

// All tasks of a step, numbered span after span, the last tokens of a span first: they are the longest.
struct tasks {
    const struct attention_args *a;
    enum cpu_isa isa;
    int heads; // of a task
    float *memory;
    size_t floats; // of a worker's memory
};

static int count_tasks(const struct tasks *t, const struct span *s)
{
    return (s->t + TASK_TOKENS - 1) / TASK_TOKENS * (t->a->heads / t->heads);
}

static void do_task(void *ud, int i, int worker)
{
    const struct tasks *t = ud;
    const struct attention_args *a = t->a;
    const struct span *s = a->batch.spans;
    for (; i >= count_tasks(t, s); s++)
        i -= count_tasks(t, s);
    const int groups = a->heads / t->heads, j = count_tasks(t, s) - 1 - i;
    struct task k = {.a = a,
                     .span = s,
                     .token0 = j / groups * TASK_TOKENS,
                     .heads = t->heads,
                     .isa = t->isa,
                     .head0 = j % groups * t->heads};
    k.pages = a->batch.pages + (size_t)(s - a->batch.spans) * (size_t)a->batch.pages_max;
    k.tokens = s->t - k.token0 < TASK_TOKENS ? s->t - k.token0 : TASK_TOKENS;
    k.kv_head = k.head0 / (a->heads / a->kv_heads);
    run(&k, t->memory + (size_t)worker * t->floats);
}

void cpu_attention(struct dev *dev, const struct attention_args *a)
{
    struct cpu *cpu = cpu_of(dev);
    struct tasks t = {.a = a,
                      .isa = cpu->isa,
                      .heads = task_heads(a, cpu->threads),
                      .floats = (work_floats(a->head_dim) + 15) / 16 * 16};
    t.memory = cpu_scratch(dev, 0, (size_t)cpu->threads * t.floats * sizeof(float));
    if (!t.memory)
        return;
    int n = 0;
    for (int i = 0; i < a->batch.n_spans; i++)
        n += count_tasks(&t, &a->batch.spans[i]);
    cpu_share(cpu, n, do_task, &t);
}
