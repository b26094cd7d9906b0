/* guest_poison.c: bad blocks of a real DAX device, and that the kernel treats them as the repair
 * expects.
 *
 * The kernel's list of a pmem device takes new entries from root through sysfs; from then on it
 * refuses these blocks as it does after a machine check: reads fail, new mappings of them fault, and
 * a write of the whole block clears the entry where the device can.
 */
#include "tests/vm/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SECTOR 512u

/* --- the kernel's list ------------------------------------------------------------------------ */

static FILE *list_open(const char *path, const char *mode)
{
    struct stat st;
    CHECK(stat(path, &st) == 0, "%s", path);
    char *name = test_printf("/sys/dev/block/%u:%u/badblocks", major(st.st_dev), minor(st.st_dev));
    FILE *f = fopen(name, mode);
    CHECK(f, "%s: %s", name, strerror(errno));
    return f;
}

uint64_t file_physical(const char *path, uint64_t offset)
{
    struct {
        struct fiemap map;
        struct fiemap_extent extent;
    } q = {.map = {.fm_start = offset,
                   .fm_length = GUEST_PAGE,
                   .fm_flags = FIEMAP_FLAG_SYNC,
                   .fm_extent_count = 1}};
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0, "%s: %s", path, strerror(errno));
    CHECK(ioctl(fd, FS_IOC_FIEMAP, &q.map) == 0, "FIEMAP of %s: %s", path, strerror(errno));
    close(fd);
    CHECK(q.map.fm_mapped_extents == 1 && q.extent.fe_logical <= offset, "%s has no block at %llu",
          path, (unsigned long long)offset);
    return q.extent.fe_physical + (offset - q.extent.fe_logical);
}

void poison_add(const char *path, uint64_t offset)
{
    FILE *f = list_open(path, "w");
    fprintf(f, "%llu %u\n", (unsigned long long)(file_physical(path, offset) / SECTOR),
            GUEST_PAGE / SECTOR);
    CHECK(fclose(f) == 0, "badblocks: %s", strerror(errno));
    CHECK(poison_listed(path, offset), "the kernel did not take the bad block");
}

bool poison_listed(const char *path, uint64_t offset)
{
    uint64_t from = file_physical(path, offset) / SECTOR, to = from + GUEST_PAGE / SECTOR;
    unsigned long long at, len;
    bool found = false;
    FILE *f = list_open(path, "r");
    while (fscanf(f, "%llu %llu", &at, &len) == 2)
        found |= at < to && at + len > from;
    fclose(f);
    return found;
}

unsigned poison_count(const char *path)
{
    unsigned n = 0;
    unsigned long long at, len;
    FILE *f = list_open(path, "r");
    while (fscanf(f, "%llu %llu", &at, &len) == 2)
        n++;
    fclose(f);
    return n;
}

/* Blocks of pages that are mapped already stay readable, whatever the list says. */
void forget_mappings(const char *path)
{
    char line[4400];
    FILE *f = fopen("/proc/self/maps", "r");
    CHECK(f, "maps");
    while (fgets(line, sizeof line, f)) {
        unsigned long from, to;
        line[strcspn(line, "\n")] = 0;
        if (strlen(line) > strlen(path) && !strcmp(line + strlen(line) - strlen(path), path) &&
            sscanf(line, "%lx-%lx", &from, &to) == 2)
            CHECK(madvise((void *)from, to - from, MADV_DONTNEED) == 0, "madvise");
    }
    fclose(f);
}

/* --- touching --------------------------------------------------------------------------------- */

static sigjmp_buf touch_env;
static volatile int touch_code, touch_lsb;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    touch_code = info->si_code;
    touch_lsb = info->si_addr_lsb;
    siglongjmp(touch_env, 1);
}

int touch(const volatile uint8_t *at, int *lsb_out)
{
    struct sigaction ours = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER}, old;
    sigaction(SIGBUS, &ours, &old);
    touch_code = touch_lsb = 0;
    if (sigsetjmp(touch_env, 1) == 0)
        (void)*at;
    sigaction(SIGBUS, &old, NULL);
    if (lsb_out)
        *lsb_out = touch_lsb;
    return touch_code;
}

/* --- what the device does --------------------------------------------------------------------- */

#define PAGES 1024u
#define BAD 5u

struct device_file {
    const char *path;
    int fd;
    uint8_t page[GUEST_PAGE], back[GUEST_PAGE];
};

static void page_fill(struct device_file *d, unsigned page)
{
    struct rng r = {test_seed() + page};
    for (size_t i = 0; i < GUEST_PAGE; i += 8) {
        uint64_t v = rng_next(&r);
        memcpy(d->page + i, &v, 8);
    }
}

static void device_make(struct device_file *d)
{
    d->path = test_path("device");
    d->fd = open(d->path, O_RDWR | O_CREAT, 0644);
    CHECK(d->fd >= 0, "%s: %s", d->path, strerror(errno));
    for (unsigned i = 0; i < PAGES; i++) {
        page_fill(d, i);
        CHECK(pwrite(d->fd, d->page, GUEST_PAGE, (off_t)i * GUEST_PAGE) == GUEST_PAGE, "pwrite");
    }
    CHECK(fsync(d->fd) == 0, "fsync");
    CHECK(poison_count(d->path) == 0, "there are bad blocks before any was made");
}

/* Read a page; 0 and its content as made, or the errno. */
static int device_read(struct device_file *d, unsigned page)
{
    ssize_t n = pread(d->fd, d->back, GUEST_PAGE, (off_t)page * GUEST_PAGE);
    if (n < 0)
        return errno;
    CHECK(n == GUEST_PAGE, "pread: %zd", n);
    page_fill(d, page);
    CHECK(memcmp(d->page, d->back, GUEST_PAGE) == 0, "page %u has changed", page);
    return 0;
}

static int device_write(struct device_file *d, unsigned page, size_t len)
{
    page_fill(d, page);
    ssize_t n = pwrite(d->fd, d->page, len, (off_t)page * GUEST_PAGE);
    CHECK(n < 0 || (size_t)n == len, "pwrite: %zd of %zu", n, len);
    return n < 0 ? errno : 0;
}

/* A bad block is refused in every way, and its neighbours in none. */
static void device_break(struct device_file *d)
{
    uint64_t at = (uint64_t)BAD * GUEST_PAGE;
    poison_add(d->path, at);
    CHECK(device_read(d, BAD) == EIO, "pread of a bad block: %s", strerror(errno));
    CHECK(device_read(d, BAD - 1) == 0 && device_read(d, BAD + 1) == 0,
          "a neighbour is unreadable");

    int lsb;
    uint8_t *map = mmap(NULL, PAGES * GUEST_PAGE, PROT_READ, MAP_SHARED, d->fd, 0);
    CHECK(map != MAP_FAILED, "mmap");
    int code = touch(map + at, &lsb);
    CHECK(code == BUS_ADRERR || code == BUS_MCEERR_AR, "a load from a bad block: si_code %d", code);
    test_say("load from a bad block: si_code %d, lsb %d", code, lsb);
    CHECK(touch(map + at - 1, &lsb) == 0 && touch(map + at + GUEST_PAGE, &lsb) == 0,
          "a load from a neighbour faults");
    munmap(map, PAGES * GUEST_PAGE);

    int e = device_write(d, BAD, SECTOR);
    CHECK(e == EFAULT || e == EIO, "pwrite of a part of a bad block: %d", e);
    CHECK(poison_listed(d->path, at), "pwrite of a part cleared the bad block");
}

void scenario_device(void)
{
    struct device_file d;
    device_make(&d);
    device_break(&d);
    int e = device_write(&d, BAD, GUEST_PAGE);
    CHECK(e == 0, "pwrite of a whole bad block: %s", strerror(e));
    CHECK(poison_count(d.path) == 0, "the bad block is still listed");
    CHECK(device_read(&d, BAD) == 0, "pread after clearing");
    CHECK(device_read(&d, BAD - 1) == 0 && device_read(&d, BAD + 1) == 0, "a neighbour");
    close(d.fd);
}

void scenario_device_stays(void)
{
    struct device_file d;
    device_make(&d);
    device_break(&d);
    int e = device_write(&d, BAD, GUEST_PAGE);
    CHECK(e == EFAULT || e == EIO, "pwrite on a device that cannot clear: %d", e);
    uint64_t at = (uint64_t)BAD * GUEST_PAGE, was = file_physical(d.path, at);

    /* Something else takes the next blocks, or the allocator could give the same one again. */
    CHECK(fallocate(d.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, GUEST_PAGE) == 0,
          "punching a hole: %s", strerror(errno));
    CHECK(pread(d.fd, d.back, GUEST_PAGE, (off_t)at) == GUEST_PAGE, "pread of a hole");
    e = device_write(&d, BAD, GUEST_PAGE);
    test_say("after a punched hole: pwrite %s", e ? strerror(e) : "works");
    CHECK(e == 0, "pwrite into a punched hole: %s", strerror(e));
    test_say("the block was at %llu, is at %llu", (unsigned long long)was,
             (unsigned long long)file_physical(d.path, at));
    CHECK(device_read(&d, BAD) == 0, "pread after a write elsewhere");
    close(d.fd);
}
