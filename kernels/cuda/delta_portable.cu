// delta_portable.cu - the chunk form of the gated delta rule for any shape, chunk, inverse and type of
// activations, in float32 on the ordinary units: what the matrix-unit kernels do not take, and the path
// that is compared with float32 references.
//
// Three launches a slab: A and P of every chunk; T by tri_inverse; the chain over the chunks, a block
// for 16 columns of a state, which lies in shared memory. The formulas are those of delta_rule_chunk.c.
// G is a double: a strong gate early in a chunk would eat the digits of the weak ones after it.
#include "delta.cuh"

static constexpr int THREADS = 256, COLUMNS = 16, CHUNK_MAX = INVERSE_CHUNK_MAX;
static constexpr size_t SLAB_BYTES = 128 << 20;

// Per chunk and value head.
struct scales {
    float v_from_s[CHUNK_MAX], o_from_s[CHUNK_MAX]; // e^G / |k|, e^G scale / |q|
    float s_from_n[CHUNK_MAX], beta[CHUNK_MAX];     // e^(G_last - G) / |k|
    float decay;                                    // e^G_last
};

struct portable_args {
    void *o;
    const void *qkv, *a, *b;
    const float *A_log, *dt_bias;
    void *state;
    float *A, *T, *P;      // [units, v_heads, chunk, chunk]
    struct scales *scales; // [units, v_heads]
    const struct span *spans;
    struct delta_slab slab;
    int k_heads, v_heads, k_dim, v_dim;
    float *carry; // see struct delta_slab
};

template <typename act_t>
static __device__ __forceinline__ const act_t *row_of(const struct portable_args &p, int row)
{
    return (const act_t *)p.qkv + (size_t)row * (2 * p.k_heads * p.k_dim + p.v_heads * p.v_dim);
}

struct prepare_shared {
    double G[CHUNK_MAX];
    float beta[CHUNK_MAX], k_norm[CHUNK_MAX], q_norm[CHUNK_MAX];
    float k[CHUNK_MAX][33], q[CHUNK_MAX][33]; // 32 columns at a time
};

template <typename act_t>
static __device__ void find_scales(struct prepare_shared &s, const struct portable_args &p,
                                   const struct delta_place &place, int head)
{
    const int k_head = head / (p.v_heads / p.k_heads), lane = threadIdx.x % 32;
    for (int t = threadIdx.x / 32; t < place.n; t += THREADS / 32) {
        const act_t *q = row_of<act_t>(p, place.row + t) + k_head * p.k_dim;
        const act_t *k = q + p.k_heads * p.k_dim;
        float qq = 0, kk = 0;
        for (int i = lane; i < p.k_dim; i += 32) {
            qq += to_float(q[i]) * to_float(q[i]);
            kk += to_float(k[i]) * to_float(k[i]);
        }
        for (int d = 16; d > 0; d /= 2) {
            qq += __shfl_xor_sync(~0u, qq, d);
            kk += __shfl_xor_sync(~0u, kk, d);
        }
        if (lane == 0) {
            const size_t at = (size_t)(place.row + t) * p.v_heads + head;
            const struct delta_gate gate = delta_gate_of((const act_t *)p.a, (const act_t *)p.b, at,
                                                         p.A_log[head], p.dt_bias[head]);
            s.G[t] = gate.g;
            s.beta[t] = gate.beta;
            s.k_norm[t] = 1.0f / sqrtf(kk + DELTA_NORM_EPS);
            s.q_norm[t] = 1.0f / sqrtf((float)p.k_dim) / sqrtf(qq + DELTA_NORM_EPS);
        }
    }
    __syncthreads(); // gates and norms are there
    if (threadIdx.x == 0)
        for (int t = 1; t < place.n; t++)
            s.G[t] += s.G[t - 1];
    __syncthreads(); // their running sums are there
}

// 32 columns of k and q, normalised, from `from` on; what lies outside is zero.
template <typename act_t>
static __device__ void load_columns(struct prepare_shared &s, const struct portable_args &p,
                                    const struct delta_place &place, int k_head, int from)
{
    for (int i = threadIdx.x; i < p.slab.chunk * 32; i += THREADS) {
        const int t = i / 32, c = from + i % 32;
        float q = 0, k = 0;
        if (t < place.n && c < p.k_dim) {
            const act_t *row = row_of<act_t>(p, place.row + t) + k_head * p.k_dim + c;
            q = to_float(row[0]) * s.q_norm[t];
            k = to_float(row[p.k_heads * p.k_dim]) * s.k_norm[t];
        }
        s.q[t][i % 32] = q;
        s.k[t][i % 32] = k;
    }
}

// Thread (x, y) of 16 x 16 owns rows y + 16 r and columns x + 16 c of A and P.
template <typename act_t, int CHUNK>
static __global__ void __launch_bounds__(THREADS) prepare_kernel(const struct portable_args p)
{
    constexpr int R = CHUNK / 16;
    extern __shared__ unsigned char raw[];
    struct prepare_shared &s = *(struct prepare_shared *)raw;
    struct delta_place place;
    if (!delta_find(&place, p.spans, p.slab, blockIdx.x))
        return;
    const int head = blockIdx.y, x = threadIdx.x % 16, y = threadIdx.x / 16;
    const size_t unit = (size_t)blockIdx.x * p.v_heads + head;
    find_scales<act_t>(s, p, place, head);
    float kk[R][R] = {}, qk[R][R] = {};
    for (int from = 0; from < p.k_dim; from += 32) {
        load_columns<act_t>(s, p, place, head / (p.v_heads / p.k_heads), from);
        __syncthreads(); // the columns are there
        for (int i = 0; i < 32; i++) {
            float k[R];
#pragma unroll
            for (int c = 0; c < R; c++)
                k[c] = s.k[x + 16 * c][i];
#pragma unroll
            for (int r = 0; r < R; r++) {
                const float left_k = s.k[y + 16 * r][i], left_q = s.q[y + 16 * r][i];
#pragma unroll
                for (int c = 0; c < R; c++) {
                    kk[r][c] += left_k * k[c];
                    qk[r][c] += left_q * k[c];
                }
            }
        }
        __syncthreads(); // the columns are free
    }
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int c = 0; c < R; c++) {
            const int i = y + 16 * r, j = x + 16 * c;
            const bool in = i < place.n && j <= i;
            const float d = in ? expf((float)(s.G[i] - s.G[j])) : 0.0f;
            p.A[unit * CHUNK * CHUNK + i * CHUNK + j] =
                in && j < i ? s.beta[i] * kk[r][c] * d : 0.0f;
            p.P[unit * CHUNK * CHUNK + i * CHUNK + j] = in ? qk[r][c] * d : 0.0f;
        }
    struct scales &out = p.scales[unit];
    const double last = s.G[place.n - 1];
    for (int t = threadIdx.x; t < place.n; t += THREADS) {
        const float eG = expf((float)s.G[t]);
        out.v_from_s[t] = eG * s.k_norm[t];
        out.o_from_s[t] = eG * s.q_norm[t];
        out.s_from_n[t] = expf((float)(last - s.G[t])) * s.k_norm[t];
        out.beta[t] = s.beta[t];
    }
    if (threadIdx.x == 0)
        out.decay = expf((float)last);
}

struct chain_shared {
    float S[DELTA_DIM_MAX][COLUMNS], x[CHUNK_MAX][COLUMNS], N[CHUNK_MAX][COLUMNS];
};

// One chunk for column `col` of the block; threads of equal threadIdx.x / 16 share a row.
template <typename act_t>
static __device__ void do_chunk(struct chain_shared &s, const struct portable_args &p, int row,
                                int n, size_t unit)
{
    const int head = blockIdx.y, k_head = head / (p.v_heads / p.k_heads);
    const int col = threadIdx.x % 16, y = threadIdx.x / 16, chunk = p.slab.chunk;
    const int v_at = 2 * p.k_heads * p.k_dim + head * p.v_dim + blockIdx.x * COLUMNS + col;
    const struct scales &f = p.scales[unit];
    const float *T = p.T + unit * chunk * chunk, *P = p.P + unit * chunk * chunk;
    float qs[CHUNK_MAX / 16];
#pragma unroll
    for (int r = 0; r < CHUNK_MAX / 16; r++) {
        const int t = y + 16 * r;
        if (t >= n)
            break;
        const act_t *q = row_of<act_t>(p, row + t) + k_head * p.k_dim, *k = q + p.k_heads * p.k_dim;
        float q_sum = 0, k_sum = 0;
        for (int i = 0; i < p.k_dim; i++) {
            q_sum += to_float(q[i]) * s.S[i][col];
            k_sum += to_float(k[i]) * s.S[i][col];
        }
        qs[r] = f.o_from_s[t] * q_sum;
        s.x[t][col] =
            f.beta[t] * (to_float(row_of<act_t>(p, row + t)[v_at]) - f.v_from_s[t] * k_sum);
    }
    __syncthreads(); // x is there
    for (int t = y; t < n; t += 16) {
        float sum = 0;
        for (int j = 0; j <= t; j++)
            sum += T[t * chunk + j] * s.x[j][col];
        s.N[t][col] = sum;
    }
    __syncthreads(); // N is there
    act_t *o =
        (act_t *)p.o + ((size_t)row * p.v_heads + head) * p.v_dim + blockIdx.x * COLUMNS + col;
#pragma unroll
    for (int r = 0; r < CHUNK_MAX / 16; r++) {
        const int t = y + 16 * r;
        if (t >= n)
            break;
        float sum = qs[r];
        for (int j = 0; j <= t; j++)
            sum += P[t * chunk + j] * s.N[j][col];
        o[(size_t)t * p.v_heads * p.v_dim] = from_float<act_t>(sum);
    }
    for (int i = y; i < p.k_dim; i += 16) {
        float sum = f.decay * s.S[i][col];
        for (int t = 0; t < n; t++)
            sum += to_float(row_of<act_t>(p, row + t)[(p.k_heads + k_head) * p.k_dim + i]) *
                   (f.s_from_n[t] * s.N[t][col]);
        s.S[i][col] = sum;
    }
    __syncthreads(); // S is there, x and N are free
}

// The block's columns of the state of a slot, or of a span in carry.
template <typename state_t>
static __device__ void read_state(struct chain_shared &s, const struct portable_args &p,
                                  const state_t *states, int slot, bool fresh)
{
    const state_t *from = states + ((size_t)slot * p.v_heads + blockIdx.y) * p.k_dim * p.v_dim +
                          blockIdx.x * COLUMNS + threadIdx.x % 16;
    for (int i = threadIdx.x / 16; i < p.k_dim; i += 16)
        s.S[i][threadIdx.x % 16] = fresh ? 0.0f : to_float(from[i * p.v_dim]);
}
template <typename state_t>
static __device__ void write_state(const struct chain_shared &s, const struct portable_args &p,
                                   state_t *states, int slot)
{
    state_t *to = states + ((size_t)slot * p.v_heads + blockIdx.y) * p.k_dim * p.v_dim +
                  blockIdx.x * COLUMNS + threadIdx.x % 16;
    for (int i = threadIdx.x / 16; i < p.k_dim; i += 16)
        to[i * p.v_dim] = from_float<state_t>(s.S[i][threadIdx.x % 16]);
}

template <typename act_t, typename state_t>
static __global__ void __launch_bounds__(THREADS) chain_kernel(const struct portable_args p)
{
    __shared__ struct chain_shared s;
    const struct span span = p.spans[blockIdx.z];
    const int chunks = delta_slab_chunks(p.slab, span.t), chunk = p.slab.chunk;
    const int first = delta_first_unit(p.spans, p.slab, blockIdx.z);
    if (chunks == 0)
        return;
    state_t *states = (state_t *)p.state;
    const bool fresh = span.pos0 == 0 && p.slab.first == 0;
    if (delta_carried_in<state_t>(p.slab))
        read_state(s, p, p.carry, blockIdx.z, false);
    else
        read_state(s, p, states, span.slot, fresh);
    __syncthreads(); // S is there
    for (int i = 0; i < chunks; i++) {
        const int done = (p.slab.first + i) * chunk, n = min(chunk, span.t - done);
        do_chunk<act_t>(s, p, span.t0 + done, n, (size_t)(first + i) * p.v_heads + blockIdx.y);
        if (done + n == span.save_t)
            write_state(s, p, states, span.save_slot);
    }
    if (delta_carried_out<state_t>(p.slab, chunks, span))
        write_state(s, p, p.carry, blockIdx.z);
    else
        write_state(s, p, states, span.slot);
}

template <typename act_t, int CHUNK>
static void launch_prepare(struct dev *dev, const struct portable_args &p, int n)
{
    const int bytes = sizeof(struct prepare_shared);
    prepare_kernel<act_t, CHUNK><<<dim3(n, p.v_heads), THREADS, bytes, cuda_of(dev)->stream>>>(p);
    LAUNCHED(dev, "delta_rule: prepare");
}

static void do_slab(struct dev *dev, const struct delta_rule_args *a, const struct portable_args &p,
                    int n)
{
    switch (a->chunk) {
    case 16:
        ACT_SWITCH(dev, (launch_prepare<act_t, 16>(dev, p, n)));
        break;
    case 32:
        ACT_SWITCH(dev, (launch_prepare<act_t, 32>(dev, p, n)));
        break;
    case 64:
        ACT_SWITCH(dev, (launch_prepare<act_t, 64>(dev, p, n)));
        break;
    case 128:
        ACT_SWITCH(dev, (launch_prepare<act_t, 128>(dev, p, n)));
        break;
    }
    const struct tri_inverse_args t = {.t_out = p.T,
                                       .a = p.A,
                                       .n = n * a->v_heads,
                                       .chunk = a->chunk,
                                       .inverse = a->inverse,
                                       .report = NULL};
    cuda_tri_inverse(dev, &t);
    delta_report(dev, a, p.slab, &t);
    const dim3 grid(a->v_dim / COLUMNS, a->v_heads, p.slab.n_spans);
    ACT_SWITCH(dev, STATE_SWITCH(a->state_type, (chain_kernel<act_t, state_t>
                                                 <<<grid, THREADS, 0, cuda_of(dev)->stream>>>(p))));
    LAUNCHED(dev, "delta_rule: chain");
}

static size_t portable_chunk_bytes(const struct delta_rule_args *a)
{
    const size_t square = (size_t)a->chunk * a->chunk;
    return a->v_heads * (3 * square * sizeof(float) + sizeof(struct scales));
}

int delta_portable_spans(const struct delta_rule_args *a)
{
    const size_t n = SLAB_BYTES / portable_chunk_bytes(a);
    return n < 1 ? 1 : n > INT_MAX ? INT_MAX : (int)n;
}

void delta_portable(struct dev *dev, const struct delta_rule_args *a, int n_spans, float *carry)
{
    const size_t square = (size_t)a->chunk * a->chunk;
    const size_t each = portable_chunk_bytes(a);
    struct delta_slab slab = {.first = 0,
                              .count = (int)(SLAB_BYTES / each / n_spans),
                              .n_spans = n_spans,
                              .chunk = a->chunk};
    slab.count = slab.count < 1 ? 1 : slab.count;
    const int most = delta_slab_units(slab, &a->batch);
    const size_t units = (size_t)most * a->v_heads;
    float *p = (float *)cuda_scratch(dev, CUDA_SLOT_DELTA_2,
                                     most * each > SLAB_BYTES ? most * each : SLAB_BYTES);
    if (!p)
        return;
    struct portable_args args = {.o = a->o,
                                 .qkv = a->qkv,
                                 .a = a->a,
                                 .b = a->b,
                                 .A_log = a->A_log,
                                 .dt_bias = a->dt_bias,
                                 .state = a->state,
                                 .A = p,
                                 .T = p + units * square,
                                 .P = p + 2 * units * square,
                                 .scales = (struct scales *)(p + 3 * units * square),
                                 .spans = a->batch.spans,
                                 .slab = slab,
                                 .k_heads = a->k_heads,
                                 .v_heads = a->v_heads,
                                 .k_dim = a->k_dim,
                                 .v_dim = a->v_dim,
                                 .carry = carry};
    for (int n = most; n > 0; n = delta_slab_units(args.slab, &a->batch)) {
        do_slab(dev, a, args, n);
        args.slab.first += slab.count;
    }
}
