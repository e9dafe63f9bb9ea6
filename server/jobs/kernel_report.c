// kernel_report.c - the document of a kernel benchmark: the table, plots and sentences.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "json.h"
#include "kernel_rows.h"
#include "result_doc.h"

// The least time that the definition's bytes and operations take on this device.
static double floor_us(const struct kernel_row *row, const struct ceilings *c)
{
    return 1e6 * fmax(row->bytes / c->copy_bytes_s, row->flops / c->flops_s);
}

// "neumann:16,3,8/fp16@cublas" is method/type@executor; or NULL when the operation inverts nothing.
static const char *inverse_part(const struct kernel_row *row, char first, char *text, size_t size)
{
    if (!(row->op->uses & BENCH_CHUNK))
        return NULL;
    inverse_name(&row->at.inverse, text, size);
    char *type = strchr(text, '/'), *executor = strchr(text, '@');
    *type++ = '\0';
    if (executor)
        *executor++ = '\0';
    return first == '/' ? type : first == '@' ? executor : text;
}

static const char *method_of(const struct kernel_row *row, char *text, size_t size)
{
    return inverse_part(row, 0, text, size);
}

static const char *executor_of(const struct kernel_row *row, char *text, size_t size)
{
    return inverse_part(row, '@', text, size);
}

static const char *type_of(const struct kernel_row *row, char *text, size_t size)
{
    return row->op->uses & BENCH_WEIGHTS  ? dtype_name(row->at.weights)
           : row->op->uses & BENCH_STATES ? dtype_name(row->at.state)
                                          : inverse_part(row, '/', text, size);
}

static void add_columns(json_t *t)
{
    static const struct {
        const char *name, *title, *unit;
        int digits; // 0: text
    } COLUMNS[] = {{"row", "row", NULL, 0},
                   {"op", "operation", NULL, 0},
                   {"shape", "shape", NULL, 0},
                   {"tokens", "tokens", NULL, 6},
                   {"batch", "sequences", NULL, 6},
                   {"depth", "depth", NULL, 6},
                   {"chunk", "chunk", NULL, 6},
                   {"method", "method", NULL, 0},
                   {"type", "type", NULL, 0},
                   {"executor", "executor", NULL, 0},
                   {"rho", "rho", NULL, 3},
                   {"cache", "caches", NULL, 0},
                   {"median_us", "median", "us", 4},
                   {"low_us", "95 % low", "us", 4},
                   {"high_us", "95 % high", "us", 4},
                   {"p10_us", "p10", "us", 4},
                   {"p90_us", "p90", "us", 4},
                   {"best_us", "best", "us", 4},
                   {"again_us", "best again", "us", 4},
                   {"noise", "noise", "%", 2},
                   {"samples", "samples", NULL, 6},
                   {"disturbed", "disturbed", NULL, 6},
                   {"bytes_s", "bytes", "GB/s", 4},
                   {"flops_s", "operations", "GFLOP/s", 4},
                   {"share", "of the ceiling", "%", 3},
                   {"error", "error", NULL, 3},
                   {"limit", "limit", NULL, 3},
                   {"remark", "remark", NULL, 0}};
    for (size_t i = 0; i < sizeof COLUMNS / sizeof *COLUMNS; i++) {
        if (COLUMNS[i].digits)
            table_number(t, COLUMNS[i].name, COLUMNS[i].title, COLUMNS[i].unit, COLUMNS[i].digits);
        else
            table_text(t, COLUMNS[i].name, COLUMNS[i].title);
        if (i == 0)
            table_hide(t); // the columns beside it say the same
    }
}

// What a row is; COLUMNS of these names.
static const char *const KEY[] = {"op",     "shape", "tokens",   "batch", "depth", "chunk",
                                  "method", "type",  "executor", "rho",   "cache", NULL};

// A figure that the operation has, or null.
static json_t *used(const struct kernel_row *row, unsigned uses, int value)
{
    return row->op->uses & uses ? json_integer(value) : json_null();
}

static const char *words(const struct kernel_row *row)
{
    if (!strcmp(kernel_row_state(row), "failed"))
        return "failed: wrong results";
    if (*row->skipped)
        return row->skipped;
    if (!row->n)
        return "not measured";
    return row->contended ? "ok, beside clients"
           : row->unquiet ? "ok, beside other processes"
           : row->noisy   ? "ok, still noisy"
                          : "ok";
}

enum { N_FIGURES = 15 }; // the columns from median_us to limit

static json_t *make_row(const struct kernel_row *row, const struct ceilings *c)
{
    char method[64], type[64], executor[64];
    json_t *out =
        json_pack("[s, s, s, o, o, o, o, s?, s?, s?, o, s]", row->name, row->op->name,
                  row->at.shape.name, used(row, BENCH_TOKENS, row->at.tokens),
                  used(row, BENCH_BATCH, row->at.batch), used(row, BENCH_DEPTH, row->at.depth),
                  used(row, BENCH_CHUNK, row->at.chunk), method_of(row, method, sizeof method),
                  type_of(row, type, sizeof type), executor_of(row, executor, sizeof executor),
                  row->op->uses & BENCH_KEYS ? json_real(row->at.rho) : json_null(),
                  row->cold ? "cold" : "warm");
    double figures[N_FIGURES];
    for (int i = 0; i < N_FIGURES; i++)
        figures[i] = NAN;
    if (row->n) {
        const struct stat_summary s = stat_summarise(row->us, row->round, row->n, 1);
        const struct stat_interval best = stat_least_interval(row->us, row->round, row->n);
        const double values[] = {s.median,
                                 s.interval.low,
                                 s.interval.high,
                                 s.p10,
                                 s.p90,
                                 best.low,
                                 best.high,
                                 100 * s.noise,
                                 s.n,
                                 row->disturbed,
                                 row->bytes / s.median / 1e3,
                                 row->flops / s.median / 1e3,
                                 100 * floor_us(row, c) / s.median,
                                 row->error,
                                 row->limit};
        memcpy(figures, values, sizeof figures);
    }
    for (int i = 0; i < N_FIGURES; i++)
        json_array_append_new(out, doc_number(figures[i]));
    json_array_append_new(out, json_string(words(row)));
    return out;
}

// --- plots ----------------------------------------------------------------------------------

// Does the benchmark vary this?
static bool varies(const struct kernel_rows *rows, double (*of)(const struct kernel_row *row))
{
    for (int i = 1; i < rows->n; i++)
        if (of(&rows->row[i]) != of(&rows->row[0]))
            return true;
    return false;
}

static double tokens_of(const struct kernel_row *row)
{
    return row->op->uses & BENCH_BATCH ? row->at.batch : row->at.tokens;
}

static double chunk_of(const struct kernel_row *row)
{
    return row->op->uses & BENCH_CHUNK ? row->at.chunk : 0;
}

static double rho_of(const struct kernel_row *row)
{
    return row->op->uses & BENCH_KEYS ? row->at.rho : 0;
}

static bool plotted(const struct kernel_row *row)
{
    return row->n > 0 && !*row->skipped && !row->cold;
}

// A family of plots: one for each operation, shape and type, each with a line for each method.
struct panels {
    const char *name, *title, *y_title, *y_unit;
    bool by_chunk;     // along x; else by tokens or sequences
    bool chunks, rhos; // which also tell lines apart
};

static void name_panel(const struct panels *p, const struct kernel_row *row, char *text,
                       size_t size)
{
    char type[64], tokens[32] = "";
    const char *t = type_of(row, type, sizeof type);
    if (p->by_chunk)
        snprintf(tokens, sizeof tokens, ", T=%d", row->at.tokens);
    snprintf(text, size, "%s of %s, %s%s%s%s", p->title, row->op->name, row->at.shape.name, tokens,
             t ? ", " : "", t ? t : "");
}

static void name_series(const struct panels *p, const struct kernel_row *row, char *text,
                        size_t size)
{
    char method[64], executor[64];
    const char *m = method_of(row, method, sizeof method);
    const char *x = executor_of(row, executor, sizeof executor);
    struct buf b = {.max = size - 1};
    buf_str(&b, m ? m : row->op->name);
    if (x)
        buf_format(&b, " %s", x);
    if (p->chunks && !p->by_chunk && m)
        buf_format(&b, " C=%d", row->at.chunk);
    if (p->rhos && row->op->uses & BENCH_KEYS)
        buf_format(&b, " rho=%g", row->at.rho);
    if (row->op->uses & BENCH_DEPTH)
        buf_format(&b, " depth=%d", row->at.depth);
    snprintf(text, size, "%s", b.data ? b.data : "");
    buf_fini(&b);
}

// The points of the row's line: in the panel of its name, made when it is not there.
static json_t *panel_series(json_t *doc, const struct panels *p, const struct kernel_row *row)
{
    char title[200], series[128];
    size_t i;
    json_t *plot, *plots = json_object_get(doc, "plots");
    name_panel(p, row, title, sizeof title);
    name_series(p, row, series, sizeof series);
    json_array_foreach(plots, i, plot)
    {
        if (!strcmp(json_string_value(json_object_get(plot, "title")), title))
            return plot_series(plot, series);
    }
    const char *x = p->by_chunk ? "chunk" : row->op->uses & BENCH_BATCH ? "sequences" : "tokens";
    plot = doc_plot(doc, p->name, "line", title,
                    &(struct plot_axes){x, "", p->y_title, p->y_unit, PLOT_LOG});
    return plot_series(plot, series);
}

static bool in_panels(const struct panels *p, const struct kernel_row *row)
{
    return plotted(row) && (!p->by_chunk || row->op->uses & BENCH_CHUNK);
}

static void plot_times(json_t *doc, const struct kernel_rows *rows, bool by_chunk)
{
    const struct panels p = {.name = by_chunk ? "time_chunk" : "time",
                             .title = "Time",
                             .y_title = "time",
                             .y_unit = "us",
                             .by_chunk = by_chunk,
                             .chunks = varies(rows, chunk_of),
                             .rhos = varies(rows, rho_of)};
    for (int i = 0; i < rows->n; i++) {
        const struct kernel_row *row = &rows->row[i];
        if (!in_panels(&p, row))
            continue;
        const struct stat_summary s = stat_summarise(row->us, row->round, row->n, 1);
        plot_range(panel_series(doc, &p, row), by_chunk ? chunk_of(row) : tokens_of(row), s.median,
                   s.interval.low, s.interval.high);
    }
}

static void plot_errors(json_t *doc, const struct kernel_rows *rows)
{
    const struct panels p = {.name = "error_chunk",
                             .title = "Largest error",
                             .y_title = "error",
                             .y_unit = "",
                             .by_chunk = true,
                             .rhos = varies(rows, rho_of)};
    for (int i = 0; i < rows->n; i++)
        if (in_panels(&p, &rows->row[i]) && rows->row[i].error > 0)
            plot_point(panel_series(doc, &p, &rows->row[i]), rows->row[i].at.chunk,
                       rows->row[i].error);
}

static void plot_roofline(json_t *doc, const struct kernel_rows *rows, const struct ceilings *c)
{
    json_t *plot = doc_plot(doc, "roofline", "roofline", "Roofline of this device",
                            &(struct plot_axes){.x_title = "operations a byte",
                                                .x_unit = "FLOP/B",
                                                .y_title = "operations",
                                                .y_unit = "GFLOP/s",
                                                .scale = PLOT_LOG});
    const double knee = c->flops_s / c->copy_bytes_s;
    json_t *memory = plot_line(plot, "copy bandwidth"), *compute = plot_line(plot, "multiply-adds");
    plot_point(memory, knee / 1000, c->copy_bytes_s * knee / 1000 / 1e9);
    plot_point(memory, knee, c->flops_s / 1e9);
    plot_point(compute, knee, c->flops_s / 1e9);
    plot_point(compute, knee * 100, c->flops_s / 1e9);
    for (int i = 0; i < rows->n; i++) {
        const struct kernel_row *row = &rows->row[i];
        if (!plotted(row) || !(row->flops > 0))
            continue;
        const struct stat_summary s = stat_summarise(row->us, row->round, row->n, 1);
        plot_point(plot_series(plot, row->op->name), row->flops / row->bytes,
                   row->flops / s.median / 1e3);
    }
}

// --- sentences ------------------------------------------------------------------------------

static double median_of(const struct kernel_row *row)
{
    return stat_summarise(row->us, row->round, row->n, 1).median;
}

// The same row but for how it inverts.
static bool same_place(const struct kernel_row *a, const struct kernel_row *b)
{
    return a->op == b->op && a->cold == b->cold && a->at.tokens == b->at.tokens &&
           a->at.chunk == b->at.chunk && a->at.rho == b->at.rho &&
           !strcmp(a->at.shape.name, b->at.shape.name);
}

static void say_faster(json_t *doc, const struct kernel_row *best, const struct kernel_row *base)
{
    char best_name[64], base_name[64];
    doc_summary(doc,
                "%s of %s, %d tokens in chunks of %d: %s takes %.4g us, %.2f times as fast as %s "
                "(%.4g us).",
                base->op->name, base->at.shape.name, base->at.tokens, base->at.chunk,
                inverse_name(&best->at.inverse, best_name, sizeof best_name), median_of(best),
                median_of(base) / median_of(best),
                inverse_name(&base->at.inverse, base_name, sizeof base_name), median_of(base));
}

// How much faster the fastest right method is than substitution in float32, at every chunk size.
static void compare_methods(json_t *doc, const struct kernel_rows *rows)
{
    for (int i = 0; i < rows->n; i++) {
        const struct kernel_row *base = &rows->row[i], *best = NULL;
        if (!plotted(base) || !(base->op->uses & BENCH_CHUNK) ||
            base->at.inverse.method != INVERSE_SUBSTITUTION ||
            base->at.inverse.type != INVERSE_FP32)
            continue;
        for (int k = 0; k < rows->n; k++) {
            const struct kernel_row *row = &rows->row[k];
            if (same_place(base, row) && !strcmp(kernel_row_state(row), "ok") &&
                (!best || median_of(row) < median_of(best)))
                best = row;
        }
        if (best && best != base)
            say_faster(doc, best, base);
    }
}

static void count_states(json_t *doc, const struct kernel_rows *rows)
{
    int failed = 0, skipped = 0, contended = 0, noisy = 0, disturbed = 0, samples = 0;
    const struct kernel_row *worst = NULL;
    for (int i = 0; i < rows->n; i++) {
        const struct kernel_row *row = &rows->row[i];
        const char *state = kernel_row_state(row);
        failed += !strcmp(state, "failed");
        skipped += !strcmp(state, "skipped");
        contended += row->contended > 0;
        noisy += row->noisy;
        disturbed += row->disturbed;
        samples += row->n;
        if (!strcmp(state, "failed") && (!worst || row->error > worst->error))
            worst = row;
    }
    doc_summary(doc, "%d rows: %d right, %d failed, %d not measured.", rows->n,
                rows->n - failed - skipped, failed, skipped);
    if (worst)
        doc_summary(doc, "Largest error: %s, %.3g (limit %.3g).", worst->name, worst->error,
                    worst->limit);
    if (contended)
        doc_summary(doc, "%d rows were measured beside clients' generations.", contended);
    if (disturbed)
        doc_summary(doc,
                    "%d samples were set aside beside %d good ones: other processes had the "
                    "processors in them.",
                    disturbed, samples);
    if (noisy)
        doc_summary(doc, "%d rows were still noisier than asked when their time was up.", noisy);
}

static void add_notes(json_t *doc, const struct kernel_rows *rows)
{
    doc_note(doc, "Each time is of one run with its launch and the wait for it; warm samples time "
                  "several runs back to back, cold ones one run after the caches were flushed.");
    doc_note(doc,
             "Disturbed: samples set aside because threads of this process waited for a "
             "processor for more than a tenth of them (Linux's schedstat); where a round has no "
             "other, the fastest of them stands for it.");
    doc_note(doc, "Interval: 95 % bootstrap of the median, whole rounds drawn first. Noise: "
                  "(q3 - q1) / 1.349 / median.");
    doc_note(
        doc,
        "Best: the fastest sample. Best again: 97.5 % of draws of as many rounds have one as "
        "fast. Jobs are compared by these two, because what else a machine does only adds time.");
    doc_note(doc,
             "Bytes and operations are those of the definition (inverse: n C^3 / 3 operations; "
             "each operand read or written once), so methods compare by time. Share: the larger "
             "of bytes / copy bandwidth and operations / multiply-add rate, by the time; warm "
             "caches can pass 100 %.");
    doc_note(doc, "Keys have the mean cosine rho; gates are those recorded in a layer of "
                  "Qwen3.5-0.8B where the recording is installed.");
    for (int i = 0; i < rows->n; i++) {
        const struct kernel_row *row = &rows->row[i];
        if (!row->judged || (i > 0 && rows->row[i - 1].op == row->op))
            continue;
        json_array_append_new(
            json_object_get(doc, "notes"),
            json_sprintf("Error of %s: %s; limit: %s.", row->op->name, row->measure, row->why));
    }
}

json_t *kernel_rows_report(const struct kernel_rows *rows, const struct ceilings *c,
                           json_t *environment_take, bool partial)
{
    json_t *doc = doc_create("kernel_benchmark", "Kernel benchmark", environment_take);
    json_t *table = doc_table(doc, "rows", "Operations");
    add_columns(table);
    table_comparable(table, &(struct table_compare){KEY, "best_us", "best_us", "again_us", true});
    for (int i = 0; i < rows->n; i++)
        table_row(table, kernel_row_state(&rows->row[i]), make_row(&rows->row[i], c));
    count_states(doc, rows);
    compare_methods(doc, rows);
    if (varies(rows, tokens_of))
        plot_times(doc, rows, false);
    if (varies(rows, chunk_of)) {
        plot_times(doc, rows, true);
        plot_errors(doc, rows);
    }
    plot_roofline(doc, rows, c);
    add_notes(doc, rows);
    if (partial)
        doc_partial(doc);
    return doc;
}

int kernel_rows_artifact(const struct kernel_rows *rows, struct job_run *run, struct err *e)
{
    struct buf b = {0};
    for (int i = 0; i < rows->n; i++) {
        const struct kernel_row *row = &rows->row[i];
        buf_str(&b, "{\"row\":");
        json_quote(&b, row->name, strlen(row->name));
        buf_str(&b, ",\"round_us\":[");
        for (int k = 0; k < row->n; k++)
            buf_format(&b, "%s[%d,%.6g]", k ? "," : "", row->round[k], row->us[k]);
        buf_str(&b, "]}\n");
    }
    const int failed =
        job_run_artifact(run, "samples.jsonl", "application/jsonl", b.data ? b.data : "", b.n, e);
    buf_fini(&b);
    return failed;
}
