/* crash_medium.h: a medium that forgets, for crash tests.
 *
 * It stands between the engine and persistent memory (struct persist_ops) and remembers every store
 * that is not durable yet, with the bytes before and after it. A crash image is a copy of the two
 * files in which such stores have arrived or not. The rules say what makes stores durable, and what
 * arrives of the others:
 *
 *   CRASH_FENCE  cache-line modes: any fence, everything that was stored before, and if it was stored
 *                through the cache, flushed; of the rest each line of each store by itself
 *   CRASH_SYNC   msync mode: a sync of the log its range, a sync of base all of base, a fence nothing;
 *                of the rest each sector as it was at some moment, since the kernel writes pages back
 *                when it likes, and a disk writes sectors whole
 *
 * With DAX_TEST_DROP=P1 ... P7 one ordering point no longer makes anything durable: a test that still
 * passes does not look at it. File sizes are taken as durable at once.
 */
#ifndef DAX_TESTS_CRASH_MEDIUM_H
#define DAX_TESTS_CRASH_MEDIUM_H

#include <sys/syscall.h>

#include "unit.h"

#include "engine/store.h"

enum crash_rules { CRASH_FENCE, CRASH_SYNC };

struct crash_store {
    bool base;       /* else sidecar */
    bool cached;     /* not flushed: a fence does not reach it */
    uint64_t offset; /* in the file */
    size_t len;
    size_t at; /* in bytes: len bytes as they were, then len as they are */
};

static struct {
    struct store *store; /* NULL: not installed */
    enum crash_rules rules;
    const struct persist_ops *real;
    struct persist_ops ops;
    struct crash_store *stores;
    size_t count, capacity;
    uint8_t *bytes;
    size_t used, space;
    uint64_t points[PERSIST_TAGS];
    int drop; /* tag, or -1 */
    void (*step)(void); /* before each operation */
} crash;

/* --- bookkeeping ---------------------------------------------------------------------------------- */

static inline bool crash_locate(const uint8_t *dst, struct crash_store *out)
{
    const struct store *s = crash.store;
    const uint8_t *base = atomic_load(&s->base.addr);
    const uint8_t *pool = s->sidecar.pool;
    if (base && dst >= base && dst < base + atomic_load(&s->base.map_bytes)) {
        *out = (struct crash_store){.base = true, .offset = (uint64_t)(dst - base)};
        return true;
    }
    if (pool && dst >= pool && dst < pool + s->sidecar.file_bytes) {
        *out = (struct crash_store){.offset = (uint64_t)(dst - pool)};
        return true;
    }
    for (unsigned i = 0; s->base.scratch_start && i < BASE_SCRATCH_CHUNKS; i++) {
        const uint8_t *chunk = atomic_load(&s->base.scratch_chunks[i]);
        if (chunk && dst >= chunk && dst < chunk + DAX_SCRATCH_CHUNK_BYTES) {
            *out = (struct crash_store){
                .base = true,
                .offset = s->base.scratch_start + i * DAX_SCRATCH_CHUNK_BYTES +
                          (uint64_t)(dst - chunk)};
            return true;
        }
    }
    return false;
}

static inline void crash_remember(const uint8_t *dst, const void *src, size_t len)
{
    struct crash_store e;
    ck_assert_msg(crash_locate(dst, &e), "a store that hits neither file");
    if (crash.count == crash.capacity) {
        crash.capacity = crash.capacity ? crash.capacity * 2 : 1024;
        crash.stores = realloc(crash.stores, crash.capacity * sizeof *crash.stores);
    }
    while (crash.used + 2 * len > crash.space) {
        crash.space = crash.space ? crash.space * 2 : 1 << 20;
        crash.bytes = realloc(crash.bytes, crash.space);
    }
    e.len = len;
    e.at = crash.used;
    memcpy(crash.bytes + e.at, dst, len);
    if (src)
        memcpy(crash.bytes + e.at + len, src, len);
    else
        memset(crash.bytes + e.at + len, 0, len);
    crash.used += 2 * len;
    crash.stores[crash.count++] = e;
}

/* Forget what is durable now: of one file, [from, to). */
static inline void crash_durable(bool base, uint64_t from, uint64_t to, bool cached_too)
{
    size_t kept = 0;
    for (size_t i = 0; i < crash.count; i++) {
        const struct crash_store *e = &crash.stores[i];
        if (e->base != base || e->offset < from || e->offset + e->len > to ||
            (e->cached && !cached_too))
            crash.stores[kept++] = *e;
    }
    crash.count = kept;
    if (kept == 0)
        crash.used = 0;
}

/* Is the operation that runs the ordering point to be dropped? */
static inline bool crash_dropped(void)
{
    bool dropped = false;
    for (int tag = 0; tag < PERSIST_TAGS; tag++) {
        uint64_t now = crash.store->persist.points[tag];
        dropped |= now != crash.points[tag] && tag == crash.drop;
        crash.points[tag] = now;
    }
    return dropped;
}

/* --- operations ------------------------------------------------------------------------------------- */

static inline void crash_op_store(struct persist *p, void *dst, const void *src, size_t len)
{
    crash.step();
    crash_remember(dst, src, len);
    crash.real->store(p, dst, src, len);
}

static inline void crash_op_zero(struct persist *p, void *dst, size_t len)
{
    crash.step();
    crash_remember(dst, NULL, len);
    crash.real->zero(p, dst, len);
}

/* By lines, which are flushed one by one. */
static inline void crash_op_store_cached(struct persist *p, void *dst, const void *src, size_t len)
{
    crash.step();
    for (size_t at = 0, n; at < len; at += n) {
        n = DAX_LINE_BYTES - ((uintptr_t)dst + at) % DAX_LINE_BYTES;
        n = n < len - at ? n : len - at;
        crash_remember((uint8_t *)dst + at, (const uint8_t *)src + at, n);
        crash.stores[crash.count - 1].cached = crash.rules == CRASH_FENCE;
    }
    crash.real->store_cached(p, dst, src, len);
}

static inline void crash_op_flush(struct persist *p, const void *addr, size_t len)
{
    struct crash_store line;
    crash.step();
    ck_assert_msg(crash_locate(addr, &line), "a flush that hits neither file");
    for (size_t i = 0; i < crash.count; i++) {
        struct crash_store *e = &crash.stores[i];
        if (e->base == line.base && e->offset >= line.offset && e->offset < line.offset + len)
            e->cached = false;
    }
    crash.real->flush(p, addr, len);
}

static inline void crash_op_fence(struct persist *p)
{
    crash.step();
    crash.real->fence(p);
    /* With a dropped point no other fence may do its work by chance. */
    if (crash.rules == CRASH_FENCE && crash.drop < 0) {
        crash_durable(true, 0, UINT64_MAX, false);
        crash_durable(false, 0, UINT64_MAX, false);
    }
}

static inline int crash_op_sync_log(struct persist *p)
{
    crash.step();
    int e = crash.real->sync_log(p);
    if (crash_dropped())
        return e;
    crash_durable(false, 0, UINT64_MAX, false);
    if (crash.rules == CRASH_FENCE)
        crash_durable(true, 0, UINT64_MAX, false);
    return e;
}

static inline int crash_op_sync_base(struct persist *p)
{
    crash.step();
    int e = crash.real->sync_base(p);
    if (crash_dropped())
        return e;
    crash_durable(true, 0, UINT64_MAX, false);
    if (crash.rules == CRASH_FENCE)
        crash_durable(false, 0, UINT64_MAX, false);
    return e;
}

/* The engine's own calls come here: what is cut off is gone, whether it had been durable or not. */
int ftruncate(int fd, off_t length)
{
    if (crash.store && fd == crash.store->base.fd)
        crash_durable(true, (uint64_t)length, UINT64_MAX, true);
    return (int)syscall(SYS_ftruncate, fd, length);
}

/* --- for tests ---------------------------------------------------------------------------------------- */

/* Stand between s and its medium from now on. Everything stored so far counts as durable. */
static inline void crash_install(struct store *s, enum crash_rules rules, void (*step)(void))
{
    static const char *const names[PERSIST_TAGS] = {"P1", "P2", "P3", "P4", "P5", "P6", "P7"};
    const char *drop = getenv("DAX_TEST_DROP");
    crash.store = s;
    crash.rules = rules;
    crash.real = s->persist.ops;
    crash.ops = (struct persist_ops){.store = crash_op_store,
                                     .zero = crash_op_zero,
                                     .store_cached = crash_op_store_cached,
                                     .flush = crash_op_flush,
                                     .fence = crash_op_fence,
                                     .sync_log = crash_op_sync_log,
                                     .sync_base = crash_op_sync_base};
    crash.count = crash.used = 0;
    crash.step = step;
    crash.drop = -1;
    for (int tag = 0; tag < PERSIST_TAGS; tag++)
        if (drop && strcmp(drop, names[tag]) == 0)
            crash.drop = tag;
    memcpy(crash.points, s->persist.points, sizeof crash.points);
    s->persist.ops = &crash.ops;
}

/* Before the store closes for good: nothing of it is touched afterwards. */
static inline void crash_remove(void)
{
    crash.store = NULL;
    crash.count = crash.used = 0;
}

#define CRASH_SECTOR_BYTES 512u

/* Has this line of the i-th store arrived? percent: how many of them do; draw: a random number, the
 * same for the whole crash. */
static inline bool crash_arrived(const struct crash_store *e, size_t i, uint64_t offset,
                                 unsigned percent, uint64_t draw)
{
    bool by_sector = crash.rules == CRASH_SYNC;
    uint64_t x = draw ^ (by_sector ? offset / CRASH_SECTOR_BYTES : offset + (i << 40)) ^
                 (e->base ? 0 : UINT64_C(1) << 63);
    x = (x ^ x >> 31) * UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
    x ^= x >> 32;
    if (!by_sector || percent == 0 || percent == 100)
        return x % 100 < percent;
    return i < x % (crash.count + 1); /* the moment at which the sector was written back */
}

/* Turn copies of the files as the process sees them into what a crash leaves. */
static inline void crash_forget(int base_fd, int sidecar_fd, unsigned percent, uint64_t draw)
{
    struct stat base_st, sidecar_st;
    fstat(base_fd, &base_st);
    fstat(sidecar_fd, &sidecar_st);
    for (size_t i = crash.count; i-- > 0;) {
        const struct crash_store *e = &crash.stores[i];
        if (e->offset + e->len <= (uint64_t)(e->base ? base_st.st_size : sidecar_st.st_size))
            ck_assert_int_eq(pwrite(e->base ? base_fd : sidecar_fd, crash.bytes + e->at, e->len,
                                    (off_t)e->offset),
                             (ssize_t)e->len);
    }
    for (size_t i = 0; i < crash.count; i++) {
        const struct crash_store *e = &crash.stores[i];
        if (e->offset + e->len > (uint64_t)(e->base ? base_st.st_size : sidecar_st.st_size))
            continue;
        for (size_t at = 0; at < e->len;) {
            size_t n = DAX_LINE_BYTES - (e->offset + at) % DAX_LINE_BYTES;
            if (n > e->len - at)
                n = e->len - at;
            if (crash_arrived(e, i, e->offset + at, percent, draw))
                ck_assert_int_eq(pwrite(e->base ? base_fd : sidecar_fd,
                                        crash.bytes + e->at + e->len + at, n,
                                        (off_t)(e->offset + at)),
                                 (ssize_t)n);
            at += n;
        }
    }
}

#endif
