/* conn.c: connections: the order of calls, reading, pinning, and the way in for writers.
 */
#include "engine/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint.h"
#include "engine/commit.h"
#include "engine/holders.h"
#include "engine/pin.h"
#include "engine/snapshot.h"
#include "engine/writer.h"

/* The slot's last pin is for reads that copy (and conn_media_probe). */
#define CONN_COPY_PIN DAX_SLOT_PINS_SHARED

static dax_rc conn_misuse(struct dax_err *err, const char *what)
{
    return dax_err_set(err, DAX_MISUSE, 0, "%s", what);
}

static dax_rc conn_forked(struct dax_err *err)
{
    return conn_misuse(err, "this connection belongs to the parent process: a child process after "
                            "fork opens its own");
}

#define CONN_GUARD(c, err)                                                                         \
    do {                                                                                           \
        if (!store_same_process((c)->store))                                                       \
            return conn_forked(err);                                                               \
    } while (0)

/* --- open and close ------------------------------------------------------------------------------- */

struct dax_options dax_options_default(void)
{
    return (struct dax_options){.create = true,
                                .persist = MEDIUM_AUTO,
                                .log_bytes = DAX_LOG_BYTES_DEFAULT,
                                .private_bytes = DAX_PRIVATE_BYTES_DEFAULT};
}

static dax_rc conn_check_options(const struct dax_options *o, struct dax_err *err)
{
    if (o->log_bytes < DAX_LOG_BYTES_MIN || o->log_bytes > DAX_LOG_BYTES_MAX)
        return dax_err_set(err, DAX_MISUSE, 0, "log size %llu is not within %llu to %llu bytes",
                           (unsigned long long)o->log_bytes, (unsigned long long)DAX_LOG_BYTES_MIN,
                           (unsigned long long)DAX_LOG_BYTES_MAX);
    if (o->private_bytes < DAX_PRIVATE_BYTES_MIN || o->private_bytes > DAX_PRIVATE_BYTES_MAX)
        return dax_err_set(err, DAX_MISUSE, 0, "private size %llu is not within %llu to %llu bytes",
                           (unsigned long long)o->private_bytes,
                           (unsigned long long)DAX_PRIVATE_BYTES_MIN,
                           (unsigned long long)DAX_PRIVATE_BYTES_MAX);
    return DAX_OK;
}

dax_rc conn_open(const char *path, const struct dax_options *options, struct conn **out,
                 struct dax_err *err)
{
    *out = NULL;
    dax_rc rc = conn_check_options(options, err);
    if (rc != DAX_OK)
        return rc;
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        return dax_err_set(err, DAX_NOMEM, ENOMEM, "cannot allocate a connection");
    rc = store_acquire(path, options, &c->store, err);
    if (rc != DAX_OK) {
        free(c);
        return rc;
    }
    c->slot = snapshot_claim_slot(&c->store->region);
    if (c->slot == UINT32_MAX) {
        (void)!store_release(c->store, NULL);
        free(c);
        return dax_err_set(err, DAX_CANT_OPEN, 0, "%s: more than %u connections", path,
                           DAX_MAX_SLOTS);
    }
    c->read_only = options->read_only || c->store->base.read_only;
    c->probe = !options->no_probe;
    c->private_limit = (uint32_t)(options->private_bytes / DAX_PAGE_BYTES);
    atomic_fetch_add(&c->store->region.header->connections, 1);
    *out = c;
    return DAX_OK;
}

dax_rc conn_close(struct conn *c, struct dax_err *err)
{
    CONN_GUARD(c, err);
    conn_end_write(c);
    conn_end_read(c);
    snapshot_release_slot(&c->store->region, c->slot);
    atomic_fetch_sub(&c->store->region.header->connections, 1);
    dax_rc rc = store_release(c->store, err);
    free(c);
    return rc;
}

/* --- snapshots -------------------------------------------------------------------------------------- */

/* Release the writer lock; whoever asked for tidying meanwhile is served first. The flag is looked
 * at again after the release: a reader that set it and found the lock taken relies on that. */
void conn_unlock_writer(struct conn *c)
{
    struct store *s = c->store;
    struct region_header *h = s->region.header;
    do {
        if (atomic_load_explicit(&h->tidy_wanted, memory_order_relaxed) &&
            atomic_exchange(&h->tidy_wanted, 0) && !checkpoint_tidy(s)) {
            /* Writers do not wait for it: the one that waits goes on with it when it is done. */
            atomic_store(&h->tidy_wanted, 1);
            writer_unlock(&s->region, c->slot);
            return;
        }
        writer_unlock(&s->region, c->slot);
        /* A Dekker pair with conn_tidy, all sequentially consistent: it stores the flag, then tries
         * the lock; here the lock is released, then the flag is loaded. */
    } while (atomic_load(&h->tidy_wanted) && writer_trylock(&s->region, c->slot));
}

/* This reader was the oldest: versions that only it could see can go. */
static void conn_tidy(struct conn *c)
{
    struct store *s = c->store;
    struct region_guarded *g = &s->region.header->guarded;
    /* Loaded after snapshot_end's store. Who makes the first version, or leaves a node in limbo,
     * looks at the slots afterwards: a committer here, at the end of its own read; the others in
     * frames_reclaim. A page's last version goes to limbo: hence in this order. */
    if (atomic_load(&g->pages_versioned) == 0 && atomic_load(&g->limbo_count) == 0)
        return;
    if (snapshot_oldest(&s->region) < c->snapshot)
        return;
    /* In msync mode the newest versions wait in frames for a checkpoint (log.h, L6). A reader of the
     * newest state has kept nothing else but what it had pinned. */
    if (s->persist.mode == PERSIST_MSYNC && atomic_load(&g->limbo_count) == 0 &&
        atomic_load_explicit(&s->region.header->last_committed, memory_order_relaxed) == c->snapshot)
        return;
    atomic_store(&s->region.header->tidy_wanted, 1);
    if (writer_trylock(&s->region, c->slot))
        conn_unlock_writer(c);
}

/* Waiting in vain for its turn, the slot may have held the lock for a moment, in which conn_tidy found it
 * taken. */
static void conn_look_tidy(struct conn *c)
{
    struct region *r = &c->store->region;
    if (atomic_load(&r->header->tidy_wanted) && writer_trylock(r, c->slot))
        conn_unlock_writer(c);
}

/* Give back what a refused connection has waited for: it has not written after all. */
static void conn_end_turn(struct conn *c)
{
    struct region *r = &c->store->region;
    if (c->soft && writer_claim(r, c->slot)) {
        writer_end_turn(r);
        conn_unlock_writer(c);
    } else if (c->soft) {
        conn_look_tidy(c);
    }
    c->soft = false;
    if (!c->refused)
        c->ticket = 0;
}

/* Does this very thread hold the writer lock, by another connection? Then waiting for it would be for nothing. A
 * connection that has changed threads since its transaction began may be missed, which costs one wait. */
static bool conn_thread_writes(const struct region *r)
{
    uint32_t owner = writer_owner(r);
    return owner != UINT32_MAX &&
           atomic_load_explicit(&r->slots[owner].tid, memory_order_relaxed) == snapshot_thread();
}

/* Who is refused again after waiting in vain means to write: it may wait for longer than a mere reader. */
static void conn_await_turn(struct conn *c)
{
    struct region *r = &c->store->region;
    c->refused = false;
    if (!conn_thread_writes(r)) {
        uint32_t doubled = c->missed < DAX_WRITER_AWAIT_DOUBLED ? c->missed : DAX_WRITER_AWAIT_DOUBLED;
        c->soft = writer_await_turn(r, c->slot, c->ticket, (uint64_t)DAX_WRITER_AWAIT_NS << doubled);
        c->missed += !c->soft;
    }
    if (!c->soft)
        conn_look_tidy(c);
}

dax_rc conn_begin_read_in_turn(struct conn *c, struct dax_err *err)
{
    CONN_GUARD(c, err);
    if (c->refused && !c->reading)
        conn_await_turn(c);
    return conn_begin_read(c, err);
}

dax_rc conn_begin_read(struct conn *c, struct dax_err *err)
{
    CONN_GUARD(c, err);
    if (c->reading)
        return conn_misuse(err, "a read has begun already");
    c->snapshot = snapshot_begin(&c->store->region, c->slot, &c->size_bytes);
    c->reading = true;
    return DAX_OK;
}

void conn_end_read(struct conn *c)
{
    if (!c->reading || !store_same_process(c->store))
        return;
    conn_end_write(c);
    if (c->ticket)
        conn_end_turn(c);
    for (; c->pins_used; c->pins_used &= c->pins_used - 1) {
        unsigned i = (unsigned)__builtin_ctz(c->pins_used);
        (void)store_fail(c->store, NULL, "a read has ended with a pin left");
        pin_drop(c->store, c->slot, i);
        c->pinned[i] = NULL;
    }
    snapshot_end(&c->store->region, c->slot);
    c->reading = false;
    conn_tidy(c);
}

uint64_t conn_snapshot(const struct conn *c)
{
    return c->reading ? c->snapshot : 0;
}

uint64_t conn_size(struct conn *c)
{
    if (!store_same_process(c->store))
        return 0;
    if (c->writing && c->store->txn.active)
        return c->store->txn.size_bytes;
    return c->reading ? c->size_bytes : store_size(c->store);
}

uint64_t conn_size_committed(struct conn *c)
{
    if (!store_same_process(c->store))
        return 0;
    return c->reading ? c->size_bytes : store_size(c->store);
}

/* --- reading ----------------------------------------------------------------------------------------- */

struct conn_piece {
    uint8_t *to;
    const uint8_t *page_at;
    size_t at, len;
};

/* A piece of page 0. Bytes 18, 19 and 72 - 91 of the database are never loaded: they may be changing
 * under us (activation) and SQLite sees others anyway. */
static void conn_copy_header(void *arg)
{
    static const struct {
        size_t from, end;
    } plain[] = {{0, DAX_HEADER_WRITE_VERSION},
                 {DAX_HEADER_READ_VERSION + 1, DAX_HEADER_RESERVED},
                 {DAX_HEADER_RESERVED + DAX_HEADER_RESERVED_BYTES, DAX_PAGE_BYTES}};
    const struct conn_piece *p = arg;
    for (unsigned i = 0; i < sizeof plain / sizeof *plain; i++) {
        size_t from = plain[i].from > p->at ? plain[i].from : p->at;
        size_t end = plain[i].end < p->at + p->len ? plain[i].end : p->at + p->len;
        if (from < end)
            memcpy(p->to + (from - p->at), p->page_at + from, end - from);
    }
}

/* Copy a piece of a page that is pinned. false: it cannot be read. */
static bool conn_copy(const struct store *s, uint8_t *to, const uint8_t *page_at, uint64_t page,
                      size_t at, size_t len, struct guard_fault *fault)
{
    if (page != 0 || at >= DAX_HEADER_BYTES)
        return guard_copy(to, page_at + at, len, fault);
    struct conn_piece p = {to, page_at, at, len};
    if (!guard_call(conn_copy_header, &p, fault))
        return false;
    mark_hide(to, at, len, &s->mark);
    return true;
}

static dax_rc conn_read_page(struct conn *c, uint8_t *to, uint64_t page, size_t at, size_t len,
                             bool committed, struct dax_err *err)
{
    struct store *s = c->store;
    struct txn *t = &s->txn;
    if (!committed && c->writing && t->active &&
        (page >= t->pages_kept || txn_find(t, page) || txn_is_direct(t, page))) {
        dax_rc rc = txn_read(s, to, len, page, at, err);
        if (rc == DAX_OK && page == 0 && at < DAX_HEADER_BYTES)
            mark_hide(to, at, len, &s->mark);
        return rc;
    }
    uint8_t *from;
    struct guard_fault fault;
    dax_rc rc = pin_take(s, c->slot, CONN_COPY_PIN, c->snapshot, page, 1, false, &from, err);
    if (rc != DAX_OK)
        return rc;
    if (conn_copy(s, to, from, page, at, len, &fault))
        GUARDED_ADD(s->region.slots[c->slot].reads_copied, 1);
    else /* still pinned: else the page could be repaired before it is flagged, and stay flagged */
        rc = media_fault(s, page, &fault, err);
    pin_drop(s, c->slot, CONN_COPY_PIN);
    return rc;
}

static dax_rc conn_read_range(struct conn *c, void *buf, size_t len, uint64_t offset, uint64_t size,
                              bool committed, struct dax_err *err)
{
    uint64_t there = offset < size ? size - offset : 0; /* any offset may come, so no sum of it */
    if (there > len)
        there = len;
    uint8_t *to = buf;
    for (uint64_t pos = offset, left = there; left > 0;) {
        size_t at = pos & (DAX_PAGE_BYTES - 1);
        size_t n = DAX_PAGE_BYTES - at < left ? DAX_PAGE_BYTES - at : left;
        dax_rc rc = conn_read_page(c, to, pos >> DAX_PAGE_SHIFT, at, n, committed, err);
        if (rc != DAX_OK)
            return rc;
        pos += n;
        to += n;
        left -= n;
    }
    if (there == len)
        return DAX_OK;
    memset(to, 0, len - there);
    return DAX_SHORT_READ;
}

dax_rc conn_read(struct conn *c, void *buf, size_t len, uint64_t offset, struct dax_err *err)
{
    CONN_GUARD(c, err);
    if (c->reading)
        return conn_read_range(c, buf, len, offset, conn_size(c), false, err);
    if (len > DAX_HEADER_BYTES || offset > DAX_HEADER_BYTES - len)
        return conn_misuse(err, "reading needs a snapshot");
    dax_rc rc = conn_begin_read(c, err);
    if (rc != DAX_OK)
        return rc;
    rc = conn_read_range(c, buf, len, offset, c->size_bytes, false, err);
    conn_end_read(c);
    return rc;
}

dax_rc conn_read_committed(struct conn *c, void *buf, size_t len, uint64_t offset,
                           struct dax_err *err)
{
    CONN_GUARD(c, err);
    if (!c->reading)
        return conn_misuse(err, "reading needs a snapshot");
    return conn_read_range(c, buf, len, offset, c->size_bytes, true, err);
}

/* Has the running transaction anything to do with these pages? */
static bool conn_txn_touches(struct conn *c, uint64_t page, uint32_t count)
{
    struct txn *t = &c->store->txn;
    if (!c->writing || !t->active)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (page + i >= t->pages_kept || txn_find(t, page + i))
            return true;
    return false;
}

static void *conn_note_pin(struct conn *c, unsigned entry, void *at)
{
    c->pins_used |= 1u << entry;
    c->pinned[entry] = at;
    return at;
}

/* In a scan: the lines of the next page come while SQLite reads this one, unless nobody has probed them yet. (The
 * processor's own prefetching ends with the page.) A scan of 170 MB takes 0.94 of the time, one of 1000 rows
 * 0.96. */
static void conn_prefetch_next(const struct conn *c, uint64_t page, const uint8_t *at)
{
    if (page + 1 < pages_of(c->size_bytes) &&
        pageword_is_base(pageword_load(&c->store->region, page + 1), c->probe))
        for (size_t i = 0; i < DAX_PAGE_BYTES; i += DAX_LINE_BYTES)
            __builtin_prefetch(at + DAX_PAGE_BYTES + i);
}

/* Any pages, in any state. */
static __attribute__((noinline)) dax_rc conn_pin_any(struct conn *c, uint64_t offset, size_t len,
                                                     void **out, struct dax_err *err)
{
    struct store *s = c->store;
    uint64_t page = offset >> DAX_PAGE_SHIFT;
    uint64_t count = len ? ((offset + len - 1) >> DAX_PAGE_SHIFT) - page + 1 : 0;
    if (offset < DAX_HEADER_BYTES || count == 0 || count > DAX_PIN_PAGES || len > c->size_bytes ||
        offset > c->size_bytes - len || c->pins_used == CONN_PINS_ALL ||
        conn_txn_touches(c, page, (uint32_t)count))
        goto refused;
    unsigned entry = (unsigned)__builtin_ctz(~c->pins_used);
    uint8_t *at;
    dax_rc rc =
        pin_take(s, c->slot, entry, c->snapshot, page, (uint32_t)count, c->probe, &at, err);
    if (rc != DAX_OK)
        return rc;
    if (at) {
        *out = conn_note_pin(c, entry, at + (offset & (DAX_PAGE_BYTES - 1)));
        return DAX_OK;
    }
refused:
    GUARDED_ADD(s->region.slots[c->slot].pins_refused, 1);
    return DAX_OK;
}

dax_rc conn_pin(struct conn *c, uint64_t offset, size_t len, void **out, struct dax_err *err)
{
    CONN_GUARD(c, err);
    *out = NULL;
    if (!c->reading)
        return conn_misuse(err, "pinning needs a snapshot");
    /* What nearly every call is: one page, for one who has not written. (Under locking_mode=EXCLUSIVE the writer
     * lock is held all the time.) */
    if (len == DAX_PAGE_BYTES && offset % DAX_PAGE_BYTES == 0 && offset != 0 &&
        !(c->writing && c->store->txn.active) && c->pins_used != CONN_PINS_ALL &&
        c->size_bytes >= len && offset <= c->size_bytes - len) {
        unsigned entry = (unsigned)__builtin_ctz(~c->pins_used);
        uint64_t page = offset >> DAX_PAGE_SHIFT;
        uint8_t *at = pin_take_base(c->store, c->slot, entry, page, c->probe);
        c->in_sequence = page == c->last_pinned + 1 ? c->in_sequence + 1 : 0;
        c->last_pinned = page;
        if (at) {
            if (c->in_sequence >= CONN_SCAN_PAGES)
                conn_prefetch_next(c, page, at);
            *out = conn_note_pin(c, entry, at);
            return DAX_OK;
        }
    }
    return conn_pin_any(c, offset, len, out, err);
}

void conn_unpin(struct conn *c, uint64_t offset, void *ptr)
{
    (void)offset;
    if (!store_same_process(c->store))
        return;
    for (unsigned i = 0; i < DAX_SLOT_PINS_SHARED; i++) {
        if (c->pinned[i] == ptr) {
            c->pinned[i] = NULL;
            c->pins_used &= ~(1u << i);
            pin_drop(c->store, c->slot, i);
            return;
        }
    }
    (void)store_fail(c->store, NULL, "unpin of an address that is not pinned");
}

/* --- writing ------------------------------------------------------------------------------------------ */

/* The writer lock with a snapshot that is the newest. */
static dax_rc conn_lock_writer(struct conn *c, struct dax_err *err)
{
    struct region *r = &c->store->region;
    bool locked = c->soft && writer_claim(r, c->slot);
    c->soft = false;
    if (!locked)
        locked = writer_lock(r, c->slot, c->snapshot, DAX_WRITER_WAIT_NS);
    bool newest = atomic_load_explicit(&r->header->last_committed, memory_order_relaxed) ==
                  c->snapshot;
    if (locked && newest) {
        c->refused = false;
        c->ticket = 0;
        return DAX_OK;
    }
    if (locked)
        conn_unlock_writer(c);
    c->refused = true;
    if (!c->ticket) {
        c->ticket = writer_ticket(r);
        c->missed = 0;
    }
    return newest ? dax_err_set(err, DAX_BUSY, 0, "%s: another connection is writing",
                                c->store->base.path)
                  : dax_err_set(err, DAX_BUSY_SNAPSHOT, 0,
                                "%s: another connection has committed since this read began",
                                c->store->base.path);
}

dax_rc conn_begin_write(struct conn *c, struct dax_err *err)
{
    CONN_GUARD(c, err);
    struct store *s = c->store;
    if (!c->reading)
        return conn_misuse(err, "writing needs a snapshot");
    if (c->writing)
        return conn_misuse(err, "a write has begun already");
    if (c->read_only)
        return dax_err_set(err, DAX_READONLY, 0, "%s is open for reading only", s->base.path);
    dax_rc rc = store_usable(s, err);
    if (rc != DAX_OK)
        return rc;
    rc = conn_lock_writer(c, err);
    if (rc != DAX_OK)
        return rc;
    c->writing = true;
    rc = store_activate(s, c->slot, err);
    if (rc != DAX_OK) {
        c->writing = false;
        conn_unlock_writer(c);
    }
    return rc;
}

/* The lock is kept over several transactions under locking_mode=EXCLUSIVE. */
static dax_rc conn_writable(struct conn *c, struct dax_err *err)
{
    CONN_GUARD(c, err);
    if (!c->writing)
        return conn_misuse(err, "not the writer");
    dax_rc rc = store_usable(c->store, err);
    if (rc == DAX_OK && !c->store->txn.active) {
        txn_begin(c->store, c->slot);
        c->store->txn.private_limit = c->private_limit;
    }
    return rc;
}

dax_rc conn_write(struct conn *c, const void *buf, size_t len, uint64_t offset, struct dax_err *err)
{
    dax_rc rc = conn_writable(c, err);
    return rc == DAX_OK ? txn_write(c->store, buf, len, offset, err) : rc;
}

dax_rc conn_truncate(struct conn *c, uint64_t size_bytes, struct dax_err *err)
{
    dax_rc rc = conn_writable(c, err);
    return rc == DAX_OK ? txn_truncate(c->store, size_bytes, err) : rc;
}

dax_rc conn_prepare(struct conn *c, struct dax_err *err)
{
    CONN_GUARD(c, err);
    if (!c->writing || !c->store->txn.active)
        return DAX_OK;
    dax_rc rc = store_usable(c->store, err);
    return rc == DAX_OK ? txn_prepare(c->store, err) : rc;
}

dax_rc conn_commit(struct conn *c, struct dax_err *err)
{
    CONN_GUARD(c, err);
    if (!c->writing || !c->store->txn.active)
        return DAX_OK;
    uint64_t size = c->store->txn.size_bytes, txid;
    dax_rc rc = commit_run(c->store, &txid, err);
    if (rc == DAX_OK) {
        c->snapshot = txid;
        c->size_bytes = size;
    }
    return rc;
}

void conn_end_write(struct conn *c)
{
    if (!c->writing || !store_same_process(c->store))
        return;
    struct store *s = c->store;
    if (s->txn.active) {
        txn_abort(s);
        checkpoint_after_abort(s, s->txn.file_bytes_old);
    }
    c->writing = false;
    conn_unlock_writer(c);
}

bool conn_is_writer(const struct conn *c)
{
    return c->writing;
}

bool conn_is_read_only(const struct conn *c)
{
    return c->read_only;
}

/* --- checkpoint ---------------------------------------------------------------------------------------- */

/* Take the writer lock as long as wait says. */
static bool conn_wait_writer(struct conn *c, enum checkpoint_mode mode, dax_wait_fn wait,
                             void *wait_arg, struct checkpoint_result *result)
{
    struct region *r = &c->store->region;
    for (unsigned count = 0; !writer_lock(r, c->slot, 0, DAX_WRITER_WAIT_NS); count++) {
        if (mode != CHECKPOINT_PASSIVE && wait && wait(wait_arg, count))
            continue;
        uint32_t owner = writer_owner(r);
        if (owner != UINT32_MAX)
            snprintf(result->holder, sizeof result->holder,
                     "connection %llu of process %d is writing",
                     (unsigned long long)GUARDED_GET(r->slots[owner].number),
                     GUARDED_GET(r->slots[owner].owner_pid));
        else
            snprintf(result->holder, sizeof result->holder, "whoever was writing has just ended");
        result->busy = true;
        return false;
    }
    return true;
}

dax_rc conn_checkpoint(struct conn *c, enum checkpoint_mode mode, dax_wait_fn wait, void *wait_arg,
                       struct checkpoint_result *result, struct dax_err *err)
{
    CONN_GUARD(c, err);
    struct store *s = c->store;
    *result = (struct checkpoint_result){0};
    if (c->writing && s->txn.active) {
        /* Under locking_mode=EXCLUSIVE a ROLLBACK is the journal's pages written back into the same
         * transaction: if it has no change any more, it is over. */
        dax_rc rc = txn_prepare(s, err);
        if (rc == DAX_OK && txn_is_empty(&s->txn))
            txn_abort(s);
    }
    if (c->writing && s->txn.active)
        return dax_err_set(err, DAX_LOCKED, 0,
                           "%s: a checkpoint cannot run within a write transaction of the same "
                           "connection",
                           s->base.path);
    if (!atomic_load(&s->active))
        return DAX_OK;
    if (c->read_only)
        return dax_err_set(err, DAX_READONLY, 0, "%s is open for reading only", s->base.path);
    bool lock = !c->writing;
    if (lock && !conn_wait_writer(c, mode, wait, wait_arg, result))
        return DAX_OK;
    dax_rc rc = checkpoint_run(s, c->slot, mode, wait, wait_arg, result, err);
    if (lock)
        conn_unlock_writer(c);
    return rc;
}
