// kernel_rows.c - see kernel_rows.h; kernel_report.c writes the document.
#include "kernel_rows.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "mem.h"
#include "spec_fields.h"

static const double HOST_BYTES_MAX = 4.0 * (1 << 30); // of one case, on either side

// --- from a spec ----------------------------------------------------------------------------

// A choice of the spec, all of which are names of types.
static enum dtype dtype_of(const char *name)
{
    enum dtype type = DTYPE_BF16;
    CHECK(dtype_named(name, &type));
    return type;
}

// One choice of each list; an operation ignores those that it does not use.
enum list {
    SHAPE,
    TOKENS,
    DEPTH,
    BATCH,
    RHO,
    CHUNK,
    METHOD,
    TYPE,
    EXECUTOR,
    WEIGHTS,
    STATE,
    LISTS
};

static const struct {
    const char *field;
    unsigned used_by; // 0: every operation
} LIST[LISTS] = {[SHAPE] = {"shapes", 0},
                 [TOKENS] = {"tokens", BENCH_TOKENS},
                 [DEPTH] = {"depths", BENCH_DEPTH},
                 [BATCH] = {"batches", BENCH_BATCH},
                 [RHO] = {"rhos", BENCH_KEYS},
                 [CHUNK] = {"chunks", BENCH_CHUNK},
                 [METHOD] = {"methods", BENCH_CHUNK},
                 [TYPE] = {"types", BENCH_CHUNK},
                 [EXECUTOR] = {"executors", BENCH_CHUNK},
                 [WEIGHTS] = {"weights", BENCH_WEIGHTS},
                 [STATE] = {"states", BENCH_STATES}};

// The next combination; false after the last.
static bool next(int at[LISTS], const json_t *spec, const struct bench_op *op)
{
    for (int i = LISTS - 1; i >= 0; i--) {
        if (LIST[i].used_by && !(op->uses & LIST[i].used_by))
            continue;
        if (++at[i] < spec_count(spec, LIST[i].field))
            return true;
        at[i] = 0;
    }
    return false;
}

static void name_row(struct kernel_row *row)
{
    const struct bench_point *p = &row->at;
    const unsigned uses = row->op->uses;
    char inverse[64];
    struct buf b = {.max = sizeof row->name - 1};
    buf_format(&b, "%s %s", row->op->name, p->shape.name);
    if (uses & BENCH_TOKENS)
        buf_format(&b, " T=%d", p->tokens);
    if (uses & BENCH_BATCH)
        buf_format(&b, " B=%d", p->batch);
    if (uses & BENCH_DEPTH)
        buf_format(&b, " depth=%d", p->depth);
    if (uses & BENCH_CHUNK)
        buf_format(&b, " C=%d %s", p->chunk, inverse_name(&p->inverse, inverse, sizeof inverse));
    if (uses & BENCH_KEYS)
        buf_format(&b, " rho=%g", p->rho);
    if (uses & BENCH_WEIGHTS)
        buf_format(&b, " %s", dtype_name(p->weights));
    if (uses & BENCH_STATES)
        buf_format(&b, " %s", dtype_name(p->state));
    buf_str(&b, row->cold ? " cold" : " warm");
    snprintf(row->name, sizeof row->name, "%s", b.data ? b.data : row->op->name);
    buf_fini(&b);
}

// bf16 is the server's own 16-bit type.
static enum dtype weights_of(const char *name, const struct job_node *node)
{
    const enum dtype type = dtype_of(name);
    return type == DTYPE_BF16 ? dtype_half(node->model_options->dtype) : type;
}

// false: this method does not suit this chunk size, so there is no such row.
static bool fill_point(struct bench_point *p, const struct job_node *node, const json_t *spec,
                       const struct bench_op *op, const int at[LISTS])
{
    char why[200];
    *p =
        (struct bench_point){.tokens = spec_int_at(spec, "tokens", at[TOKENS]),
                             .batch = spec_int_at(spec, "batches", at[BATCH]),
                             .chunk = spec_int_at(spec, "chunks", at[CHUNK]),
                             .rho = spec_num_at(spec, "rhos", at[RHO]),
                             .weights = weights_of(spec_str_at(spec, "weights", at[WEIGHTS]), node),
                             .state = dtype_of(spec_str_at(spec, "states", at[STATE])),
                             .data_dir = node->data_dir};
    if (op->uses & BENCH_DEPTH)
        p->depth = spec_int_at(spec, "depths", at[DEPTH]);
    CHECK(bench_shape_find(spec_str_at(spec, "shapes", at[SHAPE]), node->config, &p->shape));
    if (!(op->uses & BENCH_CHUNK))
        return true;
    if (inverse_parse(&p->inverse, spec_str_at(spec, "methods", at[METHOD]),
                      spec_str_at(spec, "types", at[TYPE]), p->chunk, why, sizeof why))
        return false;
    if (!strcmp(spec_str_at(spec, "executors", at[EXECUTOR]), "cublas"))
        p->inverse.executor = INVERSE_CUBLAS;
    return true;
}

// "auto" and a spelled-out method may be the same row: it is measured once.
static bool is_known(const struct kernel_rows *rows, const struct kernel_row *row)
{
    for (int i = 0; i < rows->n; i++)
        if (!strcmp(rows->row[i].name, row->name))
            return true;
    return false;
}

static int add_rows(struct kernel_rows *rows, const struct kernel_row *like, const json_t *spec,
                    struct err *e)
{
    bool first = true;
    for (int i = 0; i < spec_count(spec, "caches"); i++) {
        struct kernel_row row = *like;
        row.cold = !strcmp(spec_str_at(spec, "caches", i), "cold");
        row.first = first;
        name_row(&row);
        if (is_known(rows, &row))
            continue;
        if (rows->n == KERNEL_ROWS_MAX)
            return err_field(e, ERR_BAD_REQUEST, "spec",
                             "the lists of spec make more than %d rows; ask for fewer at a time",
                             KERNEL_ROWS_MAX);
        rows->row[rows->n++] = row;
        first = false;
    }
    return 0;
}

static int check_size(const struct kernel_row *row, struct err *e)
{
    if (row->host_bytes <= HOST_BYTES_MAX)
        return 0;
    return err_field(
        e, ERR_BAD_REQUEST, row->op->uses & BENCH_TOKENS ? "spec.tokens" : "spec.batches",
        "%s of shape %s with %d tokens, %d sequences and %d before them takes %.1f GiB; "
        "%.0f are allowed",
        row->op->name, row->at.shape.name, row->at.tokens, row->at.batch, row->at.depth,
        row->host_bytes / 0x1p30, HOST_BYTES_MAX / 0x1p30);
}

int kernel_rows_make(struct kernel_rows *rows, const struct job_node *node, const json_t *spec,
                     struct err *e)
{
    *rows = (struct kernel_rows){.row = mem_zero(KERNEL_ROWS_MAX, sizeof *rows->row)};
    for (int i = 0; i < spec_count(spec, "ops"); i++) {
        const struct bench_op *op = bench_op_find(spec_str_at(spec, "ops", i));
        CHECK(op != NULL);
        int at[LISTS] = {0};
        do {
            struct kernel_row row = {.op = op};
            if (!fill_point(&row.at, node, spec, op, at))
                continue;
            row.host_bytes = bench_bytes(op, &row.at);
            if (check_size(&row, e) || add_rows(rows, &row, spec, e))
                return -1;
        } while (next(at, spec, op));
    }
    return 0;
}

void kernel_rows_free(struct kernel_rows *rows)
{
    for (int i = 0; i < rows->n; i++) {
        mem_free(rows->row[i].us);
        mem_free(rows->row[i].round);
    }
    mem_free(rows->row);
    *rows = (struct kernel_rows){0};
}

// --- what was measured ----------------------------------------------------------------------

void kernel_row_add(struct kernel_row *row, double us, int round)
{
    if (row->n == row->max) {
        row->max = row->max ? 2 * row->max : 64;
        row->us = mem_resize(row->us, (size_t)row->max, sizeof *row->us);
        row->round = mem_resize(row->round, (size_t)row->max, sizeof *row->round);
    }
    row->us[row->n] = us;
    row->round[row->n++] = round;
}

void kernel_row_judged(struct kernel_row *row, const struct bench_case *c)
{
    row->error = row->judged ? fmax(row->error, c->error) : c->error; // once wrong, wrong
    row->limit = c->limit;
    row->measure = c->measure;
    row->why = c->why;
    row->bytes = c->bytes;
    row->flops = c->flops;
    row->judged = true;
}

void kernel_row_skip(struct kernel_row *row, const char *why)
{
    snprintf(row->skipped, sizeof row->skipped, "%.150s", why);
}

const char *kernel_row_state(const struct kernel_row *row)
{
    if (!row->n || *row->skipped)
        return "skipped";
    return row->error <= row->limit ? "ok" : "failed";
}

json_t *kernel_row_sample(const struct kernel_row *row)
{
    if (!row->n)
        return json_pack("{s:s, s:s, s:s}", "row", row->name, "state", kernel_row_state(row), "why",
                         row->skipped);
    const struct stat_summary s = stat_summarise(row->us, row->round, row->n, 1);
    return json_pack("{s:s, s:s, s:f, s:f, s:f, s:i, s:f}", "row", row->name, "state",
                     kernel_row_state(row), "median_us", s.median, "low_us", s.interval.low,
                     "high_us", s.interval.high, "samples", s.n, "error", fmin(row->error, 1e300));
}
