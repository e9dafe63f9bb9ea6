// linear_dnnl.c - the matrix path by oneDNN: one matmul primitive a shape, made when first met.
// Weights stay as they are in the file, row-major [n, k], which oneDNN reads as a transposed [k, n] and
// copies once a call; packing them beforehand would save that and double the memory.
//
// A row's bits may not depend on what runs beside it, so a kernel must add every row alike, wherever it
// stands in a tile and whatever the tile's height or the number of threads. oneDNN's for AVX-512 do; the
// older ones do not (linear_matrix_avx2.c is for the rest). Its kernels for AMX, which it prefers where there
// is AMX, do not in bf16: there is none in short tiles when W has few rows (4 x 256), and where there is one it
// cuts k by the tile's height (24 x 3584) and by the threads (1024 x 2048). In tiles of one height, on one
// thread, they do (743 pairs of n and k; through cpu_linear 1,000 random shapes cut four ways each, the same
// bits on 1, 2 and 5 threads). So there bf16 goes by blocks, and a block's sums are laid out by themselves,
// since for a y with gaps oneDNN has no AMX kernel. In int8, whose sums are exact in any order, any is taken.
// dnnl_set_max_cpu_isa would leave AMX out for both.
//
// Measured, tiles of 256, 512 rows x 4096 x 1024, one core, whole operation: bf16 204 GFLOP/s (one oneDNN call of 256
// rows: 205; packed: 220 to 232), f32 108 (101 to 115), int8 350 (388). AMD EPYC (Zen 4), 2026-11-23,
// thread time on a shared machine. Intel Xeon with AMX, shared, 2026-12-01, the same product of 512 rows: bf16 by
// blocks 550 GFLOP/s on one core and 1,125 on two (105 and 215 with AVX-512's kernels, oneDNN alone with packed
// weights 720 to 880 and 920 to 1,650), f32 165 to 196, int8 1,747 (581 without AMX).
#include <stdlib.h>
#include <string.h>

#include "dnnl_matmul.h"
#include "linear.h"

enum { SHAPES_MAX = 128 }; // a model has about ten, each in four tiles

struct shape {
    enum dtype type;
    int tile, n, k;
    bool block; // for linear_block
    struct matmul matmul;
};

// A thread's own, for what it runs.
struct lane {
    dnnl_stream_t stream;
    struct shape shapes[SHAPES_MAX];
    int n_shapes;
};

struct state {
    dnnl_engine_t engine;
    bool amx;
    int n_lanes;
    struct lane lanes[]; // the first is the device's thread, for tiles too
};

static void destroy_state(void *linear)
{
    struct state *st = linear;
    for (struct lane *l = st->lanes; l < st->lanes + st->n_lanes; l++) {
        for (int i = 0; i < l->n_shapes; i++)
            matmul_free(&l->shapes[i].matmul);
        if (l->stream)
            dnnl_stream_destroy(l->stream);
    }
    if (st->engine)
        dnnl_engine_destroy(st->engine);
    free(st);
}

static struct state *state_of(struct dev *dev)
{
    struct cpu *cpu = cpu_of(dev);
    if (cpu->linear)
        return cpu->linear;
    const size_t lanes = (size_t)cpu->threads * sizeof(struct lane);
    struct state *st = calloc(1, sizeof *st + lanes);
    if (!st)
        return NULL;
    bool made = dnnl_engine_create(&st->engine, dnnl_cpu, 0) == dnnl_success;
    for (; made && st->n_lanes < cpu->threads; st->n_lanes += made)
        made = dnnl_stream_create(&st->lanes[st->n_lanes].stream, st->engine,
                                  dnnl_stream_default_flags) == dnnl_success;
    if (!made) {
        destroy_state(st);
        return NULL;
    }
    const int isa = dnnl_get_effective_cpu_isa(), amx = dnnl_cpu_isa_avx512_core_amx;
    st->amx = (isa & amx) == amx;
    cpu->linear = st;
    cpu->linear_free = destroy_state;
    return st;
}

// "brg:avx512_core_bf16" in oneDNN 2 and 3.2, "brg_matmul:avx512_core_bf16" or
// "brg_matmul:avx10_1_512_amx" in 3.7.
static bool is_avx512(const char *kernel)
{
    const char *isa = strchr(kernel, ':');
    return strncmp(kernel, "brg", 3) == 0 && isa &&
           (strncmp(isa, ":avx512", 7) == 0 || strncmp(isa, ":avx10_1_512", 12) == 0);
}

static bool adds_rows_alike(const char *kernel)
{
    return is_avx512(kernel) && !strstr(kernel, "amx");
}

static bool make_shape(struct state *st, struct shape *s)
{
    const struct matmul_ask ask = {.type = s->type,
                                   .t = s->tile,
                                   .n = s->n,
                                   .k = s->k,
                                   .takes = s->block || s->type == DTYPE_INT8 ? is_avx512
                                                                              : adds_rows_alike};
    dnnl_primitive_desc_t pd = matmul_describe(st->engine, &ask);
    const bool made = pd && matmul_make(&s->matmul, st->engine, pd, DNNL_MEMORY_NONE);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    return made;
}

static struct shape *find_shape(struct state *st, struct lane *l, const struct shape *wanted)
{
    for (struct shape *s = l->shapes; s < l->shapes + l->n_shapes; s++)
        if (s->type == wanted->type && s->tile == wanted->tile && s->n == wanted->n &&
            s->k == wanted->k && s->block == wanted->block)
            return s;
    if (l->n_shapes == SHAPES_MAX)
        return NULL;
    struct shape *s = &l->shapes[l->n_shapes];
    *s = *wanted;
    if (!make_shape(st, s))
        return NULL;
    l->n_shapes++;
    return s;
}

// int8 without VNNI would saturate in the middle of its sums.
static bool takes(const struct cpu *cpu, enum dtype type)
{
    return cpu->isa == CPU_AVX512 && (type == DTYPE_F32    ? true
                                      : type == DTYPE_BF16 ? cpu->bf16
                                                           : cpu->vnni);
}

// oneDNN's interface has no const for the memory it only reads.
static void aim(const struct shape *s, void *y, const void *x, const void *w)
{
    dnnl_memory_set_data_handle(s->matmul.x, (void *)(uintptr_t)x);
    dnnl_memory_set_data_handle(s->matmul.w, (void *)(uintptr_t)w);
    dnnl_memory_set_data_handle(s->matmul.y, y);
}

// oneDNN asks OpenMP how many threads the calling thread's regions have.
static void run_shape(struct dev *dev, const struct lane *l, const struct shape *s, int threads)
{
#ifdef _OPENMP
    omp_set_num_threads(threads);
#else
    (void)threads;
#endif
    const dnnl_status_t status = matmul_run(&s->matmul, l->stream);
    if (status != dnnl_success)
        cpu_fail(dev, "oneDNN matmul %d x %d x %d failed with status %d", s->tile, s->n, s->k,
                 (int)status);
}

bool linear_tile(struct dev *dev, void *y, const void *x, const struct weight *w, int tile)
{
    if (!takes(cpu_of(dev), w->type))
        return false;
    struct state *st = state_of(dev);
    const struct shape wanted = {.type = w->type, .tile = tile, .n = w->rows, .k = w->cols};
    const struct shape *s = st ? find_shape(st, st->lanes, &wanted) : NULL;
    if (!s)
        return false;
    aim(s, y, x, w->data);
    run_shape(dev, st->lanes, s, cpu_of(dev)->threads);
    return true;
}

static struct shape block_of(const struct weight *w, int col0)
{
    const int left = w->rows - col0;
    return (struct shape){.type = w->type,
                          .tile = LINEAR_BLOCK_ROWS,
                          .n = left < LINEAR_BLOCK_COLS ? left : LINEAR_BLOCK_COLS,
                          .k = w->cols,
                          .block = true};
}

bool linear_blocks(struct dev *dev, const struct weight *w)
{
    struct state *st = takes(cpu_of(dev), w->type) ? state_of(dev) : NULL;
    if (!st || !st->amx || w->type != DTYPE_BF16)
        return false;
    const int last = (w->rows - 1) / LINEAR_BLOCK_COLS * LINEAR_BLOCK_COLS;
    for (int i = 0; i < st->n_lanes; i++) {
        const struct shape first = block_of(w, 0), rest = block_of(w, last);
        if (!find_shape(st, &st->lanes[i], &first) || !find_shape(st, &st->lanes[i], &rest))
            return false;
    }
    return true;
}

void linear_block(struct dev *dev, int worker, float *y, const void *x, const struct weight *w,
                  int col0)
{
    struct state *st = cpu_of(dev)->linear;
    struct lane *l = &st->lanes[worker];
    const struct shape wanted = block_of(w, col0);
    const size_t at = (size_t)col0 * (size_t)w->cols * dtype_bytes(w->type);
    const struct shape *s = find_shape(st, l, &wanted);
    aim(s, y, x, (const char *)w->data + at);
    run_shape(dev, l, s, 1);
}
