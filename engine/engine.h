/* engine.h: what the VFS (and a test) may ask of the engine.
 *
 * A *store* is one open database file of this process, shared by all its connections; it comes and
 * goes with them. A *connection* (struct conn) is one reader slot. It may migrate between threads
 * but is used by one at a time. Offsets and sizes are bytes of the database file as SQLite sees it.
 *
 * Order of calls on a connection:
 *
 *   conn_open
 *     conn_begin_read (or conn_begin_read_in_turn)
 *       conn_size, conn_read, conn_pin, conn_unpin
 *       conn_begin_write
 *         conn_write, conn_truncate, conn_read_committed
 *         conn_prepare          optional, repeatable: everything that can fail
 *         conn_commit           durable on return; the snapshot is now the new one
 *         (conn_write again begins the next transaction: the writer lock is kept)
 *       conn_end_write          releases the writer lock; what was not committed is forgotten
 *     conn_end_read             pins must be gone
 *   conn_close
 *
 * Any other order is DAX_MISUSE and changes nothing, except that there may be nothing to end, prepare
 * or commit: these do nothing then. In a child process after fork every call is
 * DAX_MISUSE (conn_close included: it releases nothing that is the parent's).
 */
#ifndef DAX_ENGINE_H
#define DAX_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/medium.h"
#include "engine/rc.h"

struct conn;

/* --- open and close ---------------------------------------------------------------------------- */

enum dax_adopt_phase {
    DAX_ADOPT_BEFORE_LOCK, /* recover what stock SQLite left (hot journal, WAL) */
    DAX_ADOPT_AFTER_LOCK   /* nothing of the kind may be there now */
};

/* Called by conn_open when the database file is not yet open in this process, before and after it
 * is locked against others. marked: the file carries daxlite's mark, so stock SQLite cannot have
 * left anything that belongs to it. Anything but DAX_OK fails conn_open with *err. */
typedef dax_rc (*dax_adopt_fn)(void *arg, const char *path, enum dax_adopt_phase phase, bool marked,
                               struct dax_err *err);

struct dax_options {
    bool create;    /* make the file if it is missing */
    bool join;      /* only if the file is open in this process already: else DAX_CANT_OPEN */
    bool read_only; /* this connection only reads; if the store has no writer: no mark, no sidecar */
    enum medium_choice persist;
    uint64_t log_bytes;       /* size of a sidecar that is made now; an existing one keeps its size */
    uint64_t private_bytes;   /* DRAM budget of one transaction */
    bool skip_damaged_log;     /* recovery: leave damaged records out instead of refusing */
    bool no_probe;             /* conn_pin hands pages out without having loaded every line first */
    dax_adopt_fn adopt;       /* may be NULL */
    void *adopt_arg;
};

/* Defaults: create, read-write, automatic persistence, sizes of limits.h. */
struct dax_options dax_options_default(void);

/* Open `path` (absolute, symbolic links resolved by the caller) and recover it if need be.
 * *out is owned by the caller: conn_close. Errors: DAX_CANT_OPEN, DAX_LOCKED (another process),
 * DAX_NOT_A_DATABASE, DAX_CORRUPT (damaged log), DAX_READONLY, DAX_FULL, DAX_NOMEM, DAX_MISUSE. */
DAX_CHECKED dax_rc conn_open(const char *path, const struct dax_options *options, struct conn **out,
                             struct dax_err *err);

/* Ends what is open on c. The last connection of a store checkpoints, cuts the file, removes the
 * mark: from then on the database is a plain SQLite file. An error leaves mark and log in place (the
 * next open recovers) and c is gone all the same. */
dax_rc conn_close(struct conn *c, struct dax_err *err);

/* --- reading ------------------------------------------------------------------------------------ */

/* Take the newest snapshot. No lock, no system call. */
DAX_CHECKED dax_rc conn_begin_read(struct conn *c, struct dax_err *err);

/* The same for a read that may become a write. After a conn_begin_write that was DAX_BUSY or
 * DAX_BUSY_SNAPSHOT it waits up to DAX_WRITER_AWAIT_NS, or for longer if it was refused before as
 * well (but not for another connection of its own thread), for its turn among all who were refused, so that
 * the conn_begin_write that follows is not refused again: writer.h. Never fails for want of it. */
DAX_CHECKED dax_rc conn_begin_read_in_turn(struct conn *c, struct dax_err *err);

/* Give the snapshot up. Without one: no effect. Pins still held are a failed check: they are
 * dropped and the store refuses to write from then on. */
void conn_end_read(struct conn *c);

/* Size of the database in the snapshot or, within a write transaction, as it stands there. Without a
 * snapshot: the newest committed size. */
uint64_t conn_size(struct conn *c);

/* Size of the database in the snapshot, also where the running transaction has changed it: what
 * conn_read_committed reads. Without a snapshot: the newest committed size. */
uint64_t conn_size_committed(struct conn *c);

/* Txid of the snapshot that c holds, 0 without one. After conn_commit: of what it committed. */
uint64_t conn_snapshot(const struct conn *c);

/* Copy. DAX_SHORT_READ: beyond the end, the rest of buf is zeros. Needs no snapshot at offsets below
 * 100 (SQLite reads the header before its first lock); it is the newest then. */
DAX_CHECKED dax_rc conn_read(struct conn *c, void *buf, size_t len, uint64_t offset,
                             struct dax_err *err);

/* As conn_read, from the snapshot even where the running transaction has changed the page: what a
 * rollback journal holds. */
DAX_CHECKED dax_rc conn_read_committed(struct conn *c, void *buf, size_t len, uint64_t offset,
                                       struct dax_err *err);

/* Zero-copy: *out is the address of [offset, offset + len) in the snapshot, good until conn_unpin;
 * or NULL where that is not one piece of memory, the range is not whole in the database, it is part
 * of the transaction being written, or all pins of the slot are taken: read it instead. Pins that one
 * connection holds at the same offset have the same length (SQLite's page size), since conn_unpin
 * knows a pin by its address. */
DAX_CHECKED dax_rc conn_pin(struct conn *c, uint64_t offset, size_t len, void **out,
                            struct dax_err *err);
void conn_unpin(struct conn *c, uint64_t offset, void *ptr);

/* --- writing ------------------------------------------------------------------------------------ */

/* Become the writer. DAX_BUSY: another connection is, after a short wait. DAX_BUSY_SNAPSHOT: this
 * snapshot is not the newest. DAX_READONLY. The first of a store makes the sidecar and the mark:
 * DAX_FULL, DAX_CANT_OPEN, DAX_IO_WRITE then. On any error c is a reader as before. */
DAX_CHECKED dax_rc conn_begin_write(struct conn *c, struct dax_err *err);

DAX_CHECKED dax_rc conn_write(struct conn *c, const void *buf, size_t len, uint64_t offset,
                              struct dax_err *err);
/* Set the size, down or up (new bytes are zeros). */
DAX_CHECKED dax_rc conn_truncate(struct conn *c, uint64_t size_bytes, struct dax_err *err);

/* Everything of the commit that can fail for want of something: changed lines, ring space, frames. */
DAX_CHECKED dax_rc conn_prepare(struct conn *c, struct dax_err *err);

/* Commit; prepares first if need be. A transaction without a changed byte commits nothing. On an
 * error nothing is committed and the transaction stays as it was (except DAX_IO_WRITE from P2 in
 * msync mode: durability is unknown, the store refuses further writes). */
DAX_CHECKED dax_rc conn_commit(struct conn *c, struct dax_err *err);

/* Forget what is not committed, release the writer lock. Without it: no effect. */
void conn_end_write(struct conn *c);

bool conn_is_writer(const struct conn *c);
bool conn_is_read_only(const struct conn *c);

/* --- checkpoint ---------------------------------------------------------------------------------- */

enum checkpoint_mode {
    CHECKPOINT_PASSIVE,  /* what can be done without waiting, but 1 ms for the writer lock */
    CHECKPOINT_FULL,     /* wait for the writer lock and for pins, as long as wait says */
    CHECKPOINT_RESTART,  /* the same: the log is empty afterwards */
    CHECKPOINT_TRUNCATE  /* and the file is cut to the database's size, rounded up to 2 MiB */
};

/* Asked repeatedly while something is in the way; count starts at 0. Sleeps as it likes; false: give
 * up. (SQLite's busy handler.) */
typedef bool (*dax_wait_fn)(void *arg, unsigned count);

struct checkpoint_result {
    bool busy;                 /* something stayed in the way to the end; holder says what */
    uint64_t log_bytes_before; /* live log */
    uint64_t log_bytes_after;
    uint64_t pages_rehomed;
    uint64_t pages_relogged;
    char holder[256];          /* busy: who is in the way (pid, thread, connection, age, page), or what */
};

/* c may hold a snapshot, and its own pins are not waited for; within its own write transaction:
 * DAX_LOCKED. wait may be NULL: never wait. Pins that do not drain are no error: their pages are
 * relogged, the log is cut all the same, result->busy is set. DAX_OK without effect on a store that
 * was never written to. */
DAX_CHECKED dax_rc conn_checkpoint(struct conn *c, enum checkpoint_mode mode, dax_wait_fn wait,
                                   void *wait_arg, struct checkpoint_result *result,
                                   struct dax_err *err);

/* --- looking ------------------------------------------------------------------------------------- */

struct store_status {
    char path[1024];
    char sidecar[1040];    /* "" while there is none */
    char mode[16];         /* "pmem", "msync", "volatile" */
    char why[160];         /* why that mode */
    char fs[32];
    bool read_only;        /* the medium: no connection can write */
    bool active;           /* marked: daxlite has written or may write */
    char failed[DAX_ERR_TEXT]; /* sticky error, "" if none */
    uint64_t size_bytes;   /* newest committed database size */
    uint64_t file_bytes;   /* allocated for it */
    uint64_t mapped_bytes; /* address space of the newest mapping */
    uint64_t scratch_bytes;
    uint64_t sidecar_bytes;
    uint64_t ring_bytes;
    uint64_t log_bytes;    /* live: cursor to tail */
    uint64_t lsn_cursor;
    uint64_t lsn_tail;
    uint64_t txid;         /* newest committed */
    uint64_t txid_oldest;  /* oldest snapshot in use; txid if none */
    uint64_t connections;
    uint64_t snapshots;    /* connections that hold one */
    uint64_t pins;
    uint64_t pages_versioned; /* pages with a chain */
    uint64_t frames_used;  /* by committed versions and waiting for pins */
    uint64_t frames_free;  /* warm */
    uint64_t private_bytes_budget;
    /* counters since the store was opened, all connections */
    uint64_t reads_copied; /* conn_read calls, pages */
    uint64_t reads_pinned_base;
    uint64_t reads_pinned_frame;
    uint64_t pins_refused; /* conn_pin answered NULL */
    uint64_t read_retries; /* page word changed between load and pin, or was ZAPPED */
    uint64_t commits;
    uint64_t aborts;
    uint64_t pages_committed;
    uint64_t lines_logged;
    uint64_t log_bytes_total;
    uint64_t pages_applied;
    uint64_t pages_pushed;
    uint64_t pages_direct; /* bypassed the log */
    uint64_t pages_scratch;
    uint64_t checkpoints;
    uint64_t pages_rehomed;
    uint64_t pages_relogged;
    uint64_t stored_log_bytes; /* into the log ring */
    uint64_t stored_base_bytes; /* into the database file */
    uint64_t stored_sidecar_bytes; /* into the sidecar outside of the ring */
    uint64_t flushes; /* lines written back one by one */
    uint64_t fences;
    uint64_t syncs;             /* of msync mode */
    uint64_t syncs_uncached;    /* of them, those that were one write past the page cache */
    uint64_t recovered_records; /* replayed when the store was opened */
    uint64_t recovered_pages;
};
void conn_status(struct conn *c, struct store_status *out);

enum page_state { PAGE_ABSENT, PAGE_MAPPED, PAGE_ZAPPED, PAGE_TRUNCATED };
const char *page_state_name(enum page_state s);

struct page_info {
    uint64_t page;
    enum page_state state;
    uint32_t refcount;   /* pins on base or on any version; a moment's value */
    uint32_t versions;   /* in frames or scratch, besides or instead of base */
    uint32_t generation;
    bool poisoned;
    bool probed;
};
/* Pages that dax_pages lists: those of the newest size and those beyond it not yet ABSENT. */
uint64_t conn_page_count(struct conn *c);
/* page >= conn_page_count: all zero, ABSENT. */
void conn_page_info(struct conn *c, uint64_t page, struct page_info *out);

/* A number that differs from that of an earlier call, by whatever connection, if the page's committed
 * content does. 0: not known, since the snapshot that c holds (it must hold one) does not have the
 * page or does not see its newest version, or the page is being reclaimed just now. The number may change without the content;
 * it counts to 2^32 and then begins again. Ask before reading what it is to stand for. */
uint64_t conn_page_stamp(struct conn *c, uint64_t page);

struct holder_info {
    uint64_t connection; /* number of the connection in its store, from 1 */
    int pid;
    int tid;             /* thread that last began a read on it */
    bool self;           /* it is c */
    bool writer;
    uint64_t snapshot;   /* 0: none */
    uint64_t age_ns;     /* of the snapshot */
    uint32_t pins;
    uint64_t first_pinned_page; /* UINT64_MAX: none */
};
/* Connections that hold a snapshot or pins, oldest snapshot first; returns how many were written. */
size_t conn_holders(struct conn *c, struct holder_info *out, size_t max);

#endif
