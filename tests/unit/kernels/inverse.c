// inverse.c - names, limits and defaults of the inversion.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "inverse.h"

static int parse(struct inverse *v, const char *method, const char *type, int chunk)
{
    char why[200] = "";
    int status = inverse_parse(v, method, type, chunk, why, sizeof why);
    cr_assert_eq(status != 0, why[0] != 0, "%s/%s: status %d, why '%s'", method, type, status, why);
    return status;
}

// Refused with a sentence that holds `text`, and *v as it was.
static void refuse(const char *method, const char *type, int chunk, const char *text)
{
    char why[200] = "";
    struct inverse v = {.order = -7};
    cr_assert_eq(inverse_parse(&v, method, type, chunk, why, sizeof why), -1, "%s/%s", method,
                 type);
    cr_assert(strstr(why, text), "%s/%s: '%s' does not name '%s'", method, type, why, text);
    cr_assert_eq(v.order, -7);
}

Test(inverse, defaults_are_allowed_and_sound)
{
    char why[200];
    for (int chunk = INVERSE_CHUNK_MIN; chunk <= INVERSE_CHUNK_MAX; chunk *= 2)
        for (int t = INVERSE_FP32; t <= INVERSE_INT8; t++) {
            struct inverse a = inverse_auto(chunk, (enum inverse_type)t);
            struct inverse p = inverse_paper(chunk, (enum inverse_type)t);
            cr_assert_eq(inverse_check(&a, chunk, why, sizeof why), 0, "%s", why);
            cr_assert_eq(inverse_check(&p, chunk, why, sizeof why), 0, "%s", why);
            cr_assert(inverse_exact(&a));
            cr_assert_eq((int)a.type, t);
            cr_assert_eq((int)p.type, t);
        }
}

Test(inverse, paper_is_literal)
{
    static const struct {
        int chunk, block, order, residual;
    } CASES[] = {{16, 16, 3, 8}, {32, 32, 4, 3}, {64, 64, 3, 8}, {128, 64, 3, 8}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct inverse v = inverse_paper(CASES[i].chunk, INVERSE_FP16);
        cr_assert_eq(v.method, INVERSE_NEUMANN);
        cr_assert_eq(v.block, CASES[i].block);
        cr_assert_eq(v.order, CASES[i].order);
        cr_assert_eq(v.residual, CASES[i].residual);
    }
}

Test(inverse, exact_when_the_terms_cover_the_block)
{
    struct inverse v = inverse_auto(64, INVERSE_FP32);
    v.order = 2;
    cr_assert(inverse_exact(&v));
    v.residual = 7;
    cr_assert_not(inverse_exact(&v));
    v.method = INVERSE_MERGE;
    cr_assert(inverse_exact(&v));
    v.method = INVERSE_SUBSTITUTION;
    cr_assert(inverse_exact(&v));
    v = inverse_paper(64, INVERSE_FP32);
    cr_assert_not(inverse_exact(&v));
}

Test(inverse, names_are_read_back)
{
    static const char *const METHODS[] = {"substitution", "merge", "neumann:4,2,1",
                                          "neumann:32,4,8", "neumann:64,64,128"};
    static const char *const TYPES[] = {"fp32", "tf32", "fp16", "bf16", "int8"};
    for (size_t m = 0; m < sizeof METHODS / sizeof *METHODS; m++)
        for (size_t t = 0; t < sizeof TYPES / sizeof *TYPES; t++) {
            struct inverse v;
            char want[80], got[80];
            cr_assert_eq(parse(&v, METHODS[m], TYPES[t], 64), 0);
            snprintf(want, sizeof want, "%s/%s", METHODS[m], TYPES[t]);
            cr_assert_str_eq(inverse_name(&v, got, sizeof got), want);
        }
}

Test(inverse, short_names)
{
    struct inverse v;
    char text[80];
    cr_assert_eq(parse(&v, "auto", "fp16", 128), 0);
    cr_assert_str_eq(inverse_name(&v, text, sizeof text), "neumann:16,3,8/fp16");
    cr_assert_eq(parse(&v, "neumann", "fp32", 16), 0);
    cr_assert_str_eq(inverse_name(&v, text, sizeof text), "neumann:16,3,8/fp32");
    cr_assert_eq(parse(&v, "paper", "int8", 32), 0);
    cr_assert_str_eq(inverse_name(&v, text, sizeof text), "neumann:32,4,3/int8");
    cr_assert_eq(strlen(inverse_name(&v, text, 6)), 5u, "cut off, ended");
}

Test(inverse, refusals_name_the_value)
{
    refuse("newton", "fp32", 64, "'newton'");
    refuse("", "fp32", 64, "''");
    refuse("auto", "fp8", 64, "'fp8'");
    refuse("auto", "fp32", 48, "chunk 48");
    refuse("merge", "fp32", 8, "chunk 8");
    refuse("merge", "fp32", 256, "chunk 256");
    refuse("neumann:", "fp32", 64, "'neumann:'");
    refuse("neumann:16", "fp32", 64, "BLOCK,ORDER,RESIDUAL");
    refuse("neumann:16,3", "fp32", 64, "BLOCK,ORDER,RESIDUAL");
    refuse("neumann:16,3,8x", "fp32", 64, "BLOCK,ORDER,RESIDUAL");
    refuse("neumann:16,3,-8", "fp32", 64, "BLOCK,ORDER,RESIDUAL");
    refuse("neumann:16,3,88888888888888", "fp32", 64, "BLOCK,ORDER,RESIDUAL");
    refuse("neumann:24,3,8", "fp32", 64, "block 24");
    refuse("neumann:2,2,1", "fp32", 64, "block 2");
    refuse("neumann:64,3,8", "fp32", 32, "block 64");
    refuse("neumann:16,1,8", "fp32", 64, "order 1");
    refuse("neumann:16,17,8", "fp32", 64, "order 17");
    refuse("neumann:16,3,0", "fp32", 64, "residual 0");
    refuse("neumann:16,3,129", "fp32", 64, "residual 129");
}

Test(inverse, check_refuses_values_outside_the_enums)
{
    char why[200];
    struct inverse v = inverse_auto(64, INVERSE_FP32);
    v.method = (enum inverse_method)3;
    cr_assert_eq(inverse_check(&v, 64, why, sizeof why), -1);
    cr_assert(strstr(why, "method 3"));
    v = inverse_auto(64, INVERSE_FP32);
    v.type = (enum inverse_type) - 1;
    cr_assert_eq(inverse_check(&v, 64, why, sizeof why), -1);
    cr_assert(strstr(why, "type"));
}
