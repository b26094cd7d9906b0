/* poison.c: poison markers for the pages of a file, in each mapping that /proc/self/maps names.
 */
#include "tests/media/poison.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

/* Newer than the headers that this may be built with. */
#ifndef UFFDIO_POISON
#define UFFD_FEATURE_POISON (1 << 14)
struct uffdio_poison {
    struct uffdio_range range;
    uint64_t mode;
    int64_t updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

/* --- one address -------------------------------------------------------------------------------- */

/* -1: refused, with errno. */
static int poison_open(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -1;
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_POISON};
    if (ioctl(fd, UFFDIO_API, &api) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* Registered for write protection, of which nothing is ever asked: other threads' page faults in the
 * range are served as always. The marker outlives the registration. */
static bool poison_with(int fd, void *addr)
{
    struct uffdio_range range = {(uintptr_t)addr, POISON_PAGE_BYTES};
    struct uffdio_register mode = {.range = range, .mode = UFFDIO_REGISTER_MODE_WP};
    if (ioctl(fd, UFFDIO_REGISTER, &mode) != 0)
        return false;
    struct uffdio_poison poison = {.range = range};
    int rc, saved;
    do {
        madvise(addr, POISON_PAGE_BYTES, MADV_DONTNEED);
        rc = ioctl(fd, UFFDIO_POISON, &poison);
        saved = errno;
    } while (rc != 0 &&
             (saved == EEXIST || saved == EAGAIN)); /* mapped by another thread meanwhile */
    ioctl(fd, UFFDIO_UNREGISTER, &range);
    errno = saved;
    return rc == 0;
}

bool poison_address(void *addr)
{
    int fd = poison_open();
    if (fd < 0)
        return false;
    bool done = poison_with(fd, addr);
    int saved = errno;
    close(fd);
    errno = saved;
    return done;
}

void poison_heal_address(void *addr)
{
    madvise(addr, POISON_PAGE_BYTES, MADV_DONTNEED);
}

const char *poison_refused(const char *dir)
{
    static char why[200];
    char path[400];
    snprintf(path, sizeof path, "%s/poison-XXXXXX", dir);
    int file = mkstemp(path);
    if (file < 0)
        return strerror(errno);
    unlink(path);
    void *map = MAP_FAILED;
    if (ftruncate(file, POISON_PAGE_BYTES) == 0)
        map = mmap(NULL, POISON_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    bool works = map != MAP_FAILED && poison_address(map);
    snprintf(why, sizeof why, "the kernel does not poison pages of %s (UFFDIO_POISON): %s", dir,
             strerror(errno));
    if (map != MAP_FAILED)
        munmap(map, POISON_PAGE_BYTES);
    return works ? NULL : why;
}

/* --- the mappings of a file ---------------------------------------------------------------------- */

typedef bool (*poison_fn)(void *addr, void *arg);

/* fn for each address of the file's byte `offset`, until it says false; how many it was called for. */
static unsigned poison_each(const char *path, uint64_t offset, poison_fn fn, void *arg)
{
    struct stat st;
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned count = 0;
    char line[5000];
    if (!maps || stat(path, &st) != 0) {
        fprintf(stderr, "mappings of %s: %s\n", path, strerror(errno));
        abort();
    }
    while (fgets(line, sizeof line, maps)) {
        unsigned long from, to, ino, start;
        unsigned major, minor;
        if (sscanf(line, "%lx-%lx %*s %lx %x:%x %lu", &from, &to, &start, &major, &minor, &ino) !=
                6 ||
            makedev(major, minor) != st.st_dev || ino != st.st_ino)
            continue;
        if (offset < start || offset - start >= to - from)
            continue;
        count++;
        if (!fn((void *)(from + (offset - start)), arg))
            break;
    }
    fclose(maps);
    return count;
}

static bool poison_one(void *addr, void *arg)
{
    (void)arg;
    if (poison_address(addr))
        return true;
    fprintf(stderr, "cannot poison the page at %p: %s\n", addr, strerror(errno));
    abort();
}

static bool heal_one(void *addr, void *arg)
{
    (void)arg;
    poison_heal_address(addr);
    return true;
}

static bool is_one(void *addr, void *arg)
{
    const void **sought = arg;
    if (addr != *sought)
        return true;
    *sought = NULL;
    return false;
}

unsigned poison_file_page(const char *path, uint64_t page)
{
    return poison_each(path, page * POISON_PAGE_BYTES, poison_one, NULL);
}

unsigned poison_heal_file_page(const char *path, uint64_t page)
{
    return poison_each(path, page * POISON_PAGE_BYTES, heal_one, NULL);
}

bool poison_is_file_page(const char *path, uint64_t page, const void *addr)
{
    const void *sought = (const void *)((uintptr_t)addr & -(uintptr_t)POISON_PAGE_BYTES);
    poison_each(path, page * POISON_PAGE_BYTES, is_one, &sought);
    return sought == NULL;
}

/* --- cut by another process ----------------------------------------------------------------------- */

void poison_truncate(const char *path, uint64_t bytes)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(truncate(path, (off_t)bytes) == 0 ? 0 : errno);
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid < 0 || status != 0) {
        fprintf(stderr, "another process cannot cut %s: %s\n", path,
                strerror(pid < 0 ? errno : WEXITSTATUS(status)));
        abort();
    }
}
