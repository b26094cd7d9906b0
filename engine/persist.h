/* persist.h: the only way to store to, flush or fence persistent memory.
 *
 * The engine stores with persist_store (log ring, cursor slots, base pages, mark) and says with
 * persist_point when what it stored must be durable before it goes on. Everything goes through one
 * table of operations, so that a test can count, reorder, drop or fail any of it. See persist.c for
 * the list of ordering points.
 */
#ifndef DAX_PERSIST_H
#define DAX_PERSIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/guard.h"
#include "engine/rc.h"
#include "engine/uncached.h"

enum persist_mode {
    PERSIST_PMEM,    /* MAP_SYNC: cache-line flush and fence */
    PERSIST_MSYNC,   /* ordinary files: pwrite, and fdatasync of log or base; records by O_DIRECT */
    PERSIST_VOLATILE /* tmpfs: as pmem, but power loss takes everything */
};

/* Ordering points. The tags stand at the calls, in persist.c's opening comment and in the crash
 * tests. */
enum persist_tag {
    PERSIST_P1_DIRECT,    /* bypassed and scratch pages, before the record that publishes them */
    PERSIST_P2_RECORD,    /* the commit record: the transaction is durable */
    PERSIST_P3_BASE,      /* everything applied and rehomed, before the cursor passes its records */
    PERSIST_P4_CURSOR,    /* the new cursor slot, before log space or pages behind it are reused */
    PERSIST_P5_MARK_BODY, /* bytes 72 - 91, before byte 19 announces them */
    PERSIST_P6_MARK_BYTE, /* byte 19 set, before the first record; or removed, before the close */
    PERSIST_P7_SEAL,      /* the seal, before anything of its records is stored into base */
    PERSIST_TAGS
};

struct persist;

struct persist_ops {
    /* Copy len bytes (any length, any alignment) so that the next fence makes them durable. */
    void (*store)(struct persist *p, void *dst, const void *src, size_t len);
    /* Zero len bytes, likewise. */
    void (*zero)(struct persist *p, void *dst, size_t len);
    /* Copy len bytes by ordinary stores, which a fence does not make durable. */
    void (*store_cached)(struct persist *p, void *dst, const void *src, size_t len);
    /* Write the lines of [addr, addr + len) back, so that the next fence makes durable what
     * store_cached has put there. */
    void (*flush)(struct persist *p, const void *addr, size_t len);
    /* Earlier stores of this thread are visible to other threads before its later ones; in
     * cache-line modes they are durable as well. Never fails, no system call. */
    void (*fence)(struct persist *p);
    /* Earlier stores to the sidecar are durable. 0 or an errno. */
    int (*sync_log)(struct persist *p);
    /* Earlier stores to the database file are durable. 0 or an errno. */
    int (*sync_base)(struct persist *p);
};

/* What was stored, and how often it was waited for. Added to by whoever stores (nearly always under the
 * writer lock; two at once may lose one), read by dax_status() at any time: by __atomic builtins, relaxed,
 * pairs with nothing. (Not _Atomic: they are no steps of the interleavings that tests explore.) */
struct persist_counts {
    uint64_t log_bytes;     /* into the ring */
    uint64_t base_bytes;    /* into the database file */
    uint64_t sidecar_bytes; /* into the rest of the sidecar: cursor slots, seals */
    uint64_t flushes;       /* lines written back one by one; none of non-temporal stores */
    uint64_t fences;        /* in cache-line modes */
    uint64_t syncs;         /* in msync mode: waited for the disk */
    uint64_t syncs_uncached; /* of them, those of the ring's blocks, past the page cache (uncached.h) */
};

/* Where in the database file is this address of its mappings? false: in none of them. Writer lock. */
typedef bool (*persist_find_fn)(const void *arg, const void *addr, uint64_t *offset_out);

/* One per store. Set up by persist_init, read-only afterwards except the counters (writer lock) and
 * where the files are. */
struct persist {
    enum persist_mode mode;
    const struct persist_ops *ops;
    int base_fd;               /* for msync mode, borrowed */
    int sidecar_fd;            /* likewise; -1: no sidecar */
    persist_find_fn find_base; /* NULL: nothing is mapped yet */
    const void *find_base_arg;
    uint64_t points[PERSIST_TAGS]; /* how often each ordering point was passed */
    uintptr_t sidecar;             /* as it is mapped: what lies elsewhere is the database file */
    uintptr_t ring;
    uint64_t sidecar_bytes;
    uint64_t ring_bytes;
    struct uncached uncached; /* in msync mode, where the file system can */
    bool uncached_failed;     /* the last sync of the sidecar, at the write of the ring's blocks */
    bool sidecar_dirty;       /* in msync mode: stored to through the page cache since it was synced */
    struct persist_counts counts;
};

/* base_fd: the database's descriptor, borrowed. */
void persist_init(struct persist *p, enum persist_mode mode, int base_fd);

/* Another mode: the files stay. */
void persist_set_mode(struct persist *p, enum persist_mode mode);

/* How to find an address in the database file. Needed in msync mode before the first store there. */
void persist_set_base(struct persist *p, persist_find_fn find, const void *arg);

/* Where the sidecar is mapped, from its first byte on, and its descriptor, borrowed: so that stores to it
 * are counted as such and, in msync mode, get there. After it is unmapped: -1 and no bytes, since something
 * else may be mapped there next. */
void persist_set_sidecar(struct persist *p, int fd, const void *sidecar, uint64_t sidecar_bytes,
                         const void *ring, uint64_t ring_bytes);

/* In msync mode: from now on, records go past the page cache where the file system can do that. path: the
 * sidecar's. Until persist_set_sidecar is called again. */
void persist_bypass_cache(struct persist *p, const char *path);

/* Somebody has stored to the ring in another way than through here (a page of it was written anew, while no
 * record is live). Writer lock. */
void persist_ring_renewed(struct persist *p);

/* "pmem", "msync", "volatile". */
const char *persist_mode_name(enum persist_mode mode);

/* Stored, not yet durable. dst must not be visible to a reader while this runs. */
void persist_store(struct persist *p, void *dst, const void *src, size_t len);
void persist_zero(struct persist *p, void *dst, size_t len);

/* The same for what will soon be loaded or stored to again. It may reach the medium at any time, but is
 * durable only after persist_flush of it and an ordering point. */
void persist_store_cached(struct persist *p, void *dst, const void *src, size_t len);
void persist_flush(struct persist *p, const void *addr, size_t len);

/* persist_store, or persist_zero where src is NULL, within a guard: false where a fault has ended it. */
DAX_CHECKED bool persist_try_store(struct persist *p, void *dst, const void *src, size_t len,
                                   struct guard_fault *fault);

/* Order earlier stores of this thread before its later plain stores, as other threads see them:
 * needed between storing into base and the page word that lets readers in, because non-temporal
 * stores are not ordered by an ordinary store. */
void persist_visible(struct persist *p);

/* Ordering point. On return everything that this thread stored before (and what other writers
 * stored before they released the writer lock) is durable: for P2, P4 and P7 what is in the sidecar,
 * for the others what is in the database file. Errors (msync mode only): DAX_IO_WRITE, with the tag's
 * name and errno in *err; the caller cannot know what became durable. DAX_FULL: no space for a write past
 * the page cache, of which any part may be there; nothing else is in doubt. */
DAX_CHECKED dax_rc persist_point(struct persist *p, enum persist_tag tag, struct dax_err *err);

#endif
