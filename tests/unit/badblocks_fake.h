/* badblocks_fake.h: a made-up sysfs and FIEMAP for the tests of badblocks.c.
 *
 * sysfs is made in the test's directory, for the device number that the test's file has. FIEMAP is
 * answered from a table of extents, as the kernel would; pread and poll can be made short,
 * interrupted or failing. Linked with --wrap of ioctl, pread and poll.
 */
#ifndef DAX_TESTS_BADBLOCKS_FAKE_H
#define DAX_TESTS_BADBLOCKS_FAKE_H

#include <linux/fiemap.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "engine/badblocks.h"
#include "tests/unit/unit.h"

/* Of linux/fs.h, which cannot be included together with sys/mount.h. */
#define FIEMAP_REQUEST _IOWR('f', 11, struct fiemap)
#define FSGETXATTR_REQUEST 0x801c581fUL

#define SECTOR 512u
#define PAGE DAX_PAGE_BYTES
#define RANGES 20000u

static struct dax_err err;

/* ck_assert writes to a file each time. */
#define fake_must(e, ...)                                                                          \
    do {                                                                                           \
        if (!(e))                                                                                  \
            ck_abort_msg(__VA_ARGS__);                                                             \
    } while (0)

/* --- system calls between the engine and the kernel ------------------------------------------- */

enum fake_call {
    FAKE_IOCTL,
    FAKE_PREAD,
    FAKE_POLL,
    FAKE_CALLS
};

static struct {
    const struct fiemap_extent *extents; /* NULL: the real FIEMAP */
    unsigned count;
    unsigned most;  /* extents per call */
    int fail_errno; /* of FIEMAP call number fail_call (from 1), and of all that follow */
    unsigned fail_call;
    unsigned calls;
    unsigned interrupted[FAKE_CALLS]; /* so many calls end with EINTR first */
    unsigned sync_asked;
    uint32_t xflags;  /* of FSGETXATTR; 0: not supported */
    size_t read_most; /* bytes per pread; 0: all */
    int read_errno;
    bool raw;         /* all extents, whatever was asked for */
    unsigned claimed; /* extents, whatever was given; 0: the truth */
    bool notified;    /* poll says POLLPRI */
} fake;

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, ...);
ssize_t __real_pread(int fd, void *buf, size_t bytes, off_t at);
ssize_t __wrap_pread(int fd, void *buf, size_t bytes, off_t at);
int __real_poll(struct pollfd *p, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout);

static inline bool fake_interrupted(enum fake_call call)
{
    if (fake.interrupted[call] == 0)
        return false;
    fake.interrupted[call]--;
    errno = EINTR;
    return true;
}

static inline int fake_fiemap(struct fiemap *map)
{
    fake.calls++;
    if (fake.fail_errno && fake.calls >= fake.fail_call) {
        errno = fake.fail_errno;
        return -1;
    }
    fake.sync_asked += map->fm_flags & FIEMAP_FLAG_SYNC;
    unsigned room = map->fm_extent_count, n = 0;
    if (room > fake.most)
        room = fake.most;
    for (unsigned i = 0; i < fake.count; i++) {
        const struct fiemap_extent *e = &fake.extents[i];
        if (!fake.raw && (e->fe_logical + e->fe_length <= map->fm_start ||
                          e->fe_logical >= map->fm_start + map->fm_length))
            continue;
        if (map->fm_extent_count > 0 && n == room)
            break;
        if (map->fm_extent_count > 0)
            memcpy((uint8_t *)map + sizeof *map + n * sizeof *e, e, sizeof *e);
        n++;
    }
    map->fm_mapped_extents = fake.claimed ? fake.claimed : n;
    return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    va_start(ap, request);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    if (!fake.extents)
        return __real_ioctl(fd, request, arg);
    if (request == FSGETXATTR_REQUEST) {
        if (fake.xflags) {
            memcpy(arg, &fake.xflags, sizeof fake.xflags);
            return 0;
        }
        errno = ENOTTY;
        return -1;
    }
    fake_must(request == FIEMAP_REQUEST, "ioctl %#lx is not FIEMAP", request);
    return fake_interrupted(FAKE_IOCTL) ? -1 : fake_fiemap(arg);
}

ssize_t __wrap_pread(int fd, void *buf, size_t bytes, off_t at)
{
    if (fake_interrupted(FAKE_PREAD))
        return -1;
    if (fake.read_errno) {
        errno = fake.read_errno;
        return -1;
    }
    if (fake.read_most && bytes > fake.read_most)
        bytes = fake.read_most;
    return __real_pread(fd, buf, bytes, at);
}

int __wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
    if (fake_interrupted(FAKE_POLL))
        return -1;
    int ready = __real_poll(p, n, timeout);
    if (fake.notified) {
        p->revents |= POLLPRI | POLLERR;
        return 1;
    }
    return ready;
}

static inline void fake_extents(const struct fiemap_extent *extents, unsigned count)
{
    fake.extents = extents;
    fake.count = count;
    fake.most = 1000;
}

/* --- a made-up sysfs, and a file ----------------------------------------------------------------- */

static char sysfs[400];  /* its root */
static char device[480]; /* directory of the whole device */
static int file_fd;

static inline void make_directories(const char *path)
{
    char part[640];
    snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        mkdir(part, 0755);
        *p = '/';
    }
    ck_assert_msg(mkdir(part, 0755) == 0 || errno == EEXIST, "%s: %s", part, strerror(errno));
}

static inline void write_at(const char *directory, const char *name, const char *text)
{
    char path[640];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    unit_write_file(path, text, strlen(text));
}

/* The list that the kernel shows. The file stays the same one, as in sysfs. */
static inline void list_set(const char *text)
{
    char path[640];
    snprintf(path, sizeof path, "%s/badblocks", device);
    unit_write_file(path, text, strlen(text));
}

/* dev/block/MAJ:MIN of the file's device -> where, below devices/. */
static inline void link_device(dev_t dev, const char *where)
{
    char link[480], target[480];
    snprintf(link, sizeof link, "%s/dev/block", sysfs);
    make_directories(link);
    snprintf(link, sizeof link, "%s/dev/block/%u:%u", sysfs, major(dev), minor(dev));
    snprintf(target, sizeof target, "../../devices/%s", where);
    ck_assert_int_eq(symlink(target, link), 0);
}

static inline dev_t file_dev(void)
{
    struct stat st;
    ck_assert_int_eq(fstat(file_fd, &st), 0);
    return st.st_dev;
}

static inline void tree_make(void)
{
    snprintf(sysfs, sizeof sysfs, "%s", unit_path("sys"));
    snprintf(device, sizeof device, "%s/devices/nd/region0/pmem0", sysfs);
    make_directories(device);
    badblocks_sysfs_set(sysfs);
}

static inline void setup(void)
{
    unit_setup();
    memset(&fake, 0, sizeof fake);
    file_fd = open(unit_path("app.db"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ck_assert_int_ge(file_fd, 0);
    tree_make();
}

/* The file is on the whole device, with this list. */
static inline void whole_device(const char *list)
{
    link_device(file_dev(), "nd/region0/pmem0");
    list_set(list);
}

/* The file is on a partition of it; NULL: which does not say where it starts. */
static inline void make_partition(const char *start)
{
    char partition[512];
    snprintf(partition, sizeof partition, "%s/pmem0p1", device);
    make_directories(partition);
    write_at(partition, "partition", "1\n");
    if (start)
        write_at(partition, "start", start);
    link_device(file_dev(), "nd/region0/pmem0/pmem0p1");
}

static inline struct badblocks *open_list(void)
{
    struct badblocks *b = NULL;
    unit_ok(badblocks_open(file_fd, "/x/app.db", &b, &err));
    ck_assert_ptr_nonnull(b);
    return b;
}

static inline void open_finds_none(void)
{
    struct badblocks *b = (struct badblocks *)&err;
    unit_ok(badblocks_open(file_fd, "/x/app.db", &b, &err));
    ck_assert_ptr_null(b);
}

/* --- what was told ------------------------------------------------------------------------------- */

static struct told {
    uint64_t offset, bytes;
} told[RANGES];
static size_t told_count;

static inline void tell(void *arg, uint64_t offset, uint64_t bytes)
{
    const struct told *last = told_count > 0 ? &told[told_count - 1] : NULL;
    fake_must(arg == told && told_count < RANGES, "not the caller's argument, or without end");
    fake_must(offset % PAGE == 0 && bytes % PAGE == 0 && bytes > 0,
              "%llu bytes at %llu are not whole pages", (unsigned long long)bytes,
              (unsigned long long)offset);
    fake_must(!last || offset > last->offset + last->bytes,
              "%llu is not behind and apart from %llu bytes at %llu", (unsigned long long)offset,
              (unsigned long long)last->bytes, (unsigned long long)last->offset);
    told[told_count++] = (struct told){offset, bytes};
}

static inline void read_list(struct badblocks *b)
{
    told_count = 0;
    unit_ok(badblocks_read(b, tell, told, &err));
}

/* Exactly these pages: (first, count) pairs, ended by count 0. */
static inline void expect_pages(const char *what, const uint64_t *pages)
{
    char text[2000] = "";
    for (size_t i = 0; i < told_count && i < 40; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), " %llu+%llu",
                 (unsigned long long)(told[i].offset / PAGE),
                 (unsigned long long)(told[i].bytes / PAGE));
    size_t n = 0;
    for (; pages[2 * n + 1]; n++)
        ck_assert_msg(n < told_count && told[n].offset == pages[2 * n] * PAGE &&
                          told[n].bytes == pages[2 * n + 1] * PAGE,
                      "%s: range %zu is not %llu+%llu:%s", what, n,
                      (unsigned long long)pages[2 * n], (unsigned long long)pages[2 * n + 1], text);
    ck_assert_msg(n == told_count, "%s: %zu ranges, not %zu:%s", what, told_count, n, text);
}

#define EXPECT(what, ...) expect_pages(what, (const uint64_t[]){__VA_ARGS__, 0, 0})
#define EXPECT_NONE(what) expect_pages(what, (const uint64_t[]){0, 0})

/* Page `logical` of the file, `pages` of them, at page `physical` of the device. */
#define EXTENT(logical, physical, pages, flags)                                                    \
    {                                                                                              \
        .fe_logical = (uint64_t)(logical)*PAGE, .fe_physical = (uint64_t)(physical)*PAGE,          \
        .fe_length = (uint64_t)(pages)*PAGE, .fe_flags = (flags)                                   \
    }

static const struct fiemap_extent one_extent[] = {EXTENT(0, 1000, 100, FIEMAP_EXTENT_LAST)};

/* Pages 10 - 19 at 500, 20 - 29 at 300 (so: descending on the device), hole, 40 - 49 at 310. */
static const struct fiemap_extent three_extents[] = {EXTENT(10, 500, 10, 0), EXTENT(20, 300, 10, 0),
                                                     EXTENT(40, 310, 10, FIEMAP_EXTENT_LAST)};

static unsigned log_lines;
static char log_text[600];

static inline void log_capture(dax_rc rc, const char *text)
{
    ck_assert_int_ne(rc, DAX_OK);
    log_lines++;
    snprintf(log_text, sizeof log_text, "%s", text);
}

/* Run these; the program's exit status. */
static inline int fake_main(const char *name, TCase *tc)
{
    Suite *suite = suite_create(name);
    tcase_set_timeout(tc, 300);
    tcase_add_checked_fixture(tc, setup, NULL);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}

#endif
