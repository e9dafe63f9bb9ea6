// attn_prep.c - what stands between the projections and the scores of a full-attention layer.
// Computes, per token and head: zero-centred norm of q and k, rotation of the first `rot` values
// (pairs i, i + rot/2), and the token's K and V into its page. Source: Qwen3_5Attention.
// Bound by: memory. Pages are laid out as cpu_attention wants to read them: K transposed,
// [n_pages, kv_heads, head_dim, PAGE_TOKENS]; V [n_pages, kv_heads, PAGE_TOKENS, head_dim].
#include <math.h>

#include "cpu.h"
#include "half.h"

enum { HEAD_DIM_MAX = 256 };

struct place {
    const float *cos, *sin; // [rot / 2] of the token's position
    size_t page;            // which page, and which row of it
    int row;
};

static void norm_rotate(float *y, const float *x, const float *w, const struct attn_prep_args *a,
                        const struct place *p)
{
    const int n = a->head_dim, half = a->rot / 2;
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    const float r = 1.0f / sqrtf(sum / (float)n + a->eps);
    for (int i = 0; i < n; i++)
        y[i] = x[i] * r * (1.0f + w[i]);
    for (int i = 0; i < half; i++) {
        const float u = y[i], v = y[i + half];
        y[i] = u * p->cos[i] - v * p->sin[i];
        y[i + half] = v * p->cos[i] + u * p->sin[i];
    }
}

static void write_k(const struct attn_prep_args *a, const struct place *p, int head, const float *k)
{
    size_t at = (p->page * (size_t)a->kv_heads + (size_t)head) * (size_t)a->head_dim * PAGE_TOKENS +
                (size_t)p->row;
    for (int i = 0; i < a->head_dim; i++, at += PAGE_TOKENS) {
        if (a->kv_type == DTYPE_F32)
            ((float *)a->k_pages)[at] = k[i];
        else
            ((uint16_t *)a->k_pages)[at] = half_bf16(k[i]);
    }
}

static void write_v(const struct attn_prep_args *a, const struct place *p, int head, const float *v)
{
    const size_t n = (size_t)a->head_dim;
    size_t at = ((p->page * (size_t)a->kv_heads + (size_t)head) * PAGE_TOKENS + (size_t)p->row) * n;
    if (a->kv_type == DTYPE_F32)
        memcpy((float *)a->v_pages + at, v, n * sizeof *v);
    else
        half_to_bf16((uint16_t *)a->v_pages + at, v, n);
}

static void prepare_token(const struct attn_prep_args *a, int t, const struct place *p)
{
    const int n = a->head_dim;
    for (int h = 0; h < a->heads; h++) {
        size_t row = (size_t)t * (size_t)a->heads + (size_t)h;
        norm_rotate((float *)a->q + row * (size_t)n, (const float *)a->qg + row * 2 * (size_t)n,
                    a->q_norm, a, p);
    }
    for (int h = 0; h < a->kv_heads; h++) {
        float k[HEAD_DIM_MAX];
        size_t row = (size_t)t * (size_t)a->kv_heads + (size_t)h;
        norm_rotate(k, (const float *)a->k + row * (size_t)n, a->k_norm, a, p);
        write_k(a, p, h, k);
        write_v(a, p, h, (const float *)a->v + row * (size_t)n);
    }
}

// The token of step row t, in span s: its position gives angles, page and row.
static void prepare_row(const struct attn_prep_args *a, const struct span *s, const int *pages,
                        const float *frequency, int t)
{
    float cosines[HEAD_DIM_MAX / 2], sines[HEAD_DIM_MAX / 2];
    const int position = s->pos0 + t - s->t0;
    for (int i = 0; i < a->rot / 2; i++) {
        cosines[i] = cosf((float)position * frequency[i]);
        sines[i] = sinf((float)position * frequency[i]);
    }
    struct place p = {cosines, sines, (size_t)pages[position / PAGE_TOKENS],
                      position % PAGE_TOKENS};
    prepare_token(a, t, &p);
}

void cpu_attn_prep(struct dev *dev, const struct attn_prep_args *a)
{
    const int threads = cpu_of(dev)->threads;
    (void)threads; // without OpenMP
    // Angles in float32 as the reference forms them: inverse frequency first, then the product.
    float frequency[HEAD_DIM_MAX / 2];
    for (int i = 0; i < a->rot / 2; i++)
        frequency[i] = 1.0f / powf(a->rope_theta, (float)(2 * i) / (float)a->rot);
    for (int i = 0; i < a->batch.n_spans; i++) {
        const struct span *s = &a->batch.spans[i];
        const int *pages = a->batch.pages + (size_t)i * (size_t)a->batch.pages_max;
#pragma omp parallel for num_threads(threads) if (s->t > 4) schedule(static)
        for (int t = s->t0; t < s->t0 + s->t; t++)
            prepare_row(a, s, pages, frequency, t);
    }
}
