/* base.c: maps the database file with room to grow and keeps space allocated ahead of every store.
 *
 * Mapping. Address space is reserved without access at a 2 MiB boundary, and the file is mapped
 * over all of it from offset 0, far beyond its end. So address and offset agree modulo 2 MiB, as
 * large pages need, and growth by fallocate alone makes new bytes reachable. Bytes beyond the end
 * of the file fault; nobody looks there, because the database's size never exceeds file_bytes.
 *
 * Space. I1: [0, filled_bytes) is allocated, so no store there can meet a full disk, which would be
 * a SIGBUS. What base_reserve adds is allocated when it is added; what the file had before (a file
 * of stock SQLite may have holes, or share its blocks with a copy) is filled when it is first asked
 * for. I2: filled_bytes <= file_bytes <= map_bytes.
 *
 *      0 ........ filled ........ file_bytes     sparse gap      scratch_start .. + scratch_bytes
 *      allocated     not looked at yet           (nothing)       allocated
 *
 * Scratch lies at the end of the same file, so it needs no name of its own and a crash cannot
 * separate them. The file's size is then its end, and only cutting the file gives it back. After a
 * crash the low part's end is where the gap's hole begins. I3: while there is scratch, the low
 * part's last byte has been stored to (what is only allocated counts as a hole) and at least half
 * of the gap is left. The rest (leftover_bytes) is not mapped: recovery reads it with pread, and
 * the first call afterwards that cuts the file, or makes it larger, gives it back.
 *
 * A failed growth is undone (a file system may have allocated part of it, and extended the file).
 */
#include "engine/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 0x03
#endif
#ifndef MAP_SYNC
#define MAP_SYNC 0x080000
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef FALLOC_FL_KEEP_SIZE
#define FALLOC_FL_KEEP_SIZE 0x01
#define FALLOC_FL_PUNCH_HOLE 0x02
#endif
#ifndef FALLOC_FL_UNSHARE_RANGE
#define FALLOC_FL_UNSHARE_RANGE 0x40
#endif

/* I3: the low part grows no further than this far below scratch. */
#define BASE_GAP_LEFT (DAX_SCRATCH_GAP_BYTES / 2)

/* A large page: what addresses, offsets and growth are aligned to. */
#define BASE_ALIGN (2 * DAX_MIB)

/* Of so many new pages, one may be bad. */
#define BASE_BAD_PART 8u

#define BASE_BYTES_MAX (DAX_MAX_PAGES * DAX_PAGE_BYTES)
#define BASE_SCRATCH_BYTES_MAX (BASE_SCRATCH_CHUNKS * DAX_SCRATCH_CHUNK_BYTES)

static uint64_t base_round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static uint64_t base_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t base_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* file_bytes, scratch_bytes: written under the writer lock, read there and, relaxed, by status. */
static void base_set(uint64_t *field, uint64_t bytes)
{
    __atomic_store_n(field, bytes, __ATOMIC_RELAXED);
}

/* --- open ------------------------------------------------------------------------------------- */

/* A descriptor below 3 would receive what the process prints when it has closed its standard
 * files. */
static int base_open_fd(const char *path, int flags)
{
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0644);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0 || fd > 2)
        return fd;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int e = errno;
    close(fd);
    errno = e;
    return high;
}

static dax_rc base_open_error(const char *path, bool create, int e, struct dax_err *err)
{
    switch (e) {
    case ENOENT:
        return dax_err_set(err, DAX_CANT_OPEN, e,
                           create ? "cannot create \"%s\": its directory is missing"
                                  : "database file \"%s\" is missing",
                           path);
    case ENOTDIR:
        return dax_err_set(err, DAX_CANT_OPEN, e,
                           "cannot open \"%s\": part of its path is not a directory", path);
    case EISDIR:
        return dax_err_set(err, DAX_CANT_OPEN, 0, "\"%s\" is a directory: name a file in it", path);
    case EACCES:
    case EPERM:
        return dax_err_set(err, DAX_CANT_OPEN, e,
                           "no permission to open \"%s\": check the rights of the file and of its "
                           "directories",
                           path);
    case ENOSPC:
    case EDQUOT: return dax_err_set(err, DAX_FULL, e, "cannot create \"%s\"", path);
    default: return dax_err_set(err, DAX_CANT_OPEN, e, "cannot open \"%s\"", path);
    }
}

dax_rc base_open(struct base *b, const char *path, bool create, bool must_write,
                 struct dax_err *err)
{
    memset(b, 0, sizeof *b);
    /* First: closing a descriptor of the file again would drop the locks of a stock connection. */
    b->fd = -1;
    b->path = strdup(path);
    if (!b->path)
        return dax_err_set(err, DAX_NOMEM, 0, "no memory to open \"%s\"", path);
    b->fd = base_open_fd(path, O_RDWR | (create ? O_CREAT : 0));
    if (b->fd < 0 && (errno == EACCES || errno == EPERM || errno == EROFS || errno == ETXTBSY)) {
        int e = errno;
        /* O_NONBLOCK: a FIFO must not make us wait for its writer. */
        b->fd = base_open_fd(path, O_RDONLY | O_NONBLOCK);
        if (b->fd < 0) {
            e = errno == ENOENT && create ? e : errno;
            base_close(b);
            return base_open_error(path, create, e, err);
        }
        if (must_write) {
            base_close(b);
            return dax_err_set(err, DAX_READONLY, e, "\"%s\" cannot be opened for writing", path);
        }
        b->read_only = true;
    }
    if (b->fd < 0) {
        int e = errno;
        base_close(b);
        return base_open_error(path, create, e, err);
    }

    struct stat st;
    dax_rc rc = DAX_OK;
    if (fstat(b->fd, &st) != 0)
        rc = dax_err_set(err, DAX_CANT_OPEN, errno, "cannot examine \"%s\"", path);
    else if (S_ISDIR(st.st_mode))
        rc = base_open_error(path, create, EISDIR, err);
    else if (!S_ISREG(st.st_mode))
        rc = dax_err_set(err, DAX_CANT_OPEN, 0,
                         "\"%s\" is not a regular file: a database must be one", path);
    if (rc != DAX_OK) {
        base_close(b);
        return rc;
    }
    b->dev = st.st_dev;
    b->ino = st.st_ino;
    return DAX_OK;
}

/* --- mapping ---------------------------------------------------------------------------------- */

/* Map `bytes` of the file from `offset`, both multiples of BASE_ALIGN, at such an address.
 * 0 or an errno. */
static int base_map_try(const struct base *b, uint64_t offset, uint64_t bytes, uint8_t **addr_out)
{
    uint64_t room = bytes + BASE_ALIGN;
    uint8_t *raw = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED)
        return errno;
    uint8_t *addr = (uint8_t *)base_round_up((uintptr_t)raw, BASE_ALIGN);
    if (addr > raw)
        munmap(raw, (size_t)(addr - raw));
    munmap(addr + bytes, (size_t)(raw + room - (addr + bytes)));

    int prot = b->read_only ? PROT_READ : PROT_READ | PROT_WRITE;
    int flags = b->map_sync ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED;
    if (mmap(addr, bytes, prot, flags | MAP_FIXED, b->fd, (off_t)offset) == MAP_FAILED) {
        int e = errno;
        munmap(addr, bytes);
        return e;
    }
    *addr_out = addr;
    return 0;
}

/* Map between `need` and `want` bytes from `offset`: as many as the process's address space has. */
static dax_rc base_map_range(const struct base *b, uint64_t offset, uint64_t want, uint64_t need,
                             struct base_map *out, struct dax_err *err)
{
    uint64_t bytes = want;
    for (;;) {
        int e = base_map_try(b, offset, bytes, &out->addr);
        if (e == 0) {
            out->bytes = bytes;
            if (!b->owner)
                return DAX_OK;
            dax_rc rc = guard_map_add(out->addr, bytes, offset, b->owner, err);
            if (rc != DAX_OK)
                munmap(out->addr, bytes);
            return rc;
        }
        if (e != ENOMEM)
            return dax_err_set(err, DAX_IO_WRITE, e, "cannot map \"%s\"%s", b->path,
                               b->map_sync ? " with MAP_SYNC" : "");
        if (bytes == need)
            return dax_err_set(err, DAX_FULL, e,
                               "no address space to map %llu bytes of \"%s\": raise the process's "
                               "limit (ulimit -v, vm.max_map_count)",
                               (unsigned long long)need, b->path);
        bytes = base_max(base_round_up(bytes / 2, BASE_ALIGN), need);
    }
}

/* Make sure that the newest mapping covers `bytes`. */
static dax_rc base_map_reach(struct base *b, uint64_t bytes, struct dax_err *err)
{
    uint64_t now = atomic_load_explicit(&b->map_bytes, memory_order_relaxed);
    if (bytes <= now)
        return DAX_OK;
    if (now > 0 && b->old_count == BASE_OLD_MAPS)
        return dax_err_set(err, DAX_FULL, 0,
                           "\"%s\" has grown too often since it was opened: close and reopen it",
                           b->path);
    struct base_map map;
    uint64_t need = base_round_up(base_max(bytes, 1), BASE_ALIGN);
    uint64_t want = base_round_up(base_max(4 * need, b->map_bytes_min), BASE_ALIGN);
    dax_rc rc = base_map_range(b, 0, want, need, &map, err);
    if (rc != DAX_OK)
        return rc;
    if (now > 0) {
        struct base_map *old = &b->old[b->old_count++];
        old->addr = atomic_load_explicit(&b->addr, memory_order_relaxed);
        old->bytes = now;
    }
    /* Pair with the loads of readers (base_at, map_bytes): address first, then how far it
     * reaches. */
    atomic_store_explicit(&b->addr, map.addr, memory_order_release);
    atomic_store_explicit(&b->map_bytes, map.bytes, memory_order_release);
    return DAX_OK;
}

/* Where the low part of a file of `end` bytes ends (I3): `end`, if there is no gap. */
static uint64_t base_low_end(const struct base *b, uint64_t end)
{
    for (uint64_t at = 0; end - at > BASE_GAP_LEFT;) {
        off_t hole = lseek(b->fd, (off_t)at, SEEK_HOLE);
        if (hole < 0 || (uint64_t)hole >= end)
            return end;
        off_t data = lseek(b->fd, hole, SEEK_DATA);
        at = data < 0 ? end : (uint64_t)data;
        if (at - (uint64_t)hole >= BASE_GAP_LEFT)
            return (uint64_t)hole;
    }
    return end;
}

/* The newest mapping is nearly always the one. */
static bool base_find(const void *arg, const void *addr, uint64_t *offset_out)
{
    const struct base *b = arg;
    uintptr_t at = (uintptr_t)addr;
    uint64_t offset = at - (uintptr_t)atomic_load_explicit(&b->addr, memory_order_relaxed);
    bool found = offset < atomic_load_explicit(&b->map_bytes, memory_order_relaxed);
    for (unsigned i = 0; !found && i < b->old_count; i++) {
        offset = at - (uintptr_t)b->old[i].addr;
        found = offset < b->old[i].bytes;
    }
    for (unsigned i = 0; !found && b->scratch_start && i < BASE_SCRATCH_CHUNKS; i++) {
        const uint8_t *chunk = atomic_load_explicit(&b->scratch_chunks[i], memory_order_relaxed);
        if (!chunk)
            break; /* chunks are mapped in order */
        found = at - (uintptr_t)chunk < DAX_SCRATCH_CHUNK_BYTES;
        offset = b->scratch_start + i * DAX_SCRATCH_CHUNK_BYTES + (at - (uintptr_t)chunk);
    }
    *offset_out = offset;
    return found;
}

dax_rc base_map(struct base *b, bool map_sync, uint64_t map_bytes_min, struct dax_err *err)
{
    struct stat st;
    if (fstat(b->fd, &st) != 0)
        return dax_err_set(err, DAX_CANT_OPEN, errno, "cannot examine \"%s\"", b->path);
    persist_set_base(b->persist, base_find, b);
    b->map_sync = map_sync;
    b->map_bytes_min = map_bytes_min;
    uint64_t end = (uint64_t)st.st_size;
    uint64_t low = base_low_end(b, end);
    dax_rc rc = base_map_reach(b, base_max(low, 1), err);
    if (rc != DAX_OK)
        return rc;
    base_set(&b->file_bytes, low);
    b->filled_bytes = 0;
    b->leftover_bytes = end - low;
    return DAX_OK;
}

/* --- space ------------------------------------------------------------------------------------ */

int base_write_zeros(int fd, uint64_t from, uint64_t to)
{
    static const uint8_t zeros[64 * DAX_KIB];
    while (from < to) {
        ssize_t n = pwrite(fd, zeros, base_min(sizeof zeros, to - from), (off_t)from);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            return ENOSPC;
        from += (uint64_t)n;
    }
    return 0;
}

/* fallocate may give up, with all it has done, when a signal arrives; in a process that gets one
 * every few milliseconds, only small pieces come through. */
static int base_fallocate(int fd, int mode, uint64_t from, uint64_t to)
{
    uint64_t piece = to - from;
    while (from < to) {
        uint64_t bytes = base_min(piece, to - from);
        if (fallocate(fd, mode, (off_t)from, (off_t)bytes) == 0)
            from += bytes;
        else if (errno == EINTR)
            piece = base_max(piece / 2, BASE_ALIGN);
        else
            return errno;
    }
    return 0;
}

int base_allocate(int fd, uint64_t from, uint64_t to)
{
    struct rlimit limit;
    /* The kernel would not only refuse but send SIGXFSZ, which ends the process. */
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        to > (uint64_t)limit.rlim_cur)
        return EFBIG;
    int e = base_fallocate(fd, 0, from, to);
    if (e == EOPNOTSUPP || e == ENOSYS)
        e = base_write_zeros(fd, from, to);
    return e;
}

static dax_rc base_space_error(const struct base *b, const char *what, uint64_t from, uint64_t to,
                               int e, struct dax_err *err)
{
    dax_rc rc = DAX_IO_WRITE;
    if (e == ENOSPC || e == EDQUOT || e == EFBIG)
        rc = DAX_FULL;
    else if (e == ENOMEM)
        rc = DAX_NOMEM;
    return dax_err_set(err, rc, e, "cannot allocate %llu bytes for %s of \"%s\" (at %llu)",
                       (unsigned long long)(to - from), what, b->path, (unsigned long long)from);
}

int base_fsync(int fd)
{
    while (fsync(fd) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

/* Make the file's size durable. */
static dax_rc base_sync_size(struct base *b, struct dax_err *err)
{
    if (b->persist->mode == PERSIST_VOLATILE)
        return DAX_OK;
    int e = base_fsync(b->fd);
    if (e == 0)
        return DAX_OK;
    b->sync_failed = true;
    return dax_err_set(err, DAX_IO_WRITE, e, "cannot sync the size of \"%s\"", b->path);
}

static int base_truncate(const struct base *b, uint64_t bytes)
{
    for (;;) {
        if (ftruncate(b->fd, (off_t)bytes) == 0)
            return 0;
        if (errno != EINTR)
            return errno;
    }
}

/* 0 or an errno; EIO: a store to one of these pages would be a SIGBUS. */
static int base_populate_pages(uint8_t *addr, uint64_t bytes)
{
    for (;;) {
        if (madvise(addr, bytes, MADV_POPULATE_WRITE) == 0)
            return 0;
        if (errno == EINVAL) /* before Linux 5.14 */
            return 0;
        if (errno == EFAULT || errno == EHWPOISON)
            return EIO;
        if (errno != EINTR && errno != EAGAIN)
            return errno;
    }
}

/* Take the page faults of new space now, and with MAP_SYNC their metadata flush, once instead of
 * page by page under commits. Not in msync mode: it would only make the kernel write zeros out.
 * Single pages that cannot be stored to are no reason not to grow: every store to new space is guarded,
 * and the first one to such a page finds and names it. Where they are many, it is no space at all.
 * 0 or an errno. */
static int base_populate(const struct base *b, uint8_t *addr, uint64_t bytes)
{
    if (b->persist->mode == PERSIST_MSYNC)
        return 0;
    uint64_t lead = (uintptr_t)addr % DAX_PAGE_BYTES;
    uint8_t *from = addr - lead, *end = addr + bytes;
    int e = base_populate_pages(from, (uint64_t)(end - from));
    uint64_t bad = 0, most = bytes / DAX_PAGE_BYTES / BASE_BAD_PART;
    for (uint8_t *at = from; e == EIO && at < end && bad <= most; at += DAX_PAGE_BYTES) {
        int one = base_populate_pages(at, DAX_PAGE_BYTES);
        if (one == EIO)
            bad++;
        else if (one != 0)
            return one;
    }
    return e == EIO && bad <= most ? 0 : e;
}

/* I3: store to the low part's last byte, what it holds already. 0 or an errno. */
static int base_touch_end(const struct base *b, uint64_t end)
{
    char byte;
    ssize_t n;
    if (end == 0)
        return 0;
    do
        n = pread(b->fd, &byte, 1, (off_t)end - 1);
    while (n < 0 && errno == EINTR);
    if (n != 1)
        return n < 0 ? errno : EIO;
    do
        n = pwrite(b->fd, &byte, 1, (off_t)end - 1);
    while (n < 0 && errno == EINTR);
    if (n != 1)
        return n < 0 ? errno : EIO;
    return 0;
}

static dax_rc base_drop_leftover(struct base *b, struct dax_err *err)
{
    return b->leftover_bytes == 0 ? DAX_OK : base_cut(b, b->file_bytes, err);
}

/* Undo a growth of the low part that stopped half-way. */
static void base_ungrow(const struct base *b, uint64_t to)
{
    if (b->scratch_start == 0)
        (void)base_truncate(b, b->file_bytes);
    else
        (void)base_fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, b->file_bytes, to);
}

static void base_unmap(const void *addr, uint64_t bytes)
{
    guard_map_remove(addr);
    munmap((void *)addr, bytes);
}

static dax_rc base_grow(struct base *b, uint64_t to, struct dax_err *err)
{
    uint64_t from = b->file_bytes;
    dax_rc rc = base_map_reach(b, to, err);
    if (rc == DAX_OK)
        rc = base_drop_leftover(b, err);
    if (rc != DAX_OK)
        return rc;
    int e = base_allocate(b->fd, from, to);
    if (e == 0 && b->scratch_start)
        e = base_touch_end(b, to);
    if (e == 0)
        rc = base_sync_size(b, err);
    if (e == 0 && rc == DAX_OK)
        e = base_populate(b, base_at(b, from), to - from);
    if (e != 0)
        rc = base_space_error(b, "the growth", from, to, e, err);
    if (rc != DAX_OK) {
        base_ungrow(b, to);
        return rc;
    }
    base_set(&b->file_bytes, to);
    b->filled_bytes = to;
    return DAX_OK;
}

/* Known to have no holes, without looking for them: SEEK_HOLE on a tmpfs looks at every page, 15 ms for a GiB.
 * It counts a file's pages exactly, but also those behind its end; so the count is believed only where it is
 * what it should be, neither less nor more. (Should both be there, and equal, a store into the hole on a full
 * file system is a fault, in the guard.) */
static bool base_is_whole(const struct base *b)
{
    struct stat st;
    return b->persist->mode == PERSIST_VOLATILE && fstat(b->fd, &st) == 0 &&
           (uint64_t)st.st_blocks * 512 == base_round_up((uint64_t)st.st_size, DAX_PAGE_BYTES);
}

/* I1 for what the file had before we came: allocate holes, and blocks of our own where they are
 * shared with another file. */
static dax_rc base_fill(struct base *b, uint64_t to, struct dax_err *err)
{
    uint64_t from = b->filled_bytes;
    if (to <= from)
        return DAX_OK;
    int e = base_fallocate(b->fd, FALLOC_FL_UNSHARE_RANGE, from, to);
    if (e == EOPNOTSUPP && base_is_whole(b)) {
        e = 0;
    } else if (e == 0 || e == EOPNOTSUPP || e == EINVAL || e == ENOSYS) {
        off_t hole = lseek(b->fd, (off_t)from, SEEK_HOLE);
        e = hole >= 0 && (uint64_t)hole >= to ? 0 : base_fallocate(b->fd, 0, from, to);
    }
    /* Where nothing can be allocated ahead, the file is what it is. */
    if (e != 0 && e != EOPNOTSUPP && e != ENOSYS)
        return base_space_error(b, "the holes", from, to, e, err);
    b->filled_bytes = to;
    return DAX_OK;
}

/* Bytes of the low part that are not allocated. */
static uint64_t base_hole_bytes(const struct base *b)
{
    off_t end = (off_t)b->file_bytes, hole = lseek(b->fd, 0, SEEK_HOLE);
    uint64_t bytes = 0;
    while (hole >= 0 && hole < end) {
        off_t data = lseek(b->fd, hole, SEEK_DATA);
        off_t stop = data < 0 || data > end ? end : data;
        bytes += (uint64_t)(stop - hole);
        hole = stop < end ? lseek(b->fd, stop, SEEK_HOLE) : end;
    }
    return bytes;
}

dax_rc base_fill_holes(struct base *b, bool exclusive, struct dax_err *err)
{
    if (base_is_whole(b))
        return DAX_OK;
    off_t end = (off_t)b->file_bytes, hole = lseek(b->fd, 0, SEEK_HOLE);
    if (hole < 0 || hole >= end)
        return DAX_OK;
    /* Told before any is taken: what does not fit would only fill the memory of everybody else. */
    struct statvfs fs;
    uint64_t holes = base_hole_bytes(b);
    if (fstatvfs(b->fd, &fs) == 0 && holes > (uint64_t)fs.f_bavail * fs.f_frsize)
        return base_space_error(b, "the holes", 0, holes, ENOSPC, err);
    if (exclusive)
        return base_fill(b, b->file_bytes, err);
    while (hole >= 0 && hole < end) {
        off_t data = lseek(b->fd, hole, SEEK_DATA);
        off_t stop = data < 0 || data > end ? end : data;
        uint64_t from = (uint64_t)hole & ~(uint64_t)(DAX_PAGE_BYTES - 1);
        if (madvise(base_at(b, from), (uint64_t)stop - from, MADV_POPULATE_READ) != 0) {
            if (errno == EINTR || errno == EAGAIN)
                continue;
            if (errno == EINVAL) /* before Linux 5.14 */
                break;
            int e = errno == EFAULT ? ENOSPC : errno;
            return base_space_error(b, "the holes", from, (uint64_t)stop, e, err);
        }
        hole = stop < end ? lseek(b->fd, stop, SEEK_HOLE) : end;
    }
    return DAX_OK;
}

uint64_t base_end(const struct base *b)
{
    struct stat st;
    return fstat(b->fd, &st) == 0 ? (uint64_t)st.st_size : b->file_bytes;
}

bool base_is_cut(const struct base *b)
{
    struct stat st;
    uint64_t end = b->scratch_bytes ? b->scratch_start + b->scratch_bytes : b->file_bytes;
    return fstat(b->fd, &st) == 0 && (uint64_t)st.st_size < end;
}

/* All of the file's first `bytes` bytes must be there. */
static dax_rc base_check_end(const struct base *b, uint64_t bytes, struct dax_err *err)
{
    if (!base_is_cut(b) || base_end(b) >= bytes)
        return DAX_OK;
    return dax_err_set(err, DAX_IO_MEDIA, 0, "\"%s\" has been truncated by another program: dax_errors says what was lost",
                       b->path);
}

/* Growth step: at most an eighth of the file, where each growth has to be synced; on a tmpfs a 32nd: what
 * is allocated ahead there is memory, and its page faults are taken for nothing. */
static uint64_t base_step(const struct base *b, uint64_t file_bytes)
{
    uint64_t step = DAX_GROW_BYTES_MIN, part = b->persist->mode == PERSIST_VOLATILE ? 32 : 8;
    while (step < DAX_GROW_BYTES_MAX && step * part < file_bytes)
        step *= 2;
    return step;
}

dax_rc base_reserve(struct base *b, uint64_t bytes, struct dax_err *err)
{
    uint64_t limit = b->scratch_start ? b->scratch_start - BASE_GAP_LEFT : BASE_BYTES_MAX;
    if (bytes > limit) /* a multiple of the page size, so rounding up stays within it */
        return dax_err_set(err, DAX_FULL, 0,
                           "\"%s\" cannot grow to %llu bytes: %llu is the limit%s", b->path,
                           (unsigned long long)bytes, (unsigned long long)limit,
                           b->scratch_start ? " within this transaction" : "");
    uint64_t need = base_round_up(bytes, DAX_PAGE_BYTES);
    if (need <= b->filled_bytes)
        return DAX_OK;
    if (b->read_only)
        return dax_err_set(err, DAX_READONLY, 0, "\"%s\" is open for reading only", b->path);
    if (base_is_cut(b)) { /* what is left has its space; what is not does not come back as zeros */
        dax_rc rc = base_check_end(b, need, err);
        return rc == DAX_OK ? base_fill(b, need, err) : rc;
    }
    dax_rc rc;
    uint64_t target =
        base_min(base_round_up(need, base_step(b, base_min(need, b->file_bytes))), limit);
    rc = base_fill(b, base_min(target, b->file_bytes), err);
    if (rc == DAX_FULL && need < target)
        rc = base_fill(b, base_min(need, b->file_bytes), err);
    if (rc != DAX_OK || need <= b->file_bytes)
        return rc;
    rc = base_grow(b, target, err);
    if (rc == DAX_FULL && need < target)
        rc = base_grow(b, need, err);
    return rc;
}

/* --- scratch ---------------------------------------------------------------------------------- */

static void base_scratch_unmap(struct base *b)
{
    for (unsigned i = 0; b->scratch_chunks && i < BASE_SCRATCH_CHUNKS; i++) {
        uint8_t *addr = atomic_load_explicit(&b->scratch_chunks[i], memory_order_relaxed);
        if (!addr)
            break; /* chunks are mapped in order */
        base_unmap(addr, DAX_SCRATCH_CHUNK_BYTES);
        atomic_store_explicit(&b->scratch_chunks[i], NULL, memory_order_relaxed);
    }
    b->scratch_start = 0;
    base_set(&b->scratch_bytes, 0);
}

/* Map the chunks that hold [0, bytes) of scratch. */
static dax_rc base_scratch_map(struct base *b, uint64_t bytes, struct dax_err *err)
{
    for (uint64_t i = b->scratch_bytes / DAX_SCRATCH_CHUNK_BYTES;
         i * DAX_SCRATCH_CHUNK_BYTES < bytes; i++) {
        if (atomic_load_explicit(&b->scratch_chunks[i], memory_order_relaxed))
            continue;
        struct base_map map;
        uint64_t offset = b->scratch_start + i * DAX_SCRATCH_CHUNK_BYTES;
        dax_rc rc =
            base_map_range(b, offset, DAX_SCRATCH_CHUNK_BYTES, DAX_SCRATCH_CHUNK_BYTES, &map, err);
        if (rc != DAX_OK)
            return rc;
        /* Pairs with base_scratch_at. */
        atomic_store_explicit(&b->scratch_chunks[i], map.addr, memory_order_release);
    }
    return DAX_OK;
}

static dax_rc base_scratch_grow(struct base *b, uint64_t to, struct dax_err *err)
{
    uint64_t had = b->scratch_bytes;
    dax_rc rc = base_scratch_map(b, to, err);
    if (rc != DAX_OK)
        return rc;
    int e = base_allocate(b->fd, b->scratch_start + had, b->scratch_start + to);
    if (e == 0)
        rc = base_sync_size(b, err);
    for (uint64_t at = had; e == 0 && rc == DAX_OK && at < to;) {
        uint64_t end = base_min(to, (at / DAX_SCRATCH_CHUNK_BYTES + 1) * DAX_SCRATCH_CHUNK_BYTES);
        e = base_populate(b, base_scratch_at(b, (b->scratch_start + at) >> DAX_PAGE_SHIFT),
                          end - at);
        at = end;
    }
    if (e != 0)
        rc = base_space_error(b, "scratch space", b->scratch_start + had, b->scratch_start + to, e,
                              err);
    if (rc != DAX_OK) {
        (void)base_truncate(b, had ? b->scratch_start + had : b->file_bytes);
        return rc;
    }
    base_set(&b->scratch_bytes, to);
    return DAX_OK;
}

dax_rc base_scratch_reserve(struct base *b, uint64_t in_use_bytes, uint64_t bytes,
                            struct dax_err *err)
{
    if (bytes <= b->scratch_bytes)
        return DAX_OK;
    if (b->read_only)
        return dax_err_set(err, DAX_READONLY, 0, "\"%s\" is open for reading only", b->path);
    if (bytes > BASE_SCRATCH_BYTES_MAX)
        return dax_err_set(err, DAX_FULL, 0,
                           "a transaction on \"%s\" needs %llu bytes of scratch space: too large",
                           b->path, (unsigned long long)bytes);
    /* Space behind a new end would put zeros where data was. */
    dax_rc rc = base_check_end(b, UINT64_MAX, err);
    if (rc != DAX_OK)
        return rc;
    if (!b->scratch_chunks) {
        b->scratch_chunks = calloc(BASE_SCRATCH_CHUNKS, sizeof *b->scratch_chunks);
        if (!b->scratch_chunks)
            return dax_err_set(err, DAX_NOMEM, 0, "no memory to map scratch space of \"%s\"",
                               b->path);
    }
    rc = base_drop_leftover(b, err);
    if (rc != DAX_OK)
        return rc;
    uint64_t need = base_round_up(bytes, DAX_PAGE_BYTES);
    bool first = b->scratch_start == 0;
    if (first) {
        /* Durable before scratch is above it, or a crash would hide the end of the low part. */
        int e = base_touch_end(b, b->file_bytes);
        rc = e ? base_space_error(b, "the last page", b->file_bytes, b->file_bytes, e, err)
               : base_sync_size(b, err);
        if (rc != DAX_OK)
            return rc;
        b->scratch_start = base_round_up(base_max(in_use_bytes, b->file_bytes), BASE_ALIGN) +
                           DAX_SCRATCH_GAP_BYTES;
    }
    uint64_t target =
        base_min(base_round_up(need, base_step(b, b->scratch_bytes)), BASE_SCRATCH_BYTES_MAX);
    rc = base_scratch_grow(b, target, err);
    if (rc == DAX_FULL && need < target)
        rc = base_scratch_grow(b, need, err);
    if (rc != DAX_OK && first)
        base_scratch_unmap(b);
    return rc;
}

uint8_t *base_scratch_at(const struct base *b, uint64_t page)
{
    uint64_t at = (page << DAX_PAGE_SHIFT) - b->scratch_start;
    DAX_ASSERT(b->scratch_start != 0 && at / DAX_SCRATCH_CHUNK_BYTES < BASE_SCRATCH_CHUNKS);
    uint8_t *chunk = atomic_load_explicit(&b->scratch_chunks[at / DAX_SCRATCH_CHUNK_BYTES],
                                          memory_order_acquire);
    return chunk + at % DAX_SCRATCH_CHUNK_BYTES;
}

/* --- cutting and closing ---------------------------------------------------------------------- */

dax_rc base_cut(struct base *b, uint64_t bytes, struct dax_err *err)
{
    if (b->read_only)
        return dax_err_set(err, DAX_READONLY, 0, "\"%s\" is open for reading only", b->path);
    bytes = base_min(bytes, b->file_bytes);
    if (bytes == b->file_bytes && b->scratch_start == 0 && b->leftover_bytes == 0)
        return DAX_OK;
    dax_rc rc = base_check_end(b, bytes, err);
    if (rc != DAX_OK)
        return rc;
    int e = base_truncate(b, bytes);
    if (e != 0)
        return dax_err_set(err, DAX_IO_WRITE, e, "cannot cut \"%s\" to %llu bytes", b->path,
                           (unsigned long long)bytes);
    base_scratch_unmap(b);
    b->leftover_bytes = 0;
    base_set(&b->file_bytes, bytes);
    b->filled_bytes = base_min(b->filled_bytes, bytes);
    return base_sync_size(b, err);
}

int base_sync_directory(const char *path)
{
    char *dir = strdup(path);
    if (!dir)
        return ENOMEM;
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir ? 1 : 0] = '\0';
    int fd;
    do {
        fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    int e = fd < 0 ? errno : base_fsync(fd);
    if (fd >= 0 && e == EINVAL) /* the file system has nothing to sync in a directory */
        e = 0;
    if (fd >= 0)
        close(fd);
    free(dir);
    return e;
}

dax_rc base_first_page(struct base *b, const uint8_t page[DAX_PAGE_BYTES], struct dax_err *err)
{
    DAX_ASSERT(b->file_bytes == 0);
    ssize_t n;
    /* Blocks for 2 MiB mappings: space is added behind what is there, so that one page wherever there
     * is room for it would put the whole file out of step. A wish: what counts comes with the
     * growth. */
    if (b->persist->mode == PERSIST_PMEM)
        (void)base_fallocate(b->fd, FALLOC_FL_KEEP_SIZE, 0, BASE_ALIGN);
    do
        n = pwrite(b->fd, page, DAX_PAGE_BYTES, 0);
    while (n < 0 && errno == EINTR);
    if (n != DAX_PAGE_BYTES) {
        int e = n < 0 ? errno : ENOSPC;
        (void)base_truncate(b, 0);
        return base_space_error(b, "the first page", 0, DAX_PAGE_BYTES, e, err);
    }
    base_set(&b->file_bytes, DAX_PAGE_BYTES);
    b->filled_bytes = DAX_PAGE_BYTES;
    dax_rc rc = base_sync_size(b, err);
    /* The file may be new: what is committed to one without a name is lost. */
    int e = rc == DAX_OK && b->persist->mode != PERSIST_VOLATILE ? base_sync_directory(b->path) : 0;
    if (e != 0)
        rc = dax_err_set(err, e == ENOMEM ? DAX_NOMEM : DAX_IO_WRITE, e,
                         "cannot sync the directory of \"%s\"", b->path);
    if (rc != DAX_OK) {
        (void)base_truncate(b, 0);
        base_set(&b->file_bytes, 0);
        b->filled_bytes = 0;
    }
    return rc;
}

dax_rc base_scratch_drop(struct base *b, struct dax_err *err)
{
    return b->scratch_start == 0 ? base_drop_leftover(b, err) : base_cut(b, b->file_bytes, err);
}

dax_rc base_open_with(struct base *b, const char *path, int fd, bool read_only, struct dax_err *err)
{
    memset(b, 0, sizeof *b);
    b->fd = -1;
    b->path = strdup(path);
    if (!b->path)
        return dax_err_set(err, DAX_NOMEM, 0, "no memory to open \"%s\"", path);
    b->fd = fd;
    b->read_only = read_only;
    return DAX_OK;
}

int base_take_fd(struct base *b)
{
    int fd = b->fd;
    b->fd = -1;
    return fd;
}

void base_close(struct base *b)
{
    base_scratch_unmap(b);
    free(b->scratch_chunks);
    for (unsigned i = 0; i < b->old_count; i++)
        base_unmap(b->old[i].addr, b->old[i].bytes);
    uint8_t *addr = atomic_load_explicit(&b->addr, memory_order_relaxed);
    if (addr)
        base_unmap(addr, atomic_load_explicit(&b->map_bytes, memory_order_relaxed));
    if (b->fd >= 0)
        close(b->fd);
    free(b->path);
    memset(b, 0, sizeof *b);
    b->fd = -1;
}
