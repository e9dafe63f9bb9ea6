// report_tool.c - report_tool RESULT.json FORMAT: a result document from a file as a report on standard
// output. For reports.py, which looks at reports in a browser.
#include <stdio.h>

#include "json.h"
#include "report.h"

static int render(const char *path, const char *format)
{
    struct err e = {0};
    struct buf text = {0}, out = {0};
    enum report_format f;
    char block[4096];
    FILE *file = fopen(path, "rb");
    for (size_t n; file && (n = fread(block, 1, sizeof block, file)) > 0;)
        buf_add(&text, block, n);
    if (file)
        fclose(file);
    json_t *result = json_parse(text.data ? text.data : "", text.n, 64, &e);
    int failed =
        !result || report_format_read(format, &f, &e) || report_render(result, f, &out, &e);
    if (failed)
        fprintf(stderr, "report_tool: %s\n", e.text);
    else
        fwrite(out.data, 1, out.n, stdout);
    json_decref(result);
    buf_fini(&text);
    buf_fini(&out);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return render(argv[1], argv[2]) ? 1 : 0;
    fprintf(stderr, "usage: report_tool RESULT.json json|md|csv|html\n");
    return 2;
}
