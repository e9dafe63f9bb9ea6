// linear_dnnl.c - the matrix path by oneDNN: one matmul primitive a shape, made when first met.
// Weights stay as they are in the file, row-major [n, k], which oneDNN reads as a transposed [k, n] and
// copies once a call; packing them beforehand would save that and double the memory. Only its AVX-512
// kernels are used: the older ones do not add every row alike (linear_matrix_avx2.c is for the rest).
// Measured, tiles of 256, 512 rows x 4096 x 1024, one core, whole operation: bf16 204 GFLOP/s (one oneDNN call of 256
// rows: 205; packed: 220 to 232), f32 108 (101 to 115), int8 350 (388). AMD EPYC (Zen 4), 2026-11-23,
// thread time on a shared machine.
#include <dnnl.h>
#include <stdlib.h>
#include <string.h>

#include "linear.h"

enum { SHAPES_MAX = 128 }; // a model has about ten, each in four tiles

struct shape {
    enum dtype type;
    int tile, n, k;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, w, y;
};

struct state {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct shape shapes[SHAPES_MAX];
    int n_shapes;
};

static void destroy_shape(struct shape *s)
{
    if (s->primitive)
        dnnl_primitive_destroy(s->primitive);
    dnnl_memory_t memories[] = {s->x, s->w, s->y};
    for (int i = 0; i < 3; i++)
        if (memories[i])
            dnnl_memory_destroy(memories[i]);
}

static void destroy_state(void *linear)
{
    struct state *st = linear;
    for (int i = 0; i < st->n_shapes; i++)
        destroy_shape(&st->shapes[i]);
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

static dnnl_data_type_t type_of(enum dtype type)
{
    return type == DTYPE_F32 ? dnnl_f32 : type == DTYPE_BF16 ? dnnl_bf16 : dnnl_s8;
}

static bool describe(struct shape *s, dnnl_memory_desc_t *x, dnnl_memory_desc_t *w,
                     dnnl_memory_desc_t *y)
{
    const dnnl_dims_t x_dims = {s->tile, s->k}, w_dims = {s->k, s->n};
    const dnnl_dims_t y_dims = {s->tile, s->n}, w_strides = {1, s->k};
    const dnnl_data_type_t out = s->type == DTYPE_INT8 ? dnnl_s32 : dnnl_f32;
    return dnnl_memory_desc_init_by_tag(x, 2, x_dims, type_of(s->type), dnnl_ab) == dnnl_success &&
           dnnl_memory_desc_init_by_strides(w, 2, w_dims, type_of(s->type), w_strides) ==
               dnnl_success &&
           dnnl_memory_desc_init_by_tag(y, 2, y_dims, out, dnnl_ab) == dnnl_success;
}

// Its kernels for AVX-512 ("brg:avx512_core...") add every row alike; what else it may offer does not.
static bool adds_rows_alike(dnnl_primitive_desc_t pd)
{
    const char *kernel = NULL;
    return dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &kernel) == dnnl_success &&
           strncmp(kernel, "brg:avx512", 10) == 0;
}

static bool make_shape(struct state *st, struct shape *s)
{
    dnnl_memory_desc_t x, w, y;
    dnnl_matmul_desc_t op;
    dnnl_primitive_desc_t pd = NULL;
    if (!describe(s, &x, &w, &y) || dnnl_matmul_desc_init(&op, &x, &w, NULL, &y) != dnnl_success ||
        dnnl_primitive_desc_create(&pd, &op, NULL, st->engine, NULL) != dnnl_success)
        return false;
    bool made = adds_rows_alike(pd) && dnnl_primitive_create(&s->primitive, pd) == dnnl_success &&
                dnnl_memory_create(&s->x, &x, st->engine, DNNL_MEMORY_NONE) == dnnl_success &&
                dnnl_memory_create(&s->w, &w, st->engine, DNNL_MEMORY_NONE) == dnnl_success &&
                dnnl_memory_create(&s->y, &y, st->engine, DNNL_MEMORY_NONE) == dnnl_success;
    dnnl_primitive_desc_destroy(pd);
    if (!made)
        destroy_shape(s);
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
    dnnl_memory_set_data_handle(s->x, (void *)(uintptr_t)x);
    dnnl_memory_set_data_handle(s->w, (void *)(uintptr_t)w->data);
    dnnl_memory_set_data_handle(s->y, y);
#ifdef _OPENMP
    omp_set_num_threads(cpu_of(dev)->threads); // of this thread's calls; oneDNN asks OpenMP
#endif
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, s->x}, {DNNL_ARG_WEIGHTS, s->w}, {DNNL_ARG_DST, s->y}};
    dnnl_status_t status = dnnl_primitive_execute(s->primitive, st->stream, 3, args);
    if (status == dnnl_success)
        status = dnnl_stream_wait(st->stream);
    if (status != dnnl_success)
        cpu_fail(dev, "oneDNN matmul %d x %d x %d failed with status %d", tile, w->rows, w->cols,
                 (int)status);
    return true;
}
