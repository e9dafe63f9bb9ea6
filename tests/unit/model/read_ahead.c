// read_ahead.c - parts of a mapped file are brought in, however many there are and whenever it ends.
#define _GNU_SOURCE
#include "read_ahead.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 6000, BYTES = PAGE * PAGES }; // three pieces

static unsigned char *map_some(void)
{
    char path[] = "/tmp/read_ahead.XXXXXX";
    const int fd = mkstemp(path);
    cr_assert(fd >= 0 && ftruncate(fd, BYTES) == 0);
    unlink(path);
    unsigned char *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert(p != MAP_FAILED);
    memset(p, 7, BYTES);
    cr_assert(msync(p, BYTES, MS_SYNC) == 0 && madvise(p, BYTES, MADV_DONTNEED) == 0);
    close(fd);
    return p;
}

// Pages of the mapping that are mapped: those of a file just written are in memory either way.
static int resident(void *p)
{
    uint64_t entries[PAGES];
    const off_t at = (off_t)((uintptr_t)p / PAGE * sizeof *entries);
    const int fd = open("/proc/self/pagemap", O_RDONLY);
    cr_assert(fd >= 0 && pread(fd, entries, sizeof entries, at) == (ssize_t)sizeof entries);
    close(fd);
    int n = 0;
    for (int i = 0; i < PAGES; i++)
        n += (int)(entries[i] >> 63); // present
    return n;
}

// Until all of it is there, at most ten seconds.
static void await(void *p)
{
    for (int i = 0; i < 2000 && resident(p) < PAGES; i++)
        usleep(5000);
}

Test(read_ahead, brings_everything)
{
    unsigned char *p = map_some();
    cr_assert(resident(p) == 0);
    const struct read_ahead_part parts[] = {
        {p + 1, BYTES / 2 - 1}, {NULL, 0}, {p + BYTES / 2, BYTES / 2}};
    struct read_ahead *r = read_ahead_start(parts, 3);
    await(p);
    cr_assert(resident(p) == PAGES);
    read_ahead_passed(r, BYTES - 1);
    read_ahead_stop(r);
    cr_assert(p[BYTES - 1] == 7);
    munmap(p, BYTES);
}

// What lies far ahead waits until what is before it has passed; nobody waits for what never passes.
Test(read_ahead, waits)
{
    unsigned char *p = map_some();
    const size_t far = (size_t)1 << 31;
    unsigned char *most =
        mmap(NULL, far, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cr_assert(most != MAP_FAILED);
    const struct read_ahead_part parts[] = {{most, far}, {p, BYTES}};
    struct read_ahead *r = read_ahead_start(parts, 2);
    usleep(100000);
    cr_assert(resident(p) == 0);
    read_ahead_passed(r, far);
    await(p);
    cr_assert(resident(p) == PAGES);
    read_ahead_stop(r);
    r = read_ahead_start(parts, 2);
    read_ahead_stop(r); // what never passes
    r = read_ahead_start(NULL, 0);
    read_ahead_stop(r);
    munmap(most, far);
    munmap(p, BYTES);
}
