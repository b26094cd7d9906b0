/* badblocks.c: the kernel's list of bad sectors of a device, told as pages of a file.
 *
 * From the file to the list: st_dev names a directory below /sys/dev/block.
 *
 *   whole device      its own `badblocks`
 *   partition         has none: the parent directory's, which counts from `start` sectors before it
 *   device-mapper     not known. sysfs names the devices below (`slaves`) but neither the kind of
 *                     the mapping nor its offset, and the table that would is for root alone. A wrong
 *                     guess makes good pages unreadable and lets bad ones through.
 *   XFS's realtime    not known: the file's blocks lie on another device than st_dev names.
 *   anonymous device  not known (btrfs, overlayfs, tmpfs, several devices): no directory.
 *
 * A line of the list is "SECTOR LENGTH\n", in units of 512 bytes, and a device that has no list shows
 * an empty line in older kernels. The kernel shows as many lines as fit into one page of memory
 * and cuts the last one anywhere. What is left of a cut number is not more than the number, so a cut
 * length still names sectors that are bad; a cut sector names others and is dropped.
 * badblocks_incomplete reports both. Lines that are not of this form are skipped, and logged once.
 *
 * From the list to the file: FIEMAP gives the file's extents in ascending order, each with its place
 * on the device; what of an extent lies on a bad range is rounded out to pages of the file and
 * joined with its neighbour. An extent without a place of its own (UNKNOWN, DELALLOC), or in which
 * an offset of the file is not one of the device (ENCODED, INLINE, TAIL), is skipped. Unwritten
 * extents count: loading them gives zeros, but the first store to them goes to the bad sector. FIEMAP is
 * never asked to sync: bytes that still wait for their blocks are in DRAM and on no bad sector, and
 * a DAX file has none.
 *
 * Changes: the pmem driver notifies the sysfs file when it adds or clears ranges (poll, POLLPRI,
 * until the next read); the kernel itself does not when somebody writes to the sysfs file. Reading
 * takes several times as long as polling, so there is one function for each.
 *
 * Locking: none. badblocks_changed looks at the descriptor and two atomics; everything else is for
 * one thread at a time.
 */
#include "engine/badblocks.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BADBLOCKS_SECTOR_BYTES 512u

/* The kernel shows less than one page, and pages are 64 KiB at most. */
#define BADBLOCKS_TEXT_BYTES 65536u

/* As many as that has room for: a line is 4 bytes at least. */
#define BADBLOCKS_RANGES_MAX (BADBLOCKS_TEXT_BYTES / 4)

/* Extents asked for at once: 3.6 KiB of stack. */
#define BADBLOCKS_EXTENTS 64u

static_assert(DAX_PAGE_BYTES % BADBLOCKS_SECTOR_BYTES == 0, "a page is whole sectors");

#define BADBLOCKS_NO_PLACE                                                                         \
    (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_ENCODED |                      \
     FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_DATA_TAIL)

/* Bytes [from, to) of the device. */
struct badblocks_range {
    uint64_t from;
    uint64_t to;
};

struct badblocks {
    int fd;               /* the file; the caller's */
    int list_fd;          /* of the sysfs file; owned */
    uint64_t start_bytes; /* where the file system's device begins on the one with the list */
    char *path;           /* owned */
    _Atomic bool seen;    /* read once; set by badblocks_read, looked at by any thread */
    _Atomic bool gone;    /* the device is; set by whoever reads, looked at by any thread */
    bool incomplete;
    bool logged;        /* a line that could not be understood */
    uint64_t text_hash; /* of what badblocks_read saw last; 0: nothing */
    size_t text_bytes;
    size_t range_count;
    struct badblocks_range ranges[BADBLOCKS_RANGES_MAX]; /* ascending, apart */
    char text[BADBLOCKS_TEXT_BYTES];
};

/* The page that is being put together from ranges that arrive in ascending order. */
struct badblocks_pages {
    uint64_t from;
    uint64_t to; /* from: none yet */
    badblocks_fn fn;
    void *arg;
};

static const char *badblocks_sysfs = "/sys";

void badblocks_sysfs_set(const char *root)
{
    badblocks_sysfs = root ? root : "/sys";
}

/* --- the list ----------------------------------------------------------------------------------- */

/* 0 or an errno. */
static int badblocks_load(struct badblocks *b)
{
    b->text_bytes = 0;
    while (b->text_bytes < sizeof b->text) {
        ssize_t n = pread(b->list_fd, b->text + b->text_bytes, sizeof b->text - b->text_bytes,
                          (off_t)b->text_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            break;
        b->text_bytes += (size_t)n;
    }
    return 0;
}

/* FNV-1a; never 0. */
static uint64_t badblocks_hash(const struct badblocks *b)
{
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < b->text_bytes; i++)
        h = (h ^ (uint8_t)b->text[i]) * UINT64_C(0x100000001B3);
    return h ? h : 1;
}

/* The decimal number at *at, which is moved past it. false: none, or one above `most`. */
static bool badblocks_number(const char **at, const char *end, uint64_t most, uint64_t *out)
{
    const char *p = *at;
    uint64_t v = 0;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (v > (most - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    if (p == *at)
        return false;
    *at = p;
    *out = v;
    return true;
}

/* One line, without its end; cut: it may have lost some of its bytes. false: not understood. */
static bool badblocks_parse_line(const char *line, const char *end, bool cut,
                                 struct badblocks_range *out)
{
    const uint64_t most = UINT64_MAX / BADBLOCKS_SECTOR_BYTES;
    uint64_t sector, length;
    if (!badblocks_number(&line, end, most, &sector) || line == end || *line++ != ' ')
        return false;
    if (cut && line == end)
        length = 1;
    else if (!badblocks_number(&line, end, most, &length) || line != end)
        return false;
    if (length > most - sector)
        length = most - sector;
    out->from = sector * BADBLOCKS_SECTOR_BYTES;
    out->to = (sector + length) * BADBLOCKS_SECTOR_BYTES;
    return out->from < out->to;
}

static int badblocks_compare(const void *a, const void *b)
{
    const struct badblocks_range *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

/* Ascending, and apart: the kernel's list is, but it is input all the same. */
static void badblocks_sort(struct badblocks *b)
{
    size_t kept = 0;
    bool ascending = true;
    for (size_t i = 1; i < b->range_count; i++)
        ascending = ascending && b->ranges[i - 1].from <= b->ranges[i].from;
    if (!ascending) /* asked first, because qsort allocates */
        qsort(b->ranges, b->range_count, sizeof b->ranges[0], badblocks_compare);
    for (size_t i = 0; i < b->range_count; i++) {
        const struct badblocks_range r = b->ranges[i];
        if (kept > 0 && r.from <= b->ranges[kept - 1].to) {
            if (r.to > b->ranges[kept - 1].to)
                b->ranges[kept - 1].to = r.to;
        } else {
            b->ranges[kept++] = r;
        }
    }
    b->range_count = kept;
}

static void badblocks_parse(struct badblocks *b)
{
    const char *at = b->text, *end = b->text + b->text_bytes;
    long page = sysconf(_SC_PAGESIZE);
    size_t skipped = 0;
    b->range_count = 0;
    /* A full page of text has lost its end even when that happens to be a whole line. */
    b->incomplete =
        b->text_bytes == sizeof b->text || (page > 0 && b->text_bytes >= (size_t)page - 1);
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *line_end = newline ? newline : end;
        struct badblocks_range r;
        if (!newline)
            b->incomplete = true;
        if (badblocks_parse_line(at, line_end, !newline, &r)) {
            DAX_ASSERT(b->range_count < BADBLOCKS_RANGES_MAX);
            b->ranges[b->range_count++] = r;
        } else if (newline && line_end > at) {
            skipped++;
        }
        at = line_end + 1;
    }
    badblocks_sort(b);
    if (skipped > 0 && !b->logged) {
        b->logged = true;
        dax_log(DAX_IO_READ,
                "the kernel's list of bad blocks below \"%s\" has %zu lines that are not \"sector "
                "length\": they are skipped",
                b->path, skipped);
    }
}

/* --- from the device to the file ---------------------------------------------------------------- */

static void badblocks_flush(struct badblocks_pages *p)
{
    if (p->from < p->to)
        p->fn(p->arg, p->from, p->to - p->from);
    p->from = p->to = 0;
}

static void badblocks_add(struct badblocks_pages *p, uint64_t from, uint64_t to)
{
    const uint64_t mask = DAX_PAGE_BYTES - 1;
    from &= ~mask;
    to = to > UINT64_MAX - mask ? ~mask : (to + mask) & ~mask;
    if (p->from < p->to && from <= p->to) {
        DAX_ASSERT(to >= p->to);
        p->to = to;
        return;
    }
    badblocks_flush(p);
    p->from = from;
    p->to = to;
}

/* File bytes [logical, logical + bytes) lie at `physical` of the device. */
static void badblocks_match(const struct badblocks *b, uint64_t logical, uint64_t physical,
                            uint64_t bytes, struct badblocks_pages *pages)
{
    size_t low = 0, high = b->range_count; /* find the first range that ends behind `physical` */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (b->ranges[middle].to <= physical)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < b->range_count && b->ranges[low].from < physical + bytes; low++) {
        const struct badblocks_range *r = &b->ranges[low];
        uint64_t from = r->from > physical ? r->from : physical;
        uint64_t to = r->to < physical + bytes ? r->to : physical + bytes;
        badblocks_add(pages, logical + (from - physical), logical + (to - physical));
    }
}

/* One extent, of which file bytes below `from` have been told already. false: numbers that no file
 * can have. */
static bool badblocks_extent(const struct badblocks *b, const struct fiemap_extent *e,
                             uint64_t from, struct badblocks_pages *pages)
{
    uint64_t skip = from > e->fe_logical ? from - e->fe_logical : 0;
    if (e->fe_length > UINT64_MAX - e->fe_logical || e->fe_length <= skip)
        return false;
    if (e->fe_flags & BADBLOCKS_NO_PLACE)
        return true;
    if (e->fe_physical > UINT64_MAX - b->start_bytes ||
        e->fe_length > UINT64_MAX - b->start_bytes - e->fe_physical)
        return false;
    badblocks_match(b, e->fe_logical + skip, b->start_bytes + e->fe_physical + skip,
                    e->fe_length - skip, pages);
    return true;
}

/* Ask for up to `extents` extents of `bytes` bytes of the file. 0 or an errno. */
static int badblocks_fiemap(int fd, uint64_t from, uint64_t bytes, unsigned extents,
                            struct fiemap *map)
{
    for (;;) {
        memset(map, 0, sizeof *map);
        map->fm_start = from;
        map->fm_length = bytes;
        map->fm_extent_count = extents;
        if (ioctl(fd, FS_IOC_FIEMAP, map) == 0)
            return 0;
        if (errno != EINTR)
            return errno;
    }
}

/* 0 or an errno. */
static int badblocks_walk(const struct badblocks *b, struct badblocks_pages *pages)
{
    union {
        struct fiemap map;
        uint8_t room[sizeof(struct fiemap) + BADBLOCKS_EXTENTS * sizeof(struct fiemap_extent)];
    } u;
    for (uint64_t from = 0;;) {
        int e = badblocks_fiemap(b->fd, from, FIEMAP_MAX_OFFSET - from, BADBLOCKS_EXTENTS, &u.map);
        if (e != 0)
            return e;
        unsigned n = u.map.fm_mapped_extents;
        if (n > BADBLOCKS_EXTENTS)
            return EPROTO;
        /* The array is reached by its bytes: its declared size is 0. */
        const uint8_t *at = u.room + sizeof(struct fiemap);
        for (unsigned i = 0; i < n; i++) {
            struct fiemap_extent extent;
            memcpy(&extent, at + i * sizeof extent, sizeof extent);
            if (!badblocks_extent(b, &extent, from, pages))
                return EPROTO;
            from = extent.fe_logical + extent.fe_length;
            if (extent.fe_flags & FIEMAP_EXTENT_LAST)
                return 0;
        }
        if (n == 0)
            return 0;
    }
}

/* --- finding the list --------------------------------------------------------------------------- */

/* Open `name` below dir_fd. -1: there is none, or it is not for us; *e is an errno where that would
 * be the wrong answer. */
static int badblocks_open_at(int dir_fd, const char *name, int flags, int *e)
{
    int fd;
    do {
        fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | flags);
    } while (fd < 0 && errno == EINTR);
    *e = fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM) ? errno : 0;
    return fd;
}

/* The number in a small file of sysfs. 0 or an errno. */
static int badblocks_read_number(int dir_fd, const char *name, uint64_t *out)
{
    char text[32];
    int e;
    int fd = badblocks_open_at(dir_fd, name, 0, &e);
    if (fd < 0)
        return e ? e : ENOENT;
    ssize_t n;
    do {
        n = pread(fd, text, sizeof text, 0);
    } while (n < 0 && errno == EINTR);
    e = n < 0 ? errno : 0;
    close(fd);
    if (e != 0)
        return e;
    const char *at = text, *end = text + n;
    if (!badblocks_number(&at, end, UINT64_MAX / BADBLOCKS_SECTOR_BYTES, out) || at == end ||
        *at != '\n')
        return EPROTO;
    return 0;
}

/* The sysfs file with the list for device dev, and where dev begins on its device. -1 with *e = 0: not
 * known. */
static int badblocks_find(dev_t dev, uint64_t *start_bytes, int *e)
{
    char path[512];
    *start_bytes = 0;
    *e = 0;
    int n =
        snprintf(path, sizeof path, "%s/dev/block/%u:%u", badblocks_sysfs, major(dev), minor(dev));
    if (n < 0 || (size_t)n >= sizeof path)
        return -1;
    int dir_fd = badblocks_open_at(AT_FDCWD, path, O_DIRECTORY, e);
    if (dir_fd < 0)
        return -1;
    const char *list = "badblocks";
    int fd = -1;
    if (faccessat(dir_fd, "dm", F_OK, 0) == 0)
        goto out;
    if (faccessat(dir_fd, "partition", F_OK, 0) == 0) {
        uint64_t start;
        int failed = badblocks_read_number(dir_fd, "start", &start);
        if (failed != 0) {
            *e = failed == ENOENT || failed == ENODEV ? 0 : failed;
            goto out;
        }
        *start_bytes = start * BADBLOCKS_SECTOR_BYTES;
        list = "../badblocks"; /* of the device: dir_fd is where the symbolic link leads to */
    }
    fd = badblocks_open_at(dir_fd, list, 0, e);
out:
    close(dir_fd);
    return fd;
}

/* Whether the file system tells where the file lies on the device that st_dev names. 0, EOPNOTSUPP
 * (it does not) or another errno. */
static int badblocks_can_map(int fd)
{
    struct fsxattr attributes;
    struct fiemap map;
    memset(&attributes, 0, sizeof attributes);
    if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) == 0 &&
        (attributes.fsx_xflags & FS_XFLAG_REALTIME))
        return EOPNOTSUPP;
    int e = badblocks_fiemap(fd, 0, DAX_PAGE_BYTES, 0, &map);
    return e == ENOTTY || e == EINVAL || e == EPERM ? EOPNOTSUPP : e;
}

/* --- interface ---------------------------------------------------------------------------------- */

static dax_rc badblocks_open_failed(int e, const char *path, struct dax_err *err)
{
    dax_rc rc =
        e == ENOMEM ? DAX_NOMEM : (e == EMFILE || e == ENFILE ? DAX_CANT_OPEN : DAX_IO_READ);
    return dax_err_set(err, rc, e, "cannot read the kernel's list of bad blocks below \"%s\"",
                       path);
}

dax_rc badblocks_open(int fd, const char *path, struct badblocks **out, struct dax_err *err)
{
    struct stat st;
    uint64_t start_bytes;
    int e;
    *out = NULL;
    if (fstat(fd, &st) != 0)
        return dax_err_set(err, DAX_IO_READ, errno, "cannot examine \"%s\"", path);
    int list_fd = badblocks_find(st.st_dev, &start_bytes, &e);
    if (list_fd < 0)
        return e ? badblocks_open_failed(e, path, err) : DAX_OK;
    e = badblocks_can_map(fd);
    if (e != 0) {
        close(list_fd);
        return e == EOPNOTSUPP ? DAX_OK : badblocks_open_failed(e, path, err);
    }
    struct badblocks *b = malloc(sizeof *b); /* large parts of it are never touched */
    char *copy = strdup(path);
    if (!b || !copy) {
        free(copy);
        free(b);
        close(list_fd);
        return badblocks_open_failed(ENOMEM, path, err);
    }
    memset(b, 0, offsetof(struct badblocks, ranges));
    b->fd = fd;
    b->list_fd = list_fd;
    b->start_bytes = start_bytes;
    b->path = copy;
    e = badblocks_load(b);
    bool none = e == ENODEV || (e == 0 && b->text_bytes == 1 && b->text[0] == '\n');
    if (e == 0 && !none) {
        *out = b;
        return DAX_OK;
    }
    badblocks_close(b);
    return none ? DAX_OK : badblocks_open_failed(e, path, err);
}

bool badblocks_changed(struct badblocks *b)
{
    if (!b || atomic_load_explicit(&b->gone, memory_order_relaxed))
        return false;
    if (!atomic_load_explicit(&b->seen, memory_order_relaxed))
        return true;
    struct pollfd p = {.fd = b->list_fd, .events = POLLPRI};
    int n;
    do {
        n = poll(&p, 1, 0);
    } while (n < 0 && errno == EINTR);
    return n > 0 && (p.revents & POLLPRI);
}

/* What was seen last counts no more. Loading has told the kernel that a change was noticed, so from
 * here on it is this flag that says so. */
static void badblocks_unsee(struct badblocks *b)
{
    b->text_hash = 0;
    atomic_store_explicit(&b->seen, false, memory_order_relaxed);
}

bool badblocks_differs(struct badblocks *b)
{
    if (!b || atomic_load_explicit(&b->gone, memory_order_relaxed))
        return false;
    if (badblocks_load(b) == 0 && badblocks_hash(b) == b->text_hash)
        return false;
    badblocks_unsee(b);
    return true;
}

dax_rc badblocks_read(struct badblocks *b, badblocks_fn fn, void *arg, struct dax_err *err)
{
    if (!b)
        return DAX_OK;
    badblocks_unsee(b);
    int e = badblocks_load(b);
    if (e == ENODEV) /* its sysfs file claims a change from now on */
        atomic_store_explicit(&b->gone, true, memory_order_relaxed);
    if (e != 0)
        return dax_err_set(err, DAX_IO_READ, e,
                           "cannot read the kernel's list of bad blocks below \"%s\"", b->path);
    badblocks_parse(b);
    if (b->range_count > 0) {
        struct badblocks_pages pages = {.fn = fn, .arg = arg};
        e = badblocks_walk(b, &pages);
        badblocks_flush(&pages);
        if (e != 0)
            return dax_err_set(
                err, e == ENOMEM ? DAX_NOMEM : DAX_IO_READ, e,
                "the file system does not say where \"%s\" lies on its device, which "
                "has bad blocks",
                b->path);
    }
    b->text_hash = badblocks_hash(b);
    atomic_store_explicit(&b->seen, true, memory_order_relaxed);
    return DAX_OK;
}

bool badblocks_incomplete(const struct badblocks *b)
{
    return b && b->incomplete;
}

void badblocks_close(struct badblocks *b)
{
    if (!b)
        return;
    close(b->list_fd);
    free(b->path);
    free(b);
}
