// model_check.c - the model room's runner.
//   model_check check          against transformers, row by row, type by type; the exit status tells
//   model_check perf            tokens a second and where the time goes
//   model_check decode          one sequence decoded beside reading memory alone
//   model_check inverse         what each way of inverting I + A does to the answers
// Options: --device cpu|cuda; --quick yes|brief, of check a subset for sanitizers, of perf decode alone; of the last
// three --model DIR (models/bundled) or dummy:SIZE, --dtype f32|bf16|f16|int8 (bf16), --threads N; of perf and
// decode --state-dtype f32|bf16 (f32); of inverse --recall N prompts of each length (4).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "modes.h"
#include "rig.h"
#include "tally.h"

enum { EXIT_SKIPPED = 77 };

static int mode_check(void)
{
    struct tally t = {0};
    check_golden(&t);
    if (!tally_quick)
        check_heldout(&t);
    check_rows(&t);
    if (!tally_brief) // too few tokens for its limits, and check_rows has the types
        check_types(&t);
    printf("%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped);
    return t.failed ? 1 : t.passed ? 0 : EXIT_SKIPPED;
}

static int usage(void)
{
    printf("usage: model_check check|perf|decode|inverse [--device cpu|cuda] [--model DIR]\n"
           "                   [--dtype f32|bf16|f16|int8] [--state-dtype f32|bf16] [--threads N]\n"
           "                   [--recall N] [--quick yes|brief]\n");
    return 2;
}

static bool read_count(int *out, const char *value)
{
    char *end = NULL;
    long n = strtol(value, &end, 10);
    *out = (int)n;
    return end != value && !*end && n >= 0 && n <= 1024;
}

// One option and its value; false when there is none such.
static bool read_option(struct mode_options *o, const char *name, const char *value)
{
    if (!strcmp(name, "--model")) {
        o->model = value;
        return true;
    }
    if (!strcmp(name, "--device")) {
#ifdef WITH_CUDA
        rig_ops = strcmp(value, "cuda") ? rig_ops : &ops_cuda;
#endif
        return !strcmp(value, rig_ops->name);
    }
    if (!strcmp(name, "--quick")) {
        tally_brief = !strcmp(value, "brief");
        tally_quick = tally_brief || !strcmp(value, "yes");
        return tally_quick;
    }
    if (!strcmp(name, "--threads"))
        return read_count(&o->threads, value);
    if (!strcmp(name, "--recall"))
        return read_count(&o->recall, value);
    if (!strcmp(name, "--state-dtype")) {
        o->state = strcmp(value, "bf16") ? DTYPE_F32 : DTYPE_BF16;
        return !strcmp(value, dtype_name(o->state));
    }
    return !strcmp(name, "--dtype") && dtype_named(value, &o->dtype) && o->dtype != DTYPE_INT32;
}

int main(int argc, char **argv)
{
    struct mode_options o = {
        .model = TEST_SOURCE_DIR "/models/bundled", .dtype = DTYPE_BF16, .recall = 4};
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 2; i < argc; i += 2)
        if (i + 1 == argc || !read_option(&o, argv[i], argv[i + 1]))
            return usage();
    if (argc > 1 && !strcmp(argv[1], "check"))
        return mode_check();
    if (argc > 1 && !strcmp(argv[1], "perf"))
        return mode_perf(&o);
    if (argc > 1 && !strcmp(argv[1], "decode"))
        return mode_decode(&o);
    if (argc > 1 && !strcmp(argv[1], "inverse"))
        return mode_inverse(&o);
    return usage();
}
