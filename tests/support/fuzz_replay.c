// fuzz_replay.c - main() of a fuzz target in builds without libFuzzer: runs every file of the folders
// named on the command line once. A folder without files is an error, so that a lost corpus is seen.
#define _GNU_SOURCE
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return -1;
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    uint8_t *data = malloc(n > 0 ? (size_t)n : 1);
    int ok = data && n >= 0 && fread(data, 1, (size_t)n, f) == (size_t)n;
    fclose(f);
    if (ok)
        LLVMFuzzerTestOneInput(data, (size_t)n);
    free(data);
    return ok ? 0 : -1;
}

int main(int argc, char **argv)
{
    int n = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = argv[i][0] == '-' ? NULL : opendir(argv[i]);
        for (struct dirent *d; dir && (d = readdir(dir));) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], d->d_name);
            if (d->d_name[0] != '.' && replay_file(path) == 0)
                n++;
        }
        if (dir)
            closedir(dir);
    }
    printf("%d inputs replayed\n", n);
    return n ? 0 : 1;
}
