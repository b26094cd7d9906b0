/* persist.c: the two ways of making bytes durable, and the seven places where it has to happen.
 *
 * Ordering points. "Before" is what a crash just before the point may leave on media, "after" what
 * it leaves just after.
 *
 *   P1  direct pages     before: bypassed and scratch pages are partly on media; no record names
 *                                them and they lie above all that the log names, so nobody sees it.
 *                        after:  they are whole; still nobody names them.
 *   P2  commit record    before: the record is whole, torn or absent. Hash, LSN and salt tell; a
 *                                torn one is where recovery stops. The commit has not returned.
 *                        after:  the record is whole: recovery replays it. The commit returns.
 *   P3  applied pages    before: base pages hold any mix of old and new lines; the records that
 *                                make them whole are still live and are replayed over them.
 *                        after:  base is whole up to the last applied record; it is replayed again,
 *                                without effect.
 *   P4  cursor slot      before: the new slot is whole, torn or absent; torn or absent, the other
 *                                slot counts and its records are still there.
 *                        after:  the new slot counts; log space and pages behind it may be reused.
 *   P5  mark, body       before: bytes 72 - 91 are partly ours; byte 19 is plain, so they mean
 *                                nothing, and SQLite does not look at them.
 *                        after:  they are whole; byte 19 is still plain.
 *   P6  mark, byte 19    before: the byte is old or new (one byte cannot be torn). Being set: both
 *                                are right, the log is empty. Being removed: likewise.
 *                        after:  it is what it was set to. Set: the first record may be stored.
 *                                Removed: stock SQLite may have the file.
 *   P7  seal             before: the record is whole and nothing of it is in base: were it damaged,
 *                                it would pass for a torn one, and the old state is right, since
 *                                nobody has been told of the new one.
 *                        after:  that the record was whole is on media: damage is known as such.
 *                                Its lines may be stored into base.
 *
 * Cache-line modes (pmem, volatile). A store is non-temporal if it is of whole lines, or of 256 bytes
 * and more; other ones are ordinary, with a cache-line write-back, since write-combining buffers would
 * not fill. Either way the next fence makes it durable, so each point is one fence.
 *
 * What is applied to base is read again at once, and often stored to again (page 0 by every
 * transaction). So it is stored through the cache (persist_store_cached) and written back when P3 asks
 * for it: a write-back that a commit's next atomic instruction has to wait for costs it 0.15 us.
 *
 * msync mode. A store is a pwrite into the page cache, which the mapping shows at once; P2, P4 and P7
 * fdatasync the sidecar, the others the database file. (A store through the mapping, and msync, would do
 * the same, but makes the whole folio dirty: up to 2 MiB of the page cache are written for a record of
 * 448 bytes, where pwrite leaves its own blocks dirty.) The kernel may write any page back earlier, at
 * any time, in any order: as with cache lines, which can be evicted, correctness must not depend on the
 * contrary. Records go past the page cache where that is possible (uncached.c): they are in DRAM until their
 * point, and the mapping shows them after it.
 *   A byte of each page is loaded first: where the mapping faults (a bad page, a file that somebody has
 * cut), the store ends there, as it would in the other modes; pwrite would make a file that was cut
 * longer again. A write that the kernel refuses all the same (no space on a file system that copies on
 * write) is a fault, too: guard_fail.
 *
 * Sanitizers do not see libpmem's stores, so under them cache-line modes copy with memcpy and races
 * on the data are found; the fences stay.
 */
#include "engine/persist.h"

#include <errno.h>
#include <libpmem.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "engine/limits.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define PERSIST_PLAIN_COPY 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define PERSIST_PLAIN_COPY 1
#endif
#endif
#ifndef PERSIST_PLAIN_COPY
#define PERSIST_PLAIN_COPY 0
#endif

/* Non-temporal from here up; libpmem's own threshold is the same but can be moved by the
 * environment of the process that we are a guest in. */
#define PERSIST_NT_BYTES 256u

static const char *const tag_names[PERSIST_TAGS] = {
    [PERSIST_P1_DIRECT] = "P1 (direct pages)",   [PERSIST_P2_RECORD] = "P2 (commit record)",
    [PERSIST_P3_BASE] = "P3 (applied pages)",    [PERSIST_P4_CURSOR] = "P4 (log cursor)",
    [PERSIST_P5_MARK_BODY] = "P5 (header mark)", [PERSIST_P6_MARK_BYTE] = "P6 (header mark)",
    [PERSIST_P7_SEAL] = "P7 (log seal)",
};

/* Plain additions, no locked ones: see struct persist_counts. */
static void persist_add(uint64_t *count, uint64_t n)
{
    __atomic_store_n(count, __atomic_load_n(count, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static bool cacheline_streams(const void *dst, size_t len)
{
    return len >= PERSIST_NT_BYTES || ((uintptr_t)dst | len) % DAX_LINE_BYTES == 0;
}

static unsigned cacheline_flags(const void *dst, size_t len)
{
    return PMEM_F_MEM_NODRAIN | (cacheline_streams(dst, len) ? PMEM_F_MEM_NONTEMPORAL : 0u);
}

static void cacheline_store(struct persist *p, void *dst, const void *src, size_t len)
{
    (void)p;
    if (PERSIST_PLAIN_COPY)
        memcpy(dst, src, len);
    else
        pmem_memcpy(dst, src, len, cacheline_flags(dst, len));
}

static void cacheline_zero(struct persist *p, void *dst, size_t len)
{
    (void)p;
    if (PERSIST_PLAIN_COPY)
        memset(dst, 0, len);
    else
        pmem_memset(dst, 0, len, cacheline_flags(dst, len));
}

static void cacheline_store_cached(struct persist *p, void *dst, const void *src, size_t len)
{
    (void)p;
    memcpy(dst, src, len);
}

static void cacheline_flush(struct persist *p, const void *addr, size_t len)
{
    (void)p;
    pmem_flush(addr, len);
}

static void cacheline_fence(struct persist *p)
{
    (void)p;
    pmem_drain();
}

static int cacheline_sync(struct persist *p)
{
    cacheline_fence(p);
    return 0;
}

static const struct persist_ops cacheline_ops = {
    .store = cacheline_store,
    .zero = cacheline_zero,
    .store_cached = cacheline_store_cached,
    .flush = cacheline_flush,
    .fence = cacheline_fence,
    .sync_log = cacheline_sync,
    .sync_base = cacheline_sync,
};

static bool msync_find(const struct persist *p, const void *addr, int *fd_out, uint64_t *offset_out)
{
    if ((uintptr_t)addr - p->sidecar < p->sidecar_bytes) {
        *fd_out = p->sidecar_fd;
        *offset_out = (uintptr_t)addr - p->sidecar;
        return true;
    }
    *fd_out = p->base_fd;
    return p->find_base && p->find_base(p->find_base_arg, addr, offset_out);
}

/* Fault here, and now, if these bytes cannot be loaded. Page by page: the page cache knows no less. */
static void msync_touch(const void *addr, size_t len)
{
    const volatile uint8_t *at = addr;
    for (size_t i = 0; i < len; i += DAX_PAGE_BYTES - ((uintptr_t)(at + i) & (DAX_PAGE_BYTES - 1)))
        (void)at[i];
}

/* 0 or an errno; *done_out: so much is stored. */
static int msync_write(int fd, uint64_t offset, const void *src, size_t len, size_t *done_out)
{
    size_t done = 0;
    int e = 0;
    while (done < len && e == 0) {
        ssize_t n = pwrite(fd, (const uint8_t *)src + done, len - done, (off_t)(offset + done));
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            e = n == 0 ? EIO : errno;
    }
    *done_out = done;
    return e;
}

/* The buffer's dirty blocks go to the page cache. 0 or an errno. */
static int msync_leave_uncached(struct persist *p)
{
    struct uncached *u = &p->uncached;
    size_t done;
    int e = u->dirty ? msync_write(p->sidecar_fd, u->from, u->buffer, u->bytes, &done) : 0;
    p->sidecar_dirty |= u->dirty;
    if (e == 0)
        uncached_forget(u);
    return e;
}

/* To the ring, past the page cache. Who looks whether the memory is there is lseek: the pages of what was
 * written in this way are in no page cache, and to load them would be to read the disk. (Not fstat: since
 * Linux 6.13 a write behind it has to change the inode's times, which it then writes: +75 us here.) */
static bool msync_store_uncached(struct persist *p, void *dst, uint64_t offset, const void *src,
                                 size_t len)
{
    const uint64_t mask = DAX_PAGE_BYTES - 1;
    uint64_t low = (p->ring - p->sidecar + mask) & ~mask;
    uint64_t high = (p->ring - p->sidecar + p->ring_bytes) & ~mask;
    if (!p->uncached.buffer || (uintptr_t)dst - p->ring >= p->ring_bytes)
        return false;
    if (lseek(p->sidecar_fd, 0, SEEK_END) < (off_t)p->sidecar_bytes)
        msync_touch(dst, len);
    if (uncached_store(&p->uncached, offset, src, len, low, high,
                       (const uint8_t *)p->sidecar + low)) // NOLINT(performance-no-int-to-ptr)
        return true;
    int e = msync_leave_uncached(p);
    if (e != 0)
        guard_fail(dst, e);
    return false;
}

static void msync_store(struct persist *p, void *dst, const void *src, size_t len)
{
    int fd;
    uint64_t offset;
    size_t done;
    if (len == 0)
        return;
    if (!msync_find(p, dst, &fd, &offset))
        guard_fail(dst, EBADF);
    if (msync_store_uncached(p, dst, offset, src, len))
        return;
    msync_touch(dst, len);
    p->sidecar_dirty |= fd == p->sidecar_fd;
    int e = msync_write(fd, offset, src, len, &done);
    if (e == EFAULT) /* the source is mapped as well, and faults */
        msync_touch((const uint8_t *)src + done, len - done);
    if (e != 0)
        guard_fail((const uint8_t *)dst + done, e);
}

static void msync_zero(struct persist *p, void *dst, size_t len)
{
    static const uint8_t zeros[DAX_PAGE_BYTES];
    for (size_t at = 0, n; at < len; at += n) {
        n = len - at < sizeof zeros ? len - at : sizeof zeros;
        msync_store(p, (uint8_t *)dst + at, zeros, n);
    }
}

static void msync_flush(struct persist *p, const void *addr, size_t len)
{
    (void)p, (void)addr, (void)len; /* fdatasync does it */
}

/* A system call has stored, under the lock of what it stored to. Only the compiler has to be told on x86,
 * which keeps plain stores in order. */
static void msync_fence(struct persist *p)
{
    (void)p;
#if defined(__x86_64__) || defined(__i386__)
    atomic_signal_fence(memory_order_seq_cst);
#else
    pmem_drain();
#endif
}

static int msync_sync(struct persist *p, int fd)
{
    persist_add(&p->counts.syncs, 1);
    for (;;) {
        if (fdatasync(fd) == 0)
            return 0;
        if (errno != EINTR)
            return errno;
    }
}

/* All that is dirty, which is little else. */
static int msync_sync_log(struct persist *p)
{
    struct uncached *u = &p->uncached;
    int e = 0;
    p->uncached_failed = false;
    if (u->dirty) {
        e = uncached_sync(u);
        if (e == EINVAL || e == EOPNOTSUPP) { /* not for this file, after all */
            e = msync_leave_uncached(p);
            if (e == 0)
                uncached_close(u);
        } else if (e == 0) {
            persist_add(&p->counts.syncs, 1);
            persist_add(&p->counts.syncs_uncached, 1);
        } else {
            p->uncached_failed = true;
        }
    }
    if (e == 0 && p->sidecar_dirty) {
        e = msync_sync(p, p->sidecar_fd);
        p->sidecar_dirty = e != 0;
    }
    return e;
}

static int msync_sync_base(struct persist *p)
{
    return msync_sync(p, p->base_fd);
}

static const struct persist_ops msync_ops = {
    .store = msync_store,
    .zero = msync_zero,
    .store_cached = msync_store,
    .flush = msync_flush,
    .fence = msync_fence,
    .sync_log = msync_sync_log,
    .sync_base = msync_sync_base,
};

void persist_init(struct persist *p, enum persist_mode mode, int base_fd)
{
    memset(p, 0, sizeof *p);
    persist_set_mode(p, mode);
    p->base_fd = base_fd;
    p->sidecar_fd = -1;
    p->sidecar_dirty = true;
}

void persist_set_mode(struct persist *p, enum persist_mode mode)
{
    p->mode = mode;
    p->ops = mode == PERSIST_MSYNC ? &msync_ops : &cacheline_ops;
}

void persist_set_base(struct persist *p, persist_find_fn find, const void *arg)
{
    p->find_base = find;
    p->find_base_arg = arg;
}

void persist_set_sidecar(struct persist *p, int fd, const void *sidecar, uint64_t sidecar_bytes,
                         const void *ring, uint64_t ring_bytes)
{
    uncached_close(&p->uncached);
    p->sidecar_dirty = true;
    p->sidecar_fd = fd;
    p->sidecar = (uintptr_t)sidecar;
    p->sidecar_bytes = sidecar_bytes;
    p->ring = (uintptr_t)ring;
    p->ring_bytes = ring_bytes;
}

void persist_bypass_cache(struct persist *p, const char *path)
{
    if (p->mode == PERSIST_MSYNC && !p->uncached.buffer)
        (void)uncached_open(&p->uncached, path, p->sidecar_fd);
}

void persist_ring_renewed(struct persist *p)
{
    uncached_forget(&p->uncached);
}

const char *persist_mode_name(enum persist_mode mode)
{
    switch (mode) {
    case PERSIST_PMEM: return "pmem";
    case PERSIST_MSYNC: return "msync";
    case PERSIST_VOLATILE: return "volatile";
    }
    return "?";
}

static void persist_count_stored(struct persist *p, const void *dst, size_t len)
{
    uintptr_t at = (uintptr_t)dst;
    if (at - p->ring < p->ring_bytes)
        persist_add(&p->counts.log_bytes, len);
    else if (at - p->sidecar < p->sidecar_bytes)
        persist_add(&p->counts.sidecar_bytes, len);
    else
        persist_add(&p->counts.base_bytes, len);
}

static void persist_count_flushed(struct persist *p, const void *addr, size_t len)
{
    uintptr_t at = (uintptr_t)addr;
    if (p->mode != PERSIST_MSYNC && len)
        persist_add(&p->counts.flushes, (at + len - 1) / DAX_LINE_BYTES - at / DAX_LINE_BYTES + 1);
}

void persist_store(struct persist *p, void *dst, const void *src, size_t len)
{
    p->ops->store(p, dst, src, len);
    persist_count_stored(p, dst, len);
    if (!cacheline_streams(dst, len))
        persist_count_flushed(p, dst, len);
}

void persist_zero(struct persist *p, void *dst, size_t len)
{
    p->ops->zero(p, dst, len);
    persist_count_stored(p, dst, len);
    if (!cacheline_streams(dst, len))
        persist_count_flushed(p, dst, len);
}

void persist_store_cached(struct persist *p, void *dst, const void *src, size_t len)
{
    p->ops->store_cached(p, dst, src, len);
    persist_count_stored(p, dst, len);
}

void persist_flush(struct persist *p, const void *addr, size_t len)
{
    p->ops->flush(p, addr, len);
    persist_count_flushed(p, addr, len);
}

struct persist_call {
    struct persist *p;
    void *dst;
    const void *src;
    size_t len;
};

static void persist_call_store(void *arg)
{
    const struct persist_call *c = arg;
    if (c->src)
        persist_store(c->p, c->dst, c->src, c->len);
    else
        persist_zero(c->p, c->dst, c->len);
}

bool persist_try_store(struct persist *p, void *dst, const void *src, size_t len,
                       struct guard_fault *fault)
{
    struct persist_call c = {p, dst, src, len};
    return guard_call(persist_call_store, &c, fault);
}

void persist_visible(struct persist *p)
{
    p->ops->fence(p);
    if (p->mode != PERSIST_MSYNC)
        persist_add(&p->counts.fences, 1);
}

dax_rc persist_point(struct persist *p, enum persist_tag tag, struct dax_err *err)
{
    /* Counted before the operation, so that an operation of a test can tell which point it is. */
    p->points[tag]++;
    if (p->mode != PERSIST_MSYNC)
        persist_add(&p->counts.fences, 1);
    bool log = tag == PERSIST_P2_RECORD || tag == PERSIST_P4_CURSOR || tag == PERSIST_P7_SEAL;
    int e = log ? p->ops->sync_log(p) : p->ops->sync_base(p);
    if (e == 0)
        return DAX_OK;
    if (log && p->uncached_failed && (e == ENOSPC || e == EDQUOT))
        return dax_err_set(err, DAX_FULL, e, "no space to write the log's blocks at %s",
                           tag_names[tag]);
    return dax_err_set(
        err, DAX_IO_WRITE, e,
        "cannot make data durable at %s: %s failed; what reached the disk is unknown",
        tag_names[tag], log ? "the sync of the log" : "fdatasync of the database");
}
