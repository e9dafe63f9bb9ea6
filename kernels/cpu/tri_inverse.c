// tri_inverse.c - T = (I + A)^-1 for A strictly lower triangular: substitution, neumann, merge.
//
//   substitution  T[i] = e_i - A[i] T, row by row.
//   neumann       in each diagonal block of width `block`:
//                   T0 = I, then T0 = mask_m o (I - A T0) for m = 2 .. order, mask_m keeping the first
//                   m sub-diagonals. This is mask o sum_{i<order} (-A)^i in Horner's form; since each
//                   step keeps only what is already exact, no power of A is ever formed and every
//                   entry stays within 1, where powers of A reach 1e17 for equal keys;
//                   E = I - (I + A) T0 = -A T0 below the first `order` sub-diagonals, zero on them;
//                   T = T0 (I + E + ... + E^(residual-1)) by doubling, no row waiting for another.
//   merge         [X11 0; X21 X22] from the inverses of two neighbouring blocks: X21 = -X22 A21 X11.
//                 Widths 1, 2, 4 and 8 are merged inside 16 x 16 by a mask: T -= T (A o mask) T.
//                 neumann merges from `block` up, merge from 1.
// Sources: arXiv 2606.06034 (series, mask, residual correction), arXiv 2605.21325 (merging).
//
// Operands of every product are rounded to inverse.type, sums are float32; int8 is fixed point in two
// int8 planes, see inverse_round.h.
//
// Largest error of an entry of T (64 x 64, |T| <= 1; `ops_check inverse`: keys of mean cosine 0 to 1, four
// beta, three decays, recorded gates), 16,3,8 and merge: fp32 3e-7, tf32 and fp16 9e-4, bf16 7e-3, int8
// 1.5e-3; largest intermediate 1.0. The literal 64,3,8 errs by up to 6.8 in every type: 3 * 8 < 64.
// Measured: 4.5 us a matrix for 16,3,8 in fp32, 4.7 substitution, 10.7 merge, 20 for 64,3,8; 16,3,8 in
// tf32 and bf16 10.7, fp16 18, int8 190 (plain C: the definition, not a fast path); 64 x 64 in cache,
// one core of an AMD EPYC with AVX-512, 2026-11-23. `ops_check perf tri_inverse 1` adds the memory.
#include "tri_inverse.h"

#include <math.h>
#include <string.h>

#include "inverse_round.h"
#include "smallgemm.h"

enum { LEAF = 16 }; // the narrowest product of smallgemm

// A square block of a matrix.
struct block {
    float *p;
    int ld;
};

struct work {
    const struct tri_invert *v;
    int n;                        // v->n
    struct block e, power, first; // residual, its powers, T0
    struct block x, copy;         // a product's result, a product's left operand
    float *ra, *rb;               // rounded operands
    struct inverse_planes pa, pb; // the same for int8
    float value_max;              // as the report says
    int lost;                     // integers that left their range
};

enum { KEEP = 1, NEGATE = 2, LOWER = 4 }; // c = c + a b, c = - a b, a is lower triangular

enum { N_BUFFERS = 7 }; // e, power, first, x, copy, ra, rb

size_t tri_invert_scratch(int chunk)
{
    const size_t size = (size_t)chunk * (size_t)chunk;
    return N_BUFFERS * size + 4 * size / sizeof(float); // and four planes of int8
}

// Buffers are narrow: as wide as the block at work, so that small blocks stay in the first cache.
static void begin(struct work *w, const struct tri_invert *v, int width)
{
    const size_t size = (size_t)v->n * (size_t)v->n;
    float *p = v->scratch;
    *w = (struct work){.v = v, .n = v->n};
    w->x = (struct block){p, width};
    w->copy = (struct block){p + size, width};
    w->e = (struct block){p + 2 * size, width};
    w->power = (struct block){p + 3 * size, width};
    w->first = (struct block){p + 4 * size, width};
    w->ra = p + 5 * size;
    w->rb = p + 6 * size;
    int8_t *planes = (int8_t *)(p + N_BUFFERS * size);
    w->pa = (struct inverse_planes){planes, planes + size, 0};
    w->pb = (struct inverse_planes){planes + 2 * size, planes + 3 * size, 0};
}

static void copy_block(struct block to, struct block from, int rows, int cols)
{
    for (int i = 0; i < rows; i++)
        memcpy(to.p + (long)i * to.ld, from.p + (long)i * from.ld, (size_t)cols * sizeof(float));
}

static struct block part(struct block b, int row, int col)
{
    return (struct block){b.p + (long)row * b.ld + col, b.ld};
}

static void note_values(struct work *w, const struct smallgemm *g)
{
    for (int i = 0; i < g->m; i++)
        for (int j = 0; j < g->n; j++)
            w->value_max = fmaxf(w->value_max, fabsf(g->c[(long)i * g->ldc + j]));
}

static void product_int8(struct work *w, const struct smallgemm *g)
{
    w->pa.ld = g->k;
    w->pb.ld = g->n;
    w->lost += inverse_split(w->pa, g->a, g->lda, g->m, g->k);
    w->lost += inverse_split(w->pb, g->b, g->ldb, g->k, g->n);
    w->lost += inverse_product_int8(g, w->pa, w->pb);
}

// g with its operands rounded to the type.
static void product(struct work *w, struct smallgemm g)
{
    const enum inverse_type type = w->v->inverse.type;
    if (type == INVERSE_INT8) {
        product_int8(w, &g);
    } else {
        if (type != INVERSE_FP32) {
            struct block a = {(float *)g.a, g.lda}, b = {(float *)g.b, g.ldb};
            copy_block((struct block){w->ra, g.k}, a, g.m, g.k);
            copy_block((struct block){w->rb, g.n}, b, g.k, g.n);
            inverse_round(w->ra, (size_t)g.m * (size_t)g.k, type);
            inverse_round(w->rb, (size_t)g.k * (size_t)g.n, type);
            g.a = w->ra;
            g.b = w->rb;
            g.lda = g.k;
            g.ldb = g.n;
        }
        smallgemm(w->v->isa, &g);
    }
    if (w->v->report)
        note_values(w, &g);
}

// c = a b for square blocks of width n, changed by the flags.
static void multiply(struct work *w, struct block c, struct block a, struct block b, int n,
                     int flags)
{
    product(w, (struct smallgemm){.c = c.p,
                                  .a = a.p,
                                  .b = b.p,
                                  .ldc = c.ld,
                                  .lda = a.ld,
                                  .ldb = b.ld,
                                  .m = n,
                                  .n = n,
                                  .k = n,
                                  .keep = flags & KEEP ? 1.0f : 0.0f,
                                  .negative = (flags & NEGATE) != 0,
                                  .a_lower = (flags & LOWER) != 0});
}

// t += t b, or t -= t b: the left operand is copied, since a product may not overwrite it.
static void multiply_add(struct work *w, struct block t, struct block b, int n, int flags)
{
    copy_block(w->copy, t, n, n);
    multiply(w, t, w->copy, b, n, flags | KEEP | LOWER);
}

// power = power b, which may be power itself.
static void raise_power(struct work *w, struct block b, int n)
{
    struct block result = w->x;
    multiply(w, result, w->power, b, n, LOWER);
    w->x = w->power;
    w->power = result;
}

static void set_identity(struct block t, int n)
{
    for (int i = 0; i < n; i++) {
        memset(t.p + (long)i * t.ld, 0, (size_t)n * sizeof(float));
        t.p[(long)i * t.ld + i] = 1.0f;
    }
}

static void substitute(struct work *w, struct block t, struct block a)
{
    for (int i = 1; i < w->n; i++) {
        // Columns from i on come out as zero; the width is rounded up for the product.
        const int cols = (i + LEAF - 1) / LEAF * LEAF;
        product(w, (struct smallgemm){.c = part(t, i, 0).p,
                                      .a = part(a, i, 0).p,
                                      .b = t.p,
                                      .ldc = t.ld,
                                      .lda = a.ld,
                                      .ldb = t.ld,
                                      .m = 1,
                                      .n = cols,
                                      .k = i,
                                      .negative = true});
        if (i < cols)
            *part(t, i, i).p = 1.0f;
    }
}

// T0 of one block, from the identity: one sub-diagonal more is exact after each step.
static void start_series(struct work *w, struct block t, struct block a, int n, int order)
{
    for (int i = 1; i < n; i++)
        *part(t, i, i - 1).p = -*part(a, i, i - 1).p;
    for (int d = 2; d < order; d++) {
        multiply(w, w->x, a, t, n, NEGATE | LOWER);
        for (int i = d; i < n; i++)
            *part(t, i, i - d).p = *part(w->x, i, i - d).p;
    }
}

// E of T0: zero on the first `order` sub-diagonals, where T0 is exact, whatever rounding left there.
static void find_residual(struct work *w, struct block t, struct block a, int n, int order)
{
    multiply(w, w->e, a, t, n, NEGATE | LOWER);
    for (int i = 0; i < n; i++)
        for (int j = i < order ? 0 : i - order + 1; j < n; j++)
            *part(w->e, i, j).p = 0.0f;
}

// t = T0 (I + E + ... + E^(terms-1)), T0 in t. After the first binary digit of `terms`, each digit
// doubles the number of terms there are, and a 1 appends one more: T0 + T E.
static void add_residuals(struct work *w, struct block t, int n, int terms)
{
    const bool only_doublings = (terms & (terms - 1)) == 0;
    copy_block(w->power, w->e, n, n);
    if (!only_doublings)
        copy_block(w->first, t, n, n);
    int digit = 1;
    while (digit * 2 <= terms)
        digit *= 2;
    while ((digit /= 2) > 0) {
        multiply_add(w, t, w->power, n, 0);
        if (digit > 1)
            raise_power(w, w->power, n);
        if (terms & digit) {
            copy_block(w->copy, t, n, n);
            copy_block(t, w->first, n, n);
            multiply(w, t, w->copy, w->e, n, KEEP | LOWER);
            if (digit > 1)
                raise_power(w, w->e, n);
        }
    }
}

// The inverse of one block of `width` rows; blocks narrower than a leaf are done side by side in one,
// with A cut down to them.
static void invert_block(struct work *w, struct block t, struct block a, int width)
{
    const struct inverse *v = &w->v->inverse;
    const int n = width < LEAF ? LEAF : width, order = v->order < width ? v->order : width;
    float cut[LEAF * LEAF];
    if (width < LEAF) {
        for (int i = 0; i < LEAF; i++)
            for (int j = 0; j < LEAF; j++)
                cut[i * LEAF + j] = i / width == j / width ? *part(a, i, j).p : 0.0f;
        a = (struct block){cut, LEAF};
    }
    start_series(w, t, a, n, order);
    if (v->residual < 2)
        return;
    find_residual(w, t, a, n, order);
    add_residuals(w, t, n, v->residual);
}

// Inside one leaf: T -= T (A o mask) T, the mask keeping what lies between the two blocks of a pair.
static void merge_inside(struct work *w, struct block t, struct block a, int width)
{
    float cut[LEAF * LEAF];
    for (int i = 0; i < LEAF; i++)
        for (int j = 0; j < LEAF; j++) {
            const bool between = i / (2 * width) == j / (2 * width) && i / width > j / width;
            cut[i * LEAF + j] = between ? *part(a, i, j).p : 0.0f;
        }
    multiply(w, w->x, (struct block){cut, LEAF}, t, LEAF, LOWER);
    multiply_add(w, t, w->x, LEAF, NEGATE);
}

// X21 = -X22 (A21 X11) for one pair of blocks.
static void merge_pair(struct work *w, struct block t, struct block a, int width)
{
    struct block y = {w->x.p, width};
    multiply(w, y, part(a, width, 0), t, width, 0);
    multiply(w, part(t, width, 0), part(t, width, width), y, width, NEGATE | LOWER);
}

static void invert_by_blocks(struct work *w, struct block t, struct block a, int width)
{
    const int leaf = width < LEAF ? LEAF : width;
    for (int i = 0; i < w->n; i += leaf) {
        if (width > 1)
            invert_block(w, part(t, i, i), part(a, i, i), width);
        for (int merged = width; merged < leaf; merged *= 2)
            merge_inside(w, part(t, i, i), part(a, i, i), merged);
    }
    for (int merged = leaf; merged < w->n; merged *= 2)
        for (int i = 0; i < w->n; i += 2 * merged)
            merge_pair(w, part(t, i, i), part(a, i, i), merged);
}

// max |I - (I + A) T| in float32 whatever the type, and whether T is finite.
static void write_report(struct work *w, struct block t, struct block a)
{
    const int n = w->n;
    struct inverse_report seen = {
        .value_max = w->value_max, .checked = 1, .nonfinite = w->lost > 0};
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++)
            seen.nonfinite |= !isfinite(*part(t, i, j).p);
    smallgemm(w->v->isa, &(struct smallgemm){.c = w->copy.p,
                                             .a = a.p,
                                             .b = t.p,
                                             .ldc = n,
                                             .lda = a.ld,
                                             .ldb = t.ld,
                                             .m = n,
                                             .n = n,
                                             .k = n,
                                             .a_lower = true});
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            seen.residual_max =
                fmaxf(seen.residual_max, fabsf(*part(t, i, j).p + w->copy.p[(long)i * n + j]));
    inverse_report_merge(w->v->report, &seen);
}

void tri_invert(const struct tri_invert *v)
{
    struct work w;
    struct block t = {v->t, v->n}, a = {(float *)v->a, v->n};
    const int wanted = v->inverse.method == INVERSE_MERGE ? 1 : v->inverse.block;
    const int width = wanted < v->n ? wanted : v->n;
    begin(&w, v, width < LEAF ? LEAF : width);
    set_identity(t, v->n);
    if (v->inverse.method == INVERSE_SUBSTITUTION)
        substitute(&w, t, a);
    else
        invert_by_blocks(&w, t, a, width);
    if (v->report)
        write_report(&w, t, a);
}

void inverse_report_merge(struct inverse_report *to, const struct inverse_report *from)
{
    to->residual_max = fmaxf(to->residual_max, from->residual_max);
    to->value_max = fmaxf(to->value_max, from->value_max);
    to->checked += from->checked;
    to->nonfinite += from->nonfinite;
}

enum { GROUP = 2 }; // matrices that a thread does at a time

struct inversions {
    const struct tri_inverse_args *a;
    enum cpu_isa isa;
    float *scratch; // a thread: the strict triangle of A, and work
    size_t floats;
    struct inverse_report *seen; // one a thread
};

static void invert_group(void *ud, int group, int worker)
{
    const struct inversions *b = ud;
    const int n = b->a->chunk, end = (group + 1) * GROUP;
    const size_t size = (size_t)n * (size_t)n;
    float *mine = b->scratch + (size_t)worker * b->floats;
    for (int i = group * GROUP; i < end && i < b->a->n; i++) {
        const float *from = b->a->a + (size_t)i * size;
        for (int r = 0; r < n; r++)
            for (int c = 0; c < n; c++)
                mine[r * n + c] = c < r ? from[r * n + c] : 0.0f;
        tri_invert(&(struct tri_invert){.t = b->a->t_out + (size_t)i * size,
                                        .a = mine,
                                        .n = n,
                                        .isa = b->isa,
                                        .inverse = b->a->inverse,
                                        .scratch = mine + size,
                                        .report = b->a->report ? &b->seen[worker] : NULL});
    }
}

void cpu_tri_inverse(struct dev *dev, const struct tri_inverse_args *a)
{
    struct cpu *cpu = cpu_of(dev);
    struct inverse_report seen[CPU_THREADS_MAX] = {0};
    char why[160];
    if (inverse_check(&a->inverse, a->chunk, why, sizeof why)) {
        cpu_fail(dev, "tri_inverse: %s", why);
        return;
    }
    struct inversions b = {.a = a, .isa = cpu->isa, .seen = seen};
    b.floats = (size_t)a->chunk * (size_t)a->chunk + tri_invert_scratch(a->chunk);
    b.scratch = cpu_scratch(dev, 0, (size_t)cpu->threads * b.floats * sizeof(float));
    if (!b.scratch)
        return;
    cpu_share(cpu, (a->n + GROUP - 1) / GROUP, invert_group, &b);
    for (int i = 0; a->report && i < cpu->threads; i++)
        inverse_report_merge(a->report, &seen[i]);
}
