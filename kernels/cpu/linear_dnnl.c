// linear_dnnl.c - the matrix path by oneDNN: one matmul primitive a shape, made when first met.
// Weights stay as they are in the file, row-major [n, k], which oneDNN reads as a transposed [k, n] and
// copies once a call; packing them beforehand would save that and double the memory.
// A row's bits may not depend on what runs beside it, so a kernel must add every row alike, wherever it
// stands in a tile and whatever the tile's height or the number of threads. oneDNN's for AVX-512 do; the
// older ones do not (linear_matrix_avx2.c is for the rest). With AMX, where oneDNN prefers its kernels
// for that, bf16 has a product of AMX in tall tiles and none in short ones when W has few rows (4 x 256),
// and where it has one it cuts k by the tile's height (24 x 3584) and by the threads (1024 x 2048). So they
// are passed over for the AVX-512 kernel that oneDNN offers next; in int8, whose sums are exact in any
// order, they are taken. dnnl_set_max_cpu_isa would leave them out for both.
// Measured, tiles of 256, 512 rows x 4096 x 1024, one core, whole operation: bf16 204 GFLOP/s (one oneDNN call of 256
// rows: 205; packed: 220 to 232), f32 108 (101 to 115), int8 350 (388). AMD EPYC (Zen 4), 2026-11-23,
// thread time on a shared machine. What passing over costs, the same product of 512 rows, one core, whole
// operation: bf16 111 GFLOP/s (AMX 847, f32 196); int8 1,747 with AMX, 581 without. Intel Xeon with AMX,
// shared, 2026-12-01.
#include <stdlib.h>
#include <string.h>

#include "dnnl_matmul.h"
#include "linear.h"

enum { SHAPES_MAX = 128 }; // a model has about ten, each in four tiles

struct shape {
    enum dtype type;
    int tile, n, k;
    struct matmul matmul;
};

struct state {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct shape shapes[SHAPES_MAX];
    int n_shapes;
};

static void destroy_state(void *linear)
{
    struct state *st = linear;
    for (int i = 0; i < st->n_shapes; i++)
        matmul_free(&st->shapes[i].matmul);
    if (st->stream)
        dnnl_stream_destroy(st->stream);
    if (st->engine)
        dnnl_engine_destroy(st->engine);
    free(st);
}

static struct state *state_of(struct dev *dev)
{
    struct cpu *cpu = cpu_of(dev);
    if (cpu->linear)
        return cpu->linear;
    struct state *st = calloc(1, sizeof *st);
    if (!st)
        return NULL;
    if (dnnl_engine_create(&st->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&st->stream, st->engine, dnnl_stream_default_flags) != dnnl_success) {
        destroy_state(st);
        return NULL;
    }
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
                                   .takes = s->type == DTYPE_INT8 ? is_avx512 : adds_rows_alike};
    dnnl_primitive_desc_t pd = matmul_describe(st->engine, &ask);
    const bool made = pd && matmul_make(&s->matmul, st->engine, pd, DNNL_MEMORY_NONE);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    return made;
}

static struct shape *find_shape(struct state *st, const struct weight *w, int tile)
{
    for (int i = 0; i < st->n_shapes; i++) {
        struct shape *s = &st->shapes[i];
        if (s->type == w->type && s->tile == tile && s->n == w->rows && s->k == w->cols)
            return s;
    }
    if (st->n_shapes == SHAPES_MAX)
        return NULL;
    struct shape *s = &st->shapes[st->n_shapes];
    *s = (struct shape){.type = w->type, .tile = tile, .n = w->rows, .k = w->cols};
    if (!make_shape(st, s))
        return NULL;
    st->n_shapes++;
    return s;
}

// int8 without VNNI would saturate in the middle of its sums.
static bool takes(const struct cpu *cpu, enum dtype type)
{
    return cpu->isa == CPU_AVX512 && (type == DTYPE_F32    ? true
                                      : type == DTYPE_BF16 ? cpu->bf16
                                                           : cpu->vnni);
}

bool linear_tile(struct dev *dev, void *y, const void *x, const struct weight *w, int tile)
{
    if (!takes(cpu_of(dev), w->type))
        return false;
    struct state *st = state_of(dev);
    struct shape *s = st ? find_shape(st, w, tile) : NULL;
    if (!s)
        return false;
    // oneDNN's interface has no const for the memory it only reads.
    dnnl_memory_set_data_handle(s->matmul.x, (void *)(uintptr_t)x);
    dnnl_memory_set_data_handle(s->matmul.w, (void *)(uintptr_t)w->data);
    dnnl_memory_set_data_handle(s->matmul.y, y);
#ifdef _OPENMP
    omp_set_num_threads(cpu_of(dev)->threads); // of this thread's calls; oneDNN asks OpenMP
#endif
    const dnnl_status_t status = matmul_run(&s->matmul, st->stream);
    if (status != dnnl_success)
        cpu_fail(dev, "oneDNN matmul %d x %d x %d failed with status %d", tile, w->rows, w->cols,
                 (int)status);
    return true;
}
