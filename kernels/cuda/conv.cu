// conv.cu - causal depthwise convolution of width 4 and SiLU over the q, k, v channels.
// Computes: y[t][ch] = SiLU(sum_j w[ch][j] x[t - 3 + j][ch]); columns before the span from its slot.
//
// A thread takes 16 bytes of channels through a tile of rows of one span, the last three rows in
// registers. The thread of a span's first tile also leaves the states: it alone has read the old one.
// Bound by: memory, x read once (three rows a tile again, from cache), y written once.
#include "delta.cuh"
#include "pack.cuh"

static constexpr int THREADS = 128, ROWS = 16, AHEAD = 4, PAST = CONV_WIDTH - 1;

template <typename act_t, int N> struct alignas(sizeof(act_t) * N) vec {
    act_t x[N];
};

// The column of x at token t of the span, for a thread's N channels from ch on.
template <typename act_t, int N>
static __device__ __forceinline__ void load(float (&c)[N], const struct conv_args &a,
                                            const struct span &span, int t, int ch)
{
    if (t >= 0) {
        const vec<act_t, N> v =
            *(const vec<act_t, N> *)((const act_t *)a.x + (size_t)(span.t0 + t) * a.channels + ch);
#pragma unroll
        for (int i = 0; i < N; i++)
            c[i] = held_float(v.x[i]);
    } else {
        const float *state = a.state + ((size_t)span.slot * PAST + PAST + t) * a.channels + ch;
#pragma unroll
        for (int i = 0; i < N; i++)
            c[i] = span.pos0 ? state[i] : 0.0f;
    }
}

template <int N>
static __device__ void store_state(const struct conv_args &a, int slot, int ch,
                                   const float (&c)[PAST][N])
{
#pragma unroll
    for (int j = 0; j < PAST; j++)
#pragma unroll
        for (int i = 0; i < N; i++)
            a.state[((size_t)slot * PAST + j) * a.channels + ch + i] = c[j][i];
}

// The last columns of the first t tokens.
template <typename act_t, int N>
static __device__ void load_last(float (&c)[PAST][N], const struct conv_args &a,
                                 const struct span &span, int t, int ch)
{
#pragma unroll
    for (int j = 0; j < PAST; j++)
        load<act_t, N>(c[j], a, span, t - PAST + j, ch);
}

// One row of a thread's channels; past moves on.
template <typename act_t, int N>
static __device__ __forceinline__ void conv_row(act_t *y, const float (&w)[CONV_WIDTH][N],
                                                float (&past)[PAST][N], const vec<act_t, N> &x)
{
    vec<act_t, N> out;
#pragma unroll
    for (int i = 0; i < N; i++) {
        const float now = held_float(x.x[i]);
        out.x[i] = from_float<act_t>(silu<act_t>(w[0][i] * past[0][i] + w[1][i] * past[1][i] +
                                                 w[2][i] * past[2][i] + w[3][i] * now));
        past[0][i] = past[1][i], past[1][i] = past[2][i], past[2][i] = now;
    }
    *(vec<act_t, N> *)y = out;
}

template <typename act_t, int N>
static __global__ void __launch_bounds__(THREADS) conv_kernel(const struct conv_args a)
{
    struct delta_place place;
    const struct delta_slab tiles = {0, INT_MAX, a.batch.n_spans, ROWS};
    const int ch = (blockIdx.x * THREADS + threadIdx.x) * N;
    if (!delta_find(&place, a.batch.spans, tiles, blockIdx.y) || ch >= a.channels)
        return;
    const struct span span = place.span;
    const int first = place.index * ROWS;
    float w[CONV_WIDTH][N], past[PAST][N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        const float4 v = *(const float4 *)&a.w[(size_t)(ch + i) * CONV_WIDTH];
        w[0][i] = v.x, w[1][i] = v.y, w[2][i] = v.z, w[3][i] = v.w;
    }
    load_last<act_t, N>(past, a, span, first, ch);
    for (int t = 0; t < place.n; t += AHEAD) {
        vec<act_t, N> x[AHEAD]; // several rows under way at once
#pragma unroll
        for (int r = 0; r < AHEAD; r++)
            if (t + r < place.n)
                x[r] = *(const vec<act_t, N> *)((const act_t *)a.x +
                                                (size_t)(place.row + t + r) * a.channels + ch);
#pragma unroll
        for (int r = 0; r < AHEAD; r++)
            if (t + r < place.n)
                conv_row<act_t, N>((act_t *)a.y + (size_t)(place.row + t + r) * a.channels + ch, w,
                                   past, x[r]);
    }
    if (first)
        return;
    if (span.save_t) {
        load_last<act_t, N>(past, a, span, span.save_t, ch);
        store_state<N>(a, span.save_slot, ch, past);
    }
    load_last<act_t, N>(past, a, span, span.t, ch);
    store_state<N>(a, span.slot, ch, past);
}

template <typename act_t, int N> static void launch(struct dev *dev, const struct conv_args *a)
{
    // As many tiles as there can be: whoever finds none leaves.
    const dim3 grid(blocks_for(a->channels, THREADS * N), a->batch.n_spans + a->batch.t / ROWS);
    conv_kernel<act_t, N><<<grid, THREADS, 0, cuda_of(dev)->stream>>>(*a);
    LAUNCHED(dev, "conv");
}

void cuda_conv(struct dev *dev, const struct conv_args *a)
{
    if (cuda_of(dev)->act != DTYPE_F32)
        HALF_SWITCH(dev, (a->channels % 8 ? launch<half_t, 1> : launch<half_t, 8>)(dev, a));
    else
        a->channels % 4 ? launch<float, 1>(dev, a) : launch<float, 4>(dev, a);
}
