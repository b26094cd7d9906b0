/* store.h: one open database of this process: its files, its region, its writer.
 *
 * Locking, by rank (a lock is waited for only while holding lower ranks):
 *   1  store_registry_lock   list of open stores, opening and closing of stores, reference counts
 *   2  writer lock (region)  everything that changes the database, the log or the chains
 * Readers take neither. Fields are guarded as said at each.
 */
#ifndef DAX_STORE_H
#define DAX_STORE_H

#include <sys/types.h>

#include "engine/base.h"
#include "engine/engine.h"
#include "engine/log.h"
#include "engine/mark.h"
#include "engine/media.h"
#include "engine/region.h"
#include "engine/scan.h"
#include "engine/sidecar.h"
#include "engine/txn.h"

#define STORE_GUARD_MAGIC UINT64_C(0x7261756720786164)

struct store {
    struct store *next; /* registry lock */
    unsigned refs;      /* registry lock */
    /* A page that the kernel empties in a child process (MADV_WIPEONFORK). Constant. */
    const volatile uint64_t *fork_guard;
    struct media *media;   /* constant pointer */
    struct parked *parked; /* made with the store: parking must not fail. Registry lock */
    dev_t dev;          /* constant: identity of the file */
    ino_t ino;

    struct base base;
    struct persist persist;
    struct medium medium;     /* constant, but for store_match_sidecar at the first write */
    struct region region;     /* constant pointers */
    struct sidecar sidecar;   /* writer lock; open while active */
    char *sidecar_path;       /* constant */
    struct mark mark;         /* versions constant; nonce writer lock */
    bool has_reserved_data;   /* constant: bytes 72 - 91 belong to somebody else */
    enum medium_choice persist_choice; /* constant: what the first connection asked for */
    uint64_t log_bytes;       /* size of a sidecar to be made: writer lock */
    _Atomic bool active;      /* marked, sidecar open: set once, under the writer lock */
    bool cursor_lost;         /* both pages with the log's cursor are bad: writer lock */
    bool owner_writer;        /* holds the exclusive file locks: registry or writer lock */

    _Atomic int failed;       /* 0 no, 1 being described, 2 described: sticky */
    dax_rc failed_rc;         /* DAX_IO_WRITE after a sync, else DAX_CORRUPT; as failed_text, when 2 */
    char failed_text[DAX_ERR_TEXT];

    struct scan scan;         /* writer lock */
    struct txn txn;           /* writer lock */
    struct log log;           /* writer lock */
    uint32_t *pages;          /* work list of a checkpoint: writer lock */
    uint64_t *bitmaps;        /* of lines, of these pages: writer lock */
    size_t pages_capacity;
};

/* A reference to the store of `path`, opened (and recovered) if this process has not got it yet.
 * Released with store_release. Errors as conn_open. */
DAX_CHECKED dax_rc store_acquire(const char *path, const struct dax_options *options,
                                 struct store **out, struct dax_err *err);

/* The last reference checkpoints, cuts, unmarks and closes. The store is gone in any case. */
dax_rc store_release(struct store *s, struct dax_err *err);

/* Before the first write: sidecar, cursor, mark. Writer lock held by `slot`. No effect when active. */
DAX_CHECKED dax_rc store_activate(struct store *s, uint32_t slot, struct dax_err *err);

/* The log's file may allow less than the database's (a per-file DAX attribute): both go by what both
 * allow, or DAX_CANT_OPEN if pmem was asked for. After the sidecar has been opened. */
DAX_CHECKED dax_rc store_match_sidecar(struct store *s, struct dax_err *err);

/* Faults in the sidecar's mapping are ours from now on; and no more. */
DAX_CHECKED dax_rc store_watch_sidecar(struct store *s, struct dax_err *err);
void store_close_sidecar(struct store *s);

/* A check that must never fail has failed: describe it, log it, refuse every write from now on.
 * The first description stays. Returns DAX_CORRUPT. Any thread. */
dax_rc store_fail(struct store *s, struct dax_err *err, const char *fmt, ...) DAX_PRINTF(3, 4);

/* Pass on the result of something that makes data durable. After DAX_IO_WRITE nobody can know what
 * has reached the disk (a second fdatasync does not report what the first one lost), so the store
 * fails for good. */
DAX_CHECKED dax_rc store_synced(struct store *s, dax_rc rc, const struct dax_err *err);

/* The same for growing and cutting the file: they sync its size, but most of what can go wrong there
 * has changed nothing, and is no reason to fail for good. */
DAX_CHECKED dax_rc store_base_synced(struct store *s, dax_rc rc, const struct dax_err *err);

/* Has base just answered that the file is too short, and has it got its length again, with the pages that
 * were cut off entered and flagged? Then what failed is to be tried again, once. Writer lock. */
bool store_mended_end(struct store *s, dax_rc rc);

/* base_reserve, tried again if the file was cut; its result passed on as by store_base_synced. Writer
 * lock. */
DAX_CHECKED dax_rc store_reserve(struct store *s, uint64_t bytes, struct dax_err *err);

/* DAX_OK, or DAX_CORRUPT / the sticky error in *err. */
DAX_CHECKED dax_rc store_usable(struct store *s, struct dax_err *err);

/* Newest committed size. */
uint64_t store_size(const struct store *s);

/* Random 64 bits, never 0: nonces and salts. */
uint64_t store_random(void);

/* false in a child process after fork: touch nothing. No system call. */
static inline bool store_same_process(const struct store *s)
{
    return *s->fork_guard == STORE_GUARD_MAGIC;
}

static inline uint64_t pages_of(uint64_t bytes)
{
    return (bytes + DAX_PAGE_BYTES - 1) >> DAX_PAGE_SHIFT;
}

#endif
