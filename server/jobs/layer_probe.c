// layer_probe.c - see layer_probe.h.
#include "layer_probe.h"

#include <math.h>
#include <string.h>

#include "delta_exact.h"
#include "device_sync.h"
#include "half_value.h"
#include "mem.h"

// What passed through one head of one layer: t tokens.
struct capture {
    int t;
    float *q, *k, *v, *o;    // [t, dim]
    struct delta_gate *gate; // [t]
    float *before, *after;   // state, [k_dim, v_dim]
};

struct layer_probe {
    int layers, n_heads, heads[PROBE_HEADS_MAX];
    int k_heads, v_heads, k_dim, v_dim;
    struct capture *captures; // [layers, n_heads]
    int layer;                // the next one to come by
    const struct ops *inner;
    struct ops table;
};

static struct layer_probe *active;

struct layer_probe *probe_create(const struct config *c, int heads_max)
{
    struct layer_probe *p = mem_zero(1, sizeof *p);
    p->k_heads = c->linear_num_key_heads;
    p->v_heads = c->linear_num_value_heads;
    p->k_dim = c->linear_key_head_dim;
    p->v_dim = c->linear_value_head_dim;
    for (int i = 0; i < c->num_hidden_layers; i++)
        p->layers += !c->full_attention[i];
    p->n_heads = heads_max < PROBE_HEADS_MAX ? heads_max : PROBE_HEADS_MAX;
    p->n_heads = p->n_heads < p->v_heads ? p->n_heads : p->v_heads;
    for (int i = 0; i < p->n_heads; i++)
        p->heads[i] = i * p->v_heads / p->n_heads;
    p->captures = mem_zero((size_t)p->layers * (size_t)p->n_heads + 1, sizeof *p->captures);
    return p;
}

static void forget(struct capture *c)
{
    mem_free(c->q);
    mem_free(c->k);
    mem_free(c->v);
    mem_free(c->o);
    mem_free(c->gate);
    mem_free(c->before);
    mem_free(c->after);
    *c = (struct capture){0};
}

void probe_destroy(struct layer_probe *p)
{
    for (int i = 0; p && i < p->layers * p->n_heads; i++)
        forget(&p->captures[i]);
    if (p)
        mem_free(p->captures);
    mem_free(p);
}

int probe_layers(const struct layer_probe *p)
{
    return p->layers;
}

int probe_heads(const struct layer_probe *p)
{
    return p->n_heads;
}

int probe_head(const struct layer_probe *p, int i)
{
    return p->heads[i];
}

int probe_layer_index(const struct config *c, int layer)
{
    int i = 0;
    for (; i < c->num_hidden_layers; i++)
        if (!c->full_attention[i] && layer-- == 0)
            break;
    return i;
}

// --- capturing: engine thread ---------------------------------------------------------------

// n values of a type, F32, BF16 or F16, as float32; new memory.
static float *take_down_as(const struct layer_probe *p, struct dev *dev, const void *from,
                           enum dtype type, size_t n)
{
    float *out = mem_alloc(n * sizeof *out);
    if (type == DTYPE_F32) {
        p->inner->download(dev, out, from, n * sizeof *out);
        return out;
    }
    uint16_t *bits = mem_alloc(n * sizeof *bits);
    p->inner->download(dev, bits, from, n * sizeof *bits);
    for (size_t i = 0; i < n; i++)
        out[i] = half_value(bits[i], type);
    mem_free(bits);
    return out;
}

static float *take_down(const struct layer_probe *p, struct dev *dev, const void *from, size_t n)
{
    return take_down_as(p, dev, from, p->inner->act(dev), n);
}

// The columns first .. first + n - 1 of t rows.
static float *columns(const float *rows, int t, int width, int first, int n)
{
    float *out = mem_alloc((size_t)t * (size_t)n * sizeof *out);
    for (int i = 0; i < t; i++)
        memcpy(out + (size_t)i * (size_t)n, rows + (size_t)i * (size_t)width + first,
               (size_t)n * sizeof *out);
    return out;
}

static float *take_state(const struct layer_probe *p, struct dev *dev,
                         const struct delta_rule_args *a, int head)
{
    const size_t size = (size_t)(p->k_dim * p->v_dim);
    const size_t slot = (size_t)a->batch.host_spans[0].slot * (size_t)p->v_heads;
    const size_t at = (slot + (size_t)head) * size * dtype_bytes(a->state_type);
    return take_down_as(p, dev, (const char *)a->state + at, a->state_type, size);
}

static void take_inputs(struct layer_probe *p, struct dev *dev, const struct delta_rule_args *a,
                        struct capture *captures)
{
    const int t = a->batch.host_spans[0].t,
              width = 2 * p->k_heads * p->k_dim + p->v_heads * p->v_dim;
    const size_t n_gates = (size_t)t * (size_t)p->v_heads;
    float *qkv = take_down(p, dev, a->qkv, (size_t)t * (size_t)width);
    float *as = take_down(p, dev, a->a, n_gates), *bs = take_down(p, dev, a->b, n_gates);
    float *vectors = mem_alloc(2 * (size_t)p->v_heads * sizeof *vectors);
    p->inner->download(dev, vectors, a->A_log, (size_t)p->v_heads * sizeof *vectors);
    p->inner->download(dev, vectors + p->v_heads, a->dt_bias, (size_t)p->v_heads * sizeof *vectors);
    for (int i = 0; i < p->n_heads; i++) {
        const int h = p->heads[i], k_head = h / (p->v_heads / p->k_heads);
        struct capture *c = &captures[i];
        forget(c);
        c->t = t;
        c->q = columns(qkv, t, width, k_head * p->k_dim, p->k_dim);
        c->k = columns(qkv, t, width, (p->k_heads + k_head) * p->k_dim, p->k_dim);
        c->v = columns(qkv, t, width, 2 * p->k_heads * p->k_dim + h * p->v_dim, p->v_dim);
        c->gate = mem_alloc((size_t)t * sizeof *c->gate);
        for (int k = 0; k < t; k++)
            c->gate[k] =
                delta_gate_of((double)as[k * p->v_heads + h], (double)bs[k * p->v_heads + h],
                              (double)vectors[h], (double)vectors[p->v_heads + h]);
        c->before = take_state(p, dev, a, h);
        if (a->batch.host_spans[0].pos0 == 0) // whatever the slot holds
            memset(c->before, 0, (size_t)(p->k_dim * p->v_dim) * sizeof *c->before);
    }
    mem_free(qkv);
    mem_free(as);
    mem_free(bs);
    mem_free(vectors);
}

static void captured_delta_rule(struct dev *dev, const struct delta_rule_args *a)
{
    struct layer_probe *p = active;
    CHECK(p && p->layer < p->layers && a->batch.n_spans == 1);
    struct capture *captures = &p->captures[p->layer++ * p->n_heads];
    take_inputs(p, dev, a, captures);
    p->inner->delta_rule(dev, a);
    const int t = captures[0].t, width = p->v_heads * p->v_dim;
    float *o = take_down(p, dev, a->o, (size_t)t * (size_t)width);
    for (int i = 0; i < p->n_heads; i++) {
        captures[i].o = columns(o, t, width, p->heads[i] * p->v_dim, p->v_dim);
        captures[i].after = take_state(p, dev, a, p->heads[i]);
    }
    mem_free(o);
}

const struct ops *probe_table(void *probe, const struct ops *ops)
{
    struct layer_probe *p = probe;
    p->layer = 0;
    p->inner = ops;
    p->table = *ops;
    p->table.delta_rule = captured_delta_rule;
    active = p;
    return &p->table;
}

// --- judging: job thread --------------------------------------------------------------------

static void widen(double *out, const float *in, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = (double)in[i];
}

static void add_squares(double *sum, double *of, const float *got, const double *want, int n)
{
    for (int i = 0; i < n; i++) {
        *sum += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        *of += want[i] * want[i];
    }
}

// o and the state from the same inputs and the same first state.
static void judge_rule(const struct layer_probe *p, const struct capture *c,
                       struct probe_figures *f)
{
    double q[DELTA_DIM_MAX], k[DELTA_DIM_MAX], v[DELTA_DIM_MAX], o[DELTA_DIM_MAX];
    const int size = p->k_dim * p->v_dim;
    double *state = mem_alloc((size_t)size * sizeof *state);
    widen(state, c->before, size);
    for (int t = 0; t < c->t; t++) {
        widen(q, c->q + t * p->k_dim, p->k_dim);
        widen(k, c->k + t * p->k_dim, p->k_dim);
        widen(v, c->v + t * p->v_dim, p->v_dim);
        delta_normalise(q, p->k_dim, 1 / sqrt(p->k_dim));
        delta_normalise(k, p->k_dim, 1);
        delta_token(state, o, &(struct delta_input){q, k, v, c->gate[t]}, p->k_dim, p->v_dim);
        add_squares(&f->o, &f->o_of, c->o + t * p->v_dim, o, p->v_dim);
    }
    add_squares(&f->state, &f->state_of, c->after, state, size);
    mem_free(state);
}

static void judge_drift(const struct layer_probe *p, const struct capture *c,
                        const struct capture *reference, struct probe_figures *f)
{
    const int n = c->t * p->v_dim, size = p->k_dim * p->v_dim;
    double *want = mem_alloc((size_t)(n > size ? n : size) * sizeof *want);
    widen(want, reference->o, n);
    add_squares(&f->o_drift, &f->o_drift_of, c->o, want, n);
    widen(want, reference->after, size);
    add_squares(&f->state_drift, &f->state_drift_of, c->after, want, size);
    mem_free(want);
}

// Every full chunk of every captured head, inverted on the device.
struct inversion {
    const struct eval_setting *setting;
    float *a, *t; // [n, chunk, chunk] host
    int n;
};

static int invert(void *ud, const struct ops *ops, struct dev *dev, struct model *m, struct err *e)
{
    struct inversion *v = ud;
    const int chunk = v->setting->chunk;
    const size_t bytes = (size_t)v->n * (size_t)chunk * (size_t)chunk * sizeof *v->a;
    void *a = ops->alloc(dev, bytes), *t = ops->alloc(dev, bytes);
    int failed = 0;
    (void)m;
    if (!a || !t) {
        failed = err_set(e, ERR_TOO_LARGE,
                         "device memory is out; start the server with less --kv-bytes");
    } else {
        ops->upload(dev, a, v->a, bytes);
        ops->tri_inverse(
            dev,
            &(struct tri_inverse_args){
                .t_out = t, .a = a, .n = v->n, .chunk = chunk, .inverse = v->setting->inverse});
        failed = device_sync(ops, dev, e);
        if (!failed)
            ops->download(dev, v->t, t, bytes);
    }
    ops->release(dev, a);
    ops->release(dev, t);
    return failed;
}

// A of a chunk in float32, what the device gets; row sums and cosines on the way.
static void make_matrix(const struct layer_probe *p, const struct capture *c, int chunk, int first,
                        float *out, struct probe_figures *f)
{
    double *keys = mem_alloc((size_t)(chunk * p->k_dim) * sizeof *keys);
    double *a = mem_alloc((size_t)(chunk * chunk) * sizeof *a);
    widen(keys, c->k + first * p->k_dim, chunk * p->k_dim);
    for (int t = 0; t < chunk; t++)
        delta_normalise(keys + t * p->k_dim, p->k_dim, 1);
    delta_matrix(a, keys, c->gate + first, chunk, p->k_dim);
    f->row_sum = fmax(f->row_sum, delta_row_sum(a, chunk));
    f->cosine += delta_mean_cosine(keys, chunk, p->k_dim);
    f->chunks++;
    for (int i = 0; i < chunk * chunk; i++)
        out[i] = (float)a[i];
    mem_free(keys);
    mem_free(a);
}

static double larger(double most, double v)
{
    return v <= most ? most : isnan(v) ? INFINITY : v;
}

static void judge_matrix(const float *a32, const float *t32, int n, struct probe_figures *f)
{
    const size_t size = (size_t)n * (size_t)n;
    double *a = mem_alloc(3 * size * sizeof *a), *t = a + size, *exact = t + size;
    widen(a, a32, (int)size);
    widen(t, t32, (int)size);
    delta_invert(exact, a, n);
    for (size_t i = 0; i < size; i++)
        f->T_error = larger(f->T_error, fabs(t[i] - exact[i]));
    f->residual = larger(f->residual, delta_residual(a, t, n));
    mem_free(a);
}

static int judge_inverses(struct job_run *run, const struct layer_probe *p,
                          const struct eval_setting *s, struct probe_figures *out, struct err *e)
{
    const int chunk = s->chunk, each = p->captures[0].t / chunk, heads = p->layers * p->n_heads;
    const size_t size = (size_t)chunk * (size_t)chunk;
    struct inversion v = {.setting = s, .n = heads * each};
    if (v.n == 0)
        return 0;
    v.a = mem_alloc((size_t)v.n * size * sizeof *v.a);
    v.t = mem_alloc((size_t)v.n * size * sizeof *v.t);
    for (int i = 0; i < v.n; i++)
        make_matrix(p, &p->captures[i / each], chunk, i % each * chunk, v.a + (size_t)i * size,
                    &out[i / each]);
    const int failed = job_run_device(run, invert, &v, NULL, e);
    for (int i = 0; !failed && i < v.n; i++)
        judge_matrix(v.a + (size_t)i * size, v.t + (size_t)i * size, chunk, &out[i / each]);
    mem_free(v.a);
    mem_free(v.t);
    return failed;
}

int probe_judge(struct job_run *run, const struct layer_probe *p, const struct eval_setting *s,
                const struct layer_probe *reference, struct probe_figures *out, struct err *e)
{
    for (int i = 0; i < p->layers * p->n_heads; i++) {
        judge_rule(p, &p->captures[i], &out[i]);
        judge_drift(p, &p->captures[i], &reference->captures[i], &out[i]);
    }
    return p->layers ? judge_inverses(run, p, s, out, e) : 0;
}
