// linear_lt.cu - the matrix path by cuBLASLt: bf16, f16 and float32 with float32 sums; int8 with int32 sums and
// the scales applied by a kernel of our own, or by linear_int8.cu where that is faster.
// Bound by: multiply-adds; with few rows the bytes of W.
//
// The algorithm is chosen once for a matrix's shape and a class of row counts (powers of two): the
// fastest of the library's proposals, timed when the class is first met, which a server does while it
// warms up; smaller classes are chosen along with it. After that an unmet class uses the shape's
// reference algorithm. Between the library and linear_int8.cu the choice is made in the same way.
//
// Row independence: a float algorithm is admitted only if it gives the bits of the shape's reference
// algorithm on random data (proposals that cut k among blocks do not), so a row's bits depend neither
// on the class nor on the rows beside it. INT8 sums are exact.
//
// Measured, bf16, TFLOP/s at 512, 2048, 8192 rows: 9B gate and up 728, 791, 702; down 751, 806, 802; in_proj
// 597, 732, 772; out_proj 678, 770, 789; 0.8B 343 to 488, 561 to 679, 731 to 756. NVIDIA H200, 2026-11-24,
// runs played as in linear_table.c.
#include <cstdlib>

#include "fill_value.h"
#include "linear.cuh"
#include "pack.cuh"

enum {
    CLASS_MIN = 4,
    CLASSES = 12,
    PROPOSALS = 12,
    PROBE = 256,
    RUNS = 3
}; // class c: t <= 2^(4 + c)

static constexpr size_t WORKSPACE = 32 << 20, SUMS = 32 << 20;

struct lt_choice {
    bool made;
    cublasLtMatmulAlgo_t algo;
};

enum int8_by { UNTIMED, OWN, LIBRARY };

struct lt_shape {
    enum dtype type, y_type;
    int n, k;
    cublasLtMatmulDesc_t op;
    struct lt_choice reference, of_class[CLASSES];
    enum int8_by by[CLASSES]; // int8 only
};

struct lt {
    struct lt_shape *shapes;
    int n, capacity;
    cudaEvent_t start, end;
};

// One product in the library's terms: column-major y^T = W x^T.
struct lt_call {
    struct lt_shape *shape;
    const void *w, *x;
    void *y;
    cublasLtMatrixLayoutOpaque_t w_layout, x_layout, y_layout;
};

static cudaDataType lt_type(enum dtype type)
{
    return type == DTYPE_INT8    ? CUDA_R_8I
           : type == DTYPE_INT32 ? CUDA_R_32I
           : type == DTYPE_BF16  ? CUDA_R_16BF
           : type == DTYPE_F16   ? CUDA_R_16F
                                 : CUDA_R_32F;
}

static void lt_free(void *linear)
{
    struct lt *lt = (struct lt *)linear;
    for (int i = 0; i < lt->n; i++)
        cublasLtMatmulDescDestroy(lt->shapes[i].op);
    cudaEventDestroy(lt->start);
    cudaEventDestroy(lt->end);
    free(lt->shapes);
    free(lt);
}

static struct lt *lt_of(struct dev *dev)
{
    struct cuda *cuda = cuda_of(dev);
    if (cuda->linear)
        return (struct lt *)cuda->linear;
    struct lt *lt = (struct lt *)calloc(1, sizeof *lt);
    if (!lt)
        return NULL;
    cuda->linear = lt;
    cuda->linear_free = lt_free;
    if (!cuda_ok(dev, cudaEventCreate(&lt->start), "cudaEventCreate") ||
        !cuda_ok(dev, cudaEventCreate(&lt->end), "cudaEventCreate"))
        return NULL;
    return lt;
}

static struct lt_shape *add_shape(struct dev *dev, struct lt *lt, const struct lt_shape *wanted)
{
    if (lt->n == lt->capacity) {
        const int capacity = lt->capacity ? 2 * lt->capacity : 16;
        void *p = realloc(lt->shapes, (size_t)capacity * sizeof *lt->shapes);
        if (!p)
            return NULL;
        lt->shapes = (struct lt_shape *)p;
        lt->capacity = capacity;
    }
    struct lt_shape s = *wanted;
    const cublasOperation_t transpose = CUBLAS_OP_T;
    const cublasComputeType_t sums = s.type == DTYPE_INT8  ? CUBLAS_COMPUTE_32I
                                     : s.type == DTYPE_F32 ? CUBLAS_COMPUTE_32F_PEDANTIC
                                                           : CUBLAS_COMPUTE_32F;
    if (!cuda_blas_ok(
            dev,
            cublasLtMatmulDescCreate(&s.op, sums, s.type == DTYPE_INT8 ? CUDA_R_32I : CUDA_R_32F),
            "cublasLtMatmulDescCreate") ||
        !cuda_blas_ok(dev,
                      cublasLtMatmulDescSetAttribute(s.op, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                                     sizeof transpose),
                      "cublasLtMatmulDescSetAttribute"))
        return NULL;
    lt->shapes[lt->n] = s;
    return &lt->shapes[lt->n++];
}

static struct lt_shape *find_shape(struct dev *dev, const struct weight *w, enum dtype y_type)
{
    struct lt *lt = lt_of(dev);
    for (int i = 0; lt && i < lt->n; i++) {
        struct lt_shape *s = &lt->shapes[i];
        if (s->type == w->type && s->y_type == y_type && s->n == w->rows && s->k == w->cols)
            return s;
    }
    struct lt_shape wanted = {};
    wanted.type = w->type;
    wanted.y_type = y_type;
    wanted.n = w->rows;
    wanted.k = w->cols;
    return lt ? add_shape(dev, lt, &wanted) : NULL;
}

// c's layouts for t rows.
static void set_rows(struct lt_call *c, int t)
{
    const struct lt_shape *s = c->shape;
    const uint64_t n = (uint64_t)s->n, k = (uint64_t)s->k;
    cublasLtMatrixLayoutInit(&c->w_layout, lt_type(s->type), k, n, s->k);
    cublasLtMatrixLayoutInit(&c->x_layout, lt_type(s->type), k, (uint64_t)t, s->k);
    cublasLtMatrixLayoutInit(&c->y_layout, lt_type(s->y_type), n, (uint64_t)t, s->n);
}

static cublasStatus_t run(struct dev *dev, struct lt_call *c, const cublasLtMatmulAlgo_t *algo)
{
    static const float one = 1, zero = 0;
    static const int one_int = 1, zero_int = 0;
    const bool ints = c->shape->type == DTYPE_INT8;
    void *workspace = cuda_scratch(dev, CUDA_SLOT_BLAS, WORKSPACE);
    if (!workspace)
        return CUBLAS_STATUS_ALLOC_FAILED;
    return cublasLtMatmul(cuda_of(dev)->blas_lt, c->shape->op, ints ? (const void *)&one_int : &one,
                          c->w, &c->w_layout, c->x, &c->x_layout,
                          ints ? (const void *)&zero_int : &zero, c->y, &c->y_layout, c->y,
                          &c->y_layout, algo, workspace, WORKSPACE, cuda_of(dev)->stream);
}

// The library's proposals for the call's rows; k is not cut among blocks where sums are rounded.
static int propose(struct dev *dev, struct lt_call *c, cublasLtMatmulAlgo_t *algos)
{
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found[PROPOSALS];
    int n = 0, kept = 0;
    if (cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS)
        return 0;
    const uint32_t whole = CUBLASLT_REDUCTION_SCHEME_NONE;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &WORKSPACE, sizeof WORKSPACE);
    if (c->shape->type != DTYPE_INT8)
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                             &whole, sizeof whole);
    if (cublasLtMatmulAlgoGetHeuristic(cuda_of(dev)->blas_lt, c->shape->op, &c->w_layout,
                                       &c->x_layout, &c->y_layout, &c->y_layout, preference,
                                       PROPOSALS, found, &n) != CUBLAS_STATUS_SUCCESS)
        n = 0;
    cublasLtMatmulPreferenceDestroy(preference);
    for (int i = 0; i < n; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS)
            algos[kept++] = found[i].algo;
    return kept;
}

template <typename type_t> static __global__ void probe_values(type_t *x, size_t n)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        x[i] = from_float<type_t>(fill_value(1, i, 0, 1));
}

static __global__ void probe_compare(const unsigned *a, const unsigned *b, size_t words,
                                     int *differ)
{
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < words && a[i] != b[i])
        *differ = 1;
}

// PROBE rows of random x, and the reference's y for them, another's and the verdict; in scratch.
struct probe {
    struct lt_call call;
    char *reference, *y;
    int *differ;
    size_t bytes; // of a y
};

static bool make_probe(struct dev *dev, const struct lt_call *c, struct probe *p)
{
    const struct lt_shape *s = c->shape;
    const size_t n = (size_t)PROBE * (size_t)s->k;
    const size_t x = n * dtype_bytes(s->type);
    p->bytes = (size_t)PROBE * (size_t)s->n * dtype_bytes(s->y_type);
    char *at = (char *)cuda_scratch(dev, CUDA_SLOT_LINEAR_SUM, x + 2 * p->bytes + 256);
    if (!at)
        return false;
    p->call = *c;
    p->call.x = at;
    p->reference = at + x;
    p->y = p->reference + p->bytes;
    p->differ = (int *)(p->y + p->bytes);
    set_rows(&p->call, PROBE);
    const dim3 grid(blocks_for(n, 256));
    if (s->type == DTYPE_F32)
        probe_values<<<grid, 256, 0, cuda_of(dev)->stream>>>((float *)at, n);
    else
        HALF_SWITCH(dev, (probe_values<<<grid, 256, 0, cuda_of(dev)->stream>>>((half_t *)at, n)));
    p->call.y = p->reference;
    return LAUNCHED(dev, "probe_values") &&
           run(dev, &p->call, &s->reference.algo) == CUBLAS_STATUS_SUCCESS;
}

// Does algo give the reference's bits?
static bool admits(struct dev *dev, struct probe *p, const cublasLtMatmulAlgo_t *algo)
{
    const cudaStream_t stream = cuda_of(dev)->stream;
    int differ = 1;
    p->call.y = p->y;
    if (!cuda_ok(dev, cudaMemsetAsync(p->y, 0xff, p->bytes + sizeof(int), stream), "probe") ||
        !cuda_ok(dev, cudaMemsetAsync(p->differ, 0, sizeof(int), stream), "probe") ||
        run(dev, &p->call, algo) != CUBLAS_STATUS_SUCCESS)
        return false;
    probe_compare<<<blocks_for(p->bytes / 4, 256), 256, 0, stream>>>(
        (const unsigned *)p->y, (const unsigned *)p->reference, p->bytes / 4, p->differ);
    return LAUNCHED(dev, "probe_compare") &&
           cuda_ok(
               dev,
               cudaMemcpyAsync(&differ, p->differ, sizeof differ, cudaMemcpyDeviceToHost, stream),
               "probe") &&
           cuda_ok(dev, cudaStreamSynchronize(stream), "probe") && !differ;
}

// Milliseconds of call(), or a negative number when it says that it did nothing.
template <typename F> static float time_of(struct dev *dev, F call)
{
    const struct lt *lt = lt_of(dev);
    const cudaStream_t stream = cuda_of(dev)->stream;
    float best = -1;
    if (!call())
        return -1;
    for (int i = 0; i < RUNS; i++) {
        float ms = 0;
        cudaEventRecord(lt->start, stream);
        call();
        cudaEventRecord(lt->end, stream);
        if (!cuda_ok(dev, cudaEventSynchronize(lt->end), "linear") ||
            !cuda_ok(dev, cudaEventElapsedTime(&ms, lt->start, lt->end), "linear"))
            return -1;
        best = best < 0 || ms < best ? ms : best;
    }
    return best;
}

static float time_call(struct dev *dev, struct lt_call *c, const cublasLtMatmulAlgo_t *algo)
{
    return time_of(dev, [=] { return run(dev, c, algo) == CUBLAS_STATUS_SUCCESS; });
}

// May anything be timed now? Not once a server is ready, nor while a step is recorded.
static bool may_choose(struct dev *dev)
{
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    cudaStreamIsCapturing(cuda_of(dev)->stream, &capture);
    return !cuda_of(dev)->warm && capture == cudaStreamCaptureStatusNone;
}

static int class_of(int t)
{
    int c = 0;
    while (c < CLASSES - 1 && t > 1 << (CLASS_MIN + c))
        c++;
    return c;
}

static void choose(struct dev *dev, struct lt_call *c, int t, struct probe *probe)
{
    struct lt_choice *choice = &c->shape->of_class[class_of(t)];
    cublasLtMatmulAlgo_t algos[PROPOSALS];
    set_rows(c, t);
    const int n = propose(dev, c, algos);
    float best = time_call(dev, c, &c->shape->reference.algo);
    choice->algo = c->shape->reference.algo;
    choice->made = best >= 0;
    for (int i = 0; i < n; i++) {
        const float ms =
            probe && !admits(dev, probe, &algos[i]) ? -1 : time_call(dev, c, &algos[i]);
        if (ms < 0 || (choice->made && ms >= best))
            continue;
        best = ms;
        choice->algo = algos[i];
        choice->made = true;
    }
}

// Chooses for t rows and for all classes below. False: the library takes no such product.
static bool choose_up_to(struct dev *dev, struct lt_call *c, int t)
{
    struct lt_shape *s = c->shape;
    cublasLtMatmulAlgo_t algos[PROPOSALS];
    struct probe probe;
    const bool floats = s->type != DTYPE_INT8;
    if (!s->reference.made) {
        set_rows(c, 1 << (CLASS_MIN + CLASSES - 3));
        if (propose(dev, c, algos) < 1)
            return false;
        s->reference.algo = algos[0];
        s->reference.made = true;
    }
    if (floats && !make_probe(dev, c, &probe))
        return false;
    for (int i = class_of(t); i >= 0; i--) {
        const int rows = i == class_of(t) ? t : 1 << (CLASS_MIN + i);
        if (!s->of_class[i].made)
            choose(dev, c, rows, floats ? &probe : NULL);
    }
    set_rows(c, t);
    return true;
}

static bool multiply(struct dev *dev, struct lt_call *c, int t)
{
    struct lt_choice *choice = &c->shape->of_class[class_of(t)];
    if (!choice->made && may_choose(dev) && !choose_up_to(dev, c, t))
        return false;
    set_rows(c, t);
    if (!choice->made)
        choice = &c->shape->reference;
    return choice->made && cuda_blas_ok(dev, run(dev, c, &choice->algo), "cublasLtMatmul");
}

// y = sums * scales, eight at a time.
template <typename y_t>
static __global__ void __launch_bounds__(256)
    apply_scales(y_t *y, const int *sums, const float *x_scale, const float *w_scale, int n)
{
    const int i = PACK * (blockIdx.x * blockDim.x + threadIdx.x), t = blockIdx.y;
    if (i >= n)
        return;
    const size_t at = (size_t)t * n + i;
    const pack w = pack_load(w_scale + i);
    const int4 a = *(const int4 *)(sums + at), b = *(const int4 *)(sums + at + 4);
    const int exact[PACK] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
    pack v;
#pragma unroll
    for (int j = 0; j < PACK; j++)
        v.v[j] = (float)exact[j] * (x_scale[t] * w.v[j]);
    pack_store(y + at, v);
}

// By the library, as many rows at once as keep the sums within the cache.
static bool library_int8(struct dev *dev, struct lt_call *c, const struct product *p)
{
    const size_t n = (size_t)p->w->rows, row = n * sizeof(int);
    const int most = SUMS / row > 256 ? (int)(SUMS / row / 256 * 256) : 256;
    const size_t rows = (size_t)(p->t < most ? p->t : most);
    c->y = cuda_scratch(dev, CUDA_SLOT_LINEAR_SUM, rows * row);
    if (!c->y)
        return true; // kept
    for (int t = 0; t < p->t; t += most) {
        const int left = p->t - t < most ? p->t - t : most;
        c->x = (const int8_t *)p->x + (size_t)t * (size_t)p->w->cols;
        if (!multiply(dev, c, left))
            return false;
        const dim3 grid(blocks_for(n / PACK, 256), (unsigned)left);
        const size_t at = (size_t)t * n;
        if (p->y_type == DTYPE_F32)
            apply_scales<<<grid, 256, 0, cuda_of(dev)->stream>>>(
                (float *)p->y + at, (const int *)c->y, p->x_scale + t, p->w->scale, (int)n);
        else
            HALF_SWITCH(dev, (apply_scales<<<grid, 256, 0, cuda_of(dev)->stream>>>(
                                 (half_t *)p->y + at, (const int *)c->y, p->x_scale + t,
                                 p->w->scale, (int)n)));
        LAUNCHED(dev, "linear");
    }
    return true;
}

// Times both for p's rows and for all classes below.
static void choose_int8(struct dev *dev, struct lt_call *c, const struct product *p)
{
    for (int i = class_of(p->t); i >= 0; i--) {
        struct product part = *p;
        if (i < class_of(p->t))
            part.t = 1 << (CLASS_MIN + i);
        if (c->shape->by[i] != UNTIMED)
            continue;
        const float own = time_of(dev, [&] { return linear_int8(dev, &part); });
        const float library = time_of(dev, [&] { return library_int8(dev, c, &part); });
        c->shape->by[i] = own >= 0 && (library < 0 || own < library) ? OWN : LIBRARY;
    }
}

static bool multiply_int8(struct dev *dev, struct lt_call *c, const struct product *p)
{
    const enum int8_by *by = &c->shape->by[class_of(p->t)];
    if (*by == UNTIMED && may_choose(dev))
        choose_int8(dev, c, p);
    return (*by != LIBRARY && linear_int8(dev, p)) || library_int8(dev, c, p);
}

bool linear_lt(struct dev *dev, const struct product *p)
{
    const bool int8 = p->w->type == DTYPE_INT8;
    const size_t w_row = (size_t)p->w->cols * dtype_bytes(p->w->type);
    const size_t y_row = (size_t)p->w->rows * dtype_bytes(p->y_type);
    if (w_row % 16 || y_row % 16 || p->w->rows % PACK || !pack_aligned(p->w->data) ||
        !pack_aligned(p->x) || !pack_aligned(p->y) || (int8 && !pack_aligned(p->w->scale)))
        return false;
    struct lt_call c = {};
    c.shape = find_shape(dev, p->w, int8 ? DTYPE_INT32 : p->y_type);
    c.w = p->w->data;
    c.x = p->x;
    c.y = p->y;
    if (!c.shape)
        return false;
    return int8 ? multiply_int8(dev, &c, p) : multiply(dev, &c, p->t);
}
