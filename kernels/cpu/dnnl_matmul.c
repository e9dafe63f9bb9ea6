// dnnl_matmul.c - see dnnl_matmul.h. What the two versions share is written once: a primitive's own
// descriptors, asked from it, are taken by dnnl_memory_create in both.
#include "dnnl_matmul.h"

// oneDNN 2 fills descriptors in place, oneDNN 3 makes them and wants them destroyed.
#if DNNL_VERSION_MAJOR < 3
#define CREATE_WITH_TAG dnnl_memory_desc_init_by_tag
#define CREATE_WITH_STRIDES dnnl_memory_desc_init_by_strides
#else
#define CREATE_WITH_TAG dnnl_memory_desc_create_with_tag
#define CREATE_WITH_STRIDES dnnl_memory_desc_create_with_strides
#endif

struct descs {
    dnnl_memory_desc_t x, w, y;
};

static bool make_descs(struct descs *d, const struct matmul_ask *ask)
{
    const dnnl_data_type_t in = ask->type == DTYPE_F32    ? dnnl_f32
                                : ask->type == DTYPE_BF16 ? dnnl_bf16
                                                          : dnnl_s8;
    const dnnl_data_type_t out = ask->type == DTYPE_INT8 ? dnnl_s32 : dnnl_f32;
    const dnnl_dims_t x = {ask->t, ask->k}, w = {ask->k, ask->n}, y = {ask->t, ask->n};
    const dnnl_dims_t w_strides = {1, ask->k};
    return CREATE_WITH_TAG(&d->x, 2, x, in, dnnl_ab) == dnnl_success &&
           (ask->packed ? CREATE_WITH_TAG(&d->w, 2, w, in, dnnl_format_tag_any)
                        : CREATE_WITH_STRIDES(&d->w, 2, w, in, w_strides)) == dnnl_success &&
           CREATE_WITH_TAG(&d->y, 2, y, out, dnnl_ab) == dnnl_success;
}

static bool is_taken(const struct matmul_ask *ask, dnnl_primitive_desc_t pd)
{
    const char *kernel = NULL;
    return !ask->takes ||
           (dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &kernel) == dnnl_success &&
            ask->takes(kernel));
}

// oneDNN offers its kernels one after another, the preferred one first: from an iterator in oneDNN 2,
// from a description that becomes the next one in oneDNN 3.
#if DNNL_VERSION_MAJOR < 3
static dnnl_primitive_desc_t describe(dnnl_engine_t engine, const struct descs *d,
                                      const struct matmul_ask *ask)
{
    dnnl_matmul_desc_t op;
    dnnl_primitive_desc_iterator_t offers = NULL;
    dnnl_primitive_desc_t pd = NULL;
    if (dnnl_matmul_desc_init(&op, &d->x, &d->w, NULL, &d->y) != dnnl_success ||
        dnnl_primitive_desc_iterator_create(&offers, &op, NULL, engine, NULL) != dnnl_success)
        return NULL;
    do {
        if (pd)
            dnnl_primitive_desc_destroy(pd);
        pd = dnnl_primitive_desc_iterator_fetch(offers);
    } while (pd && !is_taken(ask, pd) && dnnl_primitive_desc_iterator_next(offers) == dnnl_success);
    dnnl_primitive_desc_iterator_destroy(offers);
    return pd;
}

static void free_descs(struct descs *d)
{
    (void)d;
}
#else
static dnnl_primitive_desc_t describe(dnnl_engine_t engine, const struct descs *d,
                                      const struct matmul_ask *ask)
{
    dnnl_primitive_desc_t pd = NULL;
    if (dnnl_matmul_primitive_desc_create(&pd, engine, d->x, d->w, NULL, d->y, NULL) !=
        dnnl_success)
        return NULL;
    while (!is_taken(ask, pd) && dnnl_primitive_desc_next_impl(pd) == dnnl_success)
        ;
    return pd;
}

static void free_descs(struct descs *d)
{
    dnnl_memory_desc_t all[] = {d->x, d->w, d->y};
    for (int i = 0; i < 3; i++)
        if (all[i])
            dnnl_memory_desc_destroy(all[i]);
}
#endif

dnnl_primitive_desc_t matmul_describe(dnnl_engine_t engine, const struct matmul_ask *ask)
{
    struct descs d = {0};
    dnnl_primitive_desc_t pd = make_descs(&d, ask) ? describe(engine, &d, ask) : NULL;
    free_descs(&d);
    if (pd && !is_taken(ask, pd)) { // the last one offered
        dnnl_primitive_desc_destroy(pd);
        pd = NULL;
    }
    return pd;
}

static bool make_memory(dnnl_memory_t *m, dnnl_engine_t engine, dnnl_primitive_desc_t pd,
                        dnnl_query_t which, void *data)
{
    return dnnl_memory_create(m, dnnl_primitive_desc_query_md(pd, which, 0), engine, data) ==
           dnnl_success;
}

bool matmul_make(struct matmul *m, dnnl_engine_t engine, dnnl_primitive_desc_t pd, void *data)
{
    *m = (struct matmul){0};
    if (dnnl_primitive_create(&m->primitive, pd) == dnnl_success &&
        make_memory(&m->x, engine, pd, dnnl_query_src_md, data) &&
        make_memory(&m->w, engine, pd, dnnl_query_weights_md, data) &&
        make_memory(&m->y, engine, pd, dnnl_query_dst_md, data))
        return true;
    matmul_free(m);
    return false;
}

dnnl_status_t matmul_run(const struct matmul *m, dnnl_stream_t stream)
{
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, m->x}, {DNNL_ARG_WEIGHTS, m->w}, {DNNL_ARG_DST, m->y}};
    const dnnl_status_t status = dnnl_primitive_execute(m->primitive, stream, 3, args);
    return status == dnnl_success ? dnnl_stream_wait(stream) : status;
}

void matmul_free(struct matmul *m)
{
    if (m->primitive)
        dnnl_primitive_destroy(m->primitive);
    dnnl_memory_t all[] = {m->x, m->w, m->y};
    for (int i = 0; i < 3; i++)
        if (all[i])
            dnnl_memory_destroy(all[i]);
    *m = (struct matmul){0};
}
