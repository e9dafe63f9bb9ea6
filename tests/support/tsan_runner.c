// tsan_runner.c - runs Criterion tests where Criterion's own runner cannot: it maps shared memory at
// addresses that ThreadSanitizer keeps for itself. Linked into the test programs of that build only,
// before the library, whose runner it takes the place of. One process per test, one after another.
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern struct criterion_test *__start_cr_tst[], *__stop_cr_tst[];
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak));
extern struct criterion_suite *__stop_cr_sts[] __attribute__((weak));

static struct criterion_test *current;
static const struct criterion_test_extra_data *suite_data;
static int failures; // of the current test

// --- what a test calls ----------------------------------------------------------------------

void criterion_internal_test_setup(void)
{
    if (suite_data && suite_data->init)
        suite_data->init();
    if (current->data->init)
        current->data->init();
}

void criterion_internal_test_main(void (*body)(void))
{
    body();
}

void criterion_internal_test_teardown(void)
{
    if (current->data->fini)
        current->data->fini();
    if (suite_data && suite_data->fini)
        suite_data->fini();
}

void criterion_send_assert(struct criterion_assert_stats *stats)
{
    if (stats->passed)
        return;
    failures++;
    fprintf(stderr, "%s:%u: %s\n", stats->file, stats->line, stats->message);
}

void cri_asserts_passed_incr(void)
{
}

void criterion_abort_test(void)
{
    _exit(1); // without the checks at exit: threads are still running
}

void criterion_continue_test(void)
{
}

// --- runner ---------------------------------------------------------------------------------

static void find_suite(void)
{
    suite_data = NULL;
    for (struct criterion_suite **s = __start_cr_sts; s < __stop_cr_sts; s++)
        if (*s && !strcmp((*s)->name, current->category))
            suite_data = (*s)->data;
}

static bool run_test(void)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        current->test();
        exit(failures ? 1 : 0); // ThreadSanitizer makes this 66 when it has found a race
    }
    int status = 0;
    bool ok = pid > 0 && waitpid(pid, &status, 0) == pid;
    int want = current->data->signal; // a test may ask to die of one
    ok = ok && (want ? WIFSIGNALED(status) && WTERMSIG(status) == want : status == 0);
    printf("%s %s/%s\n", ok ? "pass" : "FAIL", current->category, current->name);
    return ok;
}

int main(int argc, char **argv)
{
    const char *only = argc == 2 ? argv[1] : ""; // "suite/test", or the beginning of it
    int n = 0, failed = 0;
    for (struct criterion_test **t = __start_cr_tst; t < __stop_cr_tst; t++) {
        char name[256];
        if (!(current = *t))
            continue;
        snprintf(name, sizeof name, "%s/%s", current->category, current->name);
        if (current->data->disabled || (*only != '-' && strncmp(name, only, strlen(only))))
            continue;
        find_suite();
        n++;
        failed += !run_test();
    }
    printf("%d tests, %d failed\n", n, failed);
    return failed || n == 0;
}
