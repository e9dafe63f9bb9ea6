// Tests of server/config.c: defaults, precedence, and an error for every kind of wrong value.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

static int read_args(struct config_values *v, struct err *e, char *a, char *b)
{
    char *argv[] = {"deltaserve", a, b, NULL};
    return config_read(v, 1 + (a != NULL) + (b != NULL), argv, e);
}

Test(config, defaults)
{
    struct config_values v;
    struct err e;
    cr_assert(zero(config_read(&v, 1, (char *[]){"deltaserve", NULL}, &e)));
    cr_assert(eq(str, (char *)v.model, "bundled"));
    cr_assert(eq(str, (char *)v.host, "127.0.0.1"));
    cr_assert(eq(i64, v.port, 8080));
    cr_assert(eq(i64, v.chunk, 64));
    cr_assert(eq(str, (char *)v.state_dtype, "f32"));
    cr_assert(not(v.check));
}

Test(config, command_line_wins_over_environment)
{
    struct config_values v;
    struct err e;
    setenv("DELTASERVE_PORT", "9000", 1);
    setenv("DELTASERVE_BATCH_TOKENS", "1024", 1);
    cr_assert(zero(read_args(&v, &e, "--port", "9001")));
    cr_assert(eq(i64, v.port, 9001));
    cr_assert(eq(i64, v.batch_tokens, 1024));
    cr_assert(zero(read_args(&v, &e, "--port=0", "--check")));
    cr_assert(eq(i64, v.port, 0));
    cr_assert(v.check);
    setenv("DELTASERVE_STATE_DTYPE", "bf16", 1);
    cr_assert(zero(read_args(&v, &e, NULL, NULL)));
    cr_assert(eq(str, (char *)v.state_dtype, "bf16"));
    cr_assert(zero(read_args(&v, &e, "--state-dtype", "f32")));
    cr_assert(eq(str, (char *)v.state_dtype, "f32"));
}

Test(config, the_state_folder)
{
    char path[64];
    setenv("HOME", "/home/a", 1);
    unsetenv("XDG_STATE_HOME");
    cr_assert(config_state_path("f", path, sizeof path));
    cr_assert(eq(str, path, "/home/a/.local/state/deltaserve/f"));
    setenv("XDG_STATE_HOME", "relative", 1);
    cr_assert(config_state_path("f", path, sizeof path));
    cr_assert(eq(str, path, "/home/a/.local/state/deltaserve/f"));
    setenv("XDG_STATE_HOME", "/state", 1);
    cr_assert(config_state_path("f", path, sizeof path));
    cr_assert(eq(str, path, "/state/deltaserve/f"));
    cr_assert(not(config_state_path("a-name-that-does-not-fit-in-what-the-caller-has", path, 40)));
    unsetenv("XDG_STATE_HOME");
    unsetenv("HOME");
    cr_assert(not(config_state_path("f", path, sizeof path)));
}

Test(config, switch_takes_a_value_after_equals_only)
{
    struct config_values v;
    struct err e;
    cr_assert(zero(read_args(&v, &e, "--insecure=false", NULL)));
    cr_assert(not(v.insecure));
    cr_assert(zero(read_args(&v, &e, "--insecure", NULL)));
    cr_assert(v.insecure);
}

static const struct {
    char *a, *b;
    const char *says; // part of the sentence
} WRONG[] = {
    {"--port", "65536", "--port is '65536'; give a whole number from 0 to 65535"},
    {"--port", "-1", "--port is '-1'"},
    {"--port", "80x", "--port is '80x'"},
    {"--port", "", "--port is ''"},
    {"--port", "99999999999999999999", "--port is"},
    {"--port", NULL, "--port needs a value"},
    {"--dtype", "fp4", "--dtype is 'fp4'; give one of f32|bf16|f16|int8"},
    {"--dtype", "f", "--dtype is 'f'"},
    {"--dtype", "", "--dtype is ''"},
    {"--state-dtype", "int8", "--state-dtype is 'int8'; give one of f32|bf16"},
    {"--chunk", "48", "--chunk is 48; give 16, 32, 64 or 128"},
    {"--check=maybe", NULL, "--check is 'maybe'; give true or false"},
    {"--nonsense", NULL, "there is no option '--nonsense'"},
    {"model", NULL, "there is no option 'model'"},
};

Test(config, wrong_values_name_option_value_and_fix)
{
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        struct config_values v;
        struct err e = {0};
        cr_expect(eq(int, read_args(&v, &e, WRONG[i].a, WRONG[i].b), -1), "%s", WRONG[i].a);
        cr_expect(ne(ptr, strstr(e.text, WRONG[i].says), NULL), "%s: got '%s'", WRONG[i].a, e.text);
    }
}

Test(config, wrong_environment_names_the_variable)
{
    struct config_values v;
    struct err e;
    setenv("DELTASERVE_QUEUE_MAX", "many", 1);
    cr_assert(eq(int, read_args(&v, &e, NULL, NULL), -1));
    cr_assert(ne(ptr, strstr(e.text, "DELTASERVE_QUEUE_MAX is 'many'"), NULL));
}

Test(config, help_and_print_name_every_option)
{
    struct config_values v;
    struct err e;
    cr_assert(zero(read_args(&v, &e, NULL, NULL)));
    char *help = NULL, *values = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&help, &n);
    config_help(f);
    fclose(f);
    f = open_memstream(&values, &n);
    config_print(&v, f);
    fclose(f);
    cr_assert(ne(ptr, strstr(help, "--drain-timeout-ms"), NULL));
    cr_assert(ne(ptr, strstr(values, "drain-timeout-ms         30000"), NULL));
    free(help);
    free(values);
}
